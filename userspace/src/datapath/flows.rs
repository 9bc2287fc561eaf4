//! The flow tables, read and swept from user space.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};

use aya::Ebpf;
use aya::maps::{Map, MapData, MapFd};
use bytemuck::Pod;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{ESTABLISHED, Entry, is_closed, is_forward};
use probe_common::parse::TCP;

use super::DatapathError;
use super::batch::Cursor;
use super::kernel::ip;

/// Entries that are read in one system call.
pub(super) const BATCH: usize = 4096;

/// The flow tables of a loaded object.
pub struct Flows {
    /// `Tuple<V4>` to `Entry<V4>`: live and pending flows.
    v4: [MapData; 2],
    /// `Tuple<V6>` to `Entry<V6>`: the same.
    v6: [MapData; 2],
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
    pub state: u16,
    /// The tick of its client's last packet.
    pub seen: u32,
    /// The tick of its first packet.
    pub created: u32,
}

/// Ticks without a packet after which flows are over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Idle {
    /// Of TCP.
    pub tcp: u32,
    /// Of UDP.
    pub udp: u32,
}

impl Flow {
    /// Whether only one side has spoken yet.
    pub fn is_pending(&self) -> bool {
        self.state & ESTABLISHED == 0
    }

    /// Whether it is over at tick `now`: closed by both sides, reset, or silent
    /// for too long.
    pub fn is_over(&self, now: u32, idle: Idle) -> bool {
        let limit = if self.protocol == TCP { idle.tcp } else { idle.udp };
        // Signed: the programs' clock may be ahead of ours.
        let silent = now.wrapping_sub(self.seen).cast_signed();
        is_closed(self.state) || i64::from(silent) > i64::from(limit)
    }

    fn of<A: Address>(key: &Tuple<A>, entry: &Entry<A>) -> Self {
        let v6 = size_of::<A>() == 16;
        let socket =
            |address: A, port: u16| SocketAddr::new(ip(address.words(), v6), u16::from_be(port));
        Self {
            client: socket(key.src, key.sport),
            service: socket(key.dst, key.dport),
            endpoint: socket(entry.address, entry.dport),
            protocol: key.protocol,
            endpoint_id: entry.endpoint,
            state: entry.state,
            seen: entry.seen,
            created: entry.created,
        }
    }
}

fn table(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, DatapathError> {
    match ebpf.take_map(name) {
        Some(Map::HashMap(data) | Map::LruHashMap(data)) => Ok(data),
        _ => Err(DatapathError::Missing(name)),
    }
}

/// The next flows of a table, as their forward entries show them.
fn entries<A: Address>(
    map: &MapData,
    cursor: &mut Cursor<Tuple<A>, Entry<A>>,
    each: &mut impl FnMut(Flow),
) -> io::Result<bool>
where
    Tuple<A>: Pod,
    Entry<A>: Pod,
{
    cursor.next(map.fd().as_fd(), |key, entry| {
        if is_forward(entry.direction) {
            each(Flow::of(key, entry));
        }
    })
}

/// A walk through the flow tables, and where it is.
pub struct Walk {
    /// 0 and 1: live and pending flows of IPv4; 2 and 3: of IPv6.
    table: usize,
    v4: Cursor<Tuple<V4>, Entry<V4>>,
    v6: Cursor<Tuple<V6>, Entry<V6>>,
}

impl Walk {
    /// At the start.
    pub fn new() -> Self {
        Self { table: 0, v4: Cursor::new(BATCH), v6: Cursor::new(BATCH) }
    }
}

impl Default for Walk {
    fn default() -> Self {
        Self::new()
    }
}

impl Flows {
    /// Takes the maps of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let mut tables = |live, pending| Ok([table(ebpf, live)?, table(ebpf, pending)?]);
        Ok(Self { v4: tables("FLOWS_V4", "PENDING_V4")?, v6: tables("FLOWS_V6", "PENDING_V6")? })
    }

    /// The tables of live flows over IPv4 and IPv6.
    pub(super) fn live(&self) -> (&MapFd, &MapFd) {
        (self.v4[0].fd(), self.v6[0].fd())
    }

    /// Calls `each` with every flow, pending ones too. The programs go on meanwhile.
    pub fn walk(&self, mut each: impl FnMut(Flow)) -> Result<(), DatapathError> {
        let mut walk = Walk::new();
        while self.step(&mut walk, &mut each)? {}
        Ok(())
    }

    /// Calls `each` with the next flows of a walk, some thousands at most;
    /// whether there may be more.
    pub fn step(&self, walk: &mut Walk, mut each: impl FnMut(Flow)) -> Result<bool, DatapathError> {
        let more = match walk.table {
            at @ (0 | 1) => entries(&self.v4[at], &mut walk.v4, &mut each),
            at @ (2 | 3) => entries(&self.v6[at - 2], &mut walk.v6, &mut each),
            _ => return Ok(false),
        };
        if !more.map_err(DatapathError::Flows)? {
            *walk = Walk { table: walk.table + 1, ..Walk::new() };
        }
        Ok(walk.table < 4)
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
        let mut swept = 0;
        for map in &self.v4 {
            swept += table::<V4>(map.fd().as_fd(), &endpoints).map_err(DatapathError::Flows)?;
        }
        for map in &self.v6 {
            swept += table::<V6>(map.fd().as_fd(), &endpoints).map_err(DatapathError::Flows)?;
        }
        Ok(swept)
    }
}

#[cfg(test)]
mod tests {
    use probe_common::flow::{FIN_CLIENT, FIN_ENDPOINT, RESET};
    use probe_common::parse::UDP;

    use super::*;

    #[test]
    fn flows_are_over_when_they_are_closed_or_silent_for_too_long() {
        let idle = Idle { tcp: 100, udp: 10 };
        let socket = "192.0.2.1:1".parse().unwrap();
        let flow = Flow {
            client: socket,
            service: socket,
            endpoint: socket,
            protocol: TCP,
            endpoint_id: 1,
            state: ESTABLISHED,
            seen: u32::MAX,
            created: 0,
        };
        let udp = Flow { protocol: UDP, ..flow };
        assert!(!flow.is_over(99, idle) && flow.is_over(100, idle), "TCP, silent");
        assert!(!udp.is_over(9, idle) && udp.is_over(10, idle), "UDP, silent");
        assert!(!flow.is_over(u32::MAX - 1, idle), "seen in the next tick");
        let states = [
            (ESTABLISHED | FIN_CLIENT, false),
            (ESTABLISHED | FIN_ENDPOINT, false),
            (ESTABLISHED | FIN_CLIENT | FIN_ENDPOINT, true),
            (RESET, true),
        ];
        for (state, over) in states {
            assert_eq!(Flow { state, ..flow }.is_over(u32::MAX, idle), over, "state {state}");
        }
    }
}
