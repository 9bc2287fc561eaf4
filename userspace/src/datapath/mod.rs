//! The kernel side as user space sees it: the loaded object, its maps, and the
//! interfaces that it is attached to.
//!
//! Mechanism only: what is to be in the maps is decided in [`crate::plan`].

mod addresses;
mod batch;
mod builds;
mod claim;
mod clock;
mod counters;
mod ended;
mod fast_path;
mod features;
mod flows;
mod foreign;
mod foreign_programs;
mod histograms;
mod hooks;
mod identity;
mod interfaces;
mod kernel;
mod log;
mod mapped;
#[cfg(test)]
mod memory;
mod migration;
mod network;
mod object;
mod others;
mod pins;
mod renamed;
mod shape;

pub use addresses::Addresses;
pub use claim::{Claim, ClaimError};
pub use clock::Clock;
pub use counters::Counters;
pub use ended::{Swept, full_flows};
pub use fast_path::FastPath;
pub use features::{Feature, features, has_route_mtu, has_tcx};
pub use flows::{Flow, Flows, Idle, Walk};
pub use foreign::{Foreign, Gate, Told};
pub use foreign_programs::{netfilter_links, other_at_ingress, other_behind, others_at_egress};
pub use hooks::{
    AttachError, CLSACT_HANDLE, CLSACT_PRIORITY, Forward, Interface, Mode, attach,
    carriers_of_replies, detach_all, detached, takers_of_replies,
};
pub use interfaces::Interfaces;
pub use kernel::{Kernel, grace};
pub use log::{KernelLog, KernelLogError};
#[cfg(test)]
pub use memory::Memory;
pub use migration::{MigrationError, downgrade};
pub use network::own as own_network;
pub use object::{Object, ObjectError, Settings, new_flows};
pub use others::Others;
pub use pins::{Pins, PinsError};

pub use aya::programs::TcAttachType;

use crate::plan::{Op, Snapshot};

/// The eBPF object that this build carries.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-ebpf"));

/// What executes plans.
pub trait Datapath {
    /// Does one step. After an error, what is in the maps must be read anew
    /// ([`Datapath::snapshot`]).
    fn execute(&mut self, op: &Op) -> Result<(), DatapathError>;

    /// Reads what is in the maps.
    fn snapshot(&self) -> Result<Snapshot, DatapathError>;

    /// Does all steps, in order; stops at the first that fails.
    fn execute_all(&mut self, ops: &[Op]) -> Result<(), DatapathError> {
        ops.iter().try_for_each(|op| self.execute(op))
    }
}

/// Why the maps could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel rejected.
    #[error("cannot access map {map}: {source}")]
    Map {
        /// The map's name.
        map: &'static str,
        /// What the kernel said.
        source: aya::maps::MapError,
    },
    /// A map that the object should have is missing, or something in it.
    #[error("the maps lack {0}")]
    Missing(&'static str),
    /// The flow tables cannot be read or swept.
    #[error("cannot access the flow tables: {0}")]
    Flows(std::io::Error),
    /// The kernel offers no way to wait for running programs.
    #[error("cannot wait for a grace period: {0}")]
    Grace(std::io::Error),
}
