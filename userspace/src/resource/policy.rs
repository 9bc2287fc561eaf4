//! What of a cluster's objects counts. Files and applied objects are the operator's own, and
//! always do.

use ipnet::IpNet;
use serde::Deserialize;
use std::net::IpAddr;

/// Which Services of the cluster become splits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Services {
    /// Those that something routes: the others are kube-proxy's.
    #[default]
    Routed,
    /// All of them.
    All,
}

/// Which objects of Istio count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Istio {
    /// Where istiod runs, those with the label [`STEER`]; elsewhere all.
    #[default]
    Auto,
    /// Those that have the label [`STEER`], or whose namespace has it.
    Labelled,
    /// All.
    All,
}

/// The label by which an object, or a namespace for all its objects, asks for weir: `true`.
pub const STEER: &str = "weir.dev/steer";

/// What of a cluster's objects counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Which Services become splits.
    pub services: Services,
    /// Which objects of Istio count.
    pub istio: Istio,
    /// Where objects may name service addresses and endpoints themselves. An editor of one
    /// namespace could else take any address for all Pods (CVE-2020-8554).
    pub addresses: Vec<IpNet>,
}

impl Policy {
    /// Whether an object may name an address itself.
    pub(super) fn allows(&self, address: IpAddr) -> bool {
        self.addresses.iter().any(|network| network.contains(&address))
    }
}
