//! What a document is: its kind, namespace and name.

use std::collections::BTreeSet;
use std::fmt;

use crate::model::Key;
use crate::source::{FieldPath, Node, Problem};

/// The namespace of documents that name none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The kinds of document that weir reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// weir's own.
    TrafficSplit,
    /// Istio: the routes of hosts.
    VirtualService,
    /// Istio: the subsets of a host.
    DestinationRule,
    /// Istio: a service that is described by hand.
    ServiceEntry,
    /// Istio: an endpoint that is described by hand.
    WorkloadEntry,
    /// Istio: ports at which a gateway listens.
    IstioGateway,
    /// Gateway API: addresses and listeners.
    Gateway,
    /// Gateway API: where the connections of a listener or Service go.
    TcpRoute,
    /// Gateway API: where the datagrams of a listener or Service go.
    UdpRoute,
    /// Gateway API: who may refer to what is in another namespace.
    ReferenceGrant,
    /// SMI: the weights of the Services behind a Service.
    SmiTrafficSplit,
    /// Kubernetes: a service address.
    Service,
    /// Kubernetes: endpoints of a Service.
    EndpointSlice,
    /// Kubernetes: read for the labels of endpoints.
    Pod,
    /// Kubernetes: read for the labels that listeners select by.
    Namespace,
}

/// A kind as documents name it.
pub(super) struct Header {
    pub kind: Kind,
    /// The API group; empty for the core one.
    pub group: &'static str,
    pub name: &'static str,
    /// The versions that are read, the newest first.
    pub versions: &'static [&'static str],
}

/// The key of Istio's Gateway, since the Gateway API has one as well.
const ISTIO_GATEWAY: &str = "Gateway.networking.istio.io";

/// The key of SMI's TrafficSplit, since weir has one as well.
const SMI_TRAFFIC_SPLIT: &str = "TrafficSplit.split.smi-spec.io";

/// What is typed for kinds beside their names.
const SHORT: &[(&str, Kind)] = &[
    ("split", Kind::TrafficSplit),
    ("splits", Kind::TrafficSplit),
    ("vs", Kind::VirtualService),
    ("dr", Kind::DestinationRule),
    ("se", Kind::ServiceEntry),
    ("we", Kind::WorkloadEntry),
    ("gtw", Kind::Gateway),
    ("svc", Kind::Service),
    ("ns", Kind::Namespace),
    ("po", Kind::Pod),
];

pub(super) const ISTIO: &str = "networking.istio.io";
const ISTIO_VERSIONS: &[&str] = &["v1", "v1beta1", "v1alpha3"];
const GATEWAY: &str = "gateway.networking.k8s.io";
const SMI: &str = "split.smi-spec.io";

const fn header(
    kind: Kind,
    group: &'static str,
    name: &'static str,
    versions: &'static [&'static str],
) -> Header {
    Header { kind, group, name, versions }
}

/// Every kind that is read.
pub(super) const HEADERS: &[Header] = &[
    header(Kind::TrafficSplit, "weir.dev", "TrafficSplit", &["v1alpha1"]),
    header(Kind::VirtualService, ISTIO, "VirtualService", ISTIO_VERSIONS),
    header(Kind::DestinationRule, ISTIO, "DestinationRule", ISTIO_VERSIONS),
    header(Kind::ServiceEntry, ISTIO, "ServiceEntry", ISTIO_VERSIONS),
    header(Kind::WorkloadEntry, ISTIO, "WorkloadEntry", ISTIO_VERSIONS),
    header(Kind::IstioGateway, ISTIO, "Gateway", ISTIO_VERSIONS),
    header(Kind::Gateway, GATEWAY, "Gateway", &["v1", "v1beta1"]),
    header(Kind::TcpRoute, GATEWAY, "TCPRoute", &["v1", "v1alpha2"]),
    header(Kind::UdpRoute, GATEWAY, "UDPRoute", &["v1", "v1alpha2"]),
    header(Kind::ReferenceGrant, GATEWAY, "ReferenceGrant", &["v1", "v1beta1", "v1alpha2"]),
    header(Kind::SmiTrafficSplit, SMI, "TrafficSplit", &["v1alpha4", "v1alpha3", "v1alpha2"]),
    header(Kind::Service, "", "Service", &["v1"]),
    header(Kind::EndpointSlice, "discovery.k8s.io", "EndpointSlice", &["v1"]),
    header(Kind::Pod, "", "Pod", &["v1"]),
    header(Kind::Namespace, "", "Namespace", &["v1"]),
];

/// Kinds that exist beside these in groups of which weir reads some, so that
/// any other one is a mistake.
const OTHERS: &[(&str, &[&str])] = &[
    (
        "",
        &[
            "Binding",
            "ComponentStatus",
            "ConfigMap",
            "Endpoints",
            "Event",
            "LimitRange",
            "Node",
            "PersistentVolume",
            "PersistentVolumeClaim",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "ServiceAccount",
            "Status",
        ],
    ),
    ("discovery.k8s.io", &[]),
    (ISTIO, &["EnvoyFilter", "ProxyConfig", "Sidecar", "WorkloadGroup"]),
    (
        GATEWAY,
        &[
            "BackendLBPolicy",
            "BackendTLSPolicy",
            "GRPCRoute",
            "GatewayClass",
            "HTTPRoute",
            "ListenerSet",
            "ReferencePolicy",
            "TLSRoute",
        ],
    ),
    (SMI, &[]),
    ("weir.dev", &[]),
];

/// Why a kind that exists is passed over.
fn passed_over(group: &str, name: &str) -> String {
    let read: Vec<&str> =
        HEADERS.iter().filter(|header| header.name == name).map(|header| header.group).collect();
    match (group, name) {
        (GATEWAY, "HTTPRoute" | "GRPCRoute" | "TLSRoute") => format!(
            "layer 4 cannot do what {name}s ask for, so weir does not steer by it; it reads TCPRoute and UDPRoute"
        ),
        ("", "Endpoints") => "weir reads the EndpointSlices that say the same".to_owned(),
        _ if !read.is_empty() => {
            format!("weir reads no {name} of \"{group}\", only of \"{}\"", read.join("\", \""))
        }
        _ => "it says nothing about steering".to_owned(),
    }
}

/// What a document says that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// A kind that is read.
    Kind(Kind),
    /// Something that is not, and why.
    PassedOver(String),
}

impl Header {
    pub(super) fn api_versions(&self) -> Vec<String> {
        let join = |version: &&str| match self.group {
            "" => (*version).to_owned(),
            group => format!("{group}/{version}"),
        };
        self.versions.iter().map(join).collect()
    }
}

impl Kind {
    /// What keys call it: the kind's name, and for Istio's Gateway its group too.
    fn key(self) -> &'static str {
        match self {
            Self::IstioGateway => ISTIO_GATEWAY,
            Self::SmiTrafficSplit => SMI_TRAFFIC_SPLIT,
            _ => self.header().name,
        }
    }

    fn of_key(text: &str) -> Option<Self> {
        Self::all().find(|kind| kind.key() == text)
    }

    /// The kind that somebody means who types this: its name in any case, in
    /// the plural or with its group, or a short name as `kubectl` has it.
    pub fn of_word(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase();
        let (name, group) = word.split_once('.').unwrap_or((&word, ""));
        let means = |header: &&Header| {
            let own = header.name.to_ascii_lowercase();
            let plural = match own.strip_suffix("ry") {
                Some(stem) => format!("{stem}ries"),
                None => format!("{own}s"),
            };
            let short = SHORT.iter().any(|(short, kind)| *short == name && *kind == header.kind);
            (own == name || plural == name || short) && (group.is_empty() || header.group == group)
        };
        let found: Vec<Self> = HEADERS.iter().filter(means).map(|header| header.kind).collect();
        match found.as_slice() {
            [only] => Some(*only),
            // Without a group it is the Gateway API's, or weir's own.
            found => [Self::Gateway, Self::TrafficSplit].into_iter().find(|k| found.contains(k)),
        }
    }

    /// What may be typed for kinds.
    pub fn words() -> impl Iterator<Item = String> {
        let names = HEADERS.iter().map(|header| header.name.to_ascii_lowercase());
        names.chain(SHORT.iter().map(|(short, _)| (*short).to_owned()))
    }

    /// Every kind that is read.
    pub fn all() -> impl Iterator<Item = Self> {
        HEADERS.iter().map(|header| header.kind)
    }

    /// Its API group; empty for the core one.
    pub fn group(self) -> &'static str {
        self.header().group
    }

    /// Its name in documents.
    pub fn name(self) -> &'static str {
        self.header().name
    }

    /// Its name in paths, RBAC and what is typed: in the plural, with its group if the core does
    /// not have it. Definitions can have others, but those of these kinds do not.
    pub fn resource(self) -> String {
        match self.group() {
            "" => self.plural(),
            group => format!("{}.{group}", self.plural()),
        }
    }

    /// The same without the group.
    pub fn plural(self) -> String {
        let name = self.name().to_ascii_lowercase();
        match name.strip_suffix('y') {
            Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
            _ => format!("{name}s"),
        }
    }

    /// Whether it says how connections are divided, by weights.
    pub fn says_weights(self) -> bool {
        matches!(
            self,
            Self::TrafficSplit
                | Self::VirtualService
                | Self::TcpRoute
                | Self::UdpRoute
                | Self::SmiTrafficSplit
        )
    }

    /// The versions of its group in which it is read, the best first.
    pub fn versions(self) -> &'static [&'static str] {
        self.header().versions
    }

    /// Whether documents of this kind have a namespace.
    pub fn is_namespaced(self) -> bool {
        !matches!(self, Self::TrafficSplit | Self::Namespace)
    }

    fn header(self) -> &'static Header {
        // Every kind is in the list (see the test).
        HEADERS.iter().find(|header| header.kind == self).unwrap_or(&HEADERS[0])
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IstioGateway => f.pad("Istio Gateway"),
            Self::SmiTrafficSplit => f.pad("SMI TrafficSplit"),
            _ => f.pad(self.header().name),
        }
    }
}

/// What tells a document from all others.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id {
    /// Its kind, whatever its version.
    pub kind: Kind,
    /// Its namespace; empty for a TrafficSplit or Namespace, which are in none.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl Id {
    /// What the API and the state directory know it by.
    pub fn key(&self) -> Key {
        let (kind, namespace, name) = (self.kind.key(), self.namespace.clone(), self.name.clone());
        Key { kind: kind.to_owned(), namespace, name }
    }

    /// The document that is known by a key; None if there is no such kind.
    pub fn of(key: &Key) -> Option<Self> {
        let kind = Kind::of_key(&key.kind)?;
        Some(Self { kind, namespace: key.namespace.clone(), name: key.name.clone() })
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// The kind of a document, or what is wrong with how it says it.
pub(crate) fn kind(node: &Node<'_>) -> Result<Said, Vec<Problem>> {
    if !node.value.is_mapping() {
        let message = "not a mapping, expected a document with apiVersion and kind";
        return Err(vec![node.problem(&FieldPath::root(), message)]);
    }
    let text = |key: &str| match node.value.get(key) {
        Some(value) => value.as_str().ok_or("not a string"),
        None => Err("missing required field"),
    };
    let (version, name) = (text("apiVersion"), text("kind"));
    let problem = |key: &str, message: String| vec![node.problem(&FieldPath::of(key), &message)];
    let versions = |message: &dyn fmt::Display| {
        let expected = one_of(&api_versions(name.unwrap_or_default()));
        problem("apiVersion", format!("{message}, {expected}"))
    };
    let kinds = |message: &dyn fmt::Display| {
        let group = version.map_or("", |text| split(text).0);
        let found = HEADERS.iter().filter(|h| version.is_err() || h.group == group);
        let expected = one_of(&found.map(|h| h.name.to_owned()).collect::<Vec<_>>());
        problem("kind", format!("{message}, {expected}"))
    };
    let (given, name) = match (version, name) {
        (Ok(version), Ok(name)) => (version, name),
        (Err(version), Ok(_)) => return Err(versions(&version)),
        (Ok(_), Err(name)) => return Err(kinds(&name)),
        (Err(version), Err(name)) => return Err([versions(&version), kinds(&name)].concat()),
    };
    let (group, version) = split(given);
    let unknown_version = || versions(&format!("unknown apiVersion \"{given}\""));
    let Some((_, others)) = OTHERS.iter().find(|(known, _)| *known == group) else {
        return Ok(Said::PassedOver(passed_over(group, name)));
    };
    // The core group is one that is not named.
    if group.is_empty() && version != "v1" {
        return Err(unknown_version());
    }
    let Some(header) = HEADERS.iter().find(|h| h.group == group && h.name == name) else {
        return match others.contains(&name) {
            true => Ok(Said::PassedOver(passed_over(group, name))),
            false => Err(kinds(&format!("unknown kind \"{name}\""))),
        };
    };
    if header.versions.contains(&version) {
        Ok(Said::Kind(header.kind))
    } else {
        Err(unknown_version())
    }
}

/// Group and version.
fn split(api_version: &str) -> (&str, &str) {
    api_version.rsplit_once('/').unwrap_or(("", api_version))
}

/// Those of a kind; all of them if there is no such kind.
fn api_versions(kind: &str) -> Vec<String> {
    let of = |named: &dyn Fn(&Header) -> bool| -> BTreeSet<String> {
        HEADERS.iter().filter(|h| named(h)).flat_map(Header::api_versions).collect()
    };
    let found = of(&|h| h.name == kind);
    let found = if found.is_empty() { of(&|_| true) } else { found };
    found.into_iter().collect()
}

fn one_of(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    match quoted.as_slice() {
        [one] => format!("expected {one}"),
        _ => format!("expected one of {}", quoted.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_kept_has_a_key_of_its_own() {
        for kind in Kind::all() {
            let id = Id { kind, namespace: "n".into(), name: "x".into() };
            assert_eq!(Id::of(&id.key()), Some(id));
        }
        let key = Key { kind: "Deployment".into(), namespace: String::new(), name: "x".into() };
        assert_eq!(Id::of(&key), None, "it is not read");
    }

    #[test]
    fn groups_of_kinds_that_are_read_are_known() {
        for header in HEADERS {
            let known = OTHERS.iter().filter(|(group, _)| *group == header.group);
            let others: Vec<_> = known.collect();
            assert_eq!(others.len(), 1, "{}", header.name);
            assert!(!others[0].1.contains(&header.name), "{}", header.name);
        }
    }

    #[test]
    fn kinds_are_typed_in_many_ways() {
        for (word, kind) in [
            ("split", Kind::TrafficSplit),
            ("TrafficSplits", Kind::TrafficSplit),
            ("vs", Kind::VirtualService),
            ("virtualservice", Kind::VirtualService),
            ("serviceentries", Kind::ServiceEntry),
            ("svc", Kind::Service),
            ("tcproute", Kind::TcpRoute),
            ("gateway", Kind::Gateway),
            ("gateways.networking.istio.io", Kind::IstioGateway),
            ("Gateway.gateway.networking.k8s.io", Kind::Gateway),
        ] {
            assert_eq!(Kind::of_word(word), Some(kind), "{word}");
        }
        assert!(Kind::words().all(|word| Kind::of_word(&word).is_some()));
        for word in ["", "deployment", "gateway.example.com", "x", "virtualservice.v1"] {
            assert_eq!(Kind::of_word(word), None, "{word}");
        }
    }
}
