//! The endpoints of a target.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use super::plan::Target;
use crate::model::Family;
use crate::resource::Labels;
use crate::resource::core::{Condition, Endpoints, Port, Target as TargetPort};
use crate::resource::document::Body;
use crate::resource::identity::{Id, Kind};
use crate::resource::istio::Workload;
use crate::resource::set::{Key, View, id};

/// An endpoint that may be one of a target.
struct Candidate<'a> {
    ip: IpAddr,
    port: u16,
    labels: &'a Labels,
    condition: Condition,
    source: Option<&'a Id>,
}

/// The endpoints of a family. `sources` gets the documents that they are in.
pub(super) fn of(
    view: &View<'_>,
    target: &Target<'_>,
    family: Family,
    sources: &mut BTreeSet<Id>,
) -> BTreeSet<SocketAddr> {
    let all = match &target.service.endpoints {
        Endpoints::Inline(workloads) => {
            workloads.iter().filter_map(|w| of_workload(w, target.port, None)).collect()
        }
        Endpoints::Selected { namespace, labels } => {
            workloads(view, namespace, labels, target.port)
        }
        Endpoints::Kubernetes { namespace, name, selector } => {
            let mut all = slices(view, &id(Kind::Service, namespace, name), target.port);
            if !selector.is_empty() {
                all.extend(workloads(view, namespace, selector, target.port));
            }
            all
        }
    };
    let fits = |candidate: &&Candidate<'_>| {
        let labels = target.labels.is_none_or(|wanted| has_all(candidate.labels, wanted));
        labels && Family::of(candidate.ip) == family
    };
    let all: Vec<_> = all.iter().filter(fits).collect();
    let ready = all.iter().any(|candidate| candidate.condition == Condition::Ready);
    let wanted = if ready { Condition::Ready } else { Condition::Draining };
    let mut found = BTreeSet::new();
    for candidate in all.into_iter().filter(|candidate| candidate.condition == wanted) {
        sources.extend(candidate.source.cloned());
        found.insert(SocketAddr::new(candidate.ip, candidate.port));
    }
    found
}

/// Whether `labels` has all of `wanted`.
pub(super) fn has_all(labels: &Labels, wanted: &Labels) -> bool {
    wanted.iter().all(|(key, value)| labels.get(key) == Some(value))
}

fn slices<'a>(view: &View<'a>, service: &Id, port: &Port) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for document in view.find(Key::Slices(service.clone())) {
        let Body::Slice(slice) = &document.body else { continue };
        let same = |p: &&crate::resource::core::SlicePort| {
            p.name == port.name && p.protocol == port.protocol
        };
        let Some(port) = slice.ports.iter().find(same) else { continue };
        for endpoint in &slice.endpoints {
            let pod = endpoint.pod.as_ref();
            let pod = pod.and_then(|pod| view.document(&id(Kind::Pod, &service.namespace, pod)));
            all.push(Candidate {
                ip: endpoint.ip,
                port: port.number,
                labels: &pod.unwrap_or(document).labels,
                condition: endpoint.condition,
                source: Some(&document.id),
            });
        }
    }
    all
}

fn workloads<'a>(
    view: &View<'a>,
    namespace: &str,
    labels: &Labels,
    port: &Port,
) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    for document in view.find(Key::Workloads(namespace.to_owned())) {
        let Body::Workload(workload) = &document.body else { continue };
        if has_all(&workload.labels, labels) {
            all.extend(of_workload(workload, port, Some(&document.id)));
        }
    }
    all
}

/// The port is the one that the workload names like the service's, or else the service's target.
fn of_workload<'a>(
    workload: &'a Workload,
    port: &Port,
    source: Option<&'a Id>,
) -> Option<Candidate<'a>> {
    let number = workload.ports.get(&port.name).copied().or_else(|| match &port.target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => workload.ports.get(name).copied(),
    })?;
    let (ip, labels) = (workload.ip, &workload.labels);
    Some(Candidate { ip, port: number, labels, condition: Condition::Ready, source })
}
