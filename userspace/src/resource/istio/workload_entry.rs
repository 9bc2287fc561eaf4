//! WorkloadEntries, and the endpoints of ServiceEntries, which look the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

use crate::model::Name;
use crate::resource::Labels;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;
use crate::source::ranged::Ranged;

/// One endpoint.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Workload {
    pub ip: IpAddr,
    /// Its ports by the names of the service's ports.
    pub ports: BTreeMap<String, u16>,
    pub labels: Labels,
}

/// Whether an endpoint may have a DNS name in place of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// As Istio has it where names are resolved.
    Allowed,
    /// With the resolution STATIC.
    Never,
}

#[derive(Deserialize)]
struct RawWorkloadEntry {
    spec: Raw,
}

#[derive(Deserialize)]
pub(super) struct Raw {
    address: Option<String>,
    #[serde(default)]
    ports: BTreeMap<String, Ranged<1, 65535>>,
    #[serde(default)]
    labels: Labels,
}

impl Workload {
    /// Of a WorkloadEntry with those labels of its own. None, and no problem, if it is
    /// nowhere that weir can steer to.
    pub(in crate::resource) fn read(
        check: &mut DocumentValidator<'_>,
        labels: &Labels,
    ) -> Option<Self> {
        let document: RawWorkloadEntry = check.typed()?;
        let mut workload = Self::of(check, &FieldPath::of("spec"), document.spec, Named::Allowed)?;
        for (key, value) in labels {
            workload.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Some(workload)
    }

    /// Of what is written at `at`. None, and a note, for a Unix socket.
    pub(super) fn of(
        check: &mut DocumentValidator<'_>,
        at: &FieldPath,
        raw: Raw,
        named: Named,
    ) -> Option<Self> {
        let mut ports = BTreeMap::new();
        for (name, port) in raw.ports {
            let number = check.keep(&at.key("ports").key(&name), port.get());
            if let Some(number) = number.and_then(|number| u16::try_from(number).ok()) {
                ports.insert(name, number);
            }
        }
        let at = at.key("address");
        let ip = match raw.address.as_deref() {
            Some(text) if text.starts_with("unix:") => {
                check.note(&at, "no effect: weir steers to IP addresses, not to Unix sockets");
                None
            }
            Some(text) if named == Named::Allowed && is_dns_name(text) => {
                check.note(&at, "no effect: weir resolves no names, it steers to IP addresses");
                None
            }
            Some(text) => check.address(&at, text),
            None => {
                check.problem(&at, "missing required field");
                None
            }
        };
        Some(Self { ip: ip?, ports, labels: raw.labels })
    }
}

/// Whether a text is a DNS name, and no IP address that was misspelt.
fn is_dns_name(text: &str) -> bool {
    let top = text.rsplit('.').next().unwrap_or_default();
    top.contains(|c: char| c.is_ascii_alphabetic()) && Name::of_object(text).is_ok()
}
