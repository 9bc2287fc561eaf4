//! ServiceEntries.

use serde::Deserialize;

use super::workload_entry::{Raw as RawWorkload, Workload};
use crate::model::{Affinity, Protocol};
use crate::resource::Labels;
use crate::resource::core::{
    Address, Endpoints, PROTOCOLS, Port, Service, Target, app_of_port, app_of_protocol,
};
use crate::resource::host::Host;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;
use crate::source::ranged::Ranged;

#[derive(Deserialize)]
struct RawServiceEntry {
    spec: Raw,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    hosts: Vec<String>,
    #[serde(default)]
    addresses: Vec<String>,
    #[serde(default)]
    ports: Vec<RawPort>,
    resolution: Option<String>,
    #[serde(default)]
    endpoints: Vec<RawWorkload>,
    workload_selector: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawPort {
    number: Ranged<1, 65535>,
    #[serde(default)]
    protocol: Option<String>,
    name: String,
    target_port: Option<Ranged<1, 65535>>,
}

#[derive(Deserialize)]
struct Selector {
    #[serde(default)]
    labels: Labels,
}

/// The service that a ServiceEntry describes.
pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Service> {
    let RawServiceEntry { spec: raw } = check.typed()?;
    let spec = FieldPath::of("spec");
    resolution(check, &spec.key("resolution"), raw.resolution.as_deref());
    let host = host(check, &spec.key("hosts"), &raw.hosts);
    let mut addresses: Vec<Address> = Vec::new();
    for (index, text) in raw.addresses.iter().enumerate() {
        let at = spec.key("addresses").index(index);
        // A prefix of one address is that address.
        let single = text.strip_suffix(if text.contains(':') { "/128" } else { "/32" });
        if single.is_none() && text.contains('/') {
            let message = format!(
                "rejected: \"{text}\" is a range, but a split has one address; expected an IP address"
            );
            check.problem(&at, message);
            continue;
        }
        let Some(ip) = check.address(&at, single.unwrap_or(text)) else { continue };
        if addresses.iter().any(|other| other.ip == ip) {
            check.problem(&at, format!("{ip} is listed twice"));
        } else {
            addresses.push(Address { ip, at });
        }
    }
    let mut ports: Vec<Port> = Vec::new();
    for (index, raw) in raw.ports.iter().enumerate() {
        let at = spec.key("ports").index(index);
        let Some(port) = port(check, &at, raw) else { continue };
        if ports.iter().any(|other| other.number == port.number) {
            check.problem(&at.key("number"), format!("port {} is defined twice", port.number));
        } else if ports.iter().any(|other| other.name == port.name) {
            check.problem(&at.key("name"), format!("port name \"{}\" is defined twice", port.name));
        } else {
            ports.push(port);
        }
    }
    if raw.ports.is_empty() {
        check.problem(&spec.key("ports"), "a ServiceEntry needs at least one port");
    }
    let endpoints = match raw.workload_selector {
        Some(_) if !raw.endpoints.is_empty() => {
            let message = "expected either endpoints or a workloadSelector, found both";
            check.problem(&spec.key("workloadSelector"), message);
            return None;
        }
        Some(Selector { labels }) => {
            Endpoints::Selected { namespace: check.namespace.to_owned(), labels }
        }
        None => {
            let at = spec.key("endpoints");
            let found = raw.endpoints.into_iter().enumerate();
            Endpoints::Inline(
                found.filter_map(|(n, raw)| Workload::of(check, &at.index(n), raw)).collect(),
            )
        }
    };
    Some(Service {
        host: host?,
        addresses,
        ports,
        affinity: Affinity::None,
        endpoints,
        local: false,
    })
}

fn resolution(check: &mut DocumentValidator<'_>, at: &FieldPath, text: Option<&str>) {
    let message = match text {
        Some("STATIC") => return,
        None => "missing required field, expected \"STATIC\" (the default, NONE, has no endpoints to steer to)".to_owned(),
        Some(other @ ("NONE" | "DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS")) => {
            format!("rejected: weir resolves no names, so not \"{other}\"; expected \"STATIC\"")
        }
        Some(other) => format!("\"{other}\" is unknown, expected \"STATIC\""),
    };
    check.problem(at, message);
}

fn host(check: &mut DocumentValidator<'_>, at: &FieldPath, hosts: &[String]) -> Option<Host> {
    match hosts {
        [host] => check.keep(&at.index(0), Host::parse(host, check.namespace)),
        [] => {
            check.problem(at, "empty, expected one host");
            None
        }
        _ => {
            let message = "rejected: layer 4 cannot tell apart hosts with the same addresses; expected one host";
            check.problem(&at.index(1), message);
            None
        }
    }
}

fn port(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &RawPort) -> Option<Port> {
    let number = check.keep(&at.key("number"), raw.number.get());
    let target = match raw.target_port {
        Some(target) => check.keep(&at.key("targetPort"), target.get()),
        None => number,
    };
    let number = u16::try_from(number?).ok()?;
    let (app, protocol) = match raw.protocol.as_deref() {
        // Istio looks at the connection's first bytes, but for what the name says.
        None | Some("") => (app_of_port(number, &raw.name), Protocol::Tcp),
        Some(text) => {
            let known = app_of_protocol(text);
            let unknown = || format!("\"{text}\" is unknown, expected one of {PROTOCOLS}");
            check.keep(&at.key("protocol"), known.ok_or_else(unknown))?
        }
    };
    let target = Target::Number(u16::try_from(target?).ok()?);
    Some(Port { name: raw.name.clone(), number, protocol, target, app })
}
