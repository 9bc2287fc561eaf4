//! What is addressed to an Istio Gateway.

use super::authority;
use super::endpoints::has_all;
use super::plan::{Addressed, Outcome, Plan, Rank, Share, realise};
use super::routing::{self, Choice};
use crate::model::{Affinity, Protocol};
use crate::resource::core::{App, Endpoints, Service};
use crate::resource::document::{Body, Document};
use crate::resource::istio::{Gateway, Server};
use crate::resource::set::{Key, View};
use crate::source::{FieldPath, Problem};

/// The splits of its ports that VirtualServices route.
pub(in crate::resource) fn resolve(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::IstioGateway(gateway) = &document.body else { return out };
    for server in &gateway.servers {
        if let Some(why) = &server.unsteered {
            out.problems.extend(routed_in_vain(view, document, server, why));
            continue;
        }
        let plan = match plan(view, &mut out, document, server) {
            Ok(None) => continue,
            Ok(Some(plan)) => Ok(plan),
            Err(problem) => Err(problem),
        };
        let mut addresses = Vec::new();
        let mut sources = Vec::new();
        let found = services(view, gateway, server.port).into_iter();
        for (found, service) in found.filter(|f| authority::may_route(view, document, f.0).is_ok())
        {
            addresses.extend(service.addresses.iter().map(|a| (a.ip, server.at.clone())));
            sources.push(found.id.clone());
        }
        if addresses.is_empty() {
            let message = format!(
                "no effect: no Service whose selector has the labels of spec.selector has an address and TCP port {}",
                server.port
            );
            out.notes.push(document.problem(&server.at, &message));
        }
        let addressed = Addressed {
            document,
            base: format!("{}.{}.{}", server.port, document.id.name, document.id.namespace),
            addresses,
            port: server.port,
            protocol: Protocol::Tcp,
        };
        match plan {
            Ok(mut plan) => {
                plan.sources.extend(sources);
                realise(view, &mut out, &addressed, Ok(&plan));
            }
            Err(problems) => {
                out.problems.extend(problems);
                realise(view, &mut out, &addressed, Err(Rank::Gateway));
            }
        }
    }
    out
}

/// What is wrong with VirtualServices that have a route for a port that weir cannot steer.
fn routed_in_vain(view: &View<'_>, gateway: &Document, server: &Server, why: &str) -> Vec<Problem> {
    let mut found = Vec::new();
    for document in view.find(Key::Attached(gateway.id.clone())) {
        let Body::VirtualService(service) = &document.body else { continue };
        let all = match server.app {
            App::Http => &service.http,
            _ => &service.tcp,
        };
        let takes = all.iter().any(|route| route.takes(server.port));
        if takes && authority::may_route(view, document, gateway).is_ok() {
            let message = format!("weir cannot steer port {} of {gateway}: {why}", server.port);
            found.push(document.problem(&FieldPath::of("spec.gateways"), &message));
        }
    }
    found
}

fn services<'a>(view: &View<'a>, gateway: &Gateway, port: u16) -> Vec<(&'a Document, &'a Service)> {
    let fits = |document: &'a Document| match &document.body {
        Body::Service(service) => match &service.endpoints {
            Endpoints::Kubernetes { selector, .. } if has_all(selector, &gateway.selector) => {
                service.port(port, Protocol::Tcp).map(|_| (document, service))
            }
            _ => None,
        },
        _ => None,
    };
    view.find(Key::Services).into_iter().filter_map(fits).collect()
}

/// The plan of the one VirtualService that has a route for the port; None if there is none.
fn plan<'a>(
    view: &View<'a>,
    out: &mut Outcome,
    gateway: &'a Document,
    server: &Server,
) -> Result<Option<Plan<'a>>, Vec<Problem>> {
    let mut chosen: Option<(&Document, Choice<'_>)> = None;
    for document in view.find(Key::Attached(gateway.id.clone())) {
        let Body::VirtualService(service) = &document.body else { continue };
        if authority::may_route(view, document, gateway).is_err() {
            continue;
        }
        let choice = routing::choose(out, document, service, server.port, server.app);
        let choice = choice.map_err(|problem| vec![problem])?;
        if matches!(choice, Choice::Unrouted) {
            continue;
        }
        if let Some((first, _)) = chosen {
            let message = format!("port {} of {gateway} is already routed by {first}", server.port);
            return Err(vec![document.problem(&FieldPath::of("spec.gateways"), &message)]);
        }
        chosen = Some((document, choice));
    }
    match chosen {
        None | Some((_, Choice::Unrouted)) => Ok(None),
        Some((by, Choice::Route(route))) => {
            routing::plan(view, out, by, route, server.port, Rank::Gateway).map(Some)
        }
        Some((by, Choice::Rejected(at))) => {
            let message =
                format!("no route takes port {}: its connections are rejected", server.port);
            out.notes.push(by.problem(&at, &message));
            let sources = [by.id.clone()].into();
            let shares = vec![Share::reject(by, at)];
            Ok(Some(Plan {
                shares,
                affinity: Affinity::None,
                drain_seconds: None,
                rank: Rank::Gateway,
                sources,
            }))
        }
    }
}
