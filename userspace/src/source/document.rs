//! Texts to splits.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::{FieldPath, Node, Problem, raw, stream};
use crate::model::{Desired, DesiredError, Name, ServiceAddress, Split, SplitError, Subset};

/// What files, as pairs of name and text, want together; or everything that is
/// wrong with them, in the order of the files and lines.
pub fn resolve<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Desired, Vec<Problem>> {
    let mut desired = Desired::default();
    let mut problems = Vec::new();
    let mut places: HashMap<Name, Place<'_>> = HashMap::new();
    for (file, text) in files {
        let file = file.as_ref();
        let (nodes, mut found) = stream(file, text.as_ref());
        for node in &nodes {
            let split = match split(node) {
                Ok(split) => split,
                Err(wrong) => {
                    found.extend(wrong);
                    continue;
                }
            };
            let (name, address) = (FieldPath::of("metadata.name"), FieldPath::of("spec.address"));
            let key = split.name().clone();
            let place = Place { file, name: node.line(&name), address: node.line(&address) };
            match desired.insert(split) {
                Ok(()) => _ = places.insert(key, place),
                Err(error @ DesiredError::DuplicateName(_)) => {
                    let first = places.get(&key).map(|p| first(p.file, p.name));
                    found.push(
                        node.problem(&name, &format!("{error}{}", first.unwrap_or_default())),
                    );
                }
                Err(DesiredError::DuplicateAddress { address: taken, owner }) => {
                    let first = places.get(&owner).map(|p| first(p.file, p.address));
                    let error = DesiredError::DuplicateAddress { address: taken, owner };
                    let message = format!("{error}{}", first.unwrap_or_default());
                    found.push(node.problem(&address, &message));
                }
            }
        }
        found.sort_by_key(|problem| problem.line);
        problems.extend(found);
    }
    if problems.is_empty() { Ok(desired) } else { Err(problems) }
}

/// Where a split is.
struct Place<'a> {
    file: &'a str,
    name: usize,
    address: usize,
}

fn first(file: &str, line: usize) -> String {
    format!(" (first at {file}:{line})")
}

/// The split of a document, or everything that is wrong with it.
fn split(node: &Node<'_>) -> Result<Split, Vec<Problem>> {
    header(node)?;
    let raw: raw::TrafficSplit = node.typed().map_err(|problem| vec![problem])?;
    let mut check = Check { node, problems: Vec::new() };
    let name = Name::new(raw.metadata.name);
    let name = check.keep(&FieldPath::of("metadata.name"), name.map_err(|e| e.to_string()));
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
            return Ok(split);
        }
    }
    Err(check.problems)
}

/// Checks what says how to read the rest of a document.
fn header(node: &Node<'_>) -> Result<(), Vec<Problem>> {
    if !node.value.is_mapping() {
        let message = format!("not a mapping, expected a document of kind {}", raw::KIND);
        return Err(vec![node.problem(&FieldPath::root(), &message)]);
    }
    let mut problems = Vec::new();
    for (key, expected) in [("apiVersion", raw::API_VERSION), ("kind", raw::KIND)] {
        let message = match node.value.get(key) {
            Some(value) if value.as_str() == Some(expected) => continue,
            Some(value) => match value.as_str() {
                Some(found) => format!("unknown {key} \"{found}\", expected \"{expected}\""),
                None => format!("not a string, expected \"{expected}\""),
            },
            None => format!("missing required field, expected \"{expected}\""),
        };
        problems.push(node.problem(&FieldPath::of(key), &message));
    }
    if problems.is_empty() { Ok(()) } else { Err(problems) }
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
struct Check<'a> {
    node: &'a Node<'a>,
    problems: Vec<Problem>,
}

impl Check<'_> {
    fn keep<T>(&mut self, path: &FieldPath, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problems.push(self.node.problem(path, &message))).ok()
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

    /// The split of the subsets; or, by leaving out what is refused until
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

fn address(text: &str) -> Result<IpAddr, String> {
    let expected = "expected a unicast IPv4 or IPv6 address";
    let ip: IpAddr =
        text.parse().map_err(|_| format!("\"{text}\" is not an IP address, {expected}"))?;
    match refused(ip) {
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
    match refused(endpoint.ip()) {
        Some(kind) => Err(format!(
            "the address of endpoint {endpoint} is {kind}, expected a unicast IPv4 or IPv6 address"
        )),
        None => Ok(endpoint),
    }
}

/// What makes an address one that no flow can be steered to.
fn refused(ip: IpAddr) -> Option<&'static str> {
    match ip {
        _ if ip.is_unspecified() => Some("unspecified"),
        _ if ip.is_multicast() => Some("multicast"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("IPv4-mapped"),
        _ => None,
    }
}
