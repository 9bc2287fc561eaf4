//! `weir doctor`: what on this node keeps weir from its work, and what to do about it.
//!
//! [`gather()`] looks at the node and asks the agent, if it runs; the checks
//! ([`examine`]) are pure functions of the [`Facts`] that come of it.

mod checks;
mod facts;
mod gather;
#[cfg(test)]
mod tests;

pub use checks::{CHECKS, examine};
pub use facts::{
    Agent, Endpoint, Facts, Filter, Interface, Neighbour, NextHop, Offloads, Split, Waiting,
};
pub use gather::gather;

use serde::Serialize;

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// All is well.
    Ok,
    /// It may be as it should; to be known.
    Note,
    /// Something is to be done.
    Problem,
}

/// A thing that a check found, or that it found nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// All that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Findings of [`Level::Problem`].
    pub problems: usize,
    /// All findings, in the order of the checks.
    pub findings: Vec<Finding>,
}
