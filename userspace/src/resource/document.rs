//! Texts to documents, each by itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;

use super::Labels;
use super::core::{EndpointSlice, Pod, Service, Unsteered};
use super::gateway::{Gateway, GatewayRoute, ReferenceGrant};
use super::identity::{self, DEFAULT_NAMESPACE, Id, Kind, Said};
use super::istio::{self, DestinationRule, VirtualService, Workload};
use super::smi;
use super::table::{self, Unknown};
use super::validator::DocumentValidator;
use crate::model::{Key, Protocol, Split, is_label};
use crate::source::traffic_split::TrafficSplit;
use crate::source::{FieldPath, IN_CLUSTER, Located, Node, Problem, Spot, document, documents};

/// Where documents come from. Of one that several have, the one in force stays until it goes;
/// then the first of these has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// Files of the node.
    Files,
    /// The agent's API.
    Applied,
    /// A cluster's API server.
    Cluster,
}

/// A document that is right by itself.
#[derive(Debug, Clone)]
pub struct Document {
    pub(super) id: Id,
    pub(super) place: Located,
    pub(super) labels: Labels,
    pub(super) body: Body,
    /// What is to be said about it.
    pub(super) notes: Vec<Problem>,
    /// When it was made, in seconds since 1970, if the document says so.
    pub(super) created: Option<i64>,
    /// The namespaces that may make use of it, of an object of Istio; `None` for all.
    pub(super) exported: Option<Arc<BTreeSet<String>>>,
    /// The namespace of a TrafficSplit, whose id has none.
    pub(super) of_namespace: String,
}

/// What a document says.
#[derive(Debug, Clone)]
pub(super) enum Body {
    /// A TrafficSplit that says all by itself.
    Split(Arc<Split>),
    /// One that other documents are needed for.
    TrafficSplit(Arc<TrafficSplit>),
    VirtualService(VirtualService),
    DestinationRule(DestinationRule),
    Workload(Workload),
    IstioGateway(istio::Gateway),
    Gateway(Gateway),
    Route(GatewayRoute),
    Grant(ReferenceGrant),
    /// Of a Service or a ServiceEntry.
    Service(Service),
    Unsteered(Unsteered),
    Slice(EndpointSlice),
    Pod(Pod),
    /// Of a Namespace: there is nothing but its labels.
    Labels,
}

impl Document {
    /// What tells it from others.
    pub fn id(&self) -> &Id {
        &self.id
    }

    /// What an object of a cluster is called there: its namespace, and its name; `None` of a
    /// TrafficSplit whose name is too long to be told from that of its split.
    pub fn object(&self) -> Option<(&str, &str)> {
        match self.of_namespace.as_str() {
            "" => Some((&self.id.namespace, &self.id.name)),
            namespace => {
                let name = self.id.name.strip_suffix(namespace)?.strip_suffix('.')?;
                Some((namespace, name))
            }
        }
    }

    /// Where its name is.
    pub fn spot(&self) -> Spot {
        self.place.spot(&name())
    }

    /// The file that it is in, if it is in one.
    pub fn file(&self) -> Option<&str> {
        match &self.place {
            Located::File { file, .. } => Some(file),
            Located::Applied(_) | Located::Cluster(_) => None,
        }
    }

    /// Where it comes from.
    pub fn origin(&self) -> Origin {
        match &self.place {
            Located::File { .. } => Origin::Files,
            Located::Applied(_) => Origin::Applied,
            Located::Cluster(_) => Origin::Cluster,
        }
    }

    /// What is to be said about it by itself.
    pub fn notes(&self) -> &[Problem] {
        &self.notes
    }

    /// A problem of its name.
    pub fn name_problem(&self, message: &str) -> Problem {
        self.problem(&name(), message)
    }

    /// Whether it says the same as another one, wherever each of them is.
    pub fn says_what(&self, other: &Self) -> bool {
        // Of what they are made of, no part says where it is.
        let said = |of: &Self| format!("{:?}", (&of.id, &of.labels, &of.body, &of.exported));
        said(self) == said(other)
    }

    /// The same, applied: in no file any more.
    pub fn applied(&self) -> Self {
        let what: Arc<str> = what_applied(&self.id.key()).into();
        self.placed(Located::Applied(Arc::clone(&what)), &what)
    }

    /// The same, elsewhere: `what` is how messages call it there.
    fn placed(&self, place: Located, what: &str) -> Self {
        let notes = self.notes.iter().map(|note| of_no_file(note, what)).collect();
        Self { notes, place, ..self.clone() }
    }

    pub(super) fn problem(&self, at: &FieldPath, message: &str) -> Problem {
        self.place.problem(at, message)
    }
}

/// How messages name a document.
impl std::fmt::Display for Document {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.id, self.spot())
    }
}

/// A problem of a document that is in no file, where lines mean nothing.
fn of_no_file(problem: &Problem, what: &str) -> Problem {
    Problem { file: what.to_owned(), line: None, ..problem.clone() }
}

/// How messages name a document that was applied.
fn what_applied(key: &Key) -> String {
    format!("applied {key}")
}

pub(super) fn name() -> FieldPath {
    FieldPath::of("metadata.name")
}

/// What a text holds.
#[derive(Debug, Default)]
pub struct Documents {
    /// The documents that are right by themselves, in their order.
    pub documents: Vec<Arc<Document>>,
    /// What is wrong with the others, by line.
    pub problems: Vec<Problem>,
    /// What is to be said about documents that are passed over.
    pub notes: Vec<Problem>,
    /// The others, as far as they say what they are, and their labels.
    pub rejected: BTreeMap<Id, BTreeMap<String, String>>,
    /// Whether some may be there that do not even say what they are.
    pub unnamed: bool,
}

/// A document to be applied.
#[derive(Debug, Clone)]
pub struct Declared {
    /// What it says.
    pub document: Arc<Document>,
    /// The document as JSON, keys sorted, on one line: however it was written,
    /// equal documents are equal here.
    pub text: String,
}

/// What files declare that are to be applied.
#[derive(Debug, Default)]
pub struct Declarations {
    /// The documents.
    pub documents: Vec<Declared>,
    /// What is to be said about documents that are passed over.
    pub notes: Vec<Problem>,
    /// Whether they may stand in the place of documents of the node's files: to be looked
    /// at, and never to be kept.
    pub in_place_of_files: bool,
}

/// The documents of files, as pairs of name and text, in their order; or
/// everything that is wrong with one of them by itself.
pub fn declarations<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
) -> Result<Declarations, Vec<Problem>> {
    let mut found = Declarations::default();
    let mut problems = Vec::new();
    for (file, text) in files {
        let mut all = Documents::default();
        let mut texts = Vec::new();
        read_into(&mut all, (file.as_ref(), text.as_ref()), Unknown::Rejected, |node| {
            texts.push(document::canonical(&node.value));
        });
        for (document, text) in all.documents.into_iter().zip(texts) {
            match text {
                Ok(text) => found.documents.push(Declared { document, text }),
                Err(error) => {
                    all.problems.push(document.problem(&FieldPath::root(), &error.to_string()))
                }
            }
        }
        problems.extend(all.problems);
        found.notes.extend(all.notes);
    }
    if problems.is_empty() { Ok(found) } else { Err(problems) }
}

/// What the documents of files are, whether or not the rest of them makes
/// sense, but for those that are passed over; or what is wrong with that.
pub fn ids<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<Vec<Id>, Vec<Problem>> {
    let mut ids = Vec::new();
    let mut problems = Vec::new();
    for (file, text) in files {
        let (nodes, found) = documents(file.as_ref(), text.as_ref());
        problems.extend(found);
        for node in &nodes {
            match identity::kind(node) {
                Ok(Said::PassedOver(_)) => {}
                Ok(Said::Kind(kind)) => {
                    let mut check = check(node);
                    match header(&mut check, kind) {
                        Some((id, _)) => ids.push(id),
                        None => problems.extend(check.problems),
                    }
                }
                Err(found) => problems.extend(found),
            }
        }
    }
    if problems.is_empty() { Ok(ids) } else { Err(problems) }
}

/// A document that was applied, from its JSON; or what is wrong with it.
pub(crate) fn read_applied(key: &Key, json: &str) -> Result<Document, Problem> {
    let what = what_applied(key);
    let none = || Problem::of_file(&what, "it is empty, expected a document");
    let Documents { documents, problems, .. } = read(&what, json);
    match problems.into_iter().next() {
        // It is on one line.
        Some(problem) => Err(Problem { line: None, ..problem }),
        None => documents.first().map(|document| document.applied()).ok_or_else(none),
    }
}

/// Reads the documents of a text; `file` is what problems name.
pub fn read(file: &str, text: &str) -> Documents {
    let mut all = Documents::default();
    read_into(&mut all, (file, text), Unknown::Rejected, |_| {});
    all
}

/// Reads an object of a cluster from its JSON, with `apiVersion` and `kind`. Fields that
/// weir does not know are noted: the API server has taken them, and may be newer than weir.
pub fn read_object(json: &str) -> Documents {
    let mut all = Documents::default();
    read_into(&mut all, (IN_CLUSTER, json), Unknown::Noted, |_| {});
    let ids = all.documents.iter().map(|document| &document.id).chain(all.rejected.keys());
    let what = ids.map(|id| format!("{IN_CLUSTER} {}", id.key())).next();
    let what: Arc<str> = what.unwrap_or_else(|| IN_CLUSTER.to_owned()).into();
    let placed = |document: &Arc<Document>| {
        Arc::new(document.placed(Located::Cluster(Arc::clone(&what)), &what))
    };
    all.documents = all.documents.iter().map(placed).collect();
    for found in all.problems.iter_mut().chain(&mut all.notes) {
        *found = of_no_file(found, &what);
    }
    all
}

/// `good` is called for each of the documents that are right.
fn read_into(
    all: &mut Documents,
    (file, text): (&str, &str),
    unknown: Unknown,
    mut good: impl FnMut(&Node<'_>),
) {
    let (nodes, problems) = documents(file, text);
    all.unnamed |= !problems.is_empty();
    all.problems.extend(problems);
    for node in nodes {
        match identity::kind(&node) {
            Err(found) => {
                all.problems.extend(found);
                all.unnamed = true;
            }
            Ok(Said::PassedOver(why)) => {
                let message = format!("passed over: {why}");
                all.notes.push(node.problem(&FieldPath::of("kind"), &message));
            }
            Ok(Said::Kind(Kind::TrafficSplit)) => split(all, node, &mut good),
            Ok(Said::Kind(kind)) => resource(all, node, (kind, unknown), &mut good),
        }
    }
    all.problems.sort_by_key(|problem| problem.line);
}

fn split(all: &mut Documents, node: Node<'_>, good: &mut impl FnMut(&Node<'_>)) {
    let id = |name: String| Id { kind: Kind::TrafficSplit, namespace: String::new(), name };
    match document::traffic_split(&node) {
        Ok((split, labels)) => {
            good(&node);
            let name = split.name.to_string();
            let body = match split.whole() {
                Some(whole) => Body::Split(Arc::new(whole)),
                None => Body::TrafficSplit(Arc::new(split)),
            };
            let metadata = node.value.get("metadata");
            let namespace = metadata.and_then(|metadata| metadata.get("namespace")?.as_str());
            all.documents.push(Arc::new(Document {
                id: id(name),
                created: created(&node),
                exported: None,
                of_namespace: namespace.unwrap_or_default().to_owned(),
                place: node.into_located(),
                labels,
                body,
                notes: Vec::new(),
            }));
        }
        Err(problems) => {
            let text = |key| node.value.get("metadata").and_then(|m| m.get(key)?.as_str());
            let name = text("name").map(|name| document::split_name(name, text("namespace")));
            all.unnamed |= name.is_none();
            all.rejected.extend(name.map(|name| (id(name), Labels::new())));
            all.problems.extend(problems);
        }
    }
}

fn check<'a>(node: &'a Node<'a>) -> DocumentValidator<'a> {
    DocumentValidator {
        node,
        namespace: DEFAULT_NAMESPACE,
        problems: Vec::new(),
        notes: Vec::new(),
    }
}

#[derive(Deserialize)]
struct Header {
    metadata: ObjectMeta,
}

fn resource(
    all: &mut Documents,
    node: Node<'_>,
    (kind, unknown): (Kind, Unknown),
    good: &mut impl FnMut(&Node<'_>),
) {
    let table::Found { problems, notes } = table::check(&node, kind, unknown);
    let mut check = DocumentValidator { problems, notes, ..check(&node) };
    let Some((id, labels)) = header(&mut check, kind) else {
        all.problems.extend(check.problems);
        all.unnamed = true;
        return;
    };
    let in_namespace = if id.namespace.is_empty() { DEFAULT_NAMESPACE } else { &id.namespace };
    let DocumentValidator { problems, notes, .. } = check;
    let mut check = DocumentValidator { node: &node, namespace: in_namespace, problems, notes };
    let body = body(&mut check, kind, &labels);
    let DocumentValidator { problems, notes, .. } = check;
    match body {
        Some(body) if problems.is_empty() => {
            good(&node);
            let (created, exported) = (created(&node), exported(&node, &id));
            let place = node.into_located();
            let of_namespace = String::new();
            let document =
                Document { id, place, labels, body, notes, created, exported, of_namespace };
            all.documents.push(Arc::new(document));
        }
        _ => {
            all.rejected.insert(id, labels);
            all.problems.extend(problems);
        }
    }
}

/// When an object was made.
fn created(node: &Node<'_>) -> Option<i64> {
    let text = node.value.get("metadata")?.get("creationTimestamp")?.as_str()?;
    text.parse().ok().map(Timestamp::as_second)
}

/// The namespaces that `exportTo` names; `None` if it is for all.
fn exported(node: &Node<'_>, id: &Id) -> Option<Arc<BTreeSet<String>>> {
    let named = node.value.get("spec")?.get("exportTo")?.as_sequence()?;
    let named: BTreeSet<&str> = named.iter().filter_map(|name| name.as_str()).collect();
    if named.is_empty() || named.contains("*") {
        return None;
    }
    let full = |name: &str| match name {
        "." => id.namespace.clone(),
        name => name.to_owned(),
    };
    Some(Arc::new(named.into_iter().map(full).collect()))
}

fn header(check: &mut DocumentValidator<'_>, kind: Kind) -> Option<(Id, Labels)> {
    let Header { metadata } = check.typed()?;
    let Some(text) = metadata.name else {
        check.problem(&name(), "missing required field");
        return None;
    };
    let text = check.name(&name(), &text)?;
    let namespace = metadata.namespace.filter(|namespace| !namespace.is_empty());
    if let Some(namespace) = namespace.as_ref().filter(|namespace| !is_label(namespace)) {
        check.problem(&FieldPath::of("metadata.namespace"), document::no_namespace(namespace));
        return None;
    }
    let own = match kind {
        Kind::TrafficSplit => document::split_name(text.as_str(), namespace.as_deref()),
        _ => text.to_string(),
    };
    let namespace = match kind.is_namespaced() {
        false => String::new(),
        true => namespace.unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned()),
    };
    if matches!(kind, Kind::Service) && !is_label(text.as_str()) {
        check.problem(&name(), document::no_service(text.as_str()));
        return None;
    }
    let id = Id { kind, namespace, name: own };
    Some((id, metadata.labels.unwrap_or_default().into_iter().collect::<BTreeMap<_, _>>()))
}

fn body(check: &mut DocumentValidator<'_>, kind: Kind, labels: &Labels) -> Option<Body> {
    Some(match kind {
        Kind::VirtualService => Body::VirtualService(VirtualService::read(check)?),
        Kind::DestinationRule => {
            DestinationRule::read(check)?.map_or_else(Body::Unsteered, Body::DestinationRule)
        }
        Kind::ServiceEntry => {
            istio::read_service_entry(check)?.map_or_else(Body::Unsteered, Body::Service)
        }
        Kind::WorkloadEntry => match Workload::read(check, labels) {
            Some(workload) => Body::Workload(workload),
            None => Body::Unsteered(Unsteered::default()),
        },
        Kind::IstioGateway => Body::IstioGateway(istio::Gateway::read(check)?),
        Kind::Gateway => Body::Gateway(Gateway::read(check)?),
        Kind::TcpRoute => Body::Route(GatewayRoute::read(check, Protocol::Tcp)?),
        Kind::UdpRoute => Body::Route(GatewayRoute::read(check, Protocol::Udp)?),
        Kind::ReferenceGrant => Body::Grant(ReferenceGrant::read(check)?),
        Kind::SmiTrafficSplit => Body::VirtualService(smi::read(check)?),
        Kind::Service => Service::read(check)?.map_or_else(Body::Unsteered, Body::Service),
        Kind::EndpointSlice => Body::Slice(EndpointSlice::read(check)?),
        Kind::Pod => Body::Pod(Pod::read(check)?),
        // Not read by this function, or for their labels alone.
        Kind::TrafficSplit | Kind::Namespace => Body::Labels,
    })
}
