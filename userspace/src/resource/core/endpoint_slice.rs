//! EndpointSlices.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1;

use crate::model::Protocol;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;

/// The label that names the Service of a slice.
const SERVICE: &str = "kubernetes.io/service-name";

/// Some of the endpoints of a Service.
#[derive(Debug, Clone)]
pub(in crate::resource) struct EndpointSlice {
    /// The Service, of the slice's namespace.
    pub service: String,
    pub ports: Vec<Port>,
    pub endpoints: Vec<Endpoint>,
}

/// The port of all of a slice's endpoints that a Service's port of this name leads to.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Port {
    /// Empty if it has none.
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
}

/// One endpoint.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Endpoint {
    pub ip: IpAddr,
    /// The Pod that it is, of the slice's namespace.
    pub pod: Option<Reference>,
    pub condition: Condition,
    /// Whether it is about to end, whatever its condition.
    pub terminating: bool,
}

/// A Pod as slices name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resource) struct Reference {
    pub name: String,
    pub uid: Option<String>,
}

impl Reference {
    /// Whether both may be the same Pod.
    pub(in crate::resource) fn is_same(&self, other: &Self) -> bool {
        let uids = self.uid.as_ref().zip(other.uid.as_ref());
        self.name == other.name && uids.is_none_or(|(own, other)| own == other)
    }
}

/// What an endpoint is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resource) enum Condition {
    /// New flows.
    Ready,
    /// New flows where no endpoint is ready (as kube-proxy does, KEP-1669).
    Draining,
    /// None.
    Unusable,
}

impl EndpointSlice {
    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let raw: v1::EndpointSlice = check.typed()?;
        let service = raw.metadata.labels.unwrap_or_default().remove(SERVICE);
        let service = service.unwrap_or_else(|| {
            let message = format!("no effect: without the label {SERVICE} it is of no Service");
            check.note(&FieldPath::of("metadata.labels"), message);
            String::new()
        });
        let ipv6 = match raw.address_type.as_str() {
            "IPv4" => false,
            "IPv6" => true,
            "FQDN" => {
                check.note(&FieldPath::of("addressType"), "no effect: weir resolves no names");
                return Some(Self { service, ports: Vec::new(), endpoints: Vec::new() });
            }
            "" if check.missing(&FieldPath::of("addressType")) => return None,
            other => {
                let message =
                    format!("\"{other}\" is unknown, expected \"IPv4\", \"IPv6\" or \"FQDN\"");
                check.problem(&FieldPath::of("addressType"), message);
                return None;
            }
        };
        let mut ports = Vec::new();
        for (index, raw) in raw.ports.iter().flatten().enumerate() {
            ports.extend(port(check, &FieldPath::of("ports").index(index), raw));
        }
        let mut endpoints = Vec::new();
        for (index, raw) in raw.endpoints.iter().enumerate() {
            endpoints.extend(endpoint(check, &FieldPath::of("endpoints").index(index), raw, ipv6));
        }
        Some(Self { service, ports, endpoints })
    }
}

fn port(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &v1::EndpointPort) -> Option<Port> {
    let protocol = match raw.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        // The Service's port of that protocol has its note.
        Some("SCTP") => return None,
        Some(other) => {
            let message = format!("\"{other}\" is unknown, expected \"TCP\", \"UDP\" or \"SCTP\"");
            check.problem(&at.key("protocol"), message);
            return None;
        }
    };
    let Some(number) = raw.port else {
        check.note(at, "no effect: without a number it is no port that weir can steer to");
        return None;
    };
    let number = check.port(&at.key("port"), number)?;
    Some(Port { name: raw.name.clone().unwrap_or_default(), number, protocol })
}

fn endpoint(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &v1::Endpoint,
    ipv6: bool,
) -> Option<Endpoint> {
    // The others are the same endpoint, and nobody uses them (as the API says).
    let Some(text) = raw.addresses.first() else {
        check.problem(&at.key("addresses"), "empty, expected an address");
        return None;
    };
    let at = at.key("addresses").index(0);
    let ip = check.address(&at, text)?;
    if ip.is_ipv6() != ipv6 {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        check.problem(&at, format!("{ip} is not of the slice's addressType {family}"));
        return None;
    }
    let pod = raw.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| {
        let (name, uid) = (target.name.clone()?, target.uid.clone());
        Some(Reference { name, uid })
    });
    let given = raw.conditions.clone().unwrap_or_default();
    let serving = given.serving.or(given.ready).unwrap_or(true);
    let condition = match given.ready {
        None | Some(true) => Condition::Ready,
        Some(false) if serving && given.terminating == Some(true) => Condition::Draining,
        Some(false) => Condition::Unusable,
    };
    Some(Endpoint { ip, pod, condition, terminating: given.terminating == Some(true) })
}
