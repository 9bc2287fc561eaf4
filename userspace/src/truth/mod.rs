//! What weir is to do, from the places where it is said: files, objects
//! applied through the API, and weights that override the defined ones.
//!
//! Everything here is pure: no file system, no clock, no kernel. What has to
//! outlive the agent is [`Kept`]; [`crate::store`] writes it to disk.

pub mod kept;
mod time;

pub use kept::{Cause, Change, Kept, MAX_CHANGES, Object, Op, Override, Transaction};
pub use time::Time;
