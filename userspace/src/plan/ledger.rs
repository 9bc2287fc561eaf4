//! What user space knows of the kernel's maps.

use std::net::SocketAddr;
use std::sync::Arc;

use imbl::{HashMap, OrdMap, OrdSet};
use probe_common::map::{MAX_SUBSETS, SUBSET_INDEX, subset_index};

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

/// An endpoint of a service address. Flows know addresses, not names: whatever the
/// split and its subsets are called, and whichever of them have the endpoint, it is
/// the same one, and its flows go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EndpointKey {
    pub service: ServiceAddress,
    pub address: SocketAddr,
}

/// An endpoint in the maps.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record {
    pub id: u32,
    /// The id of the subset that had it last.
    pub subset: u32,
    pub phase: Phase,
}

/// What an index of subset ids stands for, or stood for.
#[derive(Debug, Clone)]
pub(super) struct SubsetRecord {
    /// The id; the next subset with this index gets another generation.
    pub id: u32,
    /// Until the split is forgotten, also of a subset that was removed: flows that
    /// were steered to it may live.
    pub name: Option<Name>,
}

/// An endpoint that has an id, with the names that it has, or had last.
#[derive(Debug, Clone, Copy)]
pub struct EndpointView<'a> {
    /// Its id.
    pub id: u32,
    /// The split.
    pub split: &'a Name,
    /// The subset.
    pub subset: &'a Name,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it is in its life.
    pub phase: Phase,
}

/// Where a subset is in the maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its id: stable, whatever the order.
    pub id: u32,
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
    pub active_since_epoch: u64,
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
    /// By index; see [`subset_index`].
    pub(super) subsets: HashMap<u32, SubsetRecord>,
    /// When phases end.
    pub(super) deadlines: OrdSet<(u64, EndpointKey)>,
    /// Ids whose flow entries are being swept.
    pub(super) leaving: HashMap<u32, SocketAddr>,
    /// By the time when it is over, and a number that tells them apart.
    pub(super) retired: OrdMap<(u64, u64), Retired>,
    /// Of splits that have an id, retired ones included.
    pub(super) split_names: HashMap<u32, Name>,
    pub(super) split_ids: Runs,
    pub(super) endpoint_ids: Runs,
    pub(super) chunks: Runs,
    pub(super) service_bits: FilterBits,
    pub(super) endpoint_bits: FilterBits,
    /// Runs of chunks that programs may still read.
    pub(super) retired_chunks: Vec<(u32, u32)>,
    /// Counts plans.
    pub(super) epoch: u64,
    /// What came out of force in this epoch or before is read by no program.
    pub(super) synchronized_epoch: u64,
}

impl Ledger {
    /// Of empty maps.
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            splits: OrdMap::new(),
            addresses: HashMap::new(),
            endpoints: HashMap::new(),
            subsets: HashMap::new(),
            deadlines: OrdSet::new(),
            leaving: HashMap::new(),
            retired: OrdMap::new(),
            split_names: HashMap::new(),
            split_ids: Runs::new(capacity.splits),
            endpoint_ids: Runs::new(capacity.endpoints),
            chunks: Runs::new(capacity.chunks),
            service_bits: FilterBits::default(),
            endpoint_bits: FilterBits::default(),
            retired_chunks: Vec::new(),
            epoch: 0,
            synchronized_epoch: 0,
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
        Some(known.placed[at].id)
    }

    /// The id of an endpoint of a service address, and its phase.
    pub fn endpoint(&self, service: ServiceAddress, address: SocketAddr) -> Option<(u32, Phase)> {
        let record = self.endpoints.get(&EndpointKey { service, address })?;
        Some((record.id, record.phase))
    }

    /// The split that has a service address now.
    pub fn split_at(&self, service: ServiceAddress) -> Option<&Name> {
        self.addresses.get(&service)
    }

    /// The names of a subset and of its split, while they are known: as long as no
    /// other subset has its index.
    pub fn subset_names(&self, id: u32) -> Option<(&Name, &Name)> {
        let record = self.subsets.get(&subset_index(id)).filter(|record| record.id == id)?;
        let split = self.split_names.get(&split_of(id))?;
        Some((split, record.name.as_ref()?))
    }

    /// The endpoints that have an id, of all splits or of one: those in force once
    /// for each subset that has them, and those that were removed.
    pub fn endpoint_views(&self, only: Option<&str>) -> impl Iterator<Item = EndpointView<'_>> {
        let wanted = move |split: &Name| only.is_none_or(|only| only == split.as_str());
        let in_force = self.splits.values().filter(move |known| wanted(known.split.name()));
        let live = in_force.flat_map(move |known| {
            let split = &known.split;
            split.subsets().iter().flat_map(move |subset| {
                subset.endpoints.iter().filter_map(move |&address| {
                    let (id, phase) = self.endpoint(split.address(), address)?;
                    let (split, subset) = (split.name(), &subset.name);
                    Some(EndpointView { id, split, subset, address, phase })
                })
            })
        });
        live.chain(self.removed_endpoints().filter(move |view| wanted(view.split)))
    }

    /// Where flows may go to, of services: all endpoints that have an id.
    pub fn targets(&self) -> impl Iterator<Item = (ServiceAddress, SocketAddr)> {
        self.endpoints.keys().map(|key| (key.service, key.address))
    }

    /// The endpoints that were removed and still have an id, by the time until which they keep
    /// their phase.
    pub fn removed_endpoints(&self) -> impl Iterator<Item = EndpointView<'_>> {
        self.deadlines.iter().filter_map(move |(_, key)| {
            let Record { id, subset, phase } = *self.endpoints.get(key)?;
            let (split, subset) = self.subset_names(subset)?;
            Some(EndpointView { id, split, subset, address: key.address, phase })
        })
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

    /// A mark of what has come out of force so far, for `Ledger::synchronized_epoch`.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a grace period would spare the next plan to wait for one.
    pub fn wants_grace(&self) -> bool {
        self.synchronized_epoch < self.epoch
    }

    /// Notes that a grace period has passed since [`Ledger::epoch`] was `epoch`.
    pub fn note_grace(&mut self, epoch: u64) {
        self.synchronized_epoch = self.synchronized_epoch.max(epoch);
        if self.synchronized_epoch == self.epoch {
            self.free_retired_chunks();
        }
    }

    pub(super) fn free_retired_chunks(&mut self) {
        for (start, length) in std::mem::take(&mut self.retired_chunks) {
            self.chunks.release(start, length);
        }
    }
}

/// The index of the subset in that slot of a split.
pub(super) const fn index_of(split: u32, slot: u32) -> u32 {
    split * MAX_SUBSETS as u32 + slot
}

/// The slot of a subset in its split.
pub(super) const fn slot_of(id: u32) -> u32 {
    subset_index(id) % MAX_SUBSETS as u32
}

/// The id of the split that a subset is, or was, of.
pub(super) const fn split_of(id: u32) -> u32 {
    subset_index(id) / MAX_SUBSETS as u32
}

/// The id of the next subset with that index: one generation, of 1 to 255, after
/// the last one.
pub(super) const fn next_id(index: u32, last: Option<u32>) -> u32 {
    let generation = match last {
        Some(last) => last >> SUBSET_INDEX.count_ones(),
        None => 0,
    };
    (generation % 255 + 1) << SUBSET_INDEX.count_ones() | index
}
