//! The flow tables, read and swept from user space.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use aya::Ebpf;
use aya::maps::{Map, MapData};
use bytemuck::Pod;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{ESTABLISHED, Entry, is_closed, is_forward};
use probe_common::new_flow::{NewFlow, REPLY_KEY};
use probe_common::parse::TCP;

use super::DatapathError;
use super::batch::Cursor;
use super::kernel::{at, ip};
use super::mapped;

/// Entries that are read in one system call.
pub(super) const BATCH: usize = 4096;

/// The tables of a family.
pub(super) struct Tables {
    /// `Tuple` to `Entry`: flows that live on.
    pub(super) flows: MapData,
    /// An array of `NewFlow`, and how many there are.
    new_flows: (MapData, usize),
}

/// The flow tables of a loaded object.
pub struct Flows {
    pub(super) v4: Tables,
    pub(super) v6: Tables,
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
    /// The id of the subset that it was steered to.
    pub subset_id: u32,
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
    pub fn is_expired(&self, now: u32, idle: Idle) -> bool {
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
            subset_id: entry.subset,
            state: entry.state,
            seen: entry.seen,
            created: entry.created,
        }
    }
}

fn table(ebpf: &mut Ebpf, name: &'static str) -> Result<MapData, DatapathError> {
    match ebpf.take_map(name) {
        Some(Map::LruHashMap(data) | Map::Array(data)) => Ok(data),
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

/// The next new flows of a table.
fn new_flow<A: Address>(
    map: &MapData,
    cursor: &mut Cursor<u32, NewFlow<A>>,
    each: &mut impl FnMut(Flow),
) -> io::Result<bool>
where
    NewFlow<A>: Pod,
{
    cursor.next(map.fd().as_fd(), |_, new_flow| {
        if new_flow.is_whole() && new_flow.kind & REPLY_KEY == 0 {
            each(Flow::of(&new_flow.forward_key(), &new_flow.entry(false)));
        }
    })
}

/// A walk through the flow tables, and where it is.
#[derive(Default)]
pub struct Walk(WalkPosition);

/// In which table, and where there.
enum WalkPosition {
    FlowsV4(Cursor<Tuple<V4>, Entry<V4>>),
    NewFlowsV4(Cursor<u32, NewFlow<V4>>),
    FlowsV6(Cursor<Tuple<V6>, Entry<V6>>),
    NewFlowsV6(Cursor<u32, NewFlow<V6>>),
    Behind,
}

impl Default for WalkPosition {
    /// At the start. New flows are looked at first: one that moves meanwhile is
    /// rather seen twice than not at all.
    fn default() -> Self {
        Self::NewFlowsV4(Cursor::new(BATCH))
    }
}

impl WalkPosition {
    /// At the start of the next table.
    fn next(&self) -> Self {
        match self {
            Self::NewFlowsV4(_) => Self::FlowsV4(Cursor::new(BATCH)),
            Self::FlowsV4(_) => Self::NewFlowsV6(Cursor::new(BATCH)),
            Self::NewFlowsV6(_) => Self::FlowsV6(Cursor::new(BATCH)),
            Self::FlowsV6(_) | Self::Behind => Self::Behind,
        }
    }
}

impl Walk {
    /// At the start.
    pub fn new() -> Self {
        Self::default()
    }
}

impl Flows {
    /// Takes the maps of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let mut tables = |flows, name| {
            let new_flows = table(ebpf, name)?;
            let count = at(name, new_flows.info())?.max_entries() as usize;
            Ok::<_, DatapathError>(Tables {
                flows: table(ebpf, flows)?,
                new_flows: (new_flows, count),
            })
        };
        Ok(Self {
            v4: tables("FLOWS_V4", "NEW_FLOWS_V4")?,
            v6: tables("FLOWS_V6", "NEW_FLOWS_V6")?,
        })
    }

    /// Calls `each` with every flow, new ones too. The programs go on meanwhile.
    pub fn walk(&self, mut each: impl FnMut(Flow)) -> Result<(), DatapathError> {
        let mut walk = Walk::new();
        while self.step(&mut walk, &mut each)? {}
        Ok(())
    }

    /// Calls `each` with the next flows of a walk, some thousands at most;
    /// whether there may be more.
    pub fn step(&self, walk: &mut Walk, mut each: impl FnMut(Flow)) -> Result<bool, DatapathError> {
        let more = match &mut walk.0 {
            WalkPosition::FlowsV4(cursor) => entries(&self.v4.flows, cursor, &mut each),
            WalkPosition::NewFlowsV4(cursor) => new_flow(&self.v4.new_flows.0, cursor, &mut each),
            WalkPosition::FlowsV6(cursor) => entries(&self.v6.flows, cursor, &mut each),
            WalkPosition::NewFlowsV6(cursor) => new_flow(&self.v6.new_flows.0, cursor, &mut each),
            WalkPosition::Behind => return Ok(false),
        };
        if !more.map_err(DatapathError::Flows)? {
            walk.0 = walk.0.next();
        }
        Ok(!matches!(walk.0, WalkPosition::Behind))
    }

    /// Deletes all entries, of both directions, of these endpoint ids; says how many.
    pub fn sweep(&self, endpoints: &[u32]) -> Result<usize, DatapathError> {
        let endpoints: HashSet<u32> = endpoints.iter().copied().collect();
        let swept = self
            .v4
            .sweep::<V4>(&endpoints)
            .and_then(|swept| Ok(swept + self.v6.sweep::<V6>(&endpoints)?));
        swept.map_err(DatapathError::Flows)
    }
}

impl Tables {
    fn sweep<A: Address>(&self, endpoints: &HashSet<u32>) -> io::Result<usize>
    where
        Tuple<A>: Pod,
        Entry<A>: Pod,
        NewFlow<A>: Pod,
    {
        let mut deleted =
            self.forget_new_flows(|new_flow: &NewFlow<A>| endpoints.contains(&new_flow.endpoint))?;
        let swept = |_: &Tuple<A>, entry: &Entry<A>| endpoints.contains(&entry.endpoint);
        // After the new ones: these may have moved.
        let mut found = Vec::new();
        super::batch::walk(self.flows.fd().as_fd(), BATCH, |key: &Tuple<A>, entry: &Entry<A>| {
            if swept(key, entry) {
                found.push(*key);
            }
        })?;
        for key in found {
            deleted += usize::from(self.delete_if(&key, swept)?);
        }
        Ok(deleted)
    }

    /// Deletes the entry of a key if it is one of those that go: a client may have
    /// used its port again since it was found, or the flow may have gone on. The
    /// kernel offers no more than to look at it right before, some microseconds.
    /// Replies of a flow that begins in these pass as they are, until its client's
    /// next packet has it adopted by the same weights.
    pub(super) fn delete_if<A: Address>(
        &self,
        key: &Tuple<A>,
        goes: impl Fn(&Tuple<A>, &Entry<A>) -> bool,
    ) -> io::Result<bool>
    where
        Tuple<A>: Pod,
        Entry<A>: Pod,
    {
        let map = self.flows.fd().as_fd();
        match super::batch::get(map, key)? {
            Some(entry) if goes(key, &entry) => super::batch::remove(map, key),
            _ => Ok(false),
        }
    }

    /// Forgets some new flows; says how many.
    pub(super) fn forget_new_flows<A: Address>(
        &self,
        which: impl FnMut(&NewFlow<A>) -> bool,
    ) -> io::Result<usize>
    where
        NewFlow<A>: Pod,
    {
        let (map, count) = &self.new_flows;
        mapped::forget(map.fd().as_fd(), *count, which)
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
            subset_id: 0,
            state: ESTABLISHED,
            seen: u32::MAX,
            created: 0,
        };
        let udp = Flow { protocol: UDP, ..flow };
        assert!(!flow.is_expired(99, idle) && flow.is_expired(100, idle), "TCP, silent");
        assert!(!udp.is_expired(9, idle) && udp.is_expired(10, idle), "UDP, silent");
        assert!(!flow.is_expired(u32::MAX - 1, idle), "seen in the next tick");
        let states = [
            (ESTABLISHED | FIN_CLIENT, false),
            (ESTABLISHED | FIN_ENDPOINT, false),
            (ESTABLISHED | FIN_CLIENT | FIN_ENDPOINT, true),
            (RESET, true),
        ];
        for (state, over) in states {
            assert_eq!(Flow { state, ..flow }.is_expired(u32::MAX, idle), over, "state {state}");
        }
    }
}
