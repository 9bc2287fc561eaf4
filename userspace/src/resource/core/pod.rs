//! Pods: read for the labels of endpoints, for who has an address by now, and as the workloads of
//! ServiceEntries.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;

use super::Condition;
use crate::resource::validator::DocumentValidator;

/// What of a Pod matters besides its labels.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Pod {
    pub uid: Option<String>,
    /// When it was made, if the document comes from a cluster.
    pub created: Option<Timestamp>,
    /// Its addresses; none if nothing is said about them.
    addresses: Vec<IpAddr>,
    /// Whether it has run, and has no address any more.
    over: bool,
    ready: bool,
    /// Whether it is about to end.
    pub ending: bool,
}

impl Pod {
    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let raw: v1::Pod = check.typed()?;
        let status = raw.status.unwrap_or_default();
        let many = status.pod_ips.unwrap_or_default().into_iter().map(|one| one.ip);
        let texts = many.chain(status.pod_ip);
        Some(Self {
            uid: raw.metadata.uid,
            created: raw.metadata.creation_timestamp.map(|time| time.0),
            addresses: texts.filter_map(|text| text.parse().ok()).collect(),
            over: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            ready: status
                .conditions
                .iter()
                .flatten()
                .any(|one| one.type_ == "Ready" && one.status == "True"),
            ending: raw.metadata.deletion_timestamp.is_some(),
        })
    }

    /// Its addresses, each once, while it is there.
    pub(in crate::resource) fn endpoints(&self) -> BTreeSet<IpAddr> {
        self.addresses.iter().copied().filter(|_| !self.over).collect()
    }

    /// What it is good for by itself.
    pub(in crate::resource) fn condition(&self) -> Condition {
        match (self.ready, self.ending) {
            (true, false) => Condition::Ready,
            (true, true) => Condition::Draining,
            (false, _) => Condition::Unusable,
        }
    }

    /// Whether it can be the endpoint of an address that was one of a Pod of its
    /// name, and of that uid if one is given.
    pub(in crate::resource) fn is_at(&self, ip: IpAddr, uid: Option<&str>) -> bool {
        let same = self.uid.as_deref().zip(uid).is_none_or(|(own, other)| own == other);
        let here = self.addresses.is_empty() || self.addresses.contains(&ip);
        same && here && !self.over
    }
}
