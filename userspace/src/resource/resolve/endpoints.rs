//! The endpoints of the targets of a split.
//!
//! An address is one endpoint's. Kubernetes gives that of a Pod which ends to the
//! next one, perhaps of another version, while slices still name the old one:
//! who does not have its address any more ([`Candidate::loses_to`]) is none, so
//! that its subset's share goes to no other version.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::jiff::Timestamp;

use super::authority;
use super::plan::Target;
use crate::model::Family;
use crate::resource::Labels;
use crate::resource::core::{Condition, Endpoints, Port, Reference, Target as TargetPort};
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
    terminating: bool,
    /// The Pod that it is, and its namespace.
    pod: Option<(&'a str, &'a Reference)>,
    /// When the Pod was made.
    created: Option<Timestamp>,
    source: Option<&'a Id>,
}

impl Candidate<'_> {
    fn socket(&self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }

    /// How likely it has its address, more being likelier.
    fn claim(&self) -> (bool, bool) {
        (self.condition == Condition::Ready, !self.terminating)
    }

    fn is_same(&self, other: &Self) -> bool {
        self.pod.zip(other.pod).is_some_and(|((own_namespace, own), (namespace, pod))| {
            own_namespace == namespace && own.is_same(pod)
        })
    }

    /// Whether another endpoint has its address by now.
    fn loses_to(&self, other: &Self) -> bool {
        if self.is_same(other) {
            return false;
        }
        let older = self.created.zip(other.created).is_some_and(|(own, other)| own < other);
        match self.claim().cmp(&other.claim()) {
            Ordering::Less => true,
            Ordering::Equal => older,
            Ordering::Greater => false,
        }
    }
}

/// The labels of a Pod of which nothing is known.
static UNKNOWN: Labels = Labels::new();

/// The endpoints of a family, of each of the targets. `sources` gets the
/// documents that they are in.
pub(super) fn of<'a>(
    view: &View<'a>,
    targets: &[Option<Target<'a>>],
    family: Family,
    sources: &mut BTreeSet<Id>,
) -> Vec<BTreeSet<SocketAddr>> {
    let mut all: Vec<Vec<Candidate<'a>>> = Vec::new();
    for target in targets {
        let mut found = target.map_or_else(Vec::new, |target| candidates(view, &target));
        found.retain(|candidate| Family::of(candidate.ip) == family);
        all.push(found);
    }
    let mut there: HashMap<SocketAddr, Vec<&Candidate<'_>>> = HashMap::new();
    for candidate in all.iter().flatten() {
        there.entry(candidate.socket()).or_default().push(candidate);
    }
    let has_address = |one: &&Candidate<'_>| {
        let rivals = || there[&one.socket()].iter().copied();
        !rivals().any(|other| one.loses_to(other)) && !is_elsewhere(view, one)
    };
    let mut found = Vec::new();
    for (target, candidates) in targets.iter().zip(&all) {
        let wanted = target.as_ref().and_then(|target| target.labels);
        let fits = |one: &&Candidate<'_>| wanted.is_none_or(|wanted| has_all(one.labels, wanted));
        let own: Vec<_> = candidates.iter().filter(fits).filter(has_address).collect();
        found.push(usable(&own, sources));
    }
    found
}

/// Whether the Pod of an endpoint is about to end, or not ready, and its address is that of an
/// endpoint of some other Service by now. One that is ready is not looked for: that costs a
/// look-up for each.
fn is_elsewhere(view: &View<'_>, one: &Candidate<'_>) -> bool {
    if one.pod.is_none() || one.claim() == (true, true) {
        return false;
    }
    view.find(Key::At(one.ip)).into_iter().any(|document| {
        let Body::Slice(slice) = &document.body else { return false };
        let namespace = document.id.namespace.as_str();
        // On the network of a host, Pods share its address, but no port.
        slice.ports.iter().any(|port| port.number == one.port)
            && slice.endpoints.iter().filter(|endpoint| endpoint.ip == one.ip).any(|endpoint| {
                one.loses_to(&Candidate {
                    ip: endpoint.ip,
                    port: one.port,
                    labels: &UNKNOWN,
                    condition: endpoint.condition,
                    terminating: endpoint.terminating,
                    pod: endpoint.pod.as_ref().map(|pod| (namespace, pod)),
                    created: None,
                    source: None,
                })
            })
    })
}

/// Those that are ready, or else those that serve until they end.
fn usable(all: &[&Candidate<'_>], sources: &mut BTreeSet<Id>) -> BTreeSet<SocketAddr> {
    let ready = all.iter().any(|candidate| candidate.condition == Condition::Ready);
    let wanted = if ready { Condition::Ready } else { Condition::Draining };
    let mut found = BTreeSet::new();
    for candidate in all.iter().filter(|candidate| candidate.condition == wanted) {
        sources.extend(candidate.source.cloned());
        found.insert(candidate.socket());
    }
    found
}

/// All that may be endpoints of a target, whatever their labels.
fn candidates<'a>(view: &View<'a>, target: &Target<'a>) -> Vec<Candidate<'a>> {
    match &target.service.endpoints {
        Endpoints::Inline(workloads) => {
            let may = |w: &&Workload| authority::may_name(view, target.document, w.ip).is_ok();
            let allowed = workloads.iter().filter(may);
            allowed.filter_map(|w| of_workload(w, target.port, None)).collect()
        }
        Endpoints::Selected { namespace, labels } => {
            let mut all = workloads(view, namespace, labels, target.port);
            all.extend(pods(view, namespace, labels, target.port));
            all
        }
        Endpoints::Kubernetes { namespace, name, selector } => {
            let mut all = slices(view, &id(Kind::Service, namespace, name), target.port);
            if !selector.is_empty() {
                all.extend(workloads(view, namespace, selector, target.port));
            }
            all
        }
    }
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
        let namespace = document.id.namespace.as_str();
        for endpoint in &slice.endpoints {
            let pod = endpoint.pod.as_ref();
            let known = pod.and_then(|pod| view.document(&id(Kind::Pod, namespace, &pod.name)));
            let (labels, created) = match known.map(|known| (&known.body, &known.labels)) {
                Some((Body::Pod(own), labels)) => {
                    let uid = pod.and_then(|pod| pod.uid.as_deref());
                    match own.is_at(endpoint.ip, uid) {
                        true => (labels, own.created),
                        // It has another address by now, or is another Pod of the name.
                        false => (&UNKNOWN, None),
                    }
                }
                _ => (&document.labels, None),
            };
            all.push(Candidate {
                ip: endpoint.ip,
                port: port.number,
                labels,
                condition: endpoint.condition,
                terminating: endpoint.terminating,
                pod: pod.map(|pod| (namespace, pod)),
                created,
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
        let may = authority::may_name(view, document, workload.ip).is_ok();
        if may && has_all(&workload.labels, labels) {
            all.extend(of_workload(workload, port, Some(&document.id)));
        }
    }
    all
}

/// The Pods of a namespace that have the labels, at the target port of the service.
fn pods<'a>(view: &View<'a>, namespace: &str, labels: &Labels, port: &Port) -> Vec<Candidate<'a>> {
    let mut all = Vec::new();
    let TargetPort::Number(number) = port.target else { return all };
    for document in view.find(Key::Pods(namespace.to_owned())) {
        let Body::Pod(pod) = &document.body else { continue };
        if !has_all(&document.labels, labels) {
            continue;
        }
        all.extend(pod.endpoints().into_iter().map(|ip| Candidate {
            ip,
            port: number,
            labels: &document.labels,
            condition: pod.condition(),
            terminating: pod.ending,
            pod: None,
            created: pod.created,
            source: Some(&document.id),
        }));
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
    Some(Candidate {
        ip,
        port: number,
        labels,
        condition: Condition::Ready,
        terminating: false,
        pod: None,
        created: None,
        source,
    })
}
