//! Which cluster the agent follows, and what of it counts.

use std::path::PathBuf;

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
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    kubeconfig: Option<String>,
    services: Services,
    istio: Istio,
    mode: Mode,
    addresses: Vec<String>,
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
        let Written { services, istio, mode, .. } = written;
        Some(Kubernetes { kubeconfig, mode, policy: Policy { services, istio, addresses } })
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
