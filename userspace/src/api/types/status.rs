//! How the agent is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{DrainedView, HealthView, KubernetesView, ThisNodeView};

/// How the agent is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StatusView {
    /// Whether it does what it is to do.
    #[serde(default)]
    pub health: HealthView,
    /// The version of the agent.
    pub version: String,
    /// The version of the layout of its maps in the kernel.
    pub map_layout: u32,
    /// The release of the kernel.
    pub kernel: String,
    /// When it started, as in RFC 3339.
    pub started: String,
    /// The file of its configuration, without symbolic links.
    #[serde(default)]
    pub config: String,
    /// The network namespace that it is in: a number of the kernel's, 0 if it is not known.
    #[serde(default)]
    pub network_namespace: u64,
    /// When resource files were last put into force by this agent, as in RFC
    /// 3339. None before that.
    pub reloaded: Option<String>,
    /// The interfaces that match its configuration.
    pub interfaces: Vec<InterfaceView>,
    /// Which way steered packets go.
    pub fast_path: FastPathView,
    /// Connections that something else translated before.
    #[serde(default)]
    pub takeover: TakeoverView,
    /// What it makes use of if the kernel has it.
    pub features: Vec<FeatureView>,
    /// Places in the kernel's maps.
    pub maps: Vec<MapView>,
    /// The flow tables.
    pub flow_tables: Vec<FlowTableView>,
    /// When flows were last counted, as in RFC 3339. None before that.
    pub flows_counted: Option<String>,
    /// Packets that were dropped or rejected or let pass, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// What was wrong with the last configuration, if it was rejected.
    pub last_error: Vec<String>,
    /// What was applied before and is not in force, and why.
    pub rejected: Vec<String>,
    /// What fails for now, and is tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<TroubleView>,
    /// The cluster that it follows beside files, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesView>,
    /// Endpoints whose answers to some clients go round the node, which makes them useless there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub detours: Vec<DetourView>,
    /// Endpoints that somebody took out of their splits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drained: Vec<DrainedEndpointView>,
    /// Splits of the cluster that this node steers otherwise than the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub this_node: Vec<ThisNodeView>,
    /// If it was told to unload: then it steers nothing until it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unloaded: Option<UnloadedView>,
}

/// An endpoint that was taken out of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainedEndpointView {
    /// The split.
    pub split: String,
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: DrainedView,
}

/// What became of an agent that was told to unload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnloadedView {
    /// Since when, as in RFC 3339.
    pub since: String,
    /// Who told it.
    pub by: String,
    /// What the user said about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What could not be taken out of the kernel, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Endpoints on a link of clients: what they answer to clients there goes straight to them, in the
/// endpoint's own name and not the service's, and is rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DetourView {
    /// The interface on whose link they are.
    pub interface: String,
    /// How many they are.
    pub count: u64,
    /// The first of them, as "ADDRESS:PORT (SPLIT, SUBSET)"; `weir doctor` names all.
    pub endpoints: Vec<String>,
}

/// What fails for now, and is tried again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TroubleView {
    /// What the agent tries.
    pub what: String,
    /// Why it fails.
    pub error: String,
    /// Since when, as in RFC 3339.
    pub since: String,
}

/// Which way steered packets go.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FastPathView {
    /// Past the node's stack.
    pub used: bool,
    /// What the configuration says: "auto", "on" or "off".
    pub setting: String,
    /// Why it is used or not.
    pub reason: String,
}

/// Connections to services that something else on the node translated before weir steered these,
/// such as netfilter by kube-proxy's rules. They go on as they were until they end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TakeoverView {
    /// How many are known.
    pub connections: u64,
    /// Whether it is being read which there are; what may be one passes meanwhile.
    pub reading: bool,
    /// Why connection tracking could not be read, if so: connections of before are cut where weir
    /// begins to steer their service by now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// An interface and the programs on it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InterfaceView {
    /// Its name.
    pub name: String,
    /// Its index.
    pub index: u32,
    /// The hook: "tc" or "xdp".
    pub hook: String,
    /// How the hook is used: "tcx", "clsact", "native" ...
    pub mode: String,
    /// Why it could not be used.
    pub error: Option<String>,
    /// How often this agent found that somebody else had detached programs from it, and attached
    /// them again.
    #[serde(default)]
    pub detached: u64,
    /// When it found that last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_detached: Option<String>,
    /// Why it carries no programs, and need not: it can carry none, and a pattern fits its name,
    /// but the configuration does not have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub passed_over: Option<String>,
}

/// What the agent makes use of if the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FeatureView {
    /// What it is called.
    pub name: String,
    /// Whether the kernel has it.
    pub found: bool,
    /// What it is good for, or what is done without it.
    pub note: String,
}

/// Places in maps of the kernel, of which there is a limited number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MapView {
    /// Of what: "splits", "endpoints" or "table_slots".
    pub kind: String,
    /// How many are taken, what drains included.
    pub used: u64,
    /// How many there are, as configured under `limits`.
    pub limit: u64,
}

/// A flow table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowTableView {
    /// "ipv4" or "ipv6".
    pub family: String,
    /// "live", or "pending": of flows of which only one side has spoken.
    pub table: String,
    /// Flows that are open; None if they were not counted yet.
    pub open_flows: Option<u64>,
    /// Flows that are closed, or idle for too long; their places are taken when needed.
    pub expired: Option<u64>,
    /// Flows for which there is room.
    pub limit: u64,
    /// Since when all places are taken, of a table of live flows: new flows push
    /// out those that were silent for longest, though they may live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full_since: Option<String>,
}
