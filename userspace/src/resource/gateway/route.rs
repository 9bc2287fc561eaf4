//! TCPRoutes and UDPRoutes.

// UDPRoute has the same spec, of the same shape, by another name.
use gateway_api::experimental::tcproutes::{
    TcpRouteParentRefs, TcpRouteRulesBackendRefs, TcpRouteSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use serde::Deserialize;

use super::GROUP;
use crate::model::{MAX_SUBSETS, Name, Protocol};
use crate::resource::identity::{Id, Kind};
use crate::resource::validator::{DocumentValidator, out_of_range};
use crate::source::FieldPath;

/// The largest weight, as the API has it.
const MAX_WEIGHT: u32 = 1_000_000;
/// The most parents, as the API has it.
const MAX_PARENTS: usize = 32;

/// Where the connections of some listeners or Services go.
#[derive(Debug, Clone)]
pub(in crate::resource) struct GatewayRoute {
    pub protocol: Protocol,
    pub parents: Vec<ParentRef>,
    pub backends: Vec<BackendRef>,
    /// When it was made, if the document comes from a cluster.
    pub created: Option<Time>,
}

/// What a route wants to attach to.
#[derive(Debug, Clone)]
pub(in crate::resource) struct ParentRef {
    pub kind: ParentKind,
    pub namespace: String,
    pub name: String,
    pub section: Option<String>,
    pub port: Option<u16>,
    pub at: FieldPath,
}

/// The kinds of parent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::resource) enum ParentKind {
    Gateway,
    Service,
    /// None that weir knows.
    Other(String),
}

/// Where a share goes.
#[derive(Debug, Clone)]
pub(in crate::resource) struct BackendRef {
    /// Group and kind if it is no Service.
    pub foreign: Option<String>,
    pub namespace: String,
    pub name: Name,
    pub port: u16,
    pub weight: u32,
    pub at: FieldPath,
}

#[derive(Deserialize)]
struct RawRoute {
    metadata: ObjectMeta,
    spec: TcpRouteSpec,
}

impl GatewayRoute {
    pub(in crate::resource) fn read(
        check: &mut DocumentValidator<'_>,
        protocol: Protocol,
    ) -> Option<Self> {
        let RawRoute { metadata, spec } = check.typed()?;
        let at = FieldPath::of("spec");
        let mut parents = Vec::new();
        for (index, raw) in spec.parent_refs.iter().flatten().enumerate() {
            parents.extend(parent(check, &at.key("parentRefs").index(index), raw));
        }
        if parents.len() > MAX_PARENTS {
            let message = format!("at most {MAX_PARENTS} parents, found {}", parents.len());
            check.problem(&at.key("parentRefs"), message);
        }
        let rules = at.key("rules");
        let rule = match spec.rules.as_slice() {
            [rule] => rule,
            [] => {
                check.problem(&rules, "empty, expected one rule");
                return None;
            }
            _ => {
                let message = "more than one rule: a route without conditions can have only one";
                check.problem(&rules.index(1), message);
                return None;
            }
        };
        let refs = rules.index(0).key("backendRefs");
        let mut backends = Vec::new();
        for (index, raw) in rule.backend_refs.iter().enumerate() {
            backends.extend(backend(check, &refs.index(index), raw));
        }
        match rule.backend_refs.len() {
            0 => check.problem(&refs, "empty, expected at least one reference"),
            n if n > MAX_SUBSETS => {
                check.problem(&refs, format!("at most {MAX_SUBSETS} references, found {n}"));
            }
            _ => {}
        }
        Some(Self { protocol, parents, backends, created: metadata.creation_timestamp })
    }
}

fn parent(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &TcpRouteParentRefs,
) -> Option<ParentRef> {
    let group = raw.group.as_deref().unwrap_or(GROUP);
    let kind = match (group, raw.kind.as_deref().unwrap_or("Gateway")) {
        (GROUP, "Gateway") => ParentKind::Gateway,
        ("", "Service") => ParentKind::Service,
        (_, kind) => ParentKind::Other(kind.to_owned()),
    };
    let namespace = raw.namespace.clone().unwrap_or_else(|| check.namespace.to_owned());
    let port = match raw.port {
        Some(port) => Some(check.port(&at.key("port"), port)?),
        None => None,
    };
    let (name, section) = (raw.name.clone(), raw.section_name.clone());
    Some(ParentRef { kind, namespace, name, section, port, at: at.clone() })
}

fn backend(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &TcpRouteRulesBackendRefs,
) -> Option<BackendRef> {
    let name = check.name(&at.key("name"), &raw.name);
    let group = raw.group.as_deref().unwrap_or("");
    let foreign = match (group, raw.kind.as_deref().unwrap_or("Service")) {
        ("", "Service") => None,
        ("", kind) => Some(kind.to_owned()),
        (group, kind) => Some(format!("{kind}.{group}")),
    };
    let port = match raw.port {
        Some(port) => check.port(&at.key("port"), port)?,
        // It is rejected whatever its port.
        None if foreign.is_some() => 0,
        None => {
            check.problem(&at.key("port"), "missing required field: a Service has no default port");
            return None;
        }
    };
    let weight = i64::from(raw.weight.unwrap_or(1));
    let fits = u32::try_from(weight).ok().filter(|&weight| weight <= MAX_WEIGHT);
    let error = || out_of_range(weight, 0, MAX_WEIGHT.into());
    let weight = check.keep(&at.key("weight"), fits.ok_or_else(error))?;
    let namespace = raw.namespace.clone().unwrap_or_else(|| check.namespace.to_owned());
    Some(BackendRef { foreign, namespace, name: name?, port, weight, at: at.clone() })
}

impl ParentRef {
    /// The document that is meant; None if it is of a kind that weir does not know.
    pub(in crate::resource) fn id(&self) -> Option<Id> {
        let kind = match self.kind {
            ParentKind::Gateway => Kind::Gateway,
            ParentKind::Service => Kind::Service,
            ParentKind::Other(_) => return None,
        };
        Some(Id { kind, namespace: self.namespace.clone(), name: self.name.clone() })
    }
}
