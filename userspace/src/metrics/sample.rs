//! What the agent knows at one moment.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use probe_common::map::{EndpointCounters, SubsetCounters};
use probe_common::times::SubsetTimes;

use crate::model::Name;

/// All that there is to tell.
#[derive(Debug, Clone, Default)]
pub struct Sample {
    /// The splits in force.
    pub splits: Vec<SplitSample>,
    /// Their subsets.
    pub subsets: Vec<SubsetSample>,
    /// The endpoints that have an id: those of the splits in force, and those
    /// that were removed and are not forgotten yet.
    pub endpoints: Vec<EndpointSample>,
    /// The matching interfaces.
    pub interfaces: Vec<InterfaceSample>,
    /// Packets by reason.
    pub reasons: BTreeMap<String, u64>,
    /// The sizes of the maps.
    pub limits: Vec<Limit>,
    /// The flow tables.
    pub flows: FlowTables,
    /// The configuration.
    pub configuration: Configuration,
    /// The cluster that is followed.
    pub cluster: Option<ClusterSample>,
    /// Whether the agent was told to unload, and is idle since.
    pub unloaded: bool,
    /// The length of a tick, the unit of [`probe_common::map::SubsetStats::ended_ticks`].
    pub tick: Duration,
}

/// A cluster that is followed.
#[derive(Debug, Clone, Default)]
pub struct ClusterSample {
    /// Whether its API server answers.
    pub connected: bool,
    /// Since when what is known may not be what is there.
    pub stale_since: Option<SystemTime>,
    /// The objects that are known, by kind.
    pub objects: BTreeMap<String, u64>,
    /// The kinds that cannot be followed.
    pub failing: BTreeSet<String>,
    /// Requests, by verb.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of answers.
    pub bytes: u64,
    /// How often the server was lost.
    pub outages: u64,
    /// What is wrong with objects, in lines.
    pub rejected: u64,
}

/// A split.
#[derive(Debug, Clone)]
pub struct SplitSample {
    /// Its name.
    pub split: Name,
    /// Its address and port.
    pub address: String,
    /// "TCP" or "UDP".
    pub protocol: String,
    /// "None" or "ClientIP".
    pub affinity: String,
}

/// A subset.
#[derive(Debug, Clone)]
pub struct SubsetSample {
    /// Its split.
    pub split: Name,
    /// Its name.
    pub subset: Name,
    /// Its weight.
    pub weight: u32,
    /// Its weight over the sum of weights.
    pub wanted_share: f64,
    /// What the programs counted.
    pub counters: SubsetCounters,
    /// What they measured, if they do that for this subset.
    pub times: Option<Arc<SubsetTimes>>,
    /// Live flows that have not expired, if they were counted.
    pub open_flows: Option<u64>,
}

/// An endpoint.
#[derive(Debug, Clone)]
pub struct EndpointSample {
    /// Its split.
    pub split: Name,
    /// Its subset.
    pub subset: Name,
    /// Its address and port.
    pub endpoint: SocketAddr,
    /// "live", "draining" or "gone".
    pub phase: &'static str,
    /// What the programs counted.
    pub counters: EndpointCounters,
    /// Live flows that have not expired, if they were counted.
    pub open_flows: Option<u64>,
}

/// An interface.
#[derive(Debug, Clone)]
pub struct InterfaceSample {
    /// Its name.
    pub interface: String,
    /// "tc" or "xdp".
    pub hook: String,
    /// How the hook is used; empty if it is not.
    pub mode: String,
    /// How often somebody else detached the programs.
    pub detached: u64,
}

/// Places of which there is a limited number.
#[derive(Debug, Clone)]
pub struct Limit {
    /// Of what.
    pub kind: &'static str,
    /// How many are taken.
    pub used: u64,
    /// How many there are.
    pub limit: u64,
}

/// A flow table: family ("ipv4", "ipv6") and "live" or "pending".
pub type TableName = (&'static str, &'static str);

/// The flow tables.
#[derive(Debug, Clone, Default)]
pub struct FlowTables {
    /// Flows for which there is room.
    pub limits: BTreeMap<TableName, u64>,
    /// When flows were counted, and how many were there, "active" and "expired".
    pub counted: Option<(SystemTime, BTreeMap<TableName, [u64; 2]>)>,
    /// Those that were full then.
    pub full: BTreeSet<TableName>,
}

/// The configuration.
#[derive(Debug, Clone, Default)]
pub struct Configuration {
    /// Lines that say what is wrong with it.
    pub problems: u64,
    /// When it was last put into force.
    pub reloaded: Option<SystemTime>,
}
