//! VirtualServices.

use std::net::IpAddr;

use serde::Deserialize;

use crate::model::Name;
use crate::resource::host::{Host, Pattern};
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;
use crate::source::ranged::Ranged;

/// Where the connections of some services, or of some gateways, go.
#[derive(Debug, Clone)]
pub(in crate::resource) struct VirtualService {
    pub hosts: Vec<Pattern>,
    pub parents: Vec<Parent>,
    pub http: Vec<RouteRule>,
    pub tcp: Vec<RouteRule>,
    /// For connections to every port, whatever is spoken there: of SMI, where nothing tells.
    pub any: Option<RouteRule>,
}

/// Whose connections are routed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resource) enum Parent {
    /// Those to the service addresses of the hosts.
    Mesh,
    /// Those to the ports of an Istio Gateway.
    Gateway { namespace: String, name: String, at: FieldPath },
}

/// A route whose only condition is the port.
#[derive(Debug, Clone)]
pub(in crate::resource) struct RouteRule {
    /// `None` for any.
    pub ports: Option<Vec<u16>>,
    pub destinations: Vec<Destination>,
    pub at: FieldPath,
}

/// A service, or a subset of it, and the weight of its share.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Destination {
    pub host: Host,
    pub subset: Option<Name>,
    pub port: Option<u16>,
    pub weight: u32,
    pub at: FieldPath,
    pub host_at: FieldPath,
    pub port_at: FieldPath,
    pub weight_at: FieldPath,
}

impl RouteRule {
    /// Whether it takes connections to a port.
    pub(in crate::resource) fn takes(&self, port: u16) -> bool {
        self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }
}

#[derive(Deserialize)]
struct RawVirtualService {
    spec: Raw,
}

#[derive(Deserialize)]
struct Raw {
    hosts: Vec<String>,
    gateways: Option<Vec<String>>,
    #[serde(default)]
    http: Vec<RawRoute>,
    #[serde(default)]
    tcp: Vec<RawRoute>,
}

#[derive(Deserialize)]
struct RawRoute {
    #[serde(default, rename = "match")]
    matches: Vec<RawMatch>,
    #[serde(default)]
    route: Vec<RawDestination>,
}

#[derive(Deserialize)]
struct RawMatch {
    port: Option<Ranged<1, 65535>>,
}

#[derive(Deserialize)]
struct RawDestination {
    destination: RawTarget,
    weight: Option<Ranged<0, 2_147_483_647>>,
}

#[derive(Deserialize)]
struct RawTarget {
    host: String,
    subset: Option<String>,
    port: Option<RawPort>,
}

#[derive(Deserialize)]
struct RawPort {
    number: Ranged<1, 65535>,
}

impl VirtualService {
    /// Where a host is named: all of them, or one by its index.
    pub(in crate::resource) fn host_at(&self, index: Option<usize>) -> FieldPath {
        let hosts = FieldPath::of("spec.hosts");
        match index {
            _ if self.any.is_some() => FieldPath::of("spec.service"),
            Some(index) => hosts.index(index),
            None => hosts,
        }
    }

    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let RawVirtualService { spec: raw } = check.typed()?;
        let spec = FieldPath::of("spec");
        let parents = parents(check, &spec.key("gateways"), raw.gateways.as_deref());
        let hosts = hosts(check, &spec.key("hosts"), &raw.hosts, &parents);
        if raw.http.is_empty() && raw.tcp.is_empty() {
            check.problem(&spec, "no routes, expected at least one in http or tcp");
        }
        let http = routes(check, &spec.key("http"), &raw.http);
        let tcp = routes(check, &spec.key("tcp"), &raw.tcp);
        let divided = http.iter().find(|route| route.destinations.len() > 1);
        if let Some(route) = divided {
            let message = "the weights apply to connections, not to requests: all requests of a connection go the same way";
            check.note(&route.at.key("route"), message);
        }
        let gateways = parents.iter().any(|parent| *parent != Parent::Mesh);
        let named = raw.hosts.iter().position(|host| host != "*");
        if let Some(index) = named.filter(|_| gateways && !http.is_empty()) {
            let message = "rejected: layer 4 cannot match the host of an HTTP request at a gateway; expected \"*\"";
            check.problem(&spec.key("hosts").index(index), message);
        }
        Some(Self { hosts, parents, http, tcp, any: None })
    }
}

/// The hosts, as Istio's own validation has them: each once, also by wildcards, and not
/// all of them in a mesh.
fn hosts(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    texts: &[String],
    parents: &[Parent],
) -> Vec<Pattern> {
    if texts.is_empty() {
        check.problem(at, "empty, expected at least one host");
    }
    let mut found: Vec<(usize, Pattern)> = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.index(index);
        if let Ok(ip) = text.parse::<IpAddr>() {
            let message = format!(
                "no effect: {text} is an address, and weir routes by the names of Services and ServiceEntries"
            );
            check.note(&at, message);
            found.push((index, Pattern::Exact(Host::of_address(ip))));
            continue;
        }
        if text == "*" && parents.contains(&Parent::Mesh) {
            let message = "a wildcard host \"*\" cannot be in \"mesh\" (the default of spec.gateways), as Istio has it; expected the names of services, or gateways alone";
            check.problem(&at, message);
            continue;
        }
        let Some(pattern) = check.keep(&at, Pattern::parse(text, check.namespace)) else {
            continue;
        };
        match found.iter().find(|(_, other)| other.overlaps(&pattern)) {
            Some((first, _)) => {
                let message = format!(
                    "\"{text}\" and \"{}\" are for the same hosts, expected each host once",
                    texts[*first]
                );
                check.problem(&at, message);
            }
            None => found.push((index, pattern)),
        }
    }
    found.into_iter().map(|(_, pattern)| pattern).collect()
}

fn parents(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    texts: Option<&[String]>,
) -> Vec<Parent> {
    let Some(texts) = texts.filter(|texts| !texts.is_empty()) else { return vec![Parent::Mesh] };
    let mut parents = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.index(index);
        if text == "mesh" {
            parents.push(Parent::Mesh);
            continue;
        }
        let (namespace, name) = text.split_once('/').unwrap_or((check.namespace, text));
        if Name::of_object(namespace).is_err() || Name::of_object(name).is_err() {
            let message =
                format!("\"{text}\" is no gateway, expected \"mesh\", NAME or NAMESPACE/NAME");
            check.problem(&at, message);
            continue;
        }
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        parents.push(Parent::Gateway { namespace, name, at });
    }
    parents
}

fn routes(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &[RawRoute]) -> Vec<RouteRule> {
    let mut routes: Vec<RouteRule> = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        if routes.iter().any(|earlier| earlier.ports.is_none()) {
            check.note(&at, "no effect: an earlier route takes every connection");
        }
        let mut ports = Some(Vec::new());
        for (index, condition) in raw.matches.iter().enumerate() {
            let at = at.key("match").index(index).key("port");
            match condition.port {
                // No condition at all.
                None => ports = None,
                Some(port) => {
                    let port = check.keep(&at, port.get()).and_then(|p| u16::try_from(p).ok());
                    if let Some(ports) = &mut ports {
                        ports.extend(port);
                    }
                }
            }
        }
        let ports = ports.filter(|_| !raw.matches.is_empty());
        let destinations = destinations(check, &at.key("route"), &raw.route);
        routes.push(RouteRule { ports, destinations, at });
    }
    routes
}

fn destinations(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &[RawDestination],
) -> Vec<Destination> {
    if raw.is_empty() {
        check.problem(at, "empty, expected at least one destination");
    }
    let single = raw.len() == 1;
    let mut found = Vec::new();
    for (index, raw) in raw.iter().enumerate() {
        let at = at.index(index);
        let weight = match raw.weight {
            Some(weight) => check.keep(&at.key("weight"), weight.get()),
            None => {
                if !single {
                    check.note(&at, "no weight, which counts as 0: it gets no connections");
                }
                Some(0)
            }
        };
        let target = &raw.destination;
        let here = at.key("destination");
        let host = check.keep(&here.key("host"), Host::parse(&target.host, check.namespace));
        let subset = target.subset.as_deref().filter(|subset| !subset.is_empty());
        let subset = subset.map(|subset| check.subset(&here.key("subset"), subset));
        let number = here.key("port").key("number");
        let port = target.port.as_ref().map(|port| check.keep(&number, port.number.get()));
        let (Some(host), Some(weight)) = (host, weight) else { continue };
        if matches!(subset, Some(None)) || matches!(port, Some(None)) {
            continue;
        }
        let port = port.flatten().and_then(|port| u16::try_from(port).ok());
        // A single destination gets everything, whatever its weight.
        let weight = if single { 1 } else { u32::try_from(weight).unwrap_or(u32::MAX) };
        let (host_at, port_at, weight_at) = (here.key("host"), here.key("port"), at.key("weight"));
        let subset = subset.flatten();
        found.push(Destination {
            host,
            subset,
            port,
            weight,
            at: here,
            host_at,
            port_at,
            weight_at,
        });
    }
    if found.len() == raw.len() && found.len() > 1 && found.iter().all(|d| d.weight == 0) {
        check.problem(at, "the weights of a route must not all be 0");
    }
    found
}
