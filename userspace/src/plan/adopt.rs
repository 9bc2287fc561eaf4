//! The ledger of maps that another agent left in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use probe_common::map::{self, CHUNK, MAX_SUBSETS, subset_index};

use crate::explain::subset_seed;
use crate::model::{Affinity, DEFAULT_DRAIN, Name, ServiceAddress, Split, Subset};

use super::ledger::{EndpointKey, Known, Placed, Record, Retired, SubsetRecord, split_of};
use super::planner::{endpoint_identity, split_identity};
use super::{Capacity, EndpointState, IdentityKey, Ledger, Op, Phase, Side};

/// What is in the maps, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Splits that have an identity.
    pub splits: Vec<SplitRecord>,
    /// Names of subsets by the index of their ids.
    pub subsets: BTreeMap<u32, Name>,
    /// Subset ids by index, of those that were ever given.
    pub subset_ids: BTreeMap<u32, u32>,
    /// Endpoints that have an identity.
    pub endpoints: Vec<EndpointRecord>,
    /// Service addresses in force, and the split ids to which they lead.
    pub services: Vec<(ServiceAddress, u32)>,
    /// Slots of the tables that the splits' versions in force use, by first chunk.
    pub tables: BTreeMap<u32, Vec<u32>>,
    /// Words of the filters that are not zero.
    pub filters: BTreeMap<(Side, u32), u64>,
}

/// A split in a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct SplitRecord {
    /// Its id.
    pub id: u32,
    /// Its name.
    pub name: Name,
    /// Its service address, in force or not.
    pub address: ServiceAddress,
    /// Its drain time in seconds.
    pub drain: u64,
    /// When its id is free, if it was removed.
    pub until: Option<u64>,
    /// The index of the version in force.
    pub index: u32,
    /// That version.
    pub value: Box<map::Split>,
}

/// An endpoint in a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct EndpointRecord {
    /// Its id.
    pub id: u32,
    /// The service address that it serves.
    pub service: ServiceAddress,
    /// Where it listens.
    pub address: SocketAddr,
    /// The id of the subset that had it last.
    pub subset: u32,
    /// What becomes of its flows.
    pub state: EndpointState,
    /// When its phase ends, if it was removed.
    pub until: Option<u64>,
}

/// The ledger of what a snapshot shows, and what has to be put right where the
/// agent before was interrupted. Flows, ids and counters stay as they are.
pub fn adopt(snapshot: &Snapshot, capacity: Capacity, now: u64) -> (Ledger, Vec<Op>) {
    let mut adoption = Adoption { ledger: Ledger::new(capacity), ops: Vec::new(), now };
    // What came out of force before is not known to be unread yet.
    adoption.ledger.epoch = 1;
    let in_force: BTreeMap<u32, ServiceAddress> =
        snapshot.services.iter().map(|&(address, id)| (id, address)).collect();
    let addresses: BTreeMap<u32, SocketAddr> =
        snapshot.endpoints.iter().map(|record| (record.id, record.address)).collect();
    let mut used = BTreeSet::new();
    for record in &snapshot.splits {
        match in_force.get(&record.id) {
            Some(&address) => {
                adoption.split(snapshot, record, address, &addresses, &mut used);
            }
            None => adoption.retired(snapshot, record, &addresses),
        }
    }
    // Of two ids of one endpoint, the one in use is the endpoint's.
    for wanted in [true, false] {
        for record in &snapshot.endpoints {
            if used.contains(&record.id) == wanted {
                adoption.endpoint(record, wanted);
            }
        }
    }
    for &(address, _) in &snapshot.services {
        // Without an identity nobody knows what it is: the split is made anew if it is desired.
        if !adoption.ledger.addresses.contains_key(&address) {
            adoption.ops.push(Op::RemoveService(address));
        }
    }
    adoption.subsets(snapshot);
    adoption.filters(&snapshot.filters);
    (adoption.ledger, adoption.ops)
}

struct Adoption {
    ledger: Ledger,
    ops: Vec<Op>,
    now: u64,
}

impl Adoption {
    /// The split that a record shows, and where its subsets are; None if it makes none.
    fn known(
        &mut self,
        snapshot: &Snapshot,
        record: &SplitRecord,
        address: ServiceAddress,
        endpoints: &BTreeMap<u32, SocketAddr>,
    ) -> Option<(Known, BTreeSet<u32>)> {
        let (mut subsets, mut placed, mut used) = (Vec::new(), Vec::new(), BTreeSet::new());
        let count = (record.value.count as usize).min(MAX_SUBSETS);
        for entry in &record.value.subsets[..count] {
            let name = snapshot.subsets.get(&subset_index(entry.id))?.clone();
            let ids: BTreeSet<u32> = match entry.len {
                0 => BTreeSet::new(),
                1 => BTreeSet::from([entry.table]),
                _ => snapshot.tables.get(&entry.table)?.iter().copied().collect(),
            };
            let found: Option<BTreeSet<SocketAddr>> =
                ids.iter().map(|id| endpoints.get(id).copied()).collect();
            used.extend(ids);
            subsets.push(Subset { name, weight: entry.weight, endpoints: found? });
            placed.push(Placed { id: entry.id, len: entry.len, table: entry.table });
        }
        let affinity =
            if record.value.client_affinity != 0 { Affinity::ClientIp } else { Affinity::None };
        let split = Split::new(record.name.clone(), address, affinity, subsets).ok()?;
        let split = split.with_drain(Duration::from_secs(record.drain));
        let active_since_epoch = self.ledger.epoch;
        // A name that the agent before wrote down for the version to come.
        let pairs = split.subsets().iter().zip(&record.value.subsets);
        if pairs.into_iter().any(|(subset, entry)| subset_seed(&split, subset) != entry.seed) {
            return None;
        }
        for table in placed.iter().filter(|placed| placed.len > 1) {
            self.ledger.chunks.take(table.table, table.len.div_ceil(CHUNK as u32));
        }
        let split = Arc::new(split);
        Some((
            Known { id: record.id, index: record.index, split, placed, active_since_epoch },
            used,
        ))
    }

    fn split(
        &mut self,
        snapshot: &Snapshot,
        record: &SplitRecord,
        address: ServiceAddress,
        endpoints: &BTreeMap<u32, SocketAddr>,
        used: &mut BTreeSet<u32>,
    ) {
        let Some((known, ids)) = self.known(snapshot, record, address, endpoints) else { return };
        self.ledger.split_ids.take(record.id, 1);
        self.ledger.split_names.insert(record.id, record.name.clone());
        used.extend(ids);
        self.ledger.service_bits.add(address.socket());
        self.ledger.addresses.insert(address, record.name.clone());
        self.ledger.splits.insert(record.name.clone(), Arc::new(known));
        if record.address != address {
            // It was about to move there; flows to the address that it had may live on.
            let until = self.now + record.drain + super::LINGER;
            self.ledger.service_bits.add(record.address.socket());
            self.retire(until, Retired::Address(record.address));
        }
    }

    fn retired(
        &mut self,
        snapshot: &Snapshot,
        record: &SplitRecord,
        endpoints: &BTreeMap<u32, SocketAddr>,
    ) {
        let found = self.known(snapshot, record, record.address, endpoints);
        let Some((known, _)) = found else {
            let key = IdentityKey::Split(record.id);
            self.ops.push(Op::Identity { key, identity: None });
            return;
        };
        self.ledger.split_ids.take(record.id, 1);
        self.ledger.split_names.insert(record.id, record.name.clone());
        self.ledger.service_bits.add(record.address.socket());
        let until = record.until.unwrap_or(self.now + record.drain + super::LINGER);
        if record.until.is_none() {
            let identity = split_identity(&known.split, Some(until));
            let key = IdentityKey::Split(record.id);
            self.ops.push(Op::Identity { key, identity: Some(identity) });
        }
        self.retire(until, Retired::Split(Arc::new(known)));
    }

    fn retire(&mut self, until: u64, retired: Retired) {
        let number = self.ledger.retired.len() as u64;
        self.ledger.retired.insert((until, number), retired);
    }

    fn endpoint(&mut self, record: &EndpointRecord, used: bool) {
        let EndpointRecord { id, service, address, subset, .. } = *record;
        let key = EndpointKey { service, address };
        // One that is in no table was about to come into force, or to drain.
        let until = record.until.unwrap_or(self.now + DEFAULT_DRAIN.as_secs());
        let (state, phase) = match (used, record.state) {
            (true, _) => (EndpointState::Live, Phase::Live),
            (false, EndpointState::Gone) => (EndpointState::Gone, Phase::Gone { until }),
            (false, _) => (EndpointState::Draining, Phase::Draining { until }),
        };
        self.ledger.endpoint_ids.take(record.id, 1);
        self.ledger.endpoint_bits.add(record.address);
        if self.ledger.endpoints.contains_key(&key) {
            // An older id of an endpoint that came back: its flows were being swept.
            self.ledger.leaving.insert(record.id, record.address);
            return;
        }
        if state != record.state {
            self.ops.push(Op::Endpoint { id, address, state });
        }
        if !used {
            self.ledger.deadlines.insert((until, key));
            if record.until.is_none() {
                // Or the drain time would begin again with every agent that starts.
                let identity = endpoint_identity(&key, subset, Some(until));
                let key = IdentityKey::Endpoint(id);
                self.ops.push(Op::Identity { key, identity: Some(identity) });
            }
        }
        self.ledger.endpoints.insert(key, Record { id, subset, phase });
    }

    /// Which subsets had which index, and their names; those of no split are forgotten.
    fn subsets(&mut self, snapshot: &Snapshot) {
        for (&index, &id) in &snapshot.subset_ids {
            self.ledger.subsets.insert(index, SubsetRecord { id, name: None });
        }
        for (&index, name) in &snapshot.subsets {
            let known = self.ledger.split_names.contains_key(&split_of(index));
            match self.ledger.subsets.get_mut(&index) {
                Some(record) if known => record.name = Some(name.clone()),
                _ => {
                    let key = IdentityKey::Subset(index);
                    self.ops.push(Op::Identity { key, identity: None });
                }
            }
        }
    }

    /// Bits that nobody wants are cleared, missing ones set.
    fn filters(&mut self, found: &BTreeMap<(Side, u32), u64>) {
        let mut wanted: BTreeMap<(Side, u32), u64> = found.keys().map(|&key| (key, 0)).collect();
        let sides = [
            (Side::Service, &self.ledger.service_bits),
            (Side::Endpoint, &self.ledger.endpoint_bits),
        ];
        for (side, bits) in sides {
            wanted.extend(bits.words().map(|(word, bits)| ((side, word), bits)));
        }
        for ((side, word), bits) in wanted {
            if found.get(&(side, word)).copied().unwrap_or(0) != bits {
                self.ops.push(Op::Filter { side, word, bits });
            }
        }
    }
}
