//! What has to be written to get from what is in the kernel to what is
//! desired: pure, so that it can be tested without a kernel.
//!
//! [`Ledger`] is what user space knows of the kernel's maps: which ids stand
//! for what, which version of a split is in force, what drains. [`plan`] turns
//! a [`Change`] into a list of [`Op`]s and the ledger as it is after them; the
//! same desired state twice gives no ops. [`crate::datapath`] executes them.
//!
//! A removed endpoint goes through phases ([`Phase`]): it drains (new flows
//! avoid it, live ones keep it), then it is gone (packets of its flows are
//! rejected, for [`LINGER`]), then its flow entries are swept, and only then
//! its id may stand for another.
//!
//! Times are whole seconds since boot.

mod adopt;
mod change;
mod cost;
mod filter;
mod ledger;
mod op;
mod planner;
#[cfg(test)]
mod tests;

pub use adopt::{EndpointRecord, Snapshot, SplitRecord, adopt};
pub use change::Change;
pub use cost::cost;
pub use ledger::{Capacity, EndpointView, Ledger, Phase};
pub use op::{EndpointState, Identity, IdentityKey, Op, Side, Table};
pub use planner::{LINGER, Plan, PlanError, expire, plan, swept};
