//! Gateways.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gateway_api::experimental::gateways::{
    GatewayListeners, GatewayListenersAllowedRoutes, GatewayListenersAllowedRoutesNamespaces,
    GatewayListenersAllowedRoutesNamespacesFrom as From,
    GatewayListenersAllowedRoutesNamespacesSelector, GatewaySpec, GatewayStatusAddresses,
};
use serde::Deserialize;

use super::GROUP;
use crate::model::{Name, Protocol};
use crate::resource::Labels;
use crate::resource::core::Address;
use crate::resource::identity::Kind;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;

/// Addresses and the ports at which routes attach.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Gateway {
    /// The name of its class.
    pub class: String,
    /// Those it asks for, or else those it was given. Perhaps none.
    pub addresses: Vec<Address>,
    pub listeners: Vec<Listener>,
}

/// A port.
#[derive(Debug, Clone)]
pub(in crate::resource) struct Listener {
    pub name: Name,
    pub port: u16,
    /// None for a protocol that weir has no routes of.
    pub protocol: Option<Protocol>,
    /// The kinds of route that may attach.
    pub kinds: Vec<Kind>,
    pub namespaces: Namespaces,
    pub at: FieldPath,
}

/// The namespaces of routes that may attach.
#[derive(Debug, Clone)]
pub(in crate::resource) enum Namespaces {
    Same,
    All,
    Selected(Vec<Requirement>),
}

/// A condition on labels. All of a list must hold.
#[derive(Debug, Clone)]
pub(in crate::resource) enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

impl Requirement {
    pub(in crate::resource) fn holds(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

#[derive(Deserialize)]
struct RawGateway {
    spec: GatewaySpec,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize, Default)]
struct Status {
    #[serde(default)]
    addresses: Vec<GatewayStatusAddresses>,
}

impl Gateway {
    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let RawGateway { spec, status } = check.typed()?;
        let at = FieldPath::of("spec");
        let asked = spec.addresses.iter().flatten().enumerate().filter_map(|(n, address)| {
            let at = at.key("addresses").index(n);
            Some((at, address.r#type.as_deref(), address.value.as_deref()?))
        });
        let given = status.addresses.iter().enumerate().map(|(n, address)| {
            let at = FieldPath::of("status.addresses").index(n);
            (at, address.r#type.as_deref(), address.value.as_str())
        });
        let mut addresses = Vec::new();
        for (at, kind, value) in asked {
            addresses.extend(address(check, &at, kind, value));
        }
        if addresses.is_empty() {
            for (at, kind, value) in given {
                addresses.extend(address(check, &at, kind, value));
            }
        }
        let mut seen: BTreeSet<IpAddr> = BTreeSet::new();
        addresses.retain(|address| seen.insert(address.ip));
        let mut listeners: Vec<Listener> = Vec::new();
        for (index, raw) in spec.listeners.iter().enumerate() {
            let at = at.key("listeners").index(index);
            let Some(new) = listener(check, &at, raw) else { continue };
            let same = |l: &&Listener| l.port == new.port && l.protocol == new.protocol;
            if listeners.iter().any(|other| other.name == new.name) {
                let message = format!("listener \"{}\" is defined twice", new.name);
                check.problem(&at.key("name"), message);
            } else if let Some(other) =
                listeners.iter().filter(|_| new.protocol.is_some()).find(same)
            {
                let message = format!("listener \"{}\" has the same port and protocol", other.name);
                check.problem(&at.key("port"), message);
            } else {
                listeners.push(new);
            }
        }
        Some(Self { class: spec.gateway_class_name, addresses, listeners })
    }
}

fn address(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    kind: Option<&str>,
    value: &str,
) -> Option<Address> {
    match kind {
        None | Some("IPAddress") => {
            let at = at.key("value");
            Some(Address { ip: check.address(&at, value)?, at })
        }
        Some(_) => {
            check.note(&at.key("type"), "no effect: weir steers what is addressed to an IPAddress");
            None
        }
    }
}

fn listener(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &GatewayListeners,
) -> Option<Listener> {
    let name = check.name(&at.key("name"), &raw.name);
    let port = check.port(&at.key("port"), raw.port);
    // The API has no list of protocols, and takes any text.
    let (protocol, own) = match raw.protocol.to_ascii_uppercase().as_str() {
        "TCP" => (Some(Protocol::Tcp), vec![Kind::TcpRoute]),
        "UDP" => (Some(Protocol::Udp), vec![Kind::UdpRoute]),
        _ => {
            let message = "no effect: layer 4 has routes for listeners of TCP and UDP only";
            check.note(&at.key("protocol"), message);
            (None, Vec::new())
        }
    };
    let allowed = raw.allowed_routes.as_ref();
    let kinds = kinds(allowed, own);
    let namespaces = allowed.and_then(|allowed| allowed.namespaces.as_ref());
    let here = at.key("allowedRoutes").key("namespaces");
    let namespaces = namespaces.map_or(Some(Namespaces::Same), |n| selected(check, &here, n));
    Some(Listener {
        name: name?,
        port: port?,
        protocol,
        kinds,
        namespaces: namespaces?,
        at: at.clone(),
    })
}

/// Of the kinds that fit the protocol, those that are allowed.
fn kinds(allowed: Option<&GatewayListenersAllowedRoutes>, own: Vec<Kind>) -> Vec<Kind> {
    let named = allowed.and_then(|allowed| allowed.kinds.as_deref()).unwrap_or_default();
    if named.is_empty() {
        return own;
    }
    let is = |kind: &Kind| {
        named.iter().any(|named| {
            named.group.as_deref().unwrap_or(GROUP) == GROUP && named.kind == kind.to_string()
        })
    };
    own.into_iter().filter(is).collect()
}

fn selected(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &GatewayListenersAllowedRoutesNamespaces,
) -> Option<Namespaces> {
    Some(match raw.from {
        None | Some(From::Same) => Namespaces::Same,
        Some(From::All) => Namespaces::All,
        Some(From::Selector) => match &raw.selector {
            Some(selector) => {
                Namespaces::Selected(requirements(check, &at.key("selector"), selector)?)
            }
            None => {
                check.problem(&at.key("selector"), "missing required field");
                return None;
            }
        },
    })
}

fn requirements(
    check: &mut DocumentValidator<'_>,
    at: &FieldPath,
    raw: &GatewayListenersAllowedRoutesNamespacesSelector,
) -> Option<Vec<Requirement>> {
    let labels = raw.match_labels.iter().flatten();
    let mut all: Vec<Requirement> =
        labels.map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()])).collect();
    for (index, raw) in raw.match_expressions.iter().flatten().enumerate() {
        let at = at.key("matchExpressions").index(index);
        let (key, values) = (raw.key.clone(), raw.values.clone().unwrap_or_default());
        let with_values = matches!(raw.operator.as_str(), "In" | "NotIn");
        if with_values == values.is_empty() {
            let message = format!("values do not fit the operator \"{}\"", raw.operator);
            check.problem(&at.key("values"), message);
            return None;
        }
        all.push(match raw.operator.as_str() {
            "In" => Requirement::In(key, values),
            "NotIn" => Requirement::NotIn(key, values),
            "Exists" => Requirement::Exists(key),
            "DoesNotExist" => Requirement::DoesNotExist(key),
            other => {
                let message = format!(
                    "\"{other}\" is unknown, expected \"In\", \"NotIn\", \"Exists\" or \"DoesNotExist\""
                );
                check.problem(&at.key("operator"), message);
                return None;
            }
        });
    }
    Some(all)
}
