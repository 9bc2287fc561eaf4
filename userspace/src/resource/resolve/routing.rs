//! VirtualServices to shares.

use super::authority;
use super::plan::{Outcome, Plan, Rank, Share, Target, share_names};
use crate::model::{Affinity, Protocol, hint};
use crate::resource::core::{App, Service};
use crate::resource::document::{Body, Document};
use crate::resource::host::{Host, Pattern};
use crate::resource::identity::Kind;
use crate::resource::istio::{Destination, DestinationRule, Parent, RouteRule, VirtualService};
use crate::resource::set::{Key, View, id};
use crate::source::{FieldPath, Problem};

/// What a VirtualService does with connections to a port.
pub(super) enum Choice<'a> {
    /// They take this route.
    Route(&'a RouteRule),
    /// It has no route for them: they are not its business.
    Unrouted,
    /// It has no route for them, and HTTP without a route is rejected.
    Rejected(FieldPath),
}

/// The VirtualService of connections to a host's addresses: the one that names
/// it most closely. An error if several do.
pub(super) fn of_host<'a>(
    view: &View<'a>,
    addressed: &Document,
    host: &Host,
) -> Result<Option<(&'a Document, &'a VirtualService)>, Problem> {
    let named = view.find(Key::Routing(host.clone()));
    let wild = view.find(Key::WildRouting);
    let mut best: Option<(usize, &Document, &VirtualService)> = None;
    for document in named.into_iter().chain(wild) {
        let Body::VirtualService(service) = &document.body else { continue };
        let may = || authority::may_route(view, document, addressed).is_ok();
        if !service.parents.contains(&Parent::Mesh) || !may() {
            continue;
        }
        let Some(fit) = service.hosts.iter().filter_map(|pattern| pattern.fits(host)).max() else {
            continue;
        };
        match best {
            Some((other, _, _)) if other > fit => {}
            Some((other, first, _)) if other == fit && first.id != document.id => {
                let message = format!("host {host} is already routed by {first}");
                return Err(document.problem(&service.host_at(None), &message));
            }
            _ => best = Some((fit, document, service)),
        }
    }
    Ok(best.map(|(_, document, service)| (document, service)))
}

/// What `service` does with connections to `port`; notes say which of its routes do not apply.
pub(super) fn choose<'a>(
    out: &mut Outcome,
    document: &Document,
    service: &'a VirtualService,
    port: u16,
    app: App,
) -> Result<Choice<'a>, Problem> {
    if let Some(route) = &service.any {
        return Ok(Choice::Route(route));
    }
    let spec = FieldPath::of("spec");
    let first = |routes: &'a [RouteRule]| routes.iter().find(|route| route.takes(port));
    let (http, tcp) = (first(&service.http), first(&service.tcp));
    let mut unused = |key: &str, route: &Option<&RouteRule>, kind: &str| {
        if route.is_some() {
            let message = format!(
                "no effect on port {port}, which is one for {kind} by its name or protocol"
            );
            out.notes.push(document.problem(&spec.key(key), &message));
        }
    };
    let unrouted = |routes: &[RouteRule]| match routes {
        [] => Choice::Unrouted,
        _ => Choice::Rejected(spec.key("http")),
    };
    Ok(match (app, http, tcp) {
        (App::Unknown, Some(_), Some(_)) => {
            let message = format!(
                "both http and tcp have a route for port {port}, of which weir cannot see the protocol; expected a port named such as \"http\" or \"tcp\""
            );
            return Err(document.problem(&spec, &message));
        }
        (App::Unknown, Some(route), None) | (App::Unknown, None, Some(route)) => {
            Choice::Route(route)
        }
        (App::Unknown, None, None) => Choice::Unrouted,
        (App::Http, route, tcp) => {
            unused("tcp", &tcp, "http");
            route.map_or_else(|| unrouted(&service.http), Choice::Route)
        }
        (App::Tcp, http, route) => {
            unused("http", &http, "tcp");
            route.map_or(Choice::Unrouted, Choice::Route)
        }
    })
}

/// The plan of a route for connections to `port`, or everything that is wrong with it.
pub(super) fn plan<'a>(
    view: &View<'a>,
    out: &mut Outcome,
    document: &'a Document,
    route: &'a RouteRule,
    port: u16,
    rank: Rank,
) -> Result<Plan<'a>, Vec<Problem>> {
    let mut plan = Plan {
        shares: Vec::new(),
        affinity: Affinity::None,
        drain_seconds: None,
        rank,
        sources: [document.id.clone()].into(),
    };
    let mut problems = Vec::new();
    let mut by_client = Vec::new();
    for destination in &route.destinations {
        match share(view, &mut plan, document, destination, port) {
            Ok((share, client)) => {
                plan.shares.push(share);
                by_client.push(client);
            }
            Err(problem) => problems.push(problem),
        }
    }
    if by_client.contains(&true) {
        plan.affinity = Affinity::ClientIp;
        for (share, _) in plan.shares.iter().zip(&by_client).filter(|(_, client)| !**client) {
            let message = "client affinity is of a whole split: it is for this destination too, since another asks for it";
            out.notes.push(share.document.problem(&share.at, message));
        }
    }
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

/// A share, and whether it asks for client affinity.
fn share<'a>(
    view: &View<'a>,
    plan: &mut Plan<'a>,
    document: &'a Document,
    destination: &'a Destination,
    listening: u16,
) -> Result<(Share<'a>, bool), Problem> {
    let at = &destination.at;
    let host = &destination.host;
    let Some((found, service)) = find(view, host) else {
        return Err(led_nowhere(view, document, destination));
    };
    authority::may_lead_to(view, document, found)
        .map_err(|why| document.problem(&destination.host_at, &why))?;
    let port = match (destination.port, service.ports.as_slice()) {
        (None, [only]) if only.protocol == Protocol::Tcp => Some(only),
        (None, _) => service.port(listening, Protocol::Tcp),
        (Some(number), _) => service.port(number, Protocol::Tcp),
    };
    let Some(port) = port else {
        let number = destination.port.unwrap_or(listening);
        let message = format!(
            "{} needs TCP port {number} of host {host}, which {found} does not have",
            document.id
        );
        return Err(document.problem(&destination.port_at, &message));
    };
    let rule = rule(view, host, &document.id.namespace)?;
    if let Some((rule, _)) = rule {
        plan.sources.insert(rule.id.clone());
    }
    let mut by_client = rule.is_some_and(|(_, rule)| rule.by_client);
    let mut labels = None;
    if let Some(name) = &destination.subset {
        let at = at.key("subset");
        let Some((rule, subsets)) = rule else {
            let message = format!(
                "{} needs subset \"{name}\" of host {host}, which has no DestinationRule",
                document.id
            );
            return Err(document.problem(&at, &message));
        };
        let Some(subset) = subsets.subsets.iter().find(|subset| subset.name == *name) else {
            let message = format!(
                "{} needs subset \"{name}\" of host {host}, which {rule} does not have{}",
                document.id,
                hint(name.as_str(), subsets.subsets.iter().map(|s| s.name.as_str()))
            );
            return Err(document.problem(&at, &message));
        };
        by_client = subset.by_client.unwrap_or(by_client);
        labels = Some(&subset.labels);
    }
    let target = Target { document: found, service, port, labels };
    let names = share_names(destination.subset.as_ref(), &target);
    let (weight, at) = (destination.weight, at.clone());
    let (target, weight_at) = (Some(target), Some(destination.weight_at.clone()));
    Ok((Share { names, weight, target, written: None, document, at, weight_at }, by_client))
}

/// What is wrong with a destination whose host is none that weir steers to.
fn led_nowhere(view: &View<'_>, document: &Document, destination: &Destination) -> Problem {
    let host = &destination.host;
    let message = match authority::unsteered(view, host) {
        Some((found, why)) => {
            format!("{} needs host {host}, and weir cannot steer to {found}: {why}", document.id)
        }
        None => format!(
            "{} needs host {host}, which no Service or ServiceEntry has{}",
            document.id,
            meant(view, host, &document.id.namespace)
        ),
    };
    document.problem(&destination.host_at, &message)
}

/// As many services are looked through at most for one whose name is near.
const NEIGHBOURS: usize = 256;

/// What to add where a document of a namespace names a host that there is not.
fn meant(view: &View<'_>, host: &Host, namespace: &str) -> String {
    if let Some(meant) = host.meant().filter(|meant| find(view, meant).is_some()) {
        return format!("; is {meant} meant?");
    }
    let neighbours = view.find(Key::ServicesOf(namespace.to_owned()));
    let hosts = neighbours.iter().filter_map(|document| match &document.body {
        Body::Service(service) => Some(service.host.as_str()),
        _ => None,
    });
    match neighbours.len() > NEIGHBOURS {
        true => String::new(),
        false => hint(host.as_str(), hosts),
    }
}

/// The service of a host.
pub(super) fn find<'a>(view: &View<'a>, host: &Host) -> Option<(&'a Document, &'a Service)> {
    authority::services(view, host).into_iter().find_map(|document| match &document.body {
        Body::Service(service) => Some((document, service)),
        _ => None,
    })
}

/// The DestinationRule of a host, for objects of a namespace. An error if there are several.
pub(super) fn rule<'a>(
    view: &View<'a>,
    host: &Host,
    namespace: &str,
) -> Result<Option<(&'a Document, &'a DestinationRule)>, Problem> {
    let mut found = view.find(Key::Rules(host.clone()));
    found.retain(|rule| authority::rules(view, rule, host, namespace));
    if let [first, second, ..] = found.as_slice() {
        let message = format!("host {host} already has {first}");
        return Err(second.problem(&FieldPath::of("spec.host"), &message));
    }
    Ok(found.into_iter().find_map(|document| match &document.body {
        Body::DestinationRule(rule) => Some((document, rule)),
        _ => None,
    }))
}

/// What is to be said of a VirtualService that has no effect on some host or gateway.
pub(in crate::resource) fn report(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::VirtualService(service) = &document.body else { return out };
    let mut note = |at: &FieldPath, message: &str| out.notes.push(document.problem(at, message));
    for parent in &service.parents {
        let Parent::Gateway { namespace, name, at } = parent else { continue };
        if view.document(&id(Kind::IstioGateway, namespace, name)).is_none() {
            note(at, &format!("no effect: there is no Istio Gateway {namespace}/{name}"));
        }
    }
    if let Err(why) = authority::counts(view, document) {
        note(&FieldPath::of("metadata.labels"), &why);
        return out;
    }
    let destinations = || service.http.iter().chain(&service.tcp).flat_map(|r| &r.destinations);
    let unsteered = |d: &&Destination| {
        find(view, &d.host).is_none() && authority::unsteered(view, &d.host).is_some()
    };
    out.problems.extend(destinations().filter(unsteered).map(|d| led_nowhere(view, document, d)));
    let mut note = |at: &FieldPath, message: &str| out.notes.push(document.problem(at, message));
    if !service.parents.contains(&Parent::Mesh) {
        return out;
    }
    for (index, pattern) in service.hosts.iter().enumerate() {
        let at = service.host_at(Some(index));
        let Pattern::Exact(host) = pattern else { continue };
        if host.is_address() {
            continue;
        }
        match find(view, host) {
            None => note(&at, &no_effect(view, host, &document.id.namespace)),
            Some((found, service)) if service.addresses.is_empty() => {
                note(&at, &format!("no effect: {found} has no service address"));
            }
            Some((found, _)) => {
                if let Err(why) = authority::may_route(view, document, found) {
                    out.problems.push(document.problem(&at, &why));
                }
            }
        }
    }
    out
}

/// Why a document about a host has none.
fn no_effect(view: &View<'_>, host: &Host, namespace: &str) -> String {
    match authority::unsteered(view, host) {
        Some((found, why)) => format!("no effect: weir cannot steer {found}: {why}"),
        None => format!(
            "no effect: no Service or ServiceEntry has host {host}{}",
            meant(view, host, namespace)
        ),
    }
}

/// What is to be said of a DestinationRule that has no effect.
pub(in crate::resource) fn report_rule(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::DestinationRule(rule) = &document.body else { return out };
    if authority::counts(view, document).is_ok() && find(view, &rule.host).is_none() {
        let message = no_effect(view, &rule.host, &document.id.namespace);
        out.notes.push(document.problem(&FieldPath::of("spec.host"), &message));
    }
    out
}
