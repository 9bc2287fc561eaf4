//! DestinationRules.

use serde::Deserialize;

use crate::model::Name;
use crate::resource::Labels;
use crate::resource::core::Unsteered;
use crate::resource::host::{Host, Pattern};
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;

/// The subsets of a host.
#[derive(Debug, Clone)]
pub(in crate::resource) struct DestinationRule {
    pub host: Host,
    pub subsets: Vec<Subset>,
    /// Flows of a client are to stay together.
    pub by_client: bool,
}

/// The endpoints of a host that have some labels.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Subset {
    pub name: Name,
    pub labels: Labels,
    /// As the rule's; the rule's if it is not said.
    pub by_client: Option<bool>,
}

#[derive(Deserialize)]
struct RawDestinationRule {
    spec: Raw,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Raw {
    host: String,
    #[serde(default)]
    subsets: Vec<RawSubset>,
    traffic_policy: Option<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawSubset {
    name: String,
    #[serde(default)]
    labels: Labels,
    traffic_policy: Option<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    load_balancer: Option<LoadBalancer>,
    tls: Option<Tls>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoadBalancer {
    simple: Option<String>,
    consistent_hash: Option<ConsistentHash>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ConsistentHash {
    use_source_ip: Option<bool>,
}

#[derive(Deserialize)]
struct Tls {
    #[serde(default)]
    mode: Option<String>,
}

impl DestinationRule {
    /// A rule, or what it is instead.
    pub(in crate::resource) fn read(
        check: &mut DocumentValidator<'_>,
    ) -> Option<Result<Self, Unsteered>> {
        let RawDestinationRule { spec: raw } = check.typed()?;
        let spec = FieldPath::of("spec");
        if let Ok(Pattern::Ending(_)) = Pattern::parse(&raw.host, check.namespace) {
            let text = &raw.host;
            let message =
                format!("no effect: {text} is for many hosts, and weir goes by rules for one");
            check.note(&spec.key("host"), message);
            return Some(Err(Unsteered::default()));
        }
        let host = check.keep(&spec.key("host"), Host::parse(&raw.host, check.namespace));
        let policy = raw.traffic_policy.as_ref();
        let by_client = policy.and_then(|p| affinity(check, &spec.key("trafficPolicy"), p));
        let mut subsets: Vec<Subset> = Vec::new();
        for (index, raw) in raw.subsets.iter().enumerate() {
            let at = spec.key("subsets").index(index);
            let policy = raw.traffic_policy.as_ref();
            let by_client = policy.and_then(|p| affinity(check, &at.key("trafficPolicy"), p));
            let Some(name) = check.subset(&at.key("name"), &raw.name) else { continue };
            if subsets.iter().any(|other| other.name == name) {
                check.problem(&at.key("name"), format!("subset \"{name}\" is defined twice"));
                continue;
            }
            subsets.push(Subset { name, labels: raw.labels.clone(), by_client });
        }
        Some(Ok(Self { host: host?, subsets, by_client: by_client.unwrap_or(false) }))
    }
}

/// Whether a policy asks for client affinity, if it says anything about it.
fn affinity(check: &mut DocumentValidator<'_>, at: &FieldPath, policy: &Policy) -> Option<bool> {
    let mode =
        policy.tls.as_ref().map_or("DISABLE", |tls| tls.mode.as_deref().unwrap_or("DISABLE"));
    if mode != "DISABLE" {
        let message = format!(
            "rejected: layer 4 cannot originate TLS, so not \"{mode}\"; expected \"DISABLE\""
        );
        check.problem(&at.key("tls").key("mode"), message);
    }
    let balancer = policy.load_balancer.as_ref()?;
    let at = at.key("loadBalancer");
    match balancer.simple.as_deref() {
        None | Some("ROUND_ROBIN" | "RANDOM" | "UNSPECIFIED") => {}
        Some("LEAST_REQUEST" | "LEAST_CONN") => {
            check.note(&at.key("simple"), "no effect: the endpoints of a subset share evenly");
        }
        Some("PASSTHROUGH") => {
            let message = "rejected: with \"PASSTHROUGH\" there is nothing to steer";
            check.problem(&at.key("simple"), message);
        }
        Some(other) => {
            let message = format!(
                "\"{other}\" is unknown, expected one of \"ROUND_ROBIN\", \"RANDOM\", \"LEAST_REQUEST\", \"LEAST_CONN\", \"UNSPECIFIED\""
            );
            check.problem(&at.key("simple"), message);
        }
    }
    match &balancer.consistent_hash {
        Some(hash) => hash.use_source_ip,
        None => Some(false),
    }
}
