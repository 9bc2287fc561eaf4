//! What is followed, and where the server has it.

use std::fmt;

use super::client::with_parameters;
use crate::resource::Kind;

/// The group of definitions of kinds.
pub(super) const DEFINITIONS: &str = "apiextensions.k8s.io";

/// As kube-proxy: Services that are another proxy's concern are none of weir's.
const SERVICES: &str = "!service.kubernetes.io/service-proxy-name";
/// As kube-proxy: Services without an address have slices that nobody comes by.
const SLICES: &str = "!service.kubernetes.io/headless";

/// Pods whose connections come by an interface of a node: also those that are about to start,
/// since their init containers may connect already.
const ON_NODES: &str =
    "spec.nodeName!=,spec.hostNetwork=false,status.phase!=Succeeded,status.phase!=Failed";

/// What is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum What {
    /// Objects of a kind that weir reads.
    Kind(Kind),
    /// Which kinds are defined (CustomResourceDefinitions).
    Definitions,
    /// What a controller looks at beside.
    Tracked(Tracked),
}

/// What a controller looks at, whatever it is steered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tracked {
    /// weir's own TrafficSplits, with their status.
    Splits,
    /// What agents report of their nodes.
    Reports,
    /// Nodes, of which there is the name.
    Nodes,
    /// Pods that have a node, and a network of their own there, and have not ended.
    Pods,
}

impl Tracked {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Splits, Self::Reports, Self::Nodes, Self::Pods];

    /// Its group, version and plural.
    const fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Splits => ("weir.dev", "v1alpha1", "trafficsplits"),
            Self::Reports => ("weir.dev", "v1alpha1", "nodereports"),
            Self::Nodes => ("", "v1", "nodes"),
            Self::Pods => ("", "v1", "pods"),
        }
    }
}

impl What {
    /// Its name in the plural, as paths and RBAC have it.
    pub fn plural(self) -> String {
        match self {
            Self::Definitions => "customresourcedefinitions".to_owned(),
            Self::Kind(kind) => kind.plural(),
            Self::Tracked(tracked) => tracked.place().2.to_owned(),
        }
    }
}

/// With its group if the core does not have it.
impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let group = match self {
            Self::Definitions => DEFINITIONS,
            Self::Kind(kind) => kind.group(),
            Self::Tracked(tracked) => tracked.place().0,
        };
        f.write_str(&self.plural())?;
        if group.is_empty() { Ok(()) } else { write!(f, ".{group}") }
    }
}

/// The name of a kind's definition.
pub(super) fn definition(kind: Kind) -> String {
    What::Kind(kind).to_string()
}

/// What is followed, as the server has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Served {
    pub what: What,
    /// Group and version.
    pub api_version: String,
}

impl Served {
    /// A kind in a version of its group.
    pub fn of(kind: Kind, version: &str) -> Self {
        let api_version = match kind.group() {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        };
        Self { what: What::Kind(kind), api_version }
    }

    /// The definitions of kinds.
    pub fn definitions() -> Self {
        Self { what: What::Definitions, api_version: format!("{DEFINITIONS}/v1") }
    }

    /// What a controller looks at.
    pub fn tracked(tracked: Tracked) -> Self {
        let api_version = match tracked.place() {
            ("", version, _) => version.to_owned(),
            (group, version, _) => format!("{group}/{version}"),
        };
        Self { what: What::Tracked(tracked), api_version }
    }

    /// Whether only names and labels are of interest.
    pub fn is_metadata(&self) -> bool {
        matches!(
            self.what,
            What::Definitions
                | What::Kind(Kind::Pod | Kind::Namespace)
                | What::Tracked(Tracked::Nodes)
        )
    }

    /// Which of its objects count.
    pub fn parameters(&self) -> Vec<(&'static str, String)> {
        let (parameter, selector) = match self.what {
            What::Kind(Kind::Service) => ("labelSelector", SERVICES),
            What::Kind(Kind::EndpointSlice) => ("labelSelector", SLICES),
            What::Tracked(Tracked::Pods) => ("fieldSelector", ON_NODES),
            _ => return Vec::new(),
        };
        vec![(parameter, selector.to_owned())]
    }

    /// Where its objects of all namespaces are.
    pub fn url(&self, parameters: &[(&str, String)]) -> String {
        with_parameters(&self.path(None), parameters)
    }

    /// Where its objects are, of all namespaces or of one.
    pub fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.api_version.contains('/') { "/apis" } else { "/api" };
        let of = namespace.map(|name| format!("/namespaces/{name}")).unwrap_or_default();
        format!("{root}/{}{of}/{}", self.api_version, self.what.plural())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_plurals_that_their_definitions_have() {
        let all: Vec<String> = Kind::all().map(|kind| What::Kind(kind).to_string()).collect();
        let expected = [
            "trafficsplits.weir.dev",
            "virtualservices.networking.istio.io",
            "destinationrules.networking.istio.io",
            "serviceentries.networking.istio.io",
            "workloadentries.networking.istio.io",
            "gateways.networking.istio.io",
            "gateways.gateway.networking.k8s.io",
            "tcproutes.gateway.networking.k8s.io",
            "udproutes.gateway.networking.k8s.io",
            "referencegrants.gateway.networking.k8s.io",
            "trafficsplits.split.smi-spec.io",
            "services",
            "endpointslices.discovery.k8s.io",
            "pods",
            "namespaces",
        ];
        assert_eq!(all, expected);
    }

    #[test]
    fn services_and_slices_are_asked_for_with_the_selectors_of_kube_proxy() {
        let url = |kind| {
            let served = Served::of(kind, "v1");
            served.url(&served.parameters())
        };
        let services =
            "/api/v1/services?labelSelector=%21service.kubernetes.io%2Fservice-proxy-name";
        assert_eq!(url(Kind::Service), services);
        let slices = "/apis/discovery.k8s.io/v1/endpointslices\
                      ?labelSelector=%21service.kubernetes.io%2Fheadless";
        assert_eq!(url(Kind::EndpointSlice), slices);
        assert_eq!(url(Kind::Pod), "/api/v1/pods");
    }
}
