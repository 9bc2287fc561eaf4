//! Which cluster the agent follows, and what of it counts.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;

use crate::resource::{Istio, Policy, Services};
use crate::source::FieldPath;

use super::ConfigValidator;

/// What is done with what the cluster says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// It is steered.
    #[default]
    Steer,
    /// It is shown, and nothing is steered by it.
    Observe,
}

/// A cluster to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kubernetes {
    /// How to reach it from outside; `None` in a Pod, by its service account.
    pub kubeconfig: Option<PathBuf>,
    /// What is done with what it says.
    pub mode: Mode,
    /// What of it counts.
    pub policy: Policy,
    /// When the agent reports what is in force on its node.
    pub reports: Reports,
}

/// When an agent reports what is in force on its node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reports {
    /// How long after a change at most, and how long after the report before at least.
    pub pause: Duration,
    /// How often a report is renewed when nothing changes.
    pub renewal: Duration,
}

impl Default for Reports {
    fn default() -> Self {
        Self { pause: Duration::from_secs(2), renewal: Duration::from_secs(300) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
struct WrittenReports {
    pause: Option<String>,
    renewal: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    kubeconfig: Option<String>,
    services: Services,
    istio: Istio,
    mode: Mode,
    addresses: Vec<String>,
    reports: WrittenReports,
}

impl ConfigValidator<'_> {
    pub(super) fn kubernetes(&mut self, written: Written) -> Option<Kubernetes> {
        let kubeconfig = match written.kubeconfig {
            Some(text) => Some(self.path("kubernetes.kubeconfig", text)?),
            None => None,
        };
        let mut addresses = Vec::new();
        for (index, text) in written.addresses.iter().enumerate() {
            let at = FieldPath::of("kubernetes.addresses").index(index);
            addresses.extend(self.keep(&at, network(text)));
        }
        let Written { services, istio, mode, reports, .. } = written;
        let reports = self.reports(&reports)?;
        let policy = Policy { services, istio, addresses };
        Some(Kubernetes { kubeconfig, mode, policy, reports })
    }

    fn reports(&mut self, written: &WrittenReports) -> Option<Reports> {
        let default = Reports::default();
        let mut keep = |field: &str, text: &Option<String>, default, range| {
            let Some(text) = text else { return Some(default) };
            let at = FieldPath::of(&format!("kubernetes.reports.{field}"));
            self.keep(&at, period(text, range))
        };
        let pause = keep("pause", &written.pause, default.pause, ("100ms", "10m"));
        let renewal = keep("renewal", &written.renewal, default.renewal, ("1s", "1h"));
        Some(Reports { pause: pause?, renewal: renewal? })
    }
}

/// A duration within a range.
fn period(text: &str, (least, most): (&str, &str)) -> Result<Duration, String> {
    let no = |what: &str| format!("\"{text}\" {what}, expected a duration from {least} to {most}");
    let bound = |text| humantime::parse_duration(text).unwrap_or_default();
    match humantime::parse_duration(text) {
        Ok(period) if period >= bound(least) && period <= bound(most) => Ok(period),
        Ok(_) => Err(no("is out of range")),
        Err(_) => Err(no("is not a duration")),
    }
}

/// A network, without bits behind its prefix.
fn network(text: &str) -> Result<IpNet, String> {
    let no = |what: &str| {
        format!(
            "\"{text}\" {what}, expected a network such as \"198.51.100.0/24\" or \"2001:db8::/32\""
        )
    };
    let network: IpNet = text.parse().map_err(|_| no("is not a network in CIDR notation"))?;
    if network.trunc() != network {
        return Err(no(&format!("has bits set behind its prefix of {}", network.prefix_len())));
    }
    Ok(network)
}
