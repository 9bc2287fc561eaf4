//! Metrics for Prometheus, and whether the agent is well: read-only, over HTTP.
//!
//! [`Sample`] is what the agent knows at one moment, [`exposition`] is its
//! text, and [`serve`] answers scrapes of a [`Source`] of samples. All metrics
//! there are stand in [`catalog`]; `docs/metrics.md` shows the same table.

pub mod catalog;
mod exposition;
mod sample;
mod server;
#[cfg(test)]
mod tests;

pub use exposition::exposition;
pub use sample::{
    ClusterSample, Configuration, EndpointSample, FlowTables, InterfaceSample, Limit, Sample,
    SplitSample, SubsetSample, TableName,
};
pub use server::{LIMITS, bind, serve, serve_health};

/// Where samples come from. Both methods may block for a while.
pub trait Source: Send + Sync + 'static {
    /// What the agent knows now.
    fn sample(&self) -> anyhow::Result<Sample>;

    /// Why the agent is not ready yet, a sentence each; none if it is.
    fn unready(&self) -> Vec<String>;
}
