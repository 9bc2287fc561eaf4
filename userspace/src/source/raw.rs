//! The documents as they are written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::ranged::Ranged;
use crate::model;

/// The only version of weir's own documents.
pub(crate) const API_VERSION: &str = "weir.dev/v1alpha1";
/// The only kind of weir's own documents.
pub const KIND: &str = "TrafficSplit";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct TrafficSplit {
    // Both are checked before the document is read as one of that version and kind.
    #[serde(rename = "apiVersion")]
    pub _api_version: String,
    #[serde(rename = "kind")]
    pub _kind: String,
    pub metadata: Metadata,
    pub spec: Spec,
    #[serde(rename = "status")]
    pub _status: Option<IgnoredAny>,
}

/// What every object of Kubernetes may have. Of the labels and annotations, that
/// they are texts is checked as Kubernetes does.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Metadata {
    pub name: String,
    pub namespace: Option<String>,
    pub labels: Option<BTreeMap<String, String>>,
    #[serde(rename = "annotations")]
    pub _annotations: Option<BTreeMap<String, String>>,
    #[serde(rename = "creationTimestamp")]
    pub _creation_timestamp: Option<IgnoredAny>,
    #[serde(rename = "deletionGracePeriodSeconds")]
    pub _deletion_grace_period_seconds: Option<IgnoredAny>,
    #[serde(rename = "deletionTimestamp")]
    pub _deletion_timestamp: Option<IgnoredAny>,
    #[serde(rename = "finalizers")]
    pub _finalizers: Option<IgnoredAny>,
    #[serde(rename = "generateName")]
    pub _generate_name: Option<IgnoredAny>,
    #[serde(rename = "generation")]
    pub _generation: Option<IgnoredAny>,
    #[serde(rename = "managedFields")]
    pub _managed_fields: Option<IgnoredAny>,
    #[serde(rename = "ownerReferences")]
    pub _owner_references: Option<IgnoredAny>,
    #[serde(rename = "resourceVersion")]
    pub _resource_version: Option<IgnoredAny>,
    #[serde(rename = "selfLink")]
    pub _self_link: Option<IgnoredAny>,
    #[serde(rename = "uid")]
    pub _uid: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Spec {
    pub service_ref: Option<ServiceRef>,
    pub address: Option<String>,
    pub port: Option<Ranged<1, 65535>>,
    pub protocol: Option<Protocol>,
    #[serde(default)]
    pub affinity: Affinity,
    #[serde(default = "drain_seconds")]
    pub drain_seconds: Ranged<0, 86_400>,
    pub subsets: Vec<Subset>,
}

const fn drain_seconds() -> Ranged<0, 86_400> {
    Ranged::new(model::DEFAULT_DRAIN.as_secs())
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum Protocol {
    #[default]
    Tcp,
    Udp,
}

impl From<Protocol> for model::Protocol {
    fn from(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
        }
    }
}

#[derive(Deserialize, Default)]
pub(super) enum Affinity {
    #[default]
    None,
    #[serde(rename = "ClientIP")]
    ClientIp,
}

impl From<Affinity> for model::Affinity {
    fn from(affinity: Affinity) -> Self {
        match affinity {
            Affinity::None => Self::None,
            Affinity::ClientIp => Self::ClientIp,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subset {
    pub name: String,
    pub weight: Ranged<0, 4_294_967_295>,
    pub selector: Option<Selector>,
    pub service: Option<ServiceRef>,
    pub endpoints: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceRef {
    pub name: String,
    pub port: Ranged<1, 65535>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Selector {
    pub match_labels: BTreeMap<String, String>,
}
