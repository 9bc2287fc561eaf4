//! How following a cluster goes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A cluster that the agent follows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesView {
    /// "steer", or "observe": then nothing is steered by what the cluster says.
    pub mode: String,
    /// Where its API server is, as a URL. None before that is known.
    pub server: Option<String>,
    /// The cluster's identity: the uid of its namespace kube-system. None before that is known.
    pub cluster: Option<String>,
    /// Whether the server answers.
    pub connected: bool,
    /// Why it does not, or what cannot be asked for.
    pub errors: Vec<String>,
    /// Since when the server was not reached, or a kind is not followed, as in RFC 3339. None if
    /// what is known is what is there.
    pub stale_since: Option<String>,
    /// Whether every kind that is served has been listed since the agent started.
    pub complete: bool,
    /// What is known of each kind.
    pub kinds: BTreeMap<String, KubernetesKindView>,
    /// Requests that were made, by verb.
    pub requests: BTreeMap<String, u64>,
    /// Bytes of answers.
    pub bytes: u64,
    /// How often the server was lost.
    pub outages: u64,
    /// What is wrong with objects of the cluster, which has no effect.
    pub rejected: Vec<String>,
    /// The splits that would be in force, if it were not only observed.
    pub observed: Vec<String>,
}

/// A kind of the cluster's objects.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesKindView {
    /// "following", "listing", "failing", "forbidden", "notServed", "notNeeded" or "unknown".
    pub state: String,
    /// The version in which it is served, such as "networking.istio.io/v1". None if it is not.
    pub api_version: Option<String>,
    /// How many objects are known.
    pub objects: u64,
    /// How many objects were put, changed or deleted.
    pub events: u64,
    /// How often it was followed anew.
    pub reconnects: u64,
}
