//! What goes over the API's wire, in both directions.

mod apply;
mod documents;
mod flows;
mod health;
mod kubernetes;
mod stats;
mod status;
mod weights;

pub use apply::{
    ApplyRequest, ApplyView, DeleteRequest, DifferenceView, FateView, FileText, MoveView,
    ObjectName, ObjectView, RequestedObject, SplitDifferenceView, SubsetDifferenceView,
};
pub use documents::{ConditionView, DocumentView, OriginDocument};
pub use flows::{FlowQuery, FlowState, FlowView, Party};
pub use health::{HealthView, Verdict};
pub use kubernetes::{KubernetesKindView, KubernetesView};
pub use stats::{
    BucketView, EndpointSignalsView, EndpointStatsView, HistogramsView, PeriodView, SignalsView,
    SplitStatsView, StatsQuery, StatsView, SubsetStatsView, TimeView, TimesView,
};
pub use status::{
    DetourView, DrainedEndpointView, FastPathView, FeatureView, FlowTableView, InterfaceView,
    MapView, StatusView, TakeoverView, TroubleView, UnloadedView,
};
pub use weights::{
    ChangeView, DrainRequest, DrainedView, OriginView, OverrideView, ResetQuery, RollbackRequest,
    ThisNodeView, UndrainRequest, WeightsRequest,
};

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::model::SplitSettings;

/// The transport protocol of a request or an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl From<crate::model::Protocol> for Protocol {
    fn from(protocol: crate::model::Protocol) -> Self {
        match protocol {
            crate::model::Protocol::Tcp => Self::Tcp,
            crate::model::Protocol::Udp => Self::Udp,
        }
    }
}

impl From<Protocol> for crate::model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        crate::model::Protocol::from(*self).fmt(f)
    }
}

impl std::str::FromStr for Protocol {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_uppercase().as_str() {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            _ => Err(format!("\"{text}\" is not a protocol: expected TCP or UDP")),
        }
    }
}

/// A split, as the agent steers it now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SplitView {
    /// Its name.
    pub name: String,
    /// The virtual IP address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// The transport protocol.
    pub protocol: Protocol,
    /// What it is set to.
    pub settings: SplitSettings,
    /// Seconds since its last change.
    pub changed: u64,
    /// Where what it is comes from.
    #[serde(flatten)]
    pub origin: OriginView,
    /// Its subsets, in the order in which they were written.
    pub subsets: Vec<SubsetView>,
    /// Endpoints that were removed and keep their live flows for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub draining: Vec<DrainingView>,
}

/// An endpoint that was removed: new flows avoid it, live ones keep it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DrainingView {
    /// The subset that had it.
    pub subset: String,
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Its live flows at the last count; none if there was no count yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_flows: Option<u64>,
    /// Seconds until its drain time is over, and the flows that are left are rejected.
    pub seconds_left: u64,
}

/// A subset, with what it received.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubsetView {
    /// Its name.
    pub name: String,
    /// Its weight.
    pub weight: u32,
    /// Its weight over the sum of weights, 0 to 1.
    pub wanted_share: f64,
    /// Its part of the split's new flows since the last change, 0 to 1; None if there were none.
    pub observed_share: Option<f64>,
    /// New flows since the split's last change.
    pub new_flows_since_change: u64,
    /// New flows ever.
    pub new_flows: u64,
    /// Flows that were rejected for want of an endpoint.
    pub rejected: u64,
    /// Its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// An endpoint, with what it received and sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct EndpointView {
    /// Where it listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// New flows ever.
    pub new_flows: u64,
    /// Packets from clients.
    pub packets_forward: u64,
    /// Bytes from clients.
    pub bytes_forward: u64,
    /// Packets to clients.
    pub packets_reply: u64,
    /// Bytes to clients.
    pub bytes_reply: u64,
}

/// A flow to explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ExplainRequest {
    /// The client's address and port.
    #[param(value_type = String)]
    pub from: SocketAddr,
    /// The service's address and port.
    #[param(value_type = String)]
    pub to: SocketAddr,
    /// The transport protocol.
    #[serde(default)]
    pub protocol: Protocol,
}

/// Where a new flow goes, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExplainView {
    /// The split that has the service address.
    pub split: String,
    /// The subset that wins.
    pub subset: String,
    /// The endpoint; None if the subset has none, and the flow is rejected.
    #[schema(value_type = Option<String>)]
    pub endpoint: Option<SocketAddr>,
    /// The hash of the flow, or of its client with client affinity: 64 bits in hexadecimal, such
    /// as 0x00000000deadbeef.
    pub hash: String,
    /// All subsets, in the order in which they were written.
    pub candidates: Vec<CandidateView>,
    /// What is to be known besides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// How a subset fared in the choice.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CandidateView {
    /// Its name.
    pub subset: String,
    /// Its weight.
    pub weight: u32,
    /// -log2(u) of its draw u, a multiple of 2^-24.
    pub log: f64,
    /// `log` over `weight`: the least wins. None for weight 0, which takes no part.
    pub score: Option<f64>,
    /// Whether it won.
    pub chosen: bool,
}

impl ExplainView {
    /// A hash as it is written.
    pub fn hash_text(hash: u64) -> String {
        format!("{hash:#018x}")
    }
}

impl CandidateView {
    /// A candidate with the score that follows from its weight and draw, which is -log2(u) in Q24,
    /// as the kernel has it.
    pub fn new(subset: impl Into<String>, weight: u32, draw: u64, chosen: bool) -> Self {
        let log = draw as f64 / f64::from(1 << 24);
        let score = (weight > 0).then(|| log / f64::from(weight));
        Self { subset: subset.into(), weight, log, score, chosen }
    }
}

/// The body of each answer that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ApiError {
    /// What is wrong, for people.
    pub error: String,
}
