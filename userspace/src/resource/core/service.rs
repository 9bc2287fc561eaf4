//! Services: of Kubernetes, and as ServiceEntries describe them.

use k8s_openapi::api::core::v1;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::net::IpAddr;

use super::Unsteered;
use crate::model::{Affinity, Protocol};
use crate::resource::Labels;
use crate::resource::host::Host;
use crate::resource::istio::Workload;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;

/// What clients connect to and routes lead to.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Service {
    pub host: Host,
    /// The service addresses; the first one names its splits without a suffix.
    pub addresses: Vec<Address>,
    /// The first one names its splits without a suffix.
    pub ports: Vec<Port>,
    pub affinity: Affinity,
    pub endpoints: Endpoints,
    /// Whether clients are to reach endpoints of their own node alone.
    pub local: bool,
}

/// An address and where it is written.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Address {
    pub ip: IpAddr,
    pub at: FieldPath,
}

/// A port of a service.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Port {
    /// Empty if it has none.
    pub name: String,
    pub number: u16,
    pub protocol: Protocol,
    pub target: Target,
    pub app: App,
}

/// The port of endpoints that do not name one themselves.
#[derive(Debug, Clone)]
pub(in crate::resource) enum Target {
    Number(u16),
    /// The name of one of the endpoint's ports.
    Name(String),
}

/// Which routes of a VirtualService apply to a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::resource) enum App {
    Http,
    Tcp,
    /// It is not said: Istio would look at the connection's first bytes.
    Unknown,
}

/// Where the endpoints of a service are.
#[derive(Debug, Clone)]
pub(in crate::resource) enum Endpoints {
    /// In EndpointSlices that name the Service, and in WorkloadEntries that it selects.
    Kubernetes { namespace: String, name: String, selector: Labels },
    /// In the document itself.
    Inline(Vec<Workload>),
    /// The WorkloadEntries and Pods of the namespace that have the labels.
    Selected { namespace: String, labels: Labels },
}

impl Service {
    /// The port of that number and protocol.
    pub(in crate::resource) fn port(&self, number: u16, protocol: Protocol) -> Option<&Port> {
        self.ports.iter().find(|port| port.number == number && port.protocol == protocol)
    }

    /// Of a Kubernetes Service; or what it is instead.
    pub(in crate::resource) fn read(
        check: &mut DocumentValidator<'_>,
    ) -> Option<Result<Self, Unsteered>> {
        let raw: v1::Service = check.typed()?;
        let (name, spec) = (raw.metadata.name?, raw.spec.unwrap_or_default());
        let at = FieldPath::of("spec");
        let host = Host::of_service(check.namespace, &name);
        match spec.type_.as_deref() {
            Some("ExternalName") => {
                let why = "weir resolves no names, such as that of an ExternalName".to_owned();
                check.note(&at.key("type"), format!("no effect: {why}"));
                return Some(Err(Unsteered { hosts: vec![host], why }));
            }
            Some("NodePort" | "LoadBalancer") => {
                let message = "no effect: weir steers what is addressed to `clusterIPs`";
                check.note(&at.key("type"), message);
            }
            _ => {}
        }
        let addresses = addresses(check, &spec);
        let mut ports = Vec::new();
        for (index, raw) in spec.ports.unwrap_or_default().iter().enumerate() {
            ports.extend(port(check, &at.key("ports").index(index), raw));
        }
        unique(check, &at.key("ports"), &ports);
        let affinity = match spec.session_affinity.as_deref() {
            None | Some("None") => Affinity::None,
            Some("ClientIP") => Affinity::ClientIp,
            Some(other) => {
                let message = format!("\"{other}\" is unknown, expected \"None\" or \"ClientIP\"");
                check.problem(&at.key("sessionAffinity"), message);
                return None;
            }
        };
        let namespace = check.namespace.to_owned();
        let selector = spec.selector.unwrap_or_default();
        let endpoints = Endpoints::Kubernetes { namespace, name, selector };
        let local = spec.internal_traffic_policy.as_deref() == Some("Local");
        Some(Ok(Self { host, addresses, ports, affinity, endpoints, local }))
    }
}

fn addresses(check: &mut DocumentValidator<'_>, spec: &v1::ServiceSpec) -> Vec<Address> {
    let at = FieldPath::of("spec");
    let many = spec.cluster_ips.iter().flatten().enumerate();
    let mut texts: Vec<_> =
        many.map(|(index, text)| (at.key("clusterIPs").index(index), text)).collect();
    if texts.is_empty() {
        texts.extend(spec.cluster_ip.iter().map(|text| (at.key("clusterIP"), text)));
    } else if let Some(first) = spec.cluster_ip.as_ref().filter(|ip| *ip != texts[0].1) {
        let message =
            format!("\"{first}\" is not the first of clusterIPs, expected \"{}\"", texts[0].1);
        check.problem(&at.key("clusterIP"), message);
    }
    let mut found: Vec<Address> = Vec::new();
    for (at, text) in texts.into_iter().filter(|(_, text)| !matches!(text.as_str(), "" | "None")) {
        let Some(ip) = check.address(&at, text) else { continue };
        if found.iter().any(|other| other.ip == ip) {
            check.problem(&at, format!("{ip} is listed twice"));
        } else {
            found.push(Address { ip, at });
        }
    }
    found
}

fn port(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &v1::ServicePort) -> Option<Port> {
    let protocol = match raw.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some("SCTP") => {
            check.note(&at.key("protocol"), "no effect: weir steers TCP and UDP only");
            return None;
        }
        Some(other) => {
            let message = format!("\"{other}\" is unknown, expected \"TCP\", \"UDP\" or \"SCTP\"");
            check.problem(&at.key("protocol"), message);
            return None;
        }
    };
    let number = check.port(&at.key("port"), raw.port)?;
    let target = match &raw.target_port {
        None => Target::Number(number),
        // As the API has it for a port that was left out.
        Some(IntOrString::Int(0)) => Target::Number(number),
        Some(IntOrString::Int(n)) => Target::Number(check.port(&at.key("targetPort"), *n)?),
        Some(IntOrString::String(name)) => Target::Name(name.clone()),
    };
    let name = raw.name.clone().unwrap_or_default();
    let app = app_of_port(number, raw.app_protocol.as_deref().unwrap_or(&name));
    Some(Port { name, number, protocol, target, app })
}

/// Ports are told apart by name and by number and protocol.
fn unique(check: &mut DocumentValidator<'_>, at: &FieldPath, ports: &[Port]) {
    for (index, port) in ports.iter().enumerate() {
        let before = &ports[..index];
        if before.iter().any(|other| (other.number, other.protocol) == (port.number, port.protocol))
        {
            let message = format!("port {}/{} is defined twice", port.number, port.protocol);
            check.problem(at, message);
        }
        if ports.len() > 1 && port.name.is_empty() {
            check.problem(at, "ports of a Service that has several need names");
        } else if before.iter().any(|other| other.name == port.name) {
            check.problem(at, format!("port name \"{}\" is defined twice", port.name));
        }
    }
}

/// What the name of a port or its `appProtocol` says, as Istio reads it: PROTOCOL
/// or PROTOCOL-SUFFIX. Some ports speak for themselves.
pub(in crate::resource) fn app_of_port(number: u16, text: &str) -> App {
    let text = text.to_ascii_lowercase();
    match text.as_str() {
        "kubernetes.io/h2c" | "kubernetes.io/ws" => return App::Http,
        "kubernetes.io/wss" => return App::Tcp,
        // The only protocol with a dash of its own.
        _ if text.starts_with("grpc-web") => return App::Http,
        _ => {}
    }
    let protocol = text.split('-').next().unwrap_or_default();
    match app_of_protocol(protocol) {
        Some((app, _)) => app,
        // Where the server speaks first, Istio does not wait for the client's first bytes.
        None if matches!(number, 25 | 53 | 3306 | 27017) => App::Tcp,
        None => App::Unknown,
    }
}

/// The protocols that Istio knows, in any case: which routes apply, and what they
/// go over.
pub(in crate::resource) fn app_of_protocol(name: &str) -> Option<(App, Protocol)> {
    Some(match name.to_ascii_lowercase().as_str() {
        "http" | "http2" | "http_proxy" | "grpc" | "grpc-web" => (App::Http, Protocol::Tcp),
        "tcp" | "tls" | "https" | "mongo" | "mysql" | "redis" => (App::Tcp, Protocol::Tcp),
        "udp" => (App::Unknown, Protocol::Udp),
        _ => return None,
    })
}

/// The names of these, for messages.
pub(in crate::resource) const PROTOCOLS: &str = "\"HTTP\", \"HTTP2\", \"HTTP_PROXY\", \"GRPC\", \"GRPC-WEB\", \"TCP\", \"HTTPS\", \"TLS\", \"MONGO\", \"MYSQL\", \"REDIS\", \"UDP\"";
