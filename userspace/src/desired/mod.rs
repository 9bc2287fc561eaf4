//! What weir is to do, from the places where it is said: documents in files,
//! documents applied through the API and documents of a cluster, which are resolved
//! together, and weights that override the defined ones.
//!
//! Everything here is pure: no file system, no clock, no kernel. What has to
//! outlive the agent is [`PersistedState`]; [`crate::store`] writes it to disk.

mod author;
mod deviations;
pub mod difference;
mod drains;
mod files;
mod guard;
pub mod movement;
mod objects;
mod origins;
mod outcome;
mod overrides;
pub mod persisted;
mod reconcile;
mod rejection;
mod sources;
mod step;
#[cfg(test)]
mod tests;
mod this_node;
mod time;

pub use author::{Author, is_plain, reason};
pub use deviations::{Deviation, DeviationReason};
pub use difference::{Difference, Move, SplitDifference, SubsetDifference};
pub use drains::DrainGuard;
pub use guard::{Guard, version_of};
pub use origins::{Batch, Observed, Positions, Rejected};
pub use persisted::{
    Cause, Change, Drain, Drains, MAX_CHANGES, Object, Op, Override, PersistedState, Transaction,
};
pub use rejection::Rejection;
pub use sources::{DesiredState, Source};
pub use step::{Event, Fate, SplitChange, Step};
pub use time::Time;
