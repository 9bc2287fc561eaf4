//! Who may steer what, of a cluster's objects: an editor of a namespace is not the
//! administrator of the node. Files and applied objects are the operator's own, and may
//! do anything.

use std::net::IpAddr;

use super::plan::Outcome;
use crate::model::Split;
use crate::resource::document::{Body, Document, Origin};
use crate::resource::host::Host;
use crate::resource::identity::{Id, Kind};
use crate::resource::policy::{Istio, STEER, Services};
use crate::resource::set::{Key, View, id};
use crate::source::{FieldPath, Problem};

/// Why an object has no say.
pub(super) type Denied = String;

fn is_of_cluster(document: &Document) -> bool {
    document.origin() == Origin::Cluster
}

/// Whether somebody asked for weir to go by an object of Istio. Where istiod runs, most are
/// for its proxies.
pub(in crate::resource) fn is_asked_for(
    view: &View<'_>,
    namespace: &str,
    labels: &crate::resource::Labels,
) -> bool {
    let needed = match view.policy().istio {
        Istio::All => false,
        Istio::Labelled => true,
        Istio::Auto => !view.find(Key::Istiod).is_empty(),
    };
    let says = |labels: &crate::resource::Labels| labels.get(STEER).map(|value| value == "true");
    let of_namespace = || says(&view.document(&id(Kind::Namespace, "", namespace))?.labels);
    !needed || says(labels).or_else(of_namespace).unwrap_or(false)
}

/// Whether an object of Istio counts.
pub(super) fn counts(view: &View<'_>, document: &Document) -> Result<(), Denied> {
    if !is_of_cluster(document) {
        return Ok(());
    }
    if !is_asked_for(view, &document.id.namespace, &document.labels) {
        return Err(format!(
            "not taken: Istio runs in this cluster, and neither the object nor its namespace has the label {STEER}=true"
        ));
    }
    Ok(())
}

/// Whether an object may say where the connections of a parent go: of a Service,
/// ServiceEntry or Gateway.
pub(super) fn may_route(
    view: &View<'_>,
    document: &Document,
    parent: &Document,
) -> Result<(), Denied> {
    counts(view, document)?;
    if !is_of_cluster(document) {
        return Ok(());
    }
    if document.id.namespace != parent.id.namespace {
        return Err(format!(
            "{parent} is of another namespace: an object routes what is of its own namespace \"{}\" only",
            document.id.namespace
        ));
    }
    if document.exported.is_some() {
        return Err(
            "exportTo names some namespaces, and weir does not know of which one a client is: expected none, or [\"*\"]"
                .to_owned(),
        );
    }
    Ok(())
}

/// Whether an object may lead connections to a service.
pub(super) fn may_lead_to(
    view: &View<'_>,
    document: &Document,
    service: &Document,
) -> Result<(), Denied> {
    if !is_of_cluster(document) || document.id.namespace == service.id.namespace {
        return Ok(());
    }
    let namespace = &service.id.namespace;
    if !is_visible(service, &document.id.namespace) {
        return Err(format!(
            "{service} is not exported to namespace \"{}\"",
            document.id.namespace
        ));
    }
    if granted(view, document, &service.id) {
        return Ok(());
    }
    Err(format!(
        "no ReferenceGrant of namespace \"{namespace}\" lets a {} of namespace \"{}\" refer to {} \"{}\"",
        document.id.kind, document.id.namespace, service.id.kind, service.id.name
    ))
}

/// Whether a DestinationRule says what the subsets of a host are, for objects of a namespace:
/// one of the host's own namespace, or one of that namespace itself.
pub(super) fn rules(view: &View<'_>, rule: &Document, host: &Host, namespace: &str) -> bool {
    let own = |document: &&Document| document.id.namespace == rule.id.namespace;
    !is_of_cluster(rule)
        || rule.id.namespace == namespace
        || (is_visible(rule, namespace) && services(view, host).iter().any(own))
}

/// Whether what is exported to some namespaces is exported to this one.
pub(super) fn is_visible(document: &Document, namespace: &str) -> bool {
    let exported = document.exported.as_ref();
    !is_of_cluster(document)
        || document.id.namespace == namespace
        || exported.is_none_or(|namespaces| namespaces.contains(namespace))
}

/// Whether a namespace lets an object of another one refer to what is of that id.
pub(super) fn granted(view: &View<'_>, document: &Document, to: &Id) -> bool {
    let from = (document.id.kind, document.id.namespace.as_str());
    let grants = view.find(Key::Grants(to.namespace.clone()));
    grants.iter().any(|grant| match &grant.body {
        Body::Grant(grant) => grant.allows(from, (to.kind, &to.name)),
        _ => false,
    })
}

/// Whether an object may name an address itself, as a service's or an endpoint's.
pub(super) fn may_name(view: &View<'_>, document: &Document, ip: IpAddr) -> Result<(), Denied> {
    if !is_of_cluster(document) {
        return Ok(());
    }
    if !view.policy().allows(ip) {
        return Err(format!(
            "{ip} is in no network of `kubernetes.addresses` of the agent's configuration: an object may name addresses in those only"
        ));
    }
    if is_of_one_host(ip) {
        return Err(format!(
            "{ip} is a loopback or link-local address, which means another host to each client"
        ));
    }
    let services = view.find(Key::ClusterIp(ip));
    match services.iter().find(|service| service.id.kind == Kind::Service) {
        Some(service) => Err(format!("{ip} is the address of {service}")),
        None => Ok(()),
    }
}

/// Whether an address is a loopback or a link-local one: cloud providers answer at such, and tell
/// a node its secrets.
fn is_of_one_host(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local(),
    }
}

/// What describes a host: Services before ServiceEntries. One of a cluster may not describe a
/// host of the cluster's domain, which is another object's.
pub(super) fn services<'a>(view: &View<'a>, host: &Host) -> Vec<&'a Document> {
    let found = view.find(Key::Service(host.clone())).into_iter();
    let may = |document: &&Document| match document.body {
        Body::Unsteered(_) => false,
        _ => document.id.kind == Kind::Service || !is_of_cluster(document) || !host.is_of_cluster(),
    };
    let mut found: Vec<&Document> = found.filter(may).collect();
    found.sort_by_key(|document| document.id.kind != Kind::Service);
    found
}

/// What describes a host that cannot be steered, and why it cannot.
pub(super) fn unsteered<'a>(view: &View<'a>, host: &Host) -> Option<(&'a Document, &'a str)> {
    view.find(Key::Service(host.clone())).into_iter().find_map(|document| match &document.body {
        Body::Unsteered(unsteered) => Some((document, unsteered.why.as_str())),
        _ => None,
    })
}

/// Whether a Service that nothing routes is left to the cluster's own proxy.
pub(super) fn is_left_alone(view: &View<'_>, document: &Document) -> bool {
    is_of_cluster(document) && view.policy().services == Services::Routed
}

/// Whether clients of a Service are to reach endpoints of their own node alone, which is left
/// to the cluster's own proxy.
pub(super) fn is_local(document: &Document) -> bool {
    is_of_cluster(document) && matches!(&document.body, Body::Service(service) if service.local)
}

/// The class of Gateways that are weir's, where others may have some.
const CLASS: &str = "weir";

/// Whether a Gateway is weir's.
pub(super) fn is_own_class(document: &Document, class: &str) -> bool {
    !is_of_cluster(document) || class == CLASS
}

/// What is to be said of an endpoint that is described by hand.
pub(in crate::resource) fn report_workload(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::Workload(workload) = &document.body else { return out };
    if let Err(why) = may_name(view, document, workload.ip) {
        out.problems.push(document.problem(&FieldPath::of("spec.address"), &why));
    }
    out
}

/// Why a TrafficSplit may not have its addresses.
pub(in crate::resource) fn report_split(
    view: &View<'_>,
    document: &Document,
    split: &Split,
) -> Vec<Problem> {
    let mut found = Vec::new();
    let spec = FieldPath::of("spec");
    if let Err(why) = may_name(view, document, split.address().ip) {
        found.push(document.problem(&spec.key("address"), &why));
    }
    for (index, subset) in split.subsets().iter().enumerate() {
        let at = spec.key("subsets").index(index).key("endpoints");
        let named = subset.endpoints.iter().map(|endpoint| may_name(view, document, endpoint.ip()));
        found.extend(named.filter_map(Result::err).map(|why| document.problem(&at, &why)));
    }
    found
}
