//! weir's own documents to splits.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{FieldPath, Node, Problem, raw};
use crate::model::{Name, ServiceAddress, Split, SplitError, Subset, derived_split, is_label};

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

/// The split of a document that is a TrafficSplit, and its labels; or everything
/// that is wrong with it.
pub(crate) fn split(node: &Node<'_>) -> Result<(Split, BTreeMap<String, String>), Vec<Problem>> {
    let raw: raw::TrafficSplit = node.typed().map_err(|problem| vec![problem])?;
    let mut check = SplitValidator { node, problems: Vec::new() };
    let labels = raw.metadata.labels.unwrap_or_default();
    let name = check.name(&raw.metadata.name, raw.metadata.namespace.as_deref());
    let spec = FieldPath::of("spec");
    let ip = check.keep(&spec.key("address"), address(&raw.spec.address));
    let port = check.keep(&spec.key("port"), raw.spec.port.get());
    let drain = check.keep(&spec.key("drainSeconds"), raw.spec.drain_seconds.get());
    let at = spec.key("subsets");
    let mut subsets = Vec::new();
    let mut complete = true;
    for (index, subset) in raw.spec.subsets.into_iter().enumerate() {
        match check.subset(&at.index(index), index, subset) {
            Some(subset) => subsets.push(subset),
            None => complete = false,
        }
    }
    let service = ip.zip(port.and_then(|port| u16::try_from(port).ok()));
    if let (Some(name), Some((ip, port))) = (name, service) {
        let address = ServiceAddress { ip, port, protocol: raw.spec.protocol.into() };
        let affinity = raw.spec.affinity.into();
        let drain = Duration::from_secs(drain.unwrap_or_default());
        let make = |subsets| {
            let split = Split::new(name.clone(), address, affinity, subsets)?;
            Ok(split.with_drain(drain))
        };
        if let Some(split) = check.split(make, subsets, complete) {
            return Ok((split, labels));
        }
    }
    Err(check.problems)
}

/// A subset, and what is needed to say where a part of it is.
struct Placed {
    subset: Subset,
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

    fn subset(&mut self, path: &FieldPath, index: usize, raw: raw::Subset) -> Option<Placed> {
        let before = self.problems.len();
        let name = Name::new(raw.name).map_err(|error| error.to_string());
        let name = self.keep(&path.key("name"), name);
        let weight = self.keep(&path.key("weight"), raw.weight.get());
        let at = path.key("endpoints");
        let mut endpoints = HashMap::new();
        for (n, text) in raw.endpoints.iter().enumerate() {
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
        let (name, weight) = (name?, weight.and_then(|weight| u32::try_from(weight).ok())?);
        if self.problems.len() > before && endpoints.is_empty() {
            return None;
        }
        let all: BTreeSet<SocketAddr> = endpoints.keys().copied().collect();
        Some(Placed { subset: Subset { name, weight, endpoints: all }, index, endpoints })
    }

    /// The split of the subsets; or, by leaving out what is rejected until
    /// nothing is, all that is wrong with them. Unless `complete`, subsets are
    /// missing for another reason.
    fn split(
        &mut self,
        make: impl Fn(Vec<Subset>) -> Result<Split, SplitError>,
        mut subsets: Vec<Placed>,
        mut complete: bool,
    ) -> Option<Split> {
        let at = FieldPath::of("spec.subsets");
        loop {
            let mut error = match make(subsets.iter().map(|s| s.subset.clone()).collect()) {
                Ok(split) => return self.problems.is_empty().then_some(split),
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
