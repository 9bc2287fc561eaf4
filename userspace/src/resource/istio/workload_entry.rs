//! WorkloadEntries, and the endpoints of ServiceEntries, which look the same.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;

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
    /// Of a WorkloadEntry with those labels of its own.
    pub(in crate::resource) fn read(
        check: &mut DocumentValidator<'_>,
        labels: &Labels,
    ) -> Option<Self> {
        let document: RawWorkloadEntry = check.typed()?;
        let mut workload = Self::of(check, &FieldPath::of("spec"), document.spec)?;
        for (key, value) in labels {
            workload.labels.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Some(workload)
    }

    /// Of what is written at `at`.
    pub(super) fn of(check: &mut DocumentValidator<'_>, at: &FieldPath, raw: Raw) -> Option<Self> {
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
                check.problem(&at, "rejected: weir steers to IP addresses, not to Unix sockets");
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
