//! A datapath of ordinary maps, for tests of what uses one.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;

use probe_common::map::{self, CHUNK};

use super::{Datapath, DatapathError};
use crate::model::ServiceAddress;
use crate::plan::{
    EndpointRecord, EndpointState, Identity, IdentityKey, Op, Side, Snapshot, SplitRecord,
};

/// The maps.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// By endpoint id: where, and what becomes of its flows.
    pub endpoints: HashMap<u32, (SocketAddr, EndpointState)>,
    /// By index.
    pub subset_ids: BTreeMap<u32, u32>,
    /// What ids stand for.
    pub identities: BTreeMap<IdentityKey, Identity>,
    /// By chunk.
    pub tables: HashMap<u32, [u32; CHUNK]>,
    /// By side and word.
    pub filters: BTreeMap<(Side, u32), u64>,
    /// By index.
    pub splits: HashMap<u32, map::Split>,
    /// By split id.
    pub active: HashMap<u32, u32>,
    /// Split ids.
    pub services: HashMap<ServiceAddress, u32>,
    /// Writes so far.
    pub writes: usize,
    /// The write that fails.
    pub fails_at: Option<usize>,
}

impl Memory {
    /// The endpoint ids of a subset's table.
    pub fn table(&self, subset: &map::Subset) -> Vec<u32> {
        match subset.len {
            0 => Vec::new(),
            1 => vec![subset.table],
            len => (0..len)
                .map(|slot| {
                    let chunk = &self.tables[&(subset.table + slot / CHUNK as u32)];
                    chunk[slot as usize % CHUNK]
                })
                .collect(),
        }
    }

    /// The version in force of the split at an address.
    pub fn in_force(&self, address: ServiceAddress) -> Option<&map::Split> {
        self.splits.get(self.active.get(self.services.get(&address)?)?)
    }
}

impl Datapath for Memory {
    fn execute(&mut self, op: &Op) -> Result<(), DatapathError> {
        if self.fails_at == Some(self.writes) {
            return Err(DatapathError::Missing("as told"));
        }
        self.writes += 1;
        match op.clone() {
            Op::Grace | Op::ResetEndpoint(_) => {}
            Op::ResetSubset(id) => {
                self.subset_ids.insert(map::subset_index(id), id);
            }
            Op::Endpoint { id, address, state } => {
                self.endpoints.insert(id, (address, state));
            }
            Op::Identity { key, identity: Some(identity) } => {
                self.identities.insert(key, identity);
            }
            Op::Identity { key, identity: None } => {
                self.identities.remove(&key);
            }
            Op::Table { start, table } => {
                for (chunk, slots) in (start..).zip(table.slots().chunks(CHUNK)) {
                    let mut value = [0; CHUNK];
                    value[..slots.len()].copy_from_slice(slots);
                    self.tables.insert(chunk, value);
                }
            }
            Op::Filter { side, word, bits: 0 } => {
                self.filters.remove(&(side, word));
            }
            Op::Filter { side, word, bits } => {
                self.filters.insert((side, word), bits);
            }
            Op::Split { index, value } => {
                self.splits.insert(index, *value);
            }
            Op::Activate { split, index } => {
                self.active.insert(split, index);
            }
            Op::Service { address, split } => {
                self.services.insert(address, split);
            }
            Op::RemoveService(address) => {
                self.services.remove(&address);
            }
        }
        Ok(())
    }

    fn snapshot(&self) -> Result<Snapshot, DatapathError> {
        let mut snapshot = Snapshot {
            services: self.services.iter().map(|(&address, &id)| (address, id)).collect(),
            filters: self.filters.clone(),
            subset_ids: self.subset_ids.clone(),
            ..Snapshot::default()
        };
        for (&key, identity) in &self.identities {
            match (key, identity.clone()) {
                (IdentityKey::Split(id), Identity::Split { name, address, settings, until }) => {
                    let Some(&index) = self.active.get(&id) else { continue };
                    let value = Box::new(self.splits[&index]);
                    for subset in value.subsets.iter().filter(|subset| subset.len > 1) {
                        snapshot.tables.insert(subset.table, self.table(subset));
                    }
                    let record = SplitRecord { id, name, address, settings, until, index, value };
                    snapshot.splits.push(record);
                }
                (IdentityKey::Subset(id), Identity::Subset(name)) => {
                    snapshot.subsets.insert(id, name);
                }
                (
                    IdentityKey::Endpoint(id),
                    Identity::Endpoint { service, address, subset, until },
                ) => {
                    // Written down before it is set, or after.
                    let set = self.endpoints.get(&id);
                    let state = set.map_or(EndpointState::Live, |&(_, state)| state);
                    let record = EndpointRecord { id, service, address, subset, state, until };
                    snapshot.endpoints.push(record);
                }
                _ => return Err(DatapathError::Missing("identity")),
            }
        }
        Ok(snapshot)
    }
}
