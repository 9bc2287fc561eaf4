//! The steps of a plan.

use std::net::SocketAddr;

use probe_common::map;

use crate::model::{Name, ServiceAddress, SplitSettings};
use crate::table::maglev;

/// One write to the datapath. A plan is a list of these; every prefix of it
/// leaves every split whole.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Wait until no program reads what was replaced before.
    Grace,
    /// Set an endpoint.
    Endpoint {
        /// Its id.
        id: u32,
        /// Where it listens.
        address: SocketAddr,
        /// What becomes of its flows.
        state: EndpointState,
    },
    /// Set the counters of an endpoint id to zero, since another had it before.
    ResetEndpoint(u32),
    /// Begin a subset: its counters at zero, its index its own.
    ResetSubset(u32),
    /// Write down what an id stands for, for the next agent; or forget it.
    Identity {
        /// What kind of thing, and its id.
        key: IdentityKey,
        /// What it stands for.
        identity: Option<Identity>,
    },
    /// Fill a run of chunks with the slots of a Maglev table.
    Table {
        /// The first chunk.
        start: u32,
        /// What is in them.
        table: Table,
    },
    /// Set a word of a filter.
    Filter {
        /// Which filter.
        side: Side,
        /// Which word.
        word: u32,
        /// All its bits.
        bits: u64,
    },
    /// Fill a version of a split that is not in force.
    Split {
        /// Its index: twice the split's id, or one more.
        index: u32,
        /// The version.
        value: Box<map::Split>,
    },
    /// Put a version of a split in force.
    Activate {
        /// The split's id.
        split: u32,
        /// The version's index.
        index: u32,
    },
    /// Send new flows to a service address to a split.
    Service {
        /// The service address.
        address: ServiceAddress,
        /// The split's id.
        split: u32,
    },
    /// Let new flows to a service address pass.
    RemoveService(ServiceAddress),
}

/// What becomes of an endpoint's flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndpointState {
    /// They go on, and there are new ones.
    Live,
    /// They go on, and new ones avoid it.
    Draining,
    /// Its drain time is over: their packets are rejected.
    Gone,
}

/// A Maglev table to be: a plan for thousands of splits holds no slots.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The number of slots.
    pub len: u32,
    /// The seeds of its endpoints.
    pub seeds: Vec<u64>,
    /// Their ids.
    pub ids: Vec<u32>,
}

impl Table {
    /// Endpoint ids.
    pub fn slots(&self) -> Vec<u32> {
        let slots = maglev::populate(&self.seeds, self.len);
        slots.into_iter().map(|position| self.ids[position as usize]).collect()
    }
}

/// Which of the two filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Side {
    /// Service addresses: destinations in the forward direction.
    Service,
    /// Endpoints: sources in the reply direction.
    Endpoint,
}

/// The key of an [`Identity`]. A subset's is its index alone: see
/// [`probe_common::map::SUBSET_INDEX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentityKey {
    /// A split id.
    Split(u32),
    /// The index of a subset id.
    Subset(u32),
    /// An endpoint id.
    Endpoint(u32),
}

/// What an id stands for. `until` is when it may be given to another, in
/// seconds since boot; None while it is in use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// A split.
    Split {
        /// Its name.
        name: Name,
        /// Its service address.
        address: ServiceAddress,
        /// What it is set to.
        settings: SplitSettings,
        /// When its id is free.
        until: Option<u64>,
    },
    /// A subset of the split whose id is in its own; the last one with that index.
    Subset(Name),
    /// An endpoint.
    Endpoint {
        /// The service address that it serves.
        service: ServiceAddress,
        /// Where it listens.
        address: SocketAddr,
        /// The id of the subset that had it last.
        subset: u32,
        /// When its present phase (draining, gone) ends.
        until: Option<u64>,
    },
}
