//! Istio's own Gateways.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_yaml::Value;

use crate::model::Protocol;
use crate::resource::Labels;
use crate::resource::core::{App, PROTOCOLS, app_of_protocol};
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;
use crate::source::ranged::Ranged;

/// Ports of a gateway, whose addresses are those of Services.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Gateway {
    pub selector: Labels,
    pub servers: Vec<Server>,
}

/// A port.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Server {
    pub port: u16,
    pub app: App,
    pub at: FieldPath,
    /// Why weir cannot do what it asks for, if it cannot.
    pub unsteered: Option<String>,
}

#[derive(Deserialize)]
struct RawGateway {
    spec: Raw,
}

#[derive(Deserialize)]
struct Raw {
    #[serde(default)]
    selector: Labels,
    #[serde(default)]
    servers: Vec<RawServer>,
}

#[derive(Deserialize)]
struct RawServer {
    port: RawPort,
    #[serde(default)]
    hosts: Vec<String>,
    tls: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct RawPort {
    number: Ranged<1, 65535>,
    protocol: String,
}

impl Gateway {
    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let RawGateway { spec: raw } = check.typed()?;
        let spec = FieldPath::of("spec");
        if raw.selector.is_empty() {
            let message = "empty, expected labels that Services select by: those of the whole mesh would have the ports";
            check.problem(&spec.key("selector"), message);
        }
        let mut servers: Vec<Server> = Vec::new();
        for (index, raw) in raw.servers.iter().enumerate() {
            let at = spec.key("servers").index(index);
            let Some(server) = server(check, &at, raw) else { continue };
            let other = servers.iter_mut().find(|other| other.port == server.port);
            if let Some(other) = other {
                // Proxies tell them apart by their hosts, which is why weir steers neither.
                let why = other.unsteered.as_ref().or(server.unsteered.as_ref()).cloned();
                if why.is_some() {
                    other.unsteered = why;
                    continue;
                }
                let message = format!("port {} is defined twice", server.port);
                check.problem(&at.key("port").key("number"), message);
            } else {
                servers.push(server);
            }
        }
        if raw.servers.is_empty() {
            check.problem(&spec.key("servers"), "empty, expected at least one server");
        }
        Some(Self { selector: raw.selector, servers })
    }
}

fn server(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &RawServer) -> Option<Server> {
    let mut unsteered = None;
    let mut leave = |check: &mut DocumentValidator<'_>, at: &FieldPath, why: String| {
        check.note(at, format!("no effect: {why}"));
        unsteered.get_or_insert(why);
    };
    for (index, host) in raw.hosts.iter().enumerate() {
        // "*", "*/*" and "NAMESPACE/*" are all hosts.
        if !matches!(host.rsplit_once('/').map_or(host.as_str(), |(_, host)| host), "*") {
            let why = format!("layer 4 cannot tell hosts apart, such as \"{host}\"");
            leave(check, &at.key("hosts").index(index), why);
        }
    }
    let port = check.keep(&at.key("port").key("number"), raw.port.number.get());
    let here = at.key("port").key("protocol");
    let text = raw.port.protocol.as_str();
    let app = match app_of_protocol(text) {
        Some((app, Protocol::Tcp)) => app,
        Some((_, Protocol::Udp)) => {
            check.note(&here, "no effect: a VirtualService has no routes for UDP");
            return None;
        }
        None => {
            check.problem(&here, format!("\"{text}\" is unknown, expected one of {PROTOCOLS}"));
            return None;
        }
    };
    let is_tls = matches!(text.to_ascii_uppercase().as_str(), "HTTPS" | "TLS");
    if is_tls || raw.tls.as_ref().is_some_and(|tls| !tls.is_empty()) {
        let at = if is_tls { here } else { at.key("tls") };
        leave(check, &at, "layer 4 can neither end TLS nor match its server names".to_owned());
    }
    Some(Server { port: u16::try_from(port?).ok()?, app, at: at.clone(), unsteered })
}
