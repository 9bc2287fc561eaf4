//! What user space knows of the kernel's maps.

use std::net::SocketAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use probe_common::map::MAX_SUBSETS;

use crate::model::{Name, ServiceAddress, Split};
use crate::table::Runs;

use super::filter::FilterBits;

/// The sizes of the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Splits, those whose flows still drain included.
    pub splits: u32,
    /// Endpoints of all splits, draining ones included.
    pub endpoints: u32,
    /// Chunks of Maglev tables; see [`probe_common::map::CHUNK`].
    pub chunks: u32,
}

/// Where an endpoint is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// New flows go to it.
    Live,
    /// Only live flows go to it, until then.
    Draining {
        /// Seconds since boot.
        until: u64,
    },
    /// Packets of its flows are rejected; its id is kept until then.
    Gone {
        /// Seconds since boot.
        until: u64,
    },
}

/// An endpoint of a subset of a split. The same address in two subsets is two
/// endpoints, with counters of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EndpointKey {
    pub split: Name,
    pub subset: Name,
    pub address: SocketAddr,
}

/// An endpoint in the maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub id: u32,
    /// The subset id under which its flows count.
    pub subset: u32,
    pub phase: Phase,
}

/// Where a subset is in the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its place among the split's [`MAX_SUBSETS`] subset ids: stable, whatever the order.
    pub slot: u32,
    /// Slots of its table; see [`probe_common::map::Subset::len`].
    pub len: u32,
    /// See [`probe_common::map::Subset::table`].
    pub table: u32,
}

/// A split in the maps.
#[derive(Debug, Clone)]
pub(super) struct Known {
    pub id: u32,
    /// Of the version in force, in SPLITS.
    pub index: u32,
    pub split: Arc<Split>,
    /// One for each subset, in the order of the split's.
    pub placed: Vec<Placed>,
    /// The epoch in which that version came into force, and the other out of it.
    pub flipped: u64,
}

/// What waits for the end of the flows that used it.
#[derive(Debug, Clone)]
pub(super) enum Retired {
    /// A split that was removed, with its id and the filter bit of its address.
    Split(Arc<Known>),
    /// The filter bit of an address that a split had before.
    Address(ServiceAddress),
}

/// What is in the kernel's maps, and which ids are free. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Ledger {
    pub(super) capacity: Capacity,
    pub(super) splits: OrdMap<Name, Arc<Known>>,
    /// Who has the service addresses that are in force.
    pub(super) addresses: HashMap<ServiceAddress, Name>,
    pub(super) endpoints: HashMap<EndpointKey, Record>,
    /// When phases end.
    pub(super) deadlines: OrdSet<(u64, EndpointKey)>,
    /// Ids whose flow entries are being swept.
    pub(super) leaving: HashMap<u32, SocketAddr>,
    /// By the time when it is over, and a number that tells them apart.
    pub(super) retired: OrdMap<(u64, u64), Retired>,
    pub(super) split_ids: Runs,
    pub(super) endpoint_ids: Runs,
    pub(super) chunks: Runs,
    pub(super) service_bits: FilterBits,
    pub(super) endpoint_bits: FilterBits,
    /// Runs of chunks that programs may still read.
    pub(super) loose: Vec<(u32, u32)>,
    /// Counts plans.
    pub(super) epoch: u64,
    /// What came out of force in this epoch or before is read by no program.
    pub(super) graced: u64,
}

impl Ledger {
    /// Of empty maps.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            splits: OrdMap::new(),
            addresses: HashMap::new(),
            endpoints: HashMap::new(),
            deadlines: OrdSet::new(),
            leaving: HashMap::new(),
            retired: OrdMap::new(),
            split_ids: Runs::new(capacity.splits),
            endpoint_ids: Runs::new(capacity.endpoints),
            chunks: Runs::new(capacity.chunks),
            service_bits: FilterBits::default(),
            endpoint_bits: FilterBits::default(),
            loose: Vec::new(),
            epoch: 0,
            graced: 0,
        }
    }

    /// The split of that name, as it is in force.
    pub fn split(&self, name: &Name) -> Option<&Split> {
        self.splits.get(name).map(|known| &*known.split)
    }

    /// The splits in force.
    pub fn splits(&self) -> impl Iterator<Item = &Arc<Split>> {
        self.splits.values().map(|known| &known.split)
    }

    /// The names of the splits in force.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.splits.keys()
    }

    /// The id under which a subset counts.
    pub fn subset_id(&self, split: &Name, subset: &Name) -> Option<u32> {
        let known = self.splits.get(split)?;
        let at = known.split.subsets().iter().position(|s| s.name == *subset)?;
        Some(subset_id(known.id, known.placed[at].slot))
    }

    /// The id under which an endpoint of a subset counts, and its phase.
    pub fn endpoint(
        &self,
        split: &Name,
        subset: &Name,
        address: SocketAddr,
    ) -> Option<(u32, Phase)> {
        let key = EndpointKey { split: split.clone(), subset: subset.clone(), address };
        self.endpoints.get(&key).map(|record| (record.id, record.phase))
    }

    /// Endpoints that were removed and still have an id: split, subset, address, id, phase.
    pub fn departing(&self) -> impl Iterator<Item = (&Name, &Name, SocketAddr, u32, Phase)> {
        self.deadlines.iter().filter_map(|(_, key)| {
            let record = self.endpoints.get(key)?;
            Some((&key.split, &key.subset, key.address, record.id, record.phase))
        })
    }

    /// All endpoints that have an id, by it.
    pub fn endpoint_ids(&self) -> impl Iterator<Item = (u32, &Name, &Name, SocketAddr, Phase)> {
        self.endpoints
            .iter()
            .map(|(key, record)| (record.id, &key.split, &key.subset, key.address, record.phase))
    }

    /// Ids whose flow entries are to be deleted; see [`super::swept`].
    pub fn leaving(&self) -> impl Iterator<Item = u32> {
        self.leaving.keys().copied()
    }

    /// Ids in use: splits, endpoints, chunks.
    pub fn used(&self) -> Capacity {
        Capacity {
            splits: self.capacity.splits - self.split_ids.free(),
            endpoints: self.capacity.endpoints - self.endpoint_ids.free(),
            chunks: self.capacity.chunks - self.chunks.free(),
        }
    }

    /// The sizes of the maps.
    pub fn capacity(&self) -> Capacity {
        self.capacity
    }

    /// A mark of what has come out of force so far, for `Ledger::graced`.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a grace period would spare the next plan to wait for one.
    pub fn wants_grace(&self) -> bool {
        self.graced < self.epoch
    }

    /// Notes that a grace period has passed since [`Ledger::epoch`] was `epoch`.
    pub fn note_grace(&mut self, epoch: u64) {
        self.graced = self.graced.max(epoch);
        if self.graced == self.epoch {
            self.free_loose();
        }
    }

    pub(super) fn free_loose(&mut self) {
        for (start, length) in std::mem::take(&mut self.loose) {
            self.chunks.release(start, length);
        }
    }
}

/// The id of the subset in that slot of a split.
pub(super) const fn subset_id(split: u32, slot: u32) -> u32 {
    split * MAX_SUBSETS as u32 + slot
}
