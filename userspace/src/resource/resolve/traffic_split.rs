//! weir's own TrafficSplits that other documents are needed for: of a Service's port, or with
//! Services behind them.

use std::collections::BTreeSet;

use super::authority;
use super::plan::{Addressed, Outcome, Plan, Rank, Share, Target, realise};
use crate::model::Protocol;
use crate::resource::core::{Port, Service};
use crate::resource::document::{Body, Document};
use crate::resource::identity::{DEFAULT_NAMESPACE, Id, Kind};
use crate::resource::set::{Key, View, id};
use crate::source::traffic_split::{Backing, Divided, ServiceRef, TrafficSplit};
use crate::source::{FieldPath, Problem};

/// The Service that one names, which is in its own namespace.
pub(in crate::resource) fn service_id(document: &Document, service: &ServiceRef) -> Id {
    let namespace = match document.of_namespace.as_str() {
        "" => DEFAULT_NAMESPACE,
        namespace => namespace,
    };
    id(Kind::Service, namespace, &service.name)
}

/// The TrafficSplits of a Service's port, the oldest first: that one has it.
pub(super) fn of_port<'a>(
    view: &View<'a>,
    service: &Document,
    port: &Port,
) -> Vec<(&'a Document, &'a TrafficSplit)> {
    let found = view.find(Key::Attached(service.id.clone())).into_iter();
    let of = |document: &'a Document| match &document.body {
        Body::TrafficSplit(split) => match &split.divided {
            Divided::Service(named) if named.port == port.number => Some((document, &**split)),
            _ => None,
        },
        _ => None,
    };
    found.filter_map(of).collect()
}

/// How the connections to a port of the Service that a TrafficSplit divides go, or everything that
/// is wrong with that.
pub(super) fn plan<'a>(
    view: &View<'a>,
    document: &'a Document,
    split: &'a TrafficSplit,
    (divided, protocol): (Option<Target<'a>>, Protocol),
    rank: Rank,
) -> Result<Plan<'a>, Vec<Problem>> {
    let mut plan = Plan {
        shares: Vec::new(),
        affinity: split.settings.affinity,
        drain_seconds: Some(split.settings.drain_seconds),
        rank,
        sources: BTreeSet::from([document.id.clone()]),
    };
    let mut problems = Vec::new();
    for (index, subset) in split.subsets.iter().enumerate() {
        let at = FieldPath::of("spec.subsets").index(index);
        let (mut target, mut written) = (None, None);
        match &subset.backing {
            Backing::Endpoints(endpoints) => {
                let at = at.key("endpoints");
                let denied =
                    endpoints.iter().map(|one| authority::may_name(view, document, one.ip()));
                let denied = denied.filter_map(Result::err);
                problems.extend(denied.map(|why| document.problem(&at, &why)));
                written = Some(endpoints);
            }
            Backing::Labels(labels) => {
                target = divided.map(|divided| Target { labels: Some(labels), ..divided });
            }
            Backing::Service(service) => {
                match backing(view, document, service, protocol, &at.key("service")) {
                    Ok(found) => target = Some(found),
                    Err(problem) => problems.push(problem),
                }
            }
        }
        let (names, weight_at) = (vec![subset.name.to_string()], Some(at.key("weight")));
        let weight = subset.weight;
        plan.shares.push(Share { names, weight, target, written, document, at, weight_at });
    }
    if problems.is_empty() { Ok(plan) } else { Err(problems) }
}

/// The port of a Service that a subset is backed by.
fn backing<'a>(
    view: &View<'a>,
    document: &Document,
    named: &ServiceRef,
    protocol: Protocol,
    at: &FieldPath,
) -> Result<Target<'a>, Problem> {
    let (found, service) = find(view, document, named, &at.key("name"))?;
    let port = service.port(named.port, protocol).ok_or_else(|| {
        let message = format!("{found} has no {protocol} port {}", named.port);
        document.problem(&at.key("port"), &message)
    })?;
    Ok(Target { document: found, service, port, labels: None })
}

fn find<'a>(
    view: &View<'a>,
    document: &Document,
    named: &ServiceRef,
    at: &FieldPath,
) -> Result<(&'a Document, &'a Service), Problem> {
    let id = service_id(document, named);
    let found = view.document(&id);
    match found.map(|found| (found, &found.body)) {
        Some((found, Body::Service(service))) => Ok((found, service)),
        Some((found, Body::Unsteered(unsteered))) => {
            let message = format!("weir cannot steer to {found}: {}", unsteered.why);
            Err(document.problem(at, &message))
        }
        _ => Err(document.problem(at, &format!("there is no {id}"))),
    }
}

/// What a TrafficSplit comes to by itself: the split of the address that it names; of a Service's
/// port, which is the Service's to say, what is in the way.
pub(in crate::resource) fn resolve(view: &View<'_>, document: &Document) -> Outcome {
    let mut out = Outcome::default();
    let Body::TrafficSplit(split) = &document.body else { return out };
    match &split.divided {
        Divided::Service(named) => report(view, &mut out, document, named),
        Divided::Address(address) => {
            let at = FieldPath::of("spec.address");
            if let Err(why) = authority::may_name(view, document, address.ip) {
                out.problems.push(document.problem(&at, &why));
                return out;
            }
            let addressed = Addressed {
                document,
                base: split.name.to_string(),
                addresses: vec![(address.ip, at)],
                port: address.port,
                protocol: address.protocol,
            };
            match plan(view, document, split, (None, address.protocol), Rank::Written) {
                Ok(plan) => realise(view, &mut out, &addressed, Ok(&plan)),
                Err(problems) => {
                    out.problems.extend(problems);
                    realise(view, &mut out, &addressed, Err(Rank::Written));
                }
            }
        }
    }
    out
}

/// Why the TrafficSplit of a Service's port has no effect.
fn report(view: &View<'_>, out: &mut Outcome, document: &Document, named: &ServiceRef) {
    let at = FieldPath::of("spec.serviceRef");
    let (found, service) = match find(view, document, named, &at.key("name")) {
        Ok(found) => found,
        Err(problem) => {
            // As a VirtualService whose Service is not there yet.
            let is_missing = view.document(&service_id(document, named)).is_none();
            let to = if is_missing { &mut out.notes } else { &mut out.problems };
            to.push(problem);
            return;
        }
    };
    let ports: Vec<&Port> = service.ports.iter().filter(|port| port.number == named.port).collect();
    if ports.is_empty() {
        let message = format!("{found} has no port {}", named.port);
        out.problems.push(document.problem(&at.key("port"), &message));
    }
    if service.addresses.is_empty() {
        let message = format!("no effect: {found} has no service address");
        out.notes.push(document.problem(&at.key("name"), &message));
    }
    for port in ports {
        let owner = of_port(view, found, port).first().map(|(owner, _)| *owner);
        if let Some(owner) = owner.filter(|owner| owner.id != document.id) {
            let message = format!("port {} of {found} is already divided by {owner}", port.number);
            out.problems.push(document.problem(&at, &message));
            break;
        }
    }
}
