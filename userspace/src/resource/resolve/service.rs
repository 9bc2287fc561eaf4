//! What is addressed to a service: routed by a VirtualService or by a route of
//! the Gateway API, or else balanced over all its endpoints.

use super::plan::{Addressed, Outcome, Plan, Rank, Share, Target, realise, share_names};
use super::routing::{self, Choice};
use super::{authority, gateway, names, traffic_split};
use crate::model::{Affinity, Protocol};
use crate::resource::core::{Port, Service};
use crate::resource::document::{Body, Document};
use crate::resource::host::Host;
use crate::resource::identity::Kind;
use crate::resource::set::{Key, View};
use crate::source::{FieldPath, Problem};

/// The splits of a host's addresses and ports.
pub(in crate::resource) fn resolve(view: &View<'_>, host: &Host) -> Outcome {
    let mut out = Outcome::default();
    let found = authority::services(view, host);
    for denied in view.find(Key::Service(host.clone())) {
        let steered = matches!(denied.body, Body::Service(_));
        if steered && !found.iter().any(|document| document.id == denied.id) {
            let message = format!("host {host} is of the cluster's own domain, where Services are");
            out.problems.push(denied.problem(&FieldPath::of("spec.hosts"), &message));
        }
    }
    let Some((document, others)) = found.split_first() else { return out };
    for other in others {
        let message = format!("host {host} is already described by {document}");
        out.problems.push(other.problem(&crate::resource::document::name(), &message));
    }
    let Body::Service(service) = &document.body else { return out };
    let addresses = addresses(view, &mut out, document, service);
    for (index, port) in service.ports.iter().enumerate() {
        let plan = plan(view, &mut out, document, service, index);
        let addressed = Addressed {
            document,
            base: format!("{}{}", host.short(), names::of_port(index, port)),
            addresses: addresses.clone(),
            port: port.number,
            protocol: port.protocol,
        };
        if addresses.is_empty() {
            continue;
        }
        let is_plain = plan.as_ref().is_ok_and(|plan| plan.rank == Rank::Plain);
        if is_plain && authority::is_left_alone(view, document) {
            continue;
        }
        if authority::is_local(document) {
            if !is_plain {
                let at = FieldPath::of("spec.internalTrafficPolicy");
                let message =
                    "not taken: weir steers to endpoints of all nodes, and the policy is Local";
                out.problems.push(document.problem(&at, message));
            }
            continue;
        }
        match plan {
            Ok(plan) => realise(view, &mut out, &addressed, Ok(&plan)),
            Err(problems) => {
                out.problems.extend(problems);
                realise(view, &mut out, &addressed, Err(Rank::Routed));
            }
        }
    }
    out
}

/// The service addresses that are the document's to say.
fn addresses(
    view: &View<'_>,
    out: &mut Outcome,
    document: &Document,
    service: &Service,
) -> Vec<(std::net::IpAddr, FieldPath)> {
    let mut found = Vec::new();
    for address in &service.addresses {
        // Those of a Service are given by the API server.
        let may = match document.id.kind {
            Kind::Service => Ok(()),
            _ => authority::counts(view, document)
                .and_then(|()| authority::may_name(view, document, address.ip)),
        };
        match may {
            Ok(()) => found.push((address.ip, address.at.clone())),
            Err(why) => out.problems.push(document.problem(&address.at, &why)),
        }
    }
    found
}

fn plan<'a>(
    view: &View<'a>,
    out: &mut Outcome,
    document: &'a Document,
    service: &'a Service,
    index: usize,
) -> Result<Plan<'a>, Vec<Problem>> {
    let port = &service.ports[index];
    let route = gateway::owner(view, document, index);
    // Istio routes no UDP.
    let virtual_service = match port.protocol {
        Protocol::Tcp => {
            routing::of_host(view, document, &service.host).map_err(|problem| vec![problem])?
        }
        Protocol::Udp => None,
    };
    let chosen = match virtual_service {
        Some((by, routes)) => {
            let choice = routing::choose(out, by, routes, port.number, port.app);
            Some((by, choice.map_err(|problem| vec![problem])?))
        }
        None => None,
    };
    let own = traffic_split::of_port(view, document, port).into_iter().next();
    let by = match (&chosen, route) {
        (Some((by, Choice::Route(_) | Choice::Rejected(_))), _) => Some(*by),
        (_, route) => route,
    };
    if let (Some(by), Some((split, _))) = (by, own) {
        let message = format!("{document} is already routed by {by}");
        return Err(vec![split.problem(&FieldPath::of("spec.serviceRef"), &message)]);
    }
    let mut plan = match (chosen, route) {
        _ if let Some((by, split)) = own => {
            let divided = Target { document, service, port, labels: None };
            let divided = (Some(divided), port.protocol);
            traffic_split::plan(view, by, split, divided, Rank::Routed)?
        }
        (Some((by, Choice::Route(_) | Choice::Rejected(_))), Some(route)) => {
            let message = format!("{document} is already routed by {by}");
            return Err(vec![route.problem(&FieldPath::of("spec.parentRefs"), &message)]);
        }
        (Some((by, Choice::Route(route))), None) => {
            routing::plan(view, out, by, route, port.number, Rank::Routed)?
        }
        (Some((by, Choice::Rejected(at))), None) => {
            let message =
                format!("no route takes port {}: its connections are rejected", port.number);
            out.notes.push(by.problem(&at, &message));
            Plan {
                shares: vec![Share::reject(by, at)],
                affinity: Affinity::None,
                drain_seconds: None,
                rank: Rank::Routed,
                sources: [by.id.clone()].into(),
            }
        }
        (_, Some(route)) => gateway::plan(view, out, route, Rank::Routed),
        (_, None) => plain(view, document, service, port)?,
    };
    if service.affinity == Affinity::ClientIp {
        plan.affinity = Affinity::ClientIp;
    }
    Ok(plan)
}

/// One subset of all endpoints.
fn plain<'a>(
    view: &View<'a>,
    document: &'a Document,
    service: &'a Service,
    port: &'a Port,
) -> Result<Plan<'a>, Vec<Problem>> {
    let namespace = &document.id.namespace;
    let rule = routing::rule(view, &service.host, namespace).map_err(|problem| vec![problem])?;
    let affinity = match rule {
        Some((_, rule)) if rule.by_client => Affinity::ClientIp,
        _ => Affinity::None,
    };
    let target = Target { document, service, port, labels: None };
    let share = Share {
        names: share_names(None, &target),
        weight: 1,
        target: Some(target),
        written: None,
        document,
        at: FieldPath::of("spec.ports"),
        weight_at: None,
    };
    let sources = rule.iter().map(|(rule, _)| rule.id.clone()).collect();
    let (shares, drain_seconds) = (vec![share], None);
    Ok(Plan { shares, affinity, drain_seconds, rank: Rank::Plain, sources })
}
