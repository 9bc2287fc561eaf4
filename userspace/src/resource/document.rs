//! Texts to documents, each by itself.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;

use super::check::Check;
use super::core::{EndpointSlice, Service};
use super::gateway::{Gateway, ReferenceGrant, Route};
use super::identity::{self, DEFAULT_NAMESPACE, Id, Kind};
use super::istio::{self, DestinationRule, VirtualService, Workload};
use super::{Labels, table};
use crate::model::{Name, Protocol, Split, is_label};
use crate::source::{FieldPath, Located, Node, Problem, document, stream};

/// A document that is right by itself.
#[derive(Debug)]
pub struct Document {
    pub(super) id: Id,
    pub(super) place: Located,
    pub(super) labels: Labels,
    pub(super) body: Body,
    /// What is to be said about it.
    pub(super) notes: Vec<Problem>,
}

/// What a document says.
#[derive(Debug)]
pub(super) enum Body {
    Split(Split),
    VirtualService(VirtualService),
    DestinationRule(DestinationRule),
    Workload(Workload),
    IstioGateway(istio::Gateway),
    Gateway(Gateway),
    Route(Route),
    Grant(ReferenceGrant),
    /// Of a Service or a ServiceEntry.
    Service(Service),
    Slice(EndpointSlice),
    /// Of a Pod or Namespace: there is nothing but its labels.
    Labels,
}

impl Document {
    /// What tells it from others.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// `FILE:LINE` of its name.
    pub(super) fn position(&self) -> String {
        format!("{}:{}", self.place.file(), self.place.position(&name()).line)
    }

    pub(super) fn problem(&self, at: &FieldPath, message: &str) -> Problem {
        self.place.problem(at, message)
    }
}

/// How messages name a document.
impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.position())
    }
}

pub(super) fn name() -> FieldPath {
    FieldPath::of("metadata.name")
}

/// What a text holds.
#[derive(Debug, Default)]
pub struct Documents {
    /// The documents that are right by themselves, in their order.
    pub documents: Vec<Document>,
    /// What is wrong with the others, by line.
    pub problems: Vec<Problem>,
    /// What is to be said about documents that are passed over.
    pub notes: Vec<Problem>,
    /// The others, as far as they say what they are.
    pub refused: BTreeSet<Id>,
}

/// Reads the documents of a text; `file` is what problems name.
pub fn read(file: &str, text: &str) -> Documents {
    let (nodes, problems) = stream(file, text);
    let mut all = Documents { problems, ..Documents::default() };
    for node in nodes {
        match identity::kind(&node) {
            Err(found) => all.problems.extend(found),
            Ok(Kind::PassedOver(_)) => {
                let message = "passed over: it says nothing about steering";
                all.notes.push(node.problem(&FieldPath::of("kind"), message));
            }
            Ok(Kind::TrafficSplit) => split(&mut all, node),
            Ok(kind) => resource(&mut all, node, kind),
        }
    }
    all.problems.sort_by_key(|problem| problem.line);
    all
}

fn split(all: &mut Documents, node: Node<'_>) {
    let id = |name: &str| Id {
        kind: Kind::TrafficSplit,
        namespace: String::new(),
        name: name.to_owned(),
    };
    match document::split(&node) {
        Ok(split) => all.documents.push(Document {
            id: id(split.name().as_str()),
            place: node.into_located(),
            labels: Labels::new(),
            body: Body::Split(split),
            notes: Vec::new(),
        }),
        Err(problems) => {
            let name = node.value.get("metadata").and_then(|m| m.get("name")?.as_str());
            all.refused.extend(name.map(id));
            all.problems.extend(problems);
        }
    }
}

#[derive(Deserialize)]
struct Header {
    metadata: ObjectMeta,
}

fn resource(all: &mut Documents, node: Node<'_>, kind: Kind) {
    let table::Found { problems, notes } = table::check(&node, kind);
    let mut check = Check { node: &node, namespace: DEFAULT_NAMESPACE, problems, notes };
    let Some((id, labels)) = header(&mut check, kind) else {
        all.problems.extend(check.problems);
        return;
    };
    let in_namespace = if id.namespace.is_empty() { DEFAULT_NAMESPACE } else { &id.namespace };
    let Check { problems, notes, .. } = check;
    let mut check = Check { node: &node, namespace: in_namespace, problems, notes };
    let body = body(&mut check, kind, &labels);
    let Check { problems, notes, .. } = check;
    match body {
        Some(body) if problems.is_empty() => {
            let place = node.into_located();
            all.documents.push(Document { id, place, labels, body, notes });
        }
        _ => {
            all.refused.insert(id);
            all.problems.extend(problems);
        }
    }
}

fn header(check: &mut Check<'_>, kind: Kind) -> Option<(Id, Labels)> {
    let Header { metadata } = check.typed()?;
    let Some(text) = metadata.name else {
        check.problem(&name(), "missing required field");
        return None;
    };
    let text = check.name(&name(), &text)?;
    let namespace = metadata.namespace.filter(|namespace| !namespace.is_empty());
    if let Some(namespace) = namespace.as_ref().filter(|namespace| !is_label(namespace)) {
        let message = format!(
            "\"{namespace}\" is not a valid namespace: expected 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit"
        );
        check.problem(&FieldPath::of("metadata.namespace"), message);
        return None;
    }
    let namespace = match kind {
        Kind::Namespace => String::new(),
        _ => namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
    };
    if matches!(kind, Kind::Service) && !is_label(text.as_str()) {
        let message = format!("\"{text}\" is not a valid name of a Service: expected no '.'");
        check.problem(&name(), message);
        return None;
    }
    let id = Id { kind, namespace, name: Name::as_str(&text).to_owned() };
    Some((id, metadata.labels.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>()))
}

fn body(check: &mut Check<'_>, kind: Kind, labels: &Labels) -> Option<Body> {
    Some(match kind {
        Kind::VirtualService => Body::VirtualService(VirtualService::read(check)?),
        Kind::DestinationRule => Body::DestinationRule(DestinationRule::read(check)?),
        Kind::ServiceEntry => Body::Service(istio::read_service_entry(check)?),
        Kind::WorkloadEntry => Body::Workload(Workload::read(check, labels)?),
        Kind::IstioGateway => Body::IstioGateway(istio::Gateway::read(check)?),
        Kind::Gateway => Body::Gateway(Gateway::read(check)?),
        Kind::TcpRoute => Body::Route(Route::read(check, Protocol::Tcp)?),
        Kind::UdpRoute => Body::Route(Route::read(check, Protocol::Udp)?),
        Kind::ReferenceGrant => Body::Grant(ReferenceGrant::read(check)?),
        Kind::Service => Body::Service(Service::read(check)?),
        Kind::EndpointSlice => Body::Slice(EndpointSlice::read(check)?),
        // Not read by this function, or for their labels alone.
        Kind::TrafficSplit | Kind::PassedOver(_) | Kind::Pod | Kind::Namespace => Body::Labels,
    })
}
