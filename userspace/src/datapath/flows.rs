//! The flow tables, read and swept from user space.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData};
use bytemuck::Pod;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{Entry, FORWARD};

use super::DatapathError;
use super::kernel::ip;

/// Entries that are read in one system call.
const BATCH: usize = 4096;

/// The flow tables of a loaded object.
pub struct Flows {
    /// Tuple<V4> to Entry<V4>.
    v4: MapData,
    /// Tuple<V6> to Entry<V6>.
    v6: MapData,
}

/// A flow, as the entry of its forward direction shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Client.
    pub client: SocketAddr,
    /// Service address.
    pub service: SocketAddr,
    /// Where its packets go.
    pub endpoint: SocketAddr,
    /// The IP protocol number.
    pub protocol: u8,
    /// The id of its endpoint.
    pub endpoint_id: u32,
    /// See [`probe_common::flow::ESTABLISHED`] and the like.
    pub state: u8,
    /// The tick of its last packet.
    pub seen: u32,
}

impl Flow {
    fn of<A: Address>(key: &Tuple<A>, entry: &Entry<A>) -> Self {
        let v6 = size_of::<A>() == 16;
        let socket =
            |address: A, port: u16| SocketAddr::new(ip(address.words(), v6), u16::from_be(port));
        Self {
            client: socket(key.src, key.sport),
            service: socket(key.dst, key.dport),
            endpoint: socket(entry.to.dst, entry.to.dport),
            protocol: key.protocol,
            endpoint_id: entry.endpoint,
            state: entry.state,
            seen: entry.seen,
        }
    }
}

fn table(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, DatapathError> {
    match ebpf.take_map(name) {
        Some(Map::HashMap(data) | Map::LruHashMap(data)) => Ok(data),
        _ => Err(DatapathError::Missing(name)),
    }
}

impl Flows {
    /// Takes the maps of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self { v4: table(ebpf, "FLOWS_V4")?, v6: table(ebpf, "FLOWS_V6")? })
    }

    /// Calls `each` with every flow. The programs go on meanwhile.
    pub fn walk(&self, mut each: impl FnMut(Flow)) -> Result<(), DatapathError> {
        fn table<A: Address>(map: BorrowedFd<'_>, each: &mut impl FnMut(Flow)) -> io::Result<()>
        where
            Tuple<A>: Pod,
            Entry<A>: Pod,
        {
            super::batch::walk(map, BATCH, |key: &Tuple<A>, entry: &Entry<A>| {
                if entry.direction == FORWARD {
                    each(Flow::of(key, entry));
                }
            })
        }
        table::<V4>(self.v4.fd().as_fd(), &mut each)
            .and_then(|()| table::<V6>(self.v6.fd().as_fd(), &mut each))
            .map_err(DatapathError::Flows)
    }

    /// Deletes all entries, of both directions, of these endpoint ids; says how many.
    pub fn sweep(&self, endpoints: &[u32]) -> Result<usize, DatapathError> {
        fn table<A: Address>(map: BorrowedFd<'_>, endpoints: &HashSet<u32>) -> io::Result<usize>
        where
            Tuple<A>: Pod,
            Entry<A>: Pod,
        {
            let mut found = Vec::new();
            super::batch::walk(map, BATCH, |key: &Tuple<A>, entry: &Entry<A>| {
                if endpoints.contains(&entry.endpoint) {
                    found.push(*key);
                }
            })?;
            super::batch::delete(map, &found)?;
            Ok(found.len())
        }
        let endpoints: HashSet<u32> = endpoints.iter().copied().collect();
        let swept = table::<V4>(self.v4.fd().as_fd(), &endpoints)
            .and_then(|v4| Ok(v4 + table::<V6>(self.v6.fd().as_fd(), &endpoints)?));
        swept.map_err(DatapathError::Flows)
    }
}
