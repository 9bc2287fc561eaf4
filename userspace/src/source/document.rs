//! weir's own documents, read and checked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::ranged::Ranged;
use super::traffic_split::{Backing, Divided, ServiceRef, TrafficSplit, WrittenSubset};
use super::{FieldPath, Node, Problem, raw};
use crate::model::{
    Name, ServiceAddress, SplitError, SplitSettings, Subset, check_subsets, derived_split, is_label,
};

const NAME: &str = "metadata.name";

/// A document as JSON, keys sorted, on one line.
pub(crate) fn canonical(value: &impl serde::Serialize) -> serde_json::Result<String> {
    let mut value = serde_json::to_value(value)?;
    value.sort_all_objects();
    serde_json::to_string(&value)
}

/// The name of the split of a TrafficSplit of some name and namespace, as of the
/// splits of a Service: NAME.NAMESPACE, shortened if that is too long; or NAME
/// alone if it is in none.
pub(crate) fn split_name(name: &str, namespace: Option<&str>) -> String {
    match namespace {
        None | Some("") => name.to_owned(),
        Some(namespace) => derived_split(&format!("{name}.{namespace}")),
    }
}

/// The TrafficSplit of a document, and its labels; or everything that is wrong with it.
pub(crate) fn traffic_split(
    node: &Node<'_>,
) -> Result<(TrafficSplit, BTreeMap<String, String>), Vec<Problem>> {
    let raw: raw::TrafficSplit = node.typed().map_err(|problem| vec![problem])?;
    let mut check = SplitValidator { node, problems: Vec::new() };
    let labels = raw.metadata.labels.unwrap_or_default();
    let name = check.name(&raw.metadata.name, raw.metadata.namespace.as_deref());
    let spec = FieldPath::of("spec");
    let raw::Spec { service_ref, address, port, protocol, affinity, drain_seconds, subsets: given } =
        raw.spec;
    let divided = check.divided(service_ref, (address, port, protocol));
    let drain_seconds = check.keep(&spec.key("drainSeconds"), drain_seconds.get());
    let at = spec.key("subsets");
    let mut subsets = Vec::new();
    let mut complete = true;
    for (index, subset) in given.into_iter().enumerate() {
        match check.subset(&at.index(index), index, subset, divided.as_ref()) {
            Some(subset) => subsets.push(subset),
            None => complete = false,
        }
    }
    if let (Some(name), Some(divided)) = (name, divided) {
        let settings = SplitSettings {
            affinity: affinity.into(),
            drain_seconds: drain_seconds.unwrap_or_default(),
        };
        let address = match &divided {
            Divided::Address(address) => Some(*address),
            Divided::Service(_) => None,
        };
        if let Some(subsets) = check.split(address, subsets, complete) {
            return Ok((TrafficSplit { name, divided, settings, subsets }, labels));
        }
    }
    Err(check.problems)
}

/// A subset, and what is needed to say where a part of it is.
struct Placed {
    subset: Subset,
    backing: Backing,
    /// Its index in the document.
    index: usize,
    /// Those of its endpoints.
    endpoints: HashMap<SocketAddr, usize>,
}

/// Collects what is wrong with a document.
struct SplitValidator<'a> {
    node: &'a Node<'a>,
    problems: Vec<Problem>,
}

impl SplitValidator<'_> {
    fn keep<T>(&mut self, path: &FieldPath, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problems.push(self.node.problem(path, &message))).ok()
    }

    fn name(&mut self, name: &str, namespace: Option<&str>) -> Option<Name> {
        let own = Name::of_object(name).map_err(|error| error.to_string());
        self.keep(&FieldPath::of(NAME), own)?;
        if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
            let good = if is_label(namespace) { Ok(()) } else { Err(no_namespace(namespace)) };
            self.keep(&FieldPath::of("metadata.namespace"), good)?;
        }
        let name = Name::of_object(split_name(name, namespace)).map_err(|error| error.to_string());
        self.keep(&FieldPath::of(NAME), name)
    }

    /// What is divided: just one of a Service and an address.
    fn divided(
        &mut self,
        service: Option<raw::ServiceRef>,
        (ip, port, protocol): (Option<String>, Option<Ranged<1, 65535>>, Option<raw::Protocol>),
    ) -> Option<Divided> {
        let spec = FieldPath::of("spec");
        let Some(service) = service else {
            let missing = |what: &str| format!("missing required field{what}");
            let ip = ip.ok_or_else(|| missing(", expected address, or serviceRef in its place"));
            let ip = self.keep(&spec.key("address"), ip.and_then(|ip| address(&ip)));
            let port = port.ok_or_else(|| missing("")).and_then(Ranged::get);
            let port = self.keep(&spec.key("port"), port);
            let (ip, port) = ip.zip(port.and_then(|port| u16::try_from(port).ok()))?;
            let protocol = protocol.unwrap_or_default().into();
            return Some(Divided::Address(ServiceAddress { ip, port, protocol }));
        };
        for (key, is_there) in
            [("address", ip.is_some()), ("port", port.is_some()), ("protocol", protocol.is_some())]
        {
            if is_there {
                let message = "beside serviceRef, whose Service has it: expected one of the two";
                self.keep::<()>(&spec.key(key), Err(message.to_owned()));
            }
        }
        self.service(&spec.key("serviceRef"), &service).map(Divided::Service)
    }

    fn service(&mut self, path: &FieldPath, raw: &raw::ServiceRef) -> Option<ServiceRef> {
        let name = if is_label(&raw.name) { Ok(()) } else { Err(no_service(&raw.name)) };
        let name = self.keep(&path.key("name"), name);
        let port = self.keep(&path.key("port"), raw.port.get());
        let port = port.and_then(|port| u16::try_from(port).ok());
        name.zip(port).map(|((), port)| ServiceRef { name: raw.name.clone(), port })
    }

    fn subset(
        &mut self,
        path: &FieldPath,
        index: usize,
        raw: raw::Subset,
        divided: Option<&Divided>,
    ) -> Option<Placed> {
        let before = self.problems.len();
        let name = Name::new(raw.name).map_err(|error| error.to_string());
        let name = self.keep(&path.key("name"), name);
        let weight = self.keep(&path.key("weight"), raw.weight.get());
        let mut endpoints = HashMap::new();
        let backing = match (raw.endpoints, raw.service, raw.selector) {
            (Some(texts), None, None) => {
                endpoints = self.endpoints(&path.key("endpoints"), &texts);
                Some(Backing::Endpoints(endpoints.keys().copied().collect()))
            }
            (None, Some(service), None) => {
                self.service(&path.key("service"), &service).map(Backing::Service)
            }
            (None, None, Some(selector)) => self.selector(&path.key("selector"), selector, divided),
            (endpoints, service, selector) => {
                let found = [
                    ("endpoints", endpoints.is_some()),
                    ("service", service.is_some()),
                    ("selector", selector.is_some()),
                ];
                let found: Vec<&str> =
                    found.iter().filter(|(_, is)| *is).map(|(key, _)| *key).collect();
                let found = if found.is_empty() { "none".to_owned() } else { found.join(" and ") };
                let message =
                    format!("expected one of endpoints, service and selector, found {found}");
                self.keep(path, Err(message))
            }
        };
        let (name, weight) = (name?, weight.and_then(|weight| u32::try_from(weight).ok())?);
        let backing = backing?;
        if self.problems.len() > before && endpoints.is_empty() {
            return None;
        }
        let all: BTreeSet<SocketAddr> = endpoints.keys().copied().collect();
        let subset = Subset { name, weight, endpoints: all };
        Some(Placed { subset, backing, index, endpoints })
    }

    fn endpoints(&mut self, at: &FieldPath, texts: &[String]) -> HashMap<SocketAddr, usize> {
        let mut endpoints = HashMap::new();
        for (n, text) in texts.iter().enumerate() {
            let parsed = endpoint(text).and_then(|endpoint| match endpoints.get(&endpoint) {
                Some(first) => Err(format!(
                    "endpoint {endpoint} is listed twice (first as endpoints[{first}])"
                )),
                None => Ok(endpoint),
            });
            if let Some(endpoint) = self.keep(&at.index(n), parsed) {
                endpoints.insert(endpoint, n);
            }
        }
        endpoints
    }

    fn selector(
        &mut self,
        path: &FieldPath,
        raw: raw::Selector,
        divided: Option<&Divided>,
    ) -> Option<Backing> {
        let at = path.key("matchLabels");
        if raw.match_labels.is_empty() {
            return self.keep(&at, Err("empty, expected at least one label".to_owned()));
        }
        if matches!(divided, Some(Divided::Address(_))) {
            let message = "without serviceRef nobody says the port of the Pods: expected \
                           serviceRef, or service or endpoints in place of selector";
            return self.keep(path, Err(message.to_owned()));
        }
        Some(Backing::Labels(raw.match_labels))
    }

    /// The subsets; or, by leaving out what is rejected until nothing is, all that is wrong with
    /// them. Unless `complete`, subsets are missing for another reason.
    fn split(
        &mut self,
        address: Option<ServiceAddress>,
        mut subsets: Vec<Placed>,
        mut complete: bool,
    ) -> Option<Vec<WrittenSubset>> {
        let at = FieldPath::of("spec.subsets");
        loop {
            let plain: Vec<Subset> = subsets.iter().map(|placed| placed.subset.clone()).collect();
            let mut error = match check_subsets(&plain, address) {
                Ok(()) => {
                    let written =
                        |Placed { subset: Subset { name, weight, .. }, backing, .. }| {
                            WrittenSubset { name, weight, backing }
                        };
                    let all = || subsets.into_iter().map(written).collect();
                    return self.problems.is_empty().then(all);
                }
                Err(error) => error,
            };
            let path = match &mut error {
                // Perhaps only for what was left out.
                SplitError::NoSubsets | SplitError::AllWeightsZero if !complete => return None,
                SplitError::NoSubsets | SplitError::AllWeightsZero => {
                    self.problems.push(self.node.problem(&at, &error.to_string()));
                    return None;
                }
                SplitError::TooManySubsets(_) => {
                    let extra = subsets.split_off(crate::model::MAX_SUBSETS);
                    complete = false;
                    at.index(extra.first().map_or(0, |subset| subset.index))
                }
                SplitError::DuplicateSubset { first, second, .. } => {
                    let removed = subsets.remove(*second);
                    complete = false;
                    *first = subsets[*first].index;
                    *second = removed.index;
                    at.index(removed.index).key("name")
                }
                SplitError::MixedFamilies { subset, endpoint, .. }
                | SplitError::SelfReference { subset, endpoint } => {
                    let placed = &mut subsets[*subset];
                    placed.subset.endpoints.remove(endpoint);
                    let path = at.index(placed.index).key("endpoints");
                    placed.endpoints.get(endpoint).map_or(path.clone(), |&n| path.index(n))
                }
            };
            self.problems.push(self.node.problem(&path, &error.to_string()));
        }
    }
}

/// What is said of a name that no Service can have.
pub(crate) fn no_service(text: &str) -> String {
    format!(
        "\"{text}\" is not a valid name of a Service: expected 1 to 63 lower-case letters, digits or '-', and no '.'"
    )
}

/// What is said of a namespace that is none.
pub(crate) fn no_namespace(text: &str) -> String {
    format!(
        "\"{text}\" is not a valid namespace: expected 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit"
    )
}

/// A unicast address.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected a unicast IPv4 or IPv6 address";
    let ip: IpAddr =
        text.parse().map_err(|_| format!("\"{text}\" is not an IP address, {expected}"))?;
    match rejected(ip) {
        Some(kind) => Err(format!("{ip} is {kind}, {expected}")),
        None => Ok(ip),
    }
}

fn endpoint(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected IP:PORT or [IPv6]:PORT";
    let no = || format!("\"{text}\" is not an endpoint, {expected}");
    let endpoint: SocketAddr = text.parse().map_err(|_| no())?;
    if matches!(endpoint, SocketAddr::V6(v6) if v6.scope_id() != 0 || text.contains('%')) {
        return Err(no());
    }
    if endpoint.port() == 0 {
        return Err(format!("endpoint {endpoint} has port 0, expected a port from 1 to 65535"));
    }
    match rejected(endpoint.ip()) {
        Some(kind) => Err(format!(
            "the address of endpoint {endpoint} is {kind}, expected a unicast IPv4 or IPv6 address"
        )),
        None => Ok(endpoint),
    }
}

/// What makes an address one that no flow can be steered to.
fn rejected(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("unspecified"),
        _ if ip.is_multicast() => Some("multicast"),
        _ if ip.is_loopback() => Some("a loopback address, at which a host speaks to itself alone"),
        IpAddr::V4(v4) if v4.is_broadcast() => Some("the broadcast address"),
        IpAddr::V4(v4) if v4.octets()[0] == 0 => Some("of 0.0.0.0/8, which is no host's"),
        IpAddr::V4(v4) if v4.octets()[0] >= 240 => Some("of the reserved range 240.0.0.0/4"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4-mapped"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("a link-local address, which is a different host's on every link")
        }
        _ => None,
    }
}
