//! The maps in the kernel.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError};
use probe_common::map::{self, CHUNK, MAX_SUBSETS, ServiceKey};

use super::histograms::Free;
use super::{Counters, Datapath, DatapathError, identity};
use crate::explain::words;
use crate::model::{Family, Protocol, ServiceAddress};
use crate::plan::{
    EndpointRecord, EndpointState, Identity, IdentityKey, Op, Side, Snapshot, SplitRecord,
};

/// Writes and reads the maps of a loaded object.
pub struct Kernel {
    services: HashMap<MapData, ServiceKey, u32>,
    active: Array<MapData, u32>,
    splits: Array<MapData, map::Split>,
    tables: Array<MapData, [u32; CHUNK]>,
    endpoints: Array<MapData, map::Endpoint>,
    subset_ids: Array<MapData, u32>,
    service_filter: Array<MapData, u64>,
    endpoint_filter: Array<MapData, u64>,
    identities: HashMap<MapData, map::IdentityKey, map::Identity>,
    counters: Counters,
    histograms: Free,
}

pub(super) fn at<T>(map: &'static str, result: Result<T, MapError>) -> Result<T, DatapathError> {
    result.map_err(|source| DatapathError::Map { map, source })
}

/// Nothing, where there is no such key.
fn optional<T>(map: &'static str, result: Result<T, MapError>) -> Result<Option<T>, DatapathError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(None),
        result => at(map, result).map(Some),
    }
}

/// Takes a map out of a loaded object.
pub(super) fn take<M>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, DatapathError>
where
    M: TryFrom<Map, Error = MapError>,
{
    at(name, M::try_from(ebpf.take_map(name).ok_or(DatapathError::Missing(name))?))
}

impl Kernel {
    /// Takes the maps of a loaded object. Where there may be subsets, [`Kernel::measure`] is to
    /// follow.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let counters = Counters::new(ebpf)?;
        Ok(Self {
            services: take(ebpf, "SERVICES")?,
            active: take(ebpf, "ACTIVE")?,
            splits: take(ebpf, "SPLITS")?,
            tables: take(ebpf, "TABLES")?,
            endpoints: take(ebpf, "ENDPOINTS")?,
            subset_ids: take(ebpf, "SUBSET_IDS")?,
            service_filter: take(ebpf, "SERVICE_FILTER")?,
            endpoint_filter: take(ebpf, "ENDPOINT_FILTER")?,
            identities: take(ebpf, "IDENTITIES")?,
            histograms: Free::all(counters.histograms()),
            counters,
        })
    }

    /// What the programs counted.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Has times measured of these subsets, by the indices of their ids, and of no others, as far
    /// as there are histograms. To be told before subsets come and go.
    pub fn measure(&mut self, subsets: impl Iterator<Item = u32>) -> Result<(), DatapathError> {
        self.histograms.adopt(self.counters.histograms_mut(), subsets)
    }

    fn table(&mut self, start: u32, slots: &[u32]) -> Result<(), DatapathError> {
        for (chunk, slots) in (start..).zip(slots.chunks(CHUNK)) {
            let mut value = [0; CHUNK];
            value[..slots.len()].copy_from_slice(slots);
            at("TABLES", self.tables.set(chunk, value, 0))?;
        }
        Ok(())
    }

    fn identity(
        &mut self,
        key: IdentityKey,
        identity: Option<&Identity>,
    ) -> Result<(), DatapathError> {
        if let (IdentityKey::Subset(index), None) = (key, identity) {
            self.histograms.end(self.counters.histograms_mut(), index)?;
        }
        let key = identity::key(key);
        match identity {
            Some(identity) => {
                let value = identity::encode(identity);
                let value = value.ok_or(DatapathError::Missing("space for a name"))?;
                at("IDENTITIES", self.identities.insert(key, value, 0))
            }
            None => optional("IDENTITIES", self.identities.remove(&key)).map(|_| ()),
        }
    }

    fn filter(&mut self, side: Side) -> (&'static str, &mut Array<MapData, u64>) {
        match side {
            Side::Service => ("SERVICE_FILTER", &mut self.service_filter),
            Side::Endpoint => ("ENDPOINT_FILTER", &mut self.endpoint_filter),
        }
    }

    /// The slots of a subset's table.
    fn slots(&self, subset: &map::Subset) -> Result<Vec<u32>, DatapathError> {
        let mut slots = Vec::with_capacity(subset.len as usize);
        for chunk in subset.table..subset.table + subset.len.div_ceil(CHUNK as u32) {
            slots.extend(at("TABLES", self.tables.get(&chunk, 0))?);
        }
        slots.truncate(subset.len as usize);
        Ok(slots)
    }

    fn read_split(
        &self,
        snapshot: &mut Snapshot,
        id: u32,
        identity: Identity,
    ) -> Result<(), DatapathError> {
        let Identity::Split { name, address, settings, until } = identity else { return Ok(()) };
        let index = at("ACTIVE", self.active.get(&id, 0))?;
        let value = Box::new(at("SPLITS", self.splits.get(&index, 0))?);
        for subset in &value.subsets[..(value.count as usize).min(MAX_SUBSETS)] {
            if subset.len > 1 {
                snapshot.tables.insert(subset.table, self.slots(subset)?);
            }
        }
        snapshot.splits.push(SplitRecord { id, name, address, settings, until, index, value });
        Ok(())
    }

    fn read_endpoint(
        &self,
        snapshot: &mut Snapshot,
        id: u32,
        identity: Identity,
    ) -> Result<(), DatapathError> {
        let Identity::Endpoint { service, address, subset, until } = identity else {
            return Ok(());
        };
        let found = at("ENDPOINTS", self.endpoints.get(&id, 0))?;
        let state = match found.state {
            map::ENDPOINT_GONE => EndpointState::Gone,
            map::ENDPOINT_DRAINING => EndpointState::Draining,
            _ => EndpointState::Live,
        };
        snapshot.endpoints.push(EndpointRecord { id, service, address, subset, state, until });
        Ok(())
    }
}

impl Datapath for Kernel {
    fn execute(&mut self, op: &Op) -> Result<(), DatapathError> {
        match op {
            Op::Grace => grace(),
            Op::Endpoint { id, address, state } => {
                let state = match state {
                    EndpointState::Live => map::ENDPOINT_LIVE,
                    EndpointState::Draining => map::ENDPOINT_DRAINING,
                    EndpointState::Gone => map::ENDPOINT_GONE,
                };
                let (ip, port) = (words(address.ip()), address.port().to_be());
                let value = map::Endpoint { address: ip, port, state };
                at("ENDPOINTS", self.endpoints.set(*id, value, 0))
            }
            Op::ResetEndpoint(id) => self.counters.reset_endpoint(*id),
            // What flows of the one before still count must not be added to zero.
            Op::ResetSubset(id) => {
                at("SUBSET_IDS", self.subset_ids.set(map::subset_index(*id), id, 0))?;
                self.counters.reset_subset(*id)?;
                self.histograms.begin(self.counters.histograms_mut(), map::subset_index(*id))
            }
            Op::Identity { key, identity } => self.identity(*key, identity.as_ref()),
            Op::Table { start, table } => self.table(*start, &table.slots()),
            Op::Filter { side, word, bits } => {
                let (name, map) = self.filter(*side);
                at(name, map.set(*word, bits, 0))
            }
            Op::Split { index, value } => at("SPLITS", self.splits.set(*index, **value, 0)),
            Op::Activate { split, index } => at("ACTIVE", self.active.set(*split, index, 0)),
            Op::Service { address, split } => {
                at("SERVICES", self.services.insert(service_key(*address), split, 0))
            }
            Op::RemoveService(address) => {
                optional("SERVICES", self.services.remove(&service_key(*address))).map(|_| ())
            }
        }
    }

    fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let mut snapshot = Snapshot::default();
        for pair in self.services.iter() {
            let (key, id) = at("SERVICES", pair)?;
            snapshot.services.extend(service_address(&key).map(|address| (address, id)));
        }
        for pair in self.identities.iter() {
            let (key, value) = at("IDENTITIES", pair)?;
            match identity::decode(&key, &value) {
                Some((IdentityKey::Split(id), identity)) => {
                    self.read_split(&mut snapshot, id, identity)?;
                }
                Some((IdentityKey::Subset(id), Identity::Subset(name))) => {
                    snapshot.subsets.insert(id, name);
                }
                Some((IdentityKey::Endpoint(id), identity)) => {
                    self.read_endpoint(&mut snapshot, id, identity)?;
                }
                _ => return Err(DatapathError::Missing("a readable identity")),
            }
        }
        for index in 0..self.subset_ids.len() {
            let id = at("SUBSET_IDS", self.subset_ids.get(&index, 0))?;
            if id != 0 {
                snapshot.subset_ids.insert(index, id);
            }
        }
        let filters =
            [(Side::Service, &self.service_filter), (Side::Endpoint, &self.endpoint_filter)];
        for (side, map) in filters {
            for word in 0..map.len() {
                let bits = at("filter", map.get(&word, 0))?;
                if bits != 0 {
                    snapshot.filters.insert((side, word), bits);
                }
            }
        }
        Ok(snapshot)
    }
}

/// Waits until every program that runs now has ended: membarrier(2) with
/// MEMBARRIER_CMD_GLOBAL waits for an RCU grace period, which covers XDP and TC
/// programs.
pub fn grace() -> Result<(), DatapathError> {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: a system call without pointers.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
        return Err(DatapathError::Grace(std::io::Error::last_os_error()));
    }
    Ok(())
}

fn service_key(address: ServiceAddress) -> ServiceKey {
    ServiceKey {
        address: words(address.ip),
        port: address.port.to_be(),
        protocol: address.protocol.number(),
        family: match Family::of(address.ip) {
            Family::V4 => 4,
            Family::V6 => 6,
        },
    }
}

fn service_address(key: &ServiceKey) -> Option<ServiceAddress> {
    let protocol =
        [Protocol::Tcp, Protocol::Udp].into_iter().find(|p| p.number() == key.protocol)?;
    let ip = ip(key.address, key.family == 6);
    Some(ServiceAddress { ip, port: u16::from_be(key.port), protocol })
}

/// The inverse of [`words`].
pub(super) fn ip(words: [u32; 4], v6: bool) -> IpAddr {
    let octets: [u8; 16] = bytemuck::cast(words);
    if v6 {
        Ipv6Addr::from(octets).into()
    } else {
        Ipv4Addr::from_octets([octets[0], octets[1], octets[2], octets[3]]).into()
    }
}
