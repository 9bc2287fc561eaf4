//! What is addressed to a Gateway, and which routes attach to what.

use super::authority;
use super::plan::{Addressed, NONE, Outcome, Plan, Rank, Share, Target, realise, share_names};
use crate::model::{Affinity, Name, Protocol, derived_subset};
use crate::resource::Labels;
use crate::resource::core::Service;
use crate::resource::document::{Body, Document};
use crate::resource::gateway::{
    BackendRef, Gateway, GatewayRoute, Namespaces, ParentKind, ParentRef,
};
use crate::resource::host::Host;
use crate::resource::identity::Kind;
use crate::resource::outcome::Reason;
use crate::resource::set::{Key, View, id};
use crate::source::FieldPath;

/// The label of Services that are made for a Gateway (GEP-1762).
const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";
/// The label that every Namespace has.
const NAMESPACE_NAME: &str = "kubernetes.io/metadata.name";

/// Why something is not as the route wants it, by the API's reasons.
pub(super) type Rejection = (Reason, String);

/// The splits of its listeners that have routes.
pub(in crate::resource) fn resolve(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::Gateway(gateway) = &document.body else { return out };
    if !authority::is_own_class(document, &gateway.class) {
        return out;
    }
    for (index, listener) in gateway.listeners.iter().enumerate() {
        let (Some(protocol), Some(route)) = (listener.protocol, owner(view, document, index))
        else {
            continue;
        };
        let mut plan = plan(view, &mut out, route, Rank::Gateway);
        let mut addresses = Vec::new();
        for address in &gateway.addresses {
            match authority::may_name(view, document, address.ip) {
                Ok(()) => addresses.push((address.ip, address.at.clone())),
                Err(why) => out.problems.push(document.problem(&address.at, &why)),
            }
        }
        if gateway.addresses.is_empty() {
            for (found, service) in services(view, document, listener.port, protocol) {
                plan.sources.insert(found.id.clone());
                addresses.extend(service.addresses.iter().map(|a| (a.ip, listener.at.clone())));
            }
        }
        if addresses.is_empty() {
            let message = format!(
                "no effect: the Gateway has no address, nor is there a Service with the label {GATEWAY_NAME}, an address and {protocol} port {}",
                listener.port
            );
            out.notes.push(document.problem(&listener.at, &message));
        }
        let addressed = Addressed {
            document,
            base: format!("{}.{}.{}", listener.name, document.id.name, document.id.namespace),
            addresses,
            port: listener.port,
            protocol,
        };
        realise(view, &mut out, &addressed, Ok(&plan));
    }
    out
}

/// The Services that were made for a Gateway.
fn services<'a>(
    view: &View<'a>,
    gateway: &Document,
    port: u16,
    protocol: Protocol,
) -> Vec<(&'a Document, &'a Service)> {
    let fits = |document: &'a Document| match &document.body {
        Body::Service(service) => {
            let named = document.labels.get(GATEWAY_NAME) == Some(&gateway.id.name);
            let here = document.id.namespace == gateway.id.namespace;
            let port = service.port(port, protocol);
            port.filter(|_| named && here).map(|_| (document, service))
        }
        _ => None,
    };
    view.find(Key::Services).into_iter().filter_map(fits).collect()
}

/// The route that has a listener, or a port of a Service, by their index: the
/// oldest of those that attach, and of those that are equally old the first by name.
pub(super) fn owner<'a>(view: &View<'a>, parent: &Document, index: usize) -> Option<&'a Document> {
    let attached = |document: &&'a Document| match &document.body {
        Body::Route(route) => route.parents.iter().any(|reference| {
            reference.id().as_ref() == Some(&parent.id)
                && attach(view, document, route, reference)
                    .is_ok_and(|(_, places)| places.contains(&index))
        }),
        _ => false,
    };
    let found = view.find(Key::Attached(parent.id.clone())).into_iter().filter(attached);
    found.min_by_key(|document| {
        let created = match &document.body {
            Body::Route(route) => route.created.as_ref().map(|time| time.0),
            _ => None,
        };
        (created.is_none(), created, document.id.namespace.clone(), document.id.name.clone())
    })
}

/// The parent that a reference names, and the indices of the listeners or ports that it attaches to.
pub(super) fn attach<'a>(
    view: &View<'a>,
    document: &Document,
    route: &GatewayRoute,
    reference: &ParentRef,
) -> Result<(&'a Document, Vec<usize>), Rejection> {
    let none = |message: String| (Reason::NoMatchingParent, message);
    let parent = reference.id().ok_or_else(|| match &reference.kind {
        ParentKind::Other(kind) => none(format!("weir knows no parents of kind \"{kind}\"")),
        ParentKind::Gateway | ParentKind::Service => none("the parent has no name".to_owned()),
    })?;
    let found = view.document(&parent).ok_or_else(|| none(format!("there is no {parent}")))?;
    match &found.body {
        Body::Gateway(gateway) if !authority::is_own_class(found, &gateway.class) => {
            Err(none(format!("{found} is of class \"{}\", which is not weir's", gateway.class)))
        }
        Body::Gateway(gateway) => listeners(view, document, route, reference, found, gateway),
        Body::Service(service) => ports(document, route, reference, found, service),
        _ => Err(none(format!("{found} is no parent of routes"))),
    }
}

fn listeners<'a>(
    view: &View<'a>,
    document: &Document,
    route: &GatewayRoute,
    reference: &ParentRef,
    parent: &'a Document,
    gateway: &Gateway,
) -> Result<(&'a Document, Vec<usize>), Rejection> {
    let meant = |index: &usize| {
        let listener = &gateway.listeners[*index];
        let section = reference.section.as_ref();
        section.is_none_or(|section| listener.name.as_str() == section)
            && reference.port.is_none_or(|port| listener.port == port)
    };
    let meant: Vec<usize> = (0..gateway.listeners.len()).filter(meant).collect();
    if meant.is_empty() {
        let message = format!("{parent} has no such listener");
        return Err((Reason::NoMatchingParent, message));
    }
    let kind = document.id.kind;
    let allowed = |index: &usize| {
        let listener = &gateway.listeners[*index];
        let namespaces = match &listener.namespaces {
            Namespaces::Same => document.id.namespace == parent.id.namespace,
            Namespaces::All => true,
            Namespaces::Selected(all) => {
                let labels = namespace_labels(view, &document.id.namespace);
                all.iter().all(|requirement| requirement.holds(&labels))
            }
        };
        listener.protocol == Some(route.protocol) && listener.kinds.contains(&kind) && namespaces
    };
    let allowed: Vec<usize> = meant.into_iter().filter(allowed).collect();
    if allowed.is_empty() {
        let message = format!(
            "no such listener of {parent} allows a {kind} of namespace \"{}\"",
            document.id.namespace
        );
        return Err((Reason::NotAllowedByListeners, message));
    }
    Ok((parent, allowed))
}

fn namespace_labels(view: &View<'_>, name: &str) -> Labels {
    let document = view.document(&id(Kind::Namespace, "", name));
    let mut labels = document.map(|document| document.labels.clone()).unwrap_or_default();
    labels.insert(NAMESPACE_NAME.to_owned(), name.to_owned());
    labels
}

fn ports<'a>(
    document: &Document,
    route: &GatewayRoute,
    reference: &ParentRef,
    parent: &'a Document,
    service: &Service,
) -> Result<(&'a Document, Vec<usize>), Rejection> {
    if document.id.namespace != parent.id.namespace {
        let message = format!(
            "a route of another namespace than {parent} is for the clients of its namespace, which weir does not know"
        );
        return Err((Reason::UnsupportedValue, message));
    }
    if service.addresses.is_empty() {
        return Err((Reason::NoMatchingParent, format!("{parent} has no service address")));
    }
    let meant = |index: &usize| {
        let port = &service.ports[*index];
        port.protocol == route.protocol
            && reference.section.as_ref().is_none_or(|section| port.name == *section)
            && reference.port.is_none_or(|number| port.number == number)
    };
    let meant: Vec<usize> = (0..service.ports.len()).filter(meant).collect();
    if meant.is_empty() {
        let message = format!("{parent} has no such {} port", route.protocol);
        return Err((Reason::NoMatchingParent, message));
    }
    Ok((parent, meant))
}

/// The plan of a route. What it refers to in vain rejects its share.
pub(super) fn plan<'a>(
    view: &View<'a>,
    out: &mut Outcome,
    document: &'a Document,
    rank: Rank,
) -> Plan<'a> {
    let mut plan = Plan {
        shares: Vec::new(),
        affinity: Affinity::None,
        drain_seconds: None,
        rank,
        sources: [document.id.clone()].into(),
    };
    let Body::Route(route) = &document.body else { return plan };
    for reference in &route.backends {
        let target = backend(view, document, route, reference);
        let names = match &target {
            Ok(target) => share_names(None, target),
            Err(_) => names(reference),
        };
        if let Err((reason, message)) = &target {
            let message = format!("{reason}: {message}; its share is rejected");
            out.notes.push(document.problem(&reference.at, &message));
        }
        let (weight, at) = (reference.weight, reference.at.clone());
        let (target, weight_at) = (target.ok(), Some(at.key("weight")));
        plan.shares.push(Share { names, weight, target, written: None, document, at, weight_at });
    }
    if plan.shares.iter().all(|share| share.weight == 0) {
        let at = FieldPath::of("spec.rules").index(0).key("backendRefs");
        out.notes.push(document.problem(&at, "all weights are 0: all connections are rejected"));
        plan.shares = vec![Share { names: vec![NONE.to_owned()], ..Share::reject(document, at) }];
    }
    plan
}

/// Where a share goes, or why it is rejected.
pub(super) fn backend<'a>(
    view: &View<'a>,
    document: &Document,
    route: &GatewayRoute,
    reference: &BackendRef,
) -> Result<Target<'a>, Rejection> {
    if let Some(kind) = &reference.foreign {
        return Err((
            Reason::InvalidKind,
            format!("\"{kind}\" is no kind that weir steers to, expected a Service"),
        ));
    }
    let (namespace, name) = (&reference.namespace, reference.name.as_str());
    if *namespace != document.id.namespace
        && !authority::granted(view, document, &id(Kind::Service, namespace, name))
    {
        let message = format!(
            "no ReferenceGrant of namespace \"{namespace}\" lets a {} of namespace \"{}\" refer to Service \"{name}\"",
            document.id.kind, document.id.namespace
        );
        return Err((Reason::RefNotPermitted, message));
    }
    let missing = || (Reason::BackendNotFound, format!("there is no Service {namespace}/{name}"));
    let found = view.document(&id(Kind::Service, namespace, name)).ok_or_else(missing)?;
    let service = match &found.body {
        Body::Service(service) => service,
        Body::Unsteered(unsteered) => {
            let message = format!("weir cannot steer to {found}: {}", unsteered.why);
            return Err((Reason::UnsupportedValue, message));
        }
        _ => return Err(missing()),
    };
    match service.port(reference.port, route.protocol) {
        Some(port) => Ok(Target { document: found, service, port, labels: None }),
        None => {
            let message = format!("{found} has no {} port {}", route.protocol, reference.port);
            Err((Reason::BackendNotFound, message))
        }
    }
}

/// The candidates for the name of a share that goes nowhere: as if it went there.
fn names(reference: &BackendRef) -> Vec<String> {
    let host = Host::of_service(&reference.namespace, reference.name.as_str());
    let mut names = vec![
        reference.name.to_string(),
        host.short().to_owned(),
        format!("{}.{}", host.short(), reference.port),
    ];
    if let Some(kind) = &reference.foreign {
        names.push(format!("{}.{}", host.short(), kind.to_ascii_lowercase()));
    }
    names.retain(|name| Name::new(derived_subset(name)).is_ok());
    names
}
