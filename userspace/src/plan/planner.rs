//! The planner.

use std::net::SocketAddr;
use std::sync::Arc;

use probe_common::map::{self, CHUNK, MAX_SUBSETS};

use crate::explain::subset_seed;
use crate::model::{Affinity, Name, ServiceAddress, Split, Subset};
use crate::table::maglev;

use super::ledger::{EndpointKey, Known, Placed, Record, Retired, subset_id};
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
}

impl Planner {
    fn new(ledger: &Ledger, now: u64) -> Self {
        let mut ledger = ledger.clone();
        ledger.epoch += 1;
        Self { ledger, ops: Vec::new(), sweep: Vec::new(), now, abandoned: Vec::new() }
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
        self.ledger.graced = self.ledger.epoch - 1;
        self.ledger.free_loose();
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
                if known.flipped > self.ledger.graced {
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
        let value = Box::new(version(split, id, &placed));
        let identity = split_identity(split, None);
        if old.as_ref().is_none_or(|known| split_identity(&known.split, None) != identity) {
            self.identity(IdentityKey::Split(id), Some(identity));
        }
        self.ops.push(Op::Split { index, value });
        self.ops.push(Op::Activate { split: id, index });
        self.address(split, id, old.as_deref());
        if let Some(old) = &old {
            self.drain_others(old, split, split.drain().as_secs());
        }
        if let Some(base) = &base {
            self.loosen(base, &placed);
            self.forget_subsets(base, &placed);
        }
        let split = Arc::clone(split);
        // The other version of a new split was never in force.
        let flipped = if base.is_some() { self.ledger.epoch } else { 0 };
        let known = Known { id, index, split, placed, flipped };
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
        let all = bits(&mut base.iter().flat_map(|base| &base.placed).map(|p| p.slot));
        let kept = split.subsets().iter().filter_map(|s| before(&s.name));
        let mut taken = bits(&mut kept.map(|(_, placed)| placed.slot));
        let mut placed = Vec::with_capacity(split.subsets().len());
        for subset in split.subsets() {
            let old = before(&subset.name);
            let slot = match old {
                Some((_, old)) => old.slot,
                None => {
                    // Rather one that the version in force does not use: it
                    // keeps its name until then.
                    let unused = (taken | all).trailing_ones();
                    let limit = MAX_SUBSETS as u32;
                    let slot = if unused < limit { unused } else { taken.trailing_ones() };
                    taken |= 1 << slot;
                    let subset_id = subset_id(id, slot);
                    self.ops.push(Op::ResetSubset(subset_id));
                    let identity = Identity::Subset(subset.name.clone());
                    self.identity(IdentityKey::Subset(subset_id), Some(identity));
                    slot
                }
            };
            // An endpoint of a retired split may be draining: only a split in
            // force has tables that can be kept.
            let live = self.ledger.splits.contains_key(split.name());
            placed.push(match old {
                Some((was, old)) if live && was.endpoints == subset.endpoints => old,
                _ => self.table(split, subset, (id, slot))?,
            });
        }
        Ok(placed)
    }

    fn table(
        &mut self,
        split: &Split,
        subset: &Subset,
        (split_id, slot): (u32, u32),
    ) -> Result<Placed, PlanError> {
        let endpoints: Vec<SocketAddr> = subset.endpoints.iter().copied().collect();
        let count = endpoints.len();
        let len = maglev::size_for(count).ok_or_else(|| {
            let (split, subset) = (split.name().clone(), subset.name.clone());
            PlanError::Endpoints { split, subset, count }
        })?;
        let mut ids = Vec::with_capacity(count);
        for &address in &endpoints {
            ids.push(self.endpoint(split, subset, address, subset_id(split_id, slot))?);
        }
        if len <= 1 {
            return Ok(Placed { slot, len, table: ids.first().copied().unwrap_or(0) });
        }
        let run = len.div_ceil(CHUNK as u32);
        let mut start = self.ledger.chunks.allocate(run);
        if start.is_none() && !self.ledger.loose.is_empty() {
            self.grace();
            start = self.ledger.chunks.allocate(run);
        }
        let table = start.ok_or_else(|| self.full(split.name(), "limits.tableSlots"))?;
        let seeds = endpoints.iter().map(|&e| maglev::seed(e)).collect();
        self.ops.push(Op::Table { start: table, table: Table { len, seeds, ids } });
        Ok(Placed { slot, len, table })
    }

    /// The id of an endpoint, which is live from now on and counts for that subset id.
    fn endpoint(
        &mut self,
        split: &Split,
        subset: &Subset,
        address: SocketAddr,
        counts: u32,
    ) -> Result<u32, PlanError> {
        let (name, subset) = (split.name().clone(), subset.name.clone());
        let key = EndpointKey { split: name, subset, address };
        let (id, before) = match self.ledger.endpoints.get(&key) {
            Some(record) => (record.id, Some(*record)),
            None => {
                let id = self.ledger.endpoint_ids.allocate(1);
                (id.ok_or_else(|| self.full(split.name(), "limits.endpoints"))?, None)
            }
        };
        if before.is_none_or(|before| (before.phase, before.subset) != (Phase::Live, counts)) {
            let state = EndpointState::Live;
            self.ops.push(Op::Endpoint { id, address, subset: counts, state });
        }
        match before.map(|before| before.phase) {
            Some(Phase::Live) => {}
            Some(Phase::Draining { until } | Phase::Gone { until }) => {
                self.ledger.deadlines.remove(&(until, key.clone()));
                self.identity(IdentityKey::Endpoint(id), Some(endpoint_identity(&key, None)));
            }
            None => {
                self.ops.push(Op::ResetEndpoint(id));
                if let Some((word, bits)) = self.ledger.endpoint_bits.add(address) {
                    self.ops.push(Op::Filter { side: Side::Endpoint, word, bits });
                }
                self.identity(IdentityKey::Endpoint(id), Some(endpoint_identity(&key, None)));
            }
        }
        self.ledger.endpoints.insert(key, Record { id, subset: counts, phase: Phase::Live });
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
        let drain = known.split.drain().as_secs();
        for subset in known.split.subsets() {
            for &address in &subset.endpoints {
                self.start_drain(name, &subset.name, address, drain);
            }
        }
        let until = self.now + drain + LINGER;
        let identity = split_identity(&known.split, Some(until));
        self.identity(IdentityKey::Split(known.id), Some(identity));
        self.retire(until, Retired::Split(known));
    }

    /// Drains the endpoints of the old version that the new one does not have.
    fn drain_others(&mut self, old: &Known, new: &Split, drain: u64) {
        for subset in old.split.subsets() {
            let kept = new.subsets().iter().find(|s| s.name == subset.name);
            for &address in &subset.endpoints {
                if !kept.is_some_and(|kept| kept.endpoints.contains(&address)) {
                    self.start_drain(new.name(), &subset.name, address, drain);
                }
            }
        }
    }

    fn start_drain(&mut self, split: &Name, subset: &Name, address: SocketAddr, drain: u64) {
        let key = EndpointKey { split: split.clone(), subset: subset.clone(), address };
        let until = self.now + drain;
        self.enter(&key, Phase::Draining { until }, until);
        if let Some(&Record { id, subset, .. }) = self.ledger.endpoints.get(&key) {
            let state = EndpointState::Draining;
            self.ops.push(Op::Endpoint { id, address, subset, state });
        }
    }

    /// Puts an endpoint in a phase that ends.
    fn enter(&mut self, key: &EndpointKey, phase: Phase, until: u64) {
        let Some(record) = self.ledger.endpoints.get_mut(key) else { return };
        record.phase = phase;
        let id = record.id;
        self.ledger.deadlines.insert((until, key.clone()));
        let identity = endpoint_identity(key, Some(until));
        self.identity(IdentityKey::Endpoint(id), Some(identity));
    }

    /// Tables of the old version that the new one does not use are free after a grace period.
    fn loosen(&mut self, old: &Known, placed: &[Placed]) {
        for table in old.placed.iter().filter(|old| old.len > 1) {
            if !placed.iter().any(|new| new.len > 1 && new.table == table.table) {
                self.ledger.loose.push((table.table, table.len.div_ceil(CHUNK as u32)));
            }
        }
    }

    /// Subsets that the new version does not have.
    fn forget_subsets(&mut self, old: &Known, placed: &[Placed]) {
        for gone in &old.placed {
            if !placed.iter().any(|new| new.slot == gone.slot) {
                self.identity(IdentityKey::Subset(subset_id(old.id, gone.slot)), None);
            }
        }
    }

    fn expire_endpoints(&mut self) {
        while let Some((until, key)) = self.ledger.deadlines.get_min().cloned() {
            if until > self.now {
                return;
            }
            self.ledger.deadlines.remove(&(until, key.clone()));
            let Some(&record) = self.ledger.endpoints.get(&key) else { continue };
            let Record { id, subset, phase } = record;
            match phase {
                Phase::Live => {}
                Phase::Draining { .. } => {
                    let (address, state) = (key.address, EndpointState::Gone);
                    self.ops.push(Op::Endpoint { id, address, subset, state });
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
        self.forget_subsets(known, &[]);
        self.identity(IdentityKey::Split(known.id), None);
        self.loosen(known, &[]);
        self.ledger.split_ids.release(known.id, 1);
    }
}

fn split_identity(split: &Split, until: Option<u64>) -> Identity {
    let (name, address) = (split.name().clone(), split.address());
    Identity::Split { name, address, drain: split.drain().as_secs(), until }
}

fn endpoint_identity(key: &EndpointKey, until: Option<u64>) -> Identity {
    let (split, subset, address) = (key.split.clone(), key.subset.clone(), key.address);
    Identity::Endpoint { split, subset, address, until }
}

/// A split as the programs read it.
fn version(split: &Split, id: u32, placed: &[Placed]) -> map::Split {
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
            id: subset_id(id, placed.slot),
        };
    }
    value
}
