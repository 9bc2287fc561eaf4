//! The planner.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use probe_common::map::{self, CHUNK, MAX_SUBSETS};

use crate::explain::subset_seed;
use crate::model::{Affinity, Name, ServiceAddress, Split, Subset};
use crate::table::maglev;

use super::ledger::{
    EndpointKey, Known, Placed, Record, Retired, SubsetRecord, index_of, next_id, slot_of,
};
use super::{
    Capacity, Change, EndpointState, Identity, IdentityKey, Ledger, Op, Phase, Side, Table,
};

/// How long packets of the flows of a gone endpoint are rejected before the
/// flows are forgotten, in seconds.
pub const LINGER: u64 = 60;

/// What to write, and the ledger as it is then.
#[derive(Debug, Clone)]
pub struct Plan {
    /// In this order.
    pub ops: Vec<Op>,
    /// To be kept if all ops were executed.
    pub ledger: Ledger,
    /// Endpoint ids whose flow entries must be deleted; then call [`swept`].
    pub sweep: Vec<u32>,
}

/// Why there is no plan. Nothing is changed then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A map is too small.
    #[error(
        "split \"{split}\" does not fit: {limit} is {size}, of which {used} are in use (what was removed counts until its flows have drained)"
    )]
    Full {
        /// The split that does not fit.
        split: Name,
        /// The limit in the agent's configuration.
        limit: &'static str,
        /// Its value.
        size: u32,
        /// How much of it is in use.
        used: u32,
    },
    /// A subset has too many endpoints.
    #[error(
        "split \"{split}\": subset \"{subset}\" has {count} endpoints, expected at most {max}",
        max = maglev::MAX_ENDPOINTS
    )]
    Endpoints {
        /// The split.
        split: Name,
        /// The subset.
        subset: Name,
        /// Its endpoints.
        count: usize,
    },
}

impl PlanError {
    /// The split for which there is no plan.
    pub fn split(&self) -> &Name {
        match self {
            Self::Full { split, .. } | Self::Endpoints { split, .. } => split,
        }
    }
}

/// Plans a change. All of it, or an error.
pub fn plan(ledger: &Ledger, change: &Change, now: u64) -> Result<Plan, PlanError> {
    let mut planner = Planner::new(ledger, now);
    for split in &change.put {
        planner.put(split)?;
    }
    for name in &change.remove {
        planner.remove(name);
    }
    planner.release_abandoned();
    planner.drain_removed();
    Ok(planner.finish())
}

/// Plans what follows from the passage of time: drain times that are over.
pub fn expire(ledger: &Ledger, now: u64) -> Plan {
    let mut planner = Planner::new(ledger, now);
    planner.expire_endpoints();
    planner.expire_retired();
    planner.finish()
}

/// Plans the release of endpoint ids of which no flow entry is left.
pub fn swept(ledger: &Ledger, ids: &[u32], now: u64) -> Plan {
    let mut planner = Planner::new(ledger, now);
    for &id in ids {
        let Some(address) = planner.ledger.leaving.remove(&id) else { continue };
        planner.identity(IdentityKey::Endpoint(id), None);
        if let Some((word, bits)) = planner.ledger.endpoint_bits.remove(address) {
            planner.ops.push(Op::Filter { side: Side::Endpoint, word, bits });
        }
        planner.ledger.endpoint_ids.release(id, 1);
    }
    planner.finish()
}

struct Planner {
    ledger: Ledger,
    ops: Vec<Op>,
    sweep: Vec<u32>,
    now: u64,
    /// Addresses that a split had before, unless another takes them.
    abandoned: Vec<(ServiceAddress, Name, u64)>,
    /// Versions that came out of force: their endpoints may have been removed.
    replaced: Vec<Arc<Split>>,
}

impl Planner {
    fn new(ledger: &Ledger, now: u64) -> Self {
        let mut ledger = ledger.clone();
        ledger.epoch += 1;
        let (ops, sweep, abandoned, replaced) = Default::default();
        Self { ledger, ops, sweep, now, abandoned, replaced }
    }

    fn finish(mut self) -> Plan {
        if self.ops.is_empty() {
            // Nothing came out of force.
            self.ledger.epoch -= 1;
        }
        Plan { ops: self.ops, ledger: self.ledger, sweep: self.sweep }
    }

    fn identity(&mut self, key: IdentityKey, identity: Option<Identity>) {
        self.ops.push(Op::Identity { key, identity });
    }

    /// Makes sure that nothing which came out of force before this plan is still read.
    fn grace(&mut self) {
        self.ops.push(Op::Grace);
        self.ledger.synchronized_epoch = self.ledger.epoch - 1;
        self.ledger.free_retired_chunks();
    }

    fn put(&mut self, split: &Arc<Split>) -> Result<(), PlanError> {
        let name = split.name();
        let old = self.ledger.splits.get(name).cloned();
        if old.as_ref().is_some_and(|known| known.split == *split) {
            return Ok(());
        }
        let base = old.clone().or_else(|| self.revive(name));
        let (id, index) = match &base {
            Some(known) => {
                if known.active_since_epoch > self.ledger.synchronized_epoch {
                    self.grace();
                }
                (known.id, known.index ^ 1)
            }
            None => {
                let id = self.ledger.split_ids.allocate(1);
                let id = id.ok_or_else(|| self.full(name, "limits.splits"))?;
                (id, id * 2)
            }
        };
        let placed = self.subsets(split, id, base.as_deref())?;
        let value = Box::new(version(split, &placed));
        let identity = split_identity(split, None);
        if old.as_ref().is_none_or(|known| split_identity(&known.split, None) != identity) {
            self.identity(IdentityKey::Split(id), Some(identity));
        }
        self.ops.push(Op::Split { index, value });
        self.ops.push(Op::Activate { split: id, index });
        self.address(split, id, old.as_deref());
        self.replaced.extend(old.as_ref().map(|old| Arc::clone(&old.split)));
        if let Some(base) = &base {
            self.retire_tables(base, &placed);
        }
        let split = Arc::clone(split);
        // The other version of a new split was never in force.
        let active_since_epoch = if base.is_some() { self.ledger.epoch } else { 0 };
        let known = Known { id, index, split, placed, active_since_epoch };
        self.ledger.split_names.insert(id, known.split.name().clone());
        self.ledger.splits.insert(known.split.name().clone(), Arc::new(known));
        Ok(())
    }

    /// A split of that name which was removed, and whose flows still drain.
    fn revive(&mut self, name: &Name) -> Option<Arc<Known>> {
        let (&key, known) =
            self.ledger.retired.iter().find_map(|(key, retired)| match retired {
                Retired::Split(known) if known.split.name() == name => Some((key, known.clone())),
                _ => None,
            })?;
        // Its address stays retired: the new split counts its own.
        let address = Retired::Address(known.split.address());
        self.ledger.retired.insert(key, address);
        Some(known)
    }

    fn full(&self, split: &Name, limit: &'static str) -> PlanError {
        let of = |capacity: Capacity| match limit {
            "limits.splits" => capacity.splits,
            "limits.endpoints" => capacity.endpoints,
            _ => capacity.chunks * CHUNK as u32,
        };
        let (size, used) = (of(self.ledger.capacity), of(self.ledger.used()));
        PlanError::Full { split: split.clone(), limit, size, used }
    }

    /// Places the subsets of a split, with all that they refer to.
    fn subsets(
        &mut self,
        split: &Split,
        id: u32,
        base: Option<&Known>,
    ) -> Result<Vec<Placed>, PlanError> {
        let before = |name: &Name| {
            let base = base?;
            let at = base.split.subsets().iter().position(|s| s.name == *name)?;
            Some((&base.split.subsets()[at], base.placed[at]))
        };
        let bits = |slots: &mut dyn Iterator<Item = u32>| slots.fold(0u32, |bits, s| bits | 1 << s);
        let all = bits(&mut base.iter().flat_map(|base| &base.placed).map(|p| slot_of(p.id)));
        let kept = split.subsets().iter().filter_map(|s| before(&s.name));
        let mut taken = bits(&mut kept.map(|(_, placed)| slot_of(placed.id)));
        // An endpoint of a retired split may be draining, and at another service address it is
        // another one: else tables can be kept.
        let address = split.address();
        let in_force = self.ledger.splits.get(split.name());
        let keeps = in_force.is_some_and(|known| known.split.address() == address);
        let mut placed = Vec::with_capacity(split.subsets().len());
        for subset in split.subsets() {
            let old = before(&subset.name);
            let subset_id = match old {
                Some((_, old)) => old.id,
                None => {
                    // Rather one that the version in force does not use: it
                    // keeps its name until then.
                    let slot = self.slot(id, taken | all).or_else(|| self.slot(id, taken));
                    // A split has no more subsets than slots.
                    let slot = slot.unwrap_or_default();
                    taken |= 1 << slot;
                    self.begin_subset(index_of(id, slot), &subset.name)
                }
            };
            placed.push(match old {
                Some((was, old)) if keeps && was.endpoints == subset.endpoints => old,
                _ => self.table(split, subset, subset_id)?,
            });
        }
        Ok(placed)
    }

    /// The slot of a split, none of `taken`, that was begun anew least often: names of
    /// removed subsets, and their generations, last longest that way.
    fn slot(&self, split: u32, taken: u32) -> Option<u32> {
        let free = (0..MAX_SUBSETS as u32).filter(|slot| taken & 1 << slot == 0);
        let last = |slot: &u32| self.ledger.subsets.get(&index_of(split, *slot)).map(|r| r.id);
        free.min_by_key(|slot| next_id(0, last(slot)))
    }

    /// Gives an index to another subset; its id.
    fn begin_subset(&mut self, index: u32, name: &Name) -> u32 {
        let id = next_id(index, self.ledger.subsets.get(&index).map(|record| record.id));
        self.ledger.subsets.insert(index, SubsetRecord { id, name: Some(name.clone()) });
        self.ops.push(Op::ResetSubset(id));
        self.identity(IdentityKey::Subset(index), Some(Identity::Subset(name.clone())));
        id
    }

    fn table(
        &mut self,
        split: &Split,
        subset: &Subset,
        subset_id: u32,
    ) -> Result<Placed, PlanError> {
        let endpoints: Vec<SocketAddr> = subset.endpoints.iter().copied().collect();
        let count = endpoints.len();
        let len = maglev::size_for(count).ok_or_else(|| {
            let (split, subset) = (split.name().clone(), subset.name.clone());
            PlanError::Endpoints { split, subset, count }
        })?;
        let mut ids = Vec::with_capacity(count);
        for &address in &endpoints {
            ids.push(self.endpoint(split, address, subset_id)?);
        }
        if len <= 1 {
            return Ok(Placed { id: subset_id, len, table: ids.first().copied().unwrap_or(0) });
        }
        let run = len.div_ceil(CHUNK as u32);
        let mut start = self.ledger.chunks.allocate(run);
        if start.is_none() && !self.ledger.retired_chunks.is_empty() {
            self.grace();
            start = self.ledger.chunks.allocate(run);
        }
        let table = start.ok_or_else(|| self.full(split.name(), "limits.tableSlots"))?;
        let seeds = endpoints.iter().map(|&e| maglev::seed(e)).collect();
        self.ops.push(Op::Table { start: table, table: Table { len, seeds, ids } });
        Ok(Placed { id: subset_id, len, table })
    }

    /// The id of an endpoint, which is live from now on, and in that subset.
    fn endpoint(
        &mut self,
        split: &Split,
        address: SocketAddr,
        subset: u32,
    ) -> Result<u32, PlanError> {
        let key = EndpointKey { service: split.address(), address };
        let (id, before) = match self.ledger.endpoints.get(&key) {
            Some(record) => (record.id, Some(*record)),
            None => {
                let id = self.ledger.endpoint_ids.allocate(1);
                (id.ok_or_else(|| self.full(split.name(), "limits.endpoints"))?, None)
            }
        };
        if before.is_none_or(|before| before.phase != Phase::Live) {
            self.ops.push(Op::Endpoint { id, address, state: EndpointState::Live });
        }
        let identity = endpoint_identity(&key, subset, None);
        match before.map(|before| before.phase) {
            Some(Phase::Live) => {}
            Some(Phase::Draining { until } | Phase::Gone { until }) => {
                self.ledger.deadlines.remove(&(until, key));
                self.identity(IdentityKey::Endpoint(id), Some(identity));
            }
            None => {
                self.ops.push(Op::ResetEndpoint(id));
                if let Some((word, bits)) = self.ledger.endpoint_bits.add(address) {
                    self.ops.push(Op::Filter { side: Side::Endpoint, word, bits });
                }
                self.identity(IdentityKey::Endpoint(id), Some(identity));
            }
        }
        self.ledger.endpoints.insert(key, Record { id, subset, phase: Phase::Live });
        Ok(id)
    }

    /// Sends the service address to the split.
    fn address(&mut self, split: &Split, id: u32, old: Option<&Known>) {
        let (name, address) = (split.name(), split.address());
        if old.is_some_and(|known| known.split.address() == address) {
            return;
        }
        self.ops.push(Op::Service { address, split: id });
        if let Some((word, bits)) = self.ledger.service_bits.add(address.socket()) {
            self.ops.push(Op::Filter { side: Side::Service, word, bits });
        }
        self.ledger.addresses.insert(address, name.clone());
        if let Some(old) = old {
            let until = self.now + split.drain().as_secs() + LINGER;
            self.abandoned.push((old.split.address(), name.clone(), until));
        }
    }

    /// After all splits have their addresses: those that nobody took over.
    fn release_abandoned(&mut self) {
        for (address, name, until) in std::mem::take(&mut self.abandoned) {
            self.withdraw(address, &name);
            self.retire(until, Retired::Address(address));
        }
    }

    fn withdraw(&mut self, address: ServiceAddress, name: &Name) {
        let moved = self.ledger.splits.get(name).is_some_and(|k| k.split.address() == address);
        if !moved && self.ledger.addresses.get(&address) == Some(name) {
            self.ledger.addresses.remove(&address);
            self.ops.push(Op::RemoveService(address));
        }
    }

    fn retire(&mut self, until: u64, retired: Retired) {
        let after = self.ledger.retired.range((until, 0)..=(until, u64::MAX)).next_back();
        let number = after.map_or(0, |(&(_, number), _)| number + 1);
        self.ledger.retired.insert((until, number), retired);
    }

    fn remove(&mut self, name: &Name) {
        let Some(known) = self.ledger.splits.remove(name) else { return };
        self.withdraw(known.split.address(), name);
        self.replaced.push(Arc::clone(&known.split));
        let until = self.now + known.split.drain().as_secs() + LINGER;
        let identity = split_identity(&known.split, Some(until));
        self.identity(IdentityKey::Split(known.id), Some(identity));
        self.retire(until, Retired::Split(known));
    }

    /// After all splits have their addresses: drains the endpoints of versions that came out of
    /// force which the split that has their service address now does not have, whatever it is
    /// called, in any subset.
    fn drain_removed(&mut self) {
        for old in std::mem::take(&mut self.replaced) {
            let service = old.address();
            let now = self.ledger.addresses.get(&service);
            let now = now.and_then(|name| self.ledger.splits.get(name)).map(Arc::clone);
            let now = now.as_ref().map(|known| &*known.split);
            if now.is_some_and(|now| has_endpoints_of(now, &old)) {
                continue;
            }
            let kept = now.map(all_endpoints).unwrap_or_default();
            let until = self.now + now.unwrap_or(&old).drain().as_secs();
            for &address in all_endpoints(&old).difference(&kept) {
                let key = EndpointKey { service, address };
                let phase = self.ledger.endpoints.get(&key).map(|record| record.phase);
                if phase == Some(Phase::Live) {
                    self.enter(&key, Phase::Draining { until }, until);
                    self.tell_draining(&key);
                }
            }
        }
    }

    /// Has the programs know that new flows are not to go there.
    fn tell_draining(&mut self, key: &EndpointKey) {
        if let Some(&Record { id, .. }) = self.ledger.endpoints.get(key) {
            let (address, state) = (key.address, EndpointState::Draining);
            self.ops.push(Op::Endpoint { id, address, state });
        }
    }

    /// Puts an endpoint in a phase that ends.
    fn enter(&mut self, key: &EndpointKey, phase: Phase, until: u64) {
        let Some(record) = self.ledger.endpoints.get_mut(key) else { return };
        record.phase = phase;
        let (id, subset) = (record.id, record.subset);
        self.ledger.deadlines.insert((until, *key));
        let identity = endpoint_identity(key, subset, Some(until));
        self.identity(IdentityKey::Endpoint(id), Some(identity));
    }

    /// Tables of the old version that the new one does not use are free after a grace period.
    fn retire_tables(&mut self, old: &Known, placed: &[Placed]) {
        for table in old.placed.iter().filter(|old| old.len > 1) {
            if !placed.iter().any(|new| new.len > 1 && new.table == table.table) {
                self.ledger.retired_chunks.push((table.table, table.len.div_ceil(CHUNK as u32)));
            }
        }
    }

    fn expire_endpoints(&mut self) {
        while let Some(&(until, key)) = self.ledger.deadlines.get_min() {
            if until > self.now {
                return;
            }
            self.ledger.deadlines.remove(&(until, key));
            let Some(&record) = self.ledger.endpoints.get(&key) else { continue };
            let Record { id, phase, .. } = record;
            match phase {
                Phase::Live => {}
                Phase::Draining { .. } => {
                    let (address, state) = (key.address, EndpointState::Gone);
                    self.ops.push(Op::Endpoint { id, address, state });
                    let until = self.now + LINGER;
                    self.enter(&key, Phase::Gone { until }, until);
                }
                Phase::Gone { .. } => {
                    // Back in a definition, it is another endpoint from here on.
                    self.ledger.endpoints.remove(&key);
                    self.ledger.leaving.insert(id, key.address);
                    self.sweep.push(id);
                }
            }
        }
    }

    fn expire_retired(&mut self) {
        while let Some((&key, retired)) = self.ledger.retired.get_min().map(|(k, r)| (k, r.clone()))
        {
            if key.0 > self.now {
                return;
            }
            self.ledger.retired.remove(&key);
            let address = match retired {
                Retired::Address(address) => address,
                Retired::Split(known) => {
                    self.forget_split(&known);
                    known.split.address()
                }
            };
            if let Some((word, bits)) = self.ledger.service_bits.remove(address.socket()) {
                self.ops.push(Op::Filter { side: Side::Service, word, bits });
            }
        }
    }

    fn forget_split(&mut self, known: &Known) {
        for slot in 0..MAX_SUBSETS as u32 {
            let index = index_of(known.id, slot);
            let Some(record) = self.ledger.subsets.get_mut(&index) else { continue };
            if record.name.take().is_some() {
                self.identity(IdentityKey::Subset(index), None);
            }
        }
        self.ledger.split_names.remove(&known.id);
        self.identity(IdentityKey::Split(known.id), None);
        self.retire_tables(known, &[]);
        self.ledger.split_ids.release(known.id, 1);
    }
}

pub(super) fn split_identity(split: &Split, until: Option<u64>) -> Identity {
    let (name, address) = (split.name().clone(), split.address());
    Identity::Split { name, address, settings: split.settings(), until }
}

pub(super) fn endpoint_identity(key: &EndpointKey, subset: u32, until: Option<u64>) -> Identity {
    let EndpointKey { service, address } = *key;
    Identity::Endpoint { service, address, subset, until }
}

/// The endpoints of all subsets.
fn all_endpoints(split: &Split) -> BTreeSet<SocketAddr> {
    split.subsets().iter().flat_map(|subset| &subset.endpoints).copied().collect()
}

/// Whether subsets of the same names, in the same order, have the same endpoints: so it is when
/// weights alone changed, which must cost nothing.
fn has_endpoints_of(new: &Split, old: &Split) -> bool {
    let of = |split: &Split| split.subsets().len();
    let mut pairs = new.subsets().iter().zip(old.subsets());
    of(new) == of(old) && pairs.all(|(new, old)| new.endpoints == old.endpoints)
}

/// A split as the programs read it.
fn version(split: &Split, placed: &[Placed]) -> map::Split {
    let mut value = map::Split {
        count: split.subsets().len() as u32,
        client_affinity: u32::from(split.affinity() == Affinity::ClientIp),
        subsets: [bytemuck::Zeroable::zeroed(); MAX_SUBSETS],
    };
    for ((entry, subset), placed) in value.subsets.iter_mut().zip(split.subsets()).zip(placed) {
        *entry = map::Subset {
            seed: subset_seed(split, subset),
            weight: subset.weight,
            len: placed.len,
            table: placed.table,
            id: placed.id,
        };
    }
    value
}
