//! ServiceEntries.

use std::net::IpAddr;

use serde::Deserialize;

use super::workload_entry::{Named, Raw as RawWorkload, Workload};
use crate::model::{Affinity, Protocol};
use crate::resource::Labels;
use crate::resource::core::{
    Address, Endpoints, PROTOCOLS, Port, Service, Target, Unsteered, app_of_port, app_of_protocol,
};
use crate::resource::host::{Host, Pattern};
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

/// The service that a ServiceEntry describes; or what it is instead.
pub(in crate::resource) fn read(
    check: &mut DocumentValidator<'_>,
) -> Option<Result<Service, Unsteered>> {
    let RawServiceEntry { spec: raw } = check.typed()?;
    let spec = FieldPath::of("spec");
    let mut why = Vec::new();
    why.extend(resolution(check, &spec.key("resolution"), &raw));
    why.extend(range(check, &spec.key("addresses"), &raw.addresses));
    let hosts = hosts(check, &spec.key("hosts"), &raw.hosts, &mut why);
    if let Some(why) = why.into_iter().next() {
        return Some(Err(Unsteered { hosts, why }));
    }
    let mut addresses: Vec<Address> = Vec::new();
    for (index, text) in raw.addresses.iter().enumerate() {
        let at = spec.key("addresses").index(index);
        let Some(ip) = check.address(&at, single(text)) else { continue };
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
                found
                    .filter_map(|(n, raw)| Workload::of(check, &at.index(n), raw, Named::Never))
                    .collect(),
            )
        }
    };
    let host = hosts.into_iter().next()?;
    let affinity = Affinity::None;
    Some(Ok(Service { host, addresses, ports, affinity, endpoints, local: false }))
}

/// A prefix of one address is that address.
fn single(text: &str) -> &str {
    text.strip_suffix(if text.contains(':') { "/128" } else { "/32" }).unwrap_or(text)
}

/// What is said of an entry that cannot be steered, and kept for who routes to it.
fn unsteered(check: &mut DocumentValidator<'_>, at: &FieldPath, why: String) -> String {
    check.note(at, format!("no effect: {why}"));
    why
}

/// Why an entry whose endpoints are not written down cannot be steered.
fn resolution(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: &Raw) -> Option<String> {
    let why = match raw.resolution.as_deref() {
        Some("STATIC") => return None,
        None | Some("" | "NONE") if !raw.endpoints.is_empty() => {
            let message = "NONE (the default) has no endpoints, expected \"STATIC\"";
            check.problem(at, message);
            return None;
        }
        None | Some("" | "NONE") => {
            "with resolution NONE (the default), connections go where they are addressed to"
                .to_owned()
        }
        Some(other @ ("DNS" | "DNS_ROUND_ROBIN" | "DYNAMIC_DNS")) => {
            format!("weir resolves no names, so not with resolution {other}; it steers with STATIC")
        }
        Some(other) => {
            let message = format!(
                "\"{other}\" is unknown, expected \"STATIC\", \"NONE\", \"DNS\", \"DNS_ROUND_ROBIN\" or \"DYNAMIC_DNS\""
            );
            check.problem(at, message);
            return None;
        }
    };
    Some(unsteered(check, at, why))
}

/// Why an entry for a range of addresses cannot be steered.
fn range(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    addresses: &[String],
) -> Option<String> {
    let is_range = |text: &&str| {
        let Some((ip, length)) = single(text).split_once('/') else { return false };
        let bits = |ip: IpAddr| if ip.is_ipv4() { 32 } else { 128 };
        let known = ip.parse().ok().zip(length.parse().ok());
        known.is_some_and(|(ip, length): (IpAddr, u8)| length < bits(ip))
    };
    let index = addresses.iter().position(|text| is_range(&text.as_str()))?;
    let why = format!("{} is a range, and a split has one address", addresses[index]);
    Some(unsteered(check, &at.index(index), why))
}

/// The names of an entry; `why` gets what is in the way of steering by them.
fn hosts(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    texts: &[String],
    why: &mut Vec<String>,
) -> Vec<Host> {
    if texts.is_empty() {
        check.problem(at, "empty, expected one host");
    }
    let mut hosts = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = at.index(index);
        match check.keep(&at, Pattern::parse(text, check.namespace)) {
            Some(Pattern::Exact(host)) => hosts.push(host),
            Some(Pattern::Ending(ending)) if ending.is_empty() => {
                check.problem(&at, "\"*\" is every host, expected a DNS name or \"*.NAME\"");
            }
            Some(Pattern::Ending(_)) => {
                let text = format!("{text} is for many hosts, and a split is for one");
                why.push(unsteered(check, &at, text));
            }
            None => {}
        }
    }
    if texts.len() > 1 {
        let text = "layer 4 cannot tell apart hosts with the same addresses, and there are several";
        why.push(unsteered(check, &at.index(1), text.to_owned()));
    }
    hosts
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
