//! The connections that the node's connection tracking translated before weir steered their
//! service: what the programs know of them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use bytemuck::bytes_of;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::Entry;
use probe_common::map::{FOREIGN, Takeover};

use super::batch::{self, Bytes, Put};
use super::kernel::{at, ip};
use super::{Clock, DatapathError, Pins};
use crate::conntrack::Connection;
use crate::explain::words;

/// Tuples that are read in one system call.
const BATCH: usize = 1024;
/// The size of a value: the zone of connection tracking.
const ZONE: usize = 4;

/// The maps FOREIGN.
pub struct Foreign {
    v4: Table,
    v6: Table,
}

/// The map TAKEOVER: whether there may be such connections.
pub struct Gate {
    map: Array<MapData, Takeover>,
    clock: Clock,
}

/// Those of a family, and its flows.
struct Table {
    foreign: MapData,
    flows: MapData,
}

/// What became of a connection that was to be told to the programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// They know it.
    Known,
    /// Its client has begun another one, which is weir's.
    Steered,
    /// There is no room.
    Full,
}

impl Foreign {
    /// Takes the pinned maps.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        let open = |name| at(name, MapData::from_pin(pins.map(name)));
        Ok(Self {
            v4: Table { foreign: open("FOREIGN_V4")?, flows: open("FLOWS_V4")? },
            v6: Table { foreign: open("FOREIGN_V6")?, flows: open("FLOWS_V6")? },
        })
    }

    /// Has the packets of a connection pass, unless it is a flow of weir's by now.
    pub fn put(&self, of: &Connection) -> io::Result<Told> {
        match (of.client.ip(), of.service.ip()) {
            (IpAddr::V4(_), IpAddr::V4(_)) => self.v4.put(&tuple::<V4>(of), of.zone),
            (IpAddr::V6(_), IpAddr::V6(_)) => self.v6.put(&tuple::<V6>(of), of.zone),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    /// Forgets a connection; whether it was known.
    pub fn remove(&self, of: &Connection) -> io::Result<bool> {
        match of.service.ip() {
            IpAddr::V4(_) => batch::remove(self.v4.foreign.fd().as_fd(), &tuple::<V4>(of)),
            IpAddr::V6(_) => batch::remove(self.v6.foreign.fd().as_fd(), &tuple::<V6>(of)),
        }
    }

    /// All of them.
    pub fn all(&self) -> io::Result<Vec<Connection>> {
        let mut all = Vec::new();
        self.v4.walk::<V4>(|found| all.push(found))?;
        self.v6.walk::<V6>(|found| all.push(found))?;
        Ok(all)
    }

    /// How many fit, of each family.
    pub const ROOM: u32 = FOREIGN;
}

impl Gate {
    /// Takes the pinned map.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        let map = Map::Array(at("TAKEOVER", MapData::from_pin(pins.map("TAKEOVER")))?);
        Ok(Self { map: at("TAKEOVER", map.try_into())?, clock: Clock::new() })
    }

    /// From now on, and for that long, TCP segments of no known flow pass; and tuples are looked
    /// for.
    pub fn wait(&mut self, time: Duration) -> Result<(), DatapathError> {
        let until = self.clock.jiffies_in(time).max(1);
        self.set(Takeover { until, tuples: 1, pad: 0 })
    }

    /// What there is to be known is known: what passes is in FOREIGN, if anything is.
    pub fn know(&mut self, any: bool) -> Result<(), DatapathError> {
        self.set(Takeover { until: 0, tuples: any.into(), pad: 0 })
    }

    /// Whether [`Self::know`] has not followed yet, be it that its time is over.
    pub fn is_waiting(&self) -> Result<bool, DatapathError> {
        at("TAKEOVER", self.map.get(&0, 0)).map(|word| word.until != 0)
    }

    fn set(&mut self, word: Takeover) -> Result<(), DatapathError> {
        at("TAKEOVER", self.map.set(0, word, 0))
    }
}

impl Table {
    fn put<A: Address>(&self, key: &Tuple<A>, zone: u16) -> io::Result<Told>
    where
        Tuple<A>: bytemuck::Pod,
        Entry<A>: bytemuck::Pod,
    {
        if batch::get::<_, Entry<A>>(self.flows.fd().as_fd(), key)?.is_some() {
            return Ok(Told::Steered);
        }
        let map = Bytes::new(self.foreign.fd().as_fd(), size_of::<Tuple<A>>(), ZONE);
        match map.put(bytes_of(key), &u32::from(zone).to_ne_bytes(), Put::Over) {
            Ok(_) => Ok(Told::Known),
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => Ok(Told::Full),
            Err(error) => Err(error),
        }
    }

    fn walk<A: Address>(&self, mut each: impl FnMut(Connection)) -> io::Result<()>
    where
        Tuple<A>: bytemuck::Pod,
    {
        let v6 = size_of::<A>() == 16;
        batch::walk(self.foreign.fd().as_fd(), BATCH, |key: &Tuple<A>, zone: &u32| {
            let end = |address: A, port: u16| {
                SocketAddr::new(ip(address.words(), v6), u16::from_be(port))
            };
            let (client, service) = (end(key.src, key.sport), end(key.dst, key.dport));
            let (protocol, zone) = (key.protocol, *zone as u16);
            each(Connection { client, service, protocol, zone });
        })
    }
}

fn tuple<A: Address>(of: &Connection) -> Tuple<A> {
    Tuple {
        src: A::from_words(words(of.client.ip())),
        dst: A::from_words(words(of.service.ip())),
        sport: of.client.port().to_be(),
        dport: of.service.port().to_be(),
        protocol: of.protocol,
        zero: [0; 3],
    }
}
