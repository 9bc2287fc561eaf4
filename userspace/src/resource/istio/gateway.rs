//! Istio's own Gateways.

use serde::Deserialize;

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
            if servers.iter().any(|other| other.port == server.port) {
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
    for (index, host) in raw.hosts.iter().enumerate() {
        // "*", "*/*" and "NAMESPACE/*" are all hosts.
        if !matches!(host.rsplit_once('/').map_or(host.as_str(), |(_, host)| host), "*") {
            let message = format!(
                "rejected: layer 4 cannot tell hosts apart, so not \"{host}\"; expected \"*\""
            );
            check.problem(&at.key("hosts").index(index), message);
        }
    }
    let port = check.keep(&at.key("port").key("number"), raw.port.number.get());
    let here = at.key("port").key("protocol");
    let text = raw.port.protocol.as_str();
    let app = match app_of_protocol(text) {
        Some(_) if matches!(text.to_ascii_uppercase().as_str(), "HTTPS" | "TLS") => {
            let message = format!(
                "rejected: layer 4 can neither end TLS nor match its server names, so not \"{text}\"; expected \"TCP\" or \"HTTP\""
            );
            check.problem(&here, message);
            return None;
        }
        Some((_, Protocol::Udp)) => {
            check.note(&here, "no effect: a VirtualService has no routes for UDP");
            return None;
        }
        Some((app, Protocol::Tcp)) => app,
        None => {
            check.problem(&here, format!("\"{text}\" is unknown, expected one of {PROTOCOLS}"));
            return None;
        }
    };
    Some(Server { port: u16::try_from(port?).ok()?, app, at: at.clone() })
}
