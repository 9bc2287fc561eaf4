//! The documents that are in force together, and how they are found.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::document::{Body, Document, Origin};
use super::host::{Host, Pattern};
use super::identity::{Id, Kind};
use super::istio::Parent;
use super::policy::Policy;
use super::resolve::traffic_split::service_id;
use crate::source::traffic_split::Divided;

/// What documents are looked up by. What a split depends on is the keys that
/// were looked up for it, whether or not anything was found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// The document itself.
    Document(Id),
    /// What describes a host.
    Service(Host),
    /// Every Service, by its labels or selector.
    Services,
    /// What describes hosts in a namespace: who meant one of these.
    ServicesOf(String),
    /// DestinationRules of a host.
    Rules(Host),
    /// VirtualServices that name a host.
    Routing(Host),
    /// VirtualServices that name hosts with wildcards.
    WildRouting,
    /// VirtualServices of an Istio Gateway, and routes and TrafficSplits of a Gateway or Service.
    Attached(Id),
    /// EndpointSlices of a Service.
    Slices(Id),
    /// EndpointSlices with an endpoint at an address.
    At(IpAddr),
    /// WorkloadEntries of a namespace.
    Workloads(String),
    /// Pods of a namespace.
    Pods(String),
    /// ReferenceGrants of a namespace.
    Grants(String),
    /// What has a service address.
    ClusterIp(IpAddr),
    /// The Services of Istio's control plane.
    Istiod,
}

/// An id of the kind in a namespace.
pub(super) fn id(kind: Kind, namespace: &str, name: &str) -> Id {
    Id { kind, namespace: namespace.to_owned(), name: name.to_owned() }
}

/// The label `app` of the Services of Istio's control plane, of every revision.
const ISTIOD: &str = "istiod";

/// What a document can be found by.
fn keys(document: &Document) -> Vec<Key> {
    let own = &document.id;
    let mut keys = vec![Key::Document(own.clone())];
    match &document.body {
        Body::Service(service) => {
            keys.extend([Key::Service(service.host.clone()), Key::Services]);
            keys.push(Key::ServicesOf(own.namespace.clone()));
            keys.extend(service.addresses.iter().map(|address| Key::ClusterIp(address.ip)));
            if document.labels.get("app").is_some_and(|app| app == ISTIOD) {
                keys.push(Key::Istiod);
            }
        }
        Body::Unsteered(unsteered) => {
            keys.extend(unsteered.hosts.iter().cloned().map(Key::Service));
        }
        Body::DestinationRule(rule) => keys.push(Key::Rules(rule.host.clone())),
        Body::VirtualService(service) => {
            keys.extend(service.hosts.iter().map(|pattern| match pattern {
                Pattern::Exact(host) => Key::Routing(host.clone()),
                Pattern::Ending(_) => Key::WildRouting,
            }));
            keys.extend(service.parents.iter().filter_map(|parent| match parent {
                Parent::Mesh => None,
                Parent::Gateway { namespace, name, .. } => {
                    Some(Key::Attached(id(Kind::IstioGateway, namespace, name)))
                }
            }));
        }
        Body::Route(route) => {
            let parents = route.parents.iter().filter_map(|parent| parent.id());
            keys.extend(parents.map(Key::Attached));
        }
        Body::Slice(slice) => {
            keys.push(Key::Slices(id(Kind::Service, &own.namespace, &slice.service)));
            keys.extend(slice.endpoints.iter().map(|endpoint| Key::At(endpoint.ip)));
        }
        Body::Workload(_) => keys.push(Key::Workloads(own.namespace.clone())),
        Body::Grant(_) => keys.push(Key::Grants(own.namespace.clone())),
        Body::Pod(_) => keys.push(Key::Pods(own.namespace.clone())),
        Body::TrafficSplit(split) => {
            if let Divided::Service(service) = &split.divided {
                keys.push(Key::Attached(service_id(document, service)));
            }
        }
        Body::Split(_) | Body::IstioGateway(_) | Body::Gateway(_) | Body::Labels => {}
    }
    keys
}

/// The number of a cluster's object: after all of the node's own, by age.
fn in_cluster(document: &Document) -> Option<u64> {
    let age = document.created.map_or(u64::MAX >> 1, |time| time.cast_unsigned() & (u64::MAX >> 1));
    (document.origin() == Origin::Cluster).then_some(age | 1 << 63)
}

/// Documents by what they are looked up by. A copy costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Set {
    documents: OrdMap<Id, (u64, Arc<Document>)>,
    /// The numbers are in the order in which the documents came first.
    index: OrdMap<Key, OrdSet<(u64, Id)>>,
    next: u64,
}

impl Set {
    /// Puts a document in place of the one of its id, or adds it. Returns the
    /// keys by which something else is found now.
    pub(super) fn put(&mut self, document: Arc<Document>) -> BTreeSet<Key> {
        let known = self.documents.get(&document.id).map(|(number, _)| *number);
        // That of a cluster's object is the same on all nodes, in whatever order they heard of it.
        let number = in_cluster(&document).or(known);
        let mut changed = self.remove(&document.id);
        let place = (number.unwrap_or(self.next), document.id.clone());
        self.next += u64::from(number.is_none());
        for key in keys(&document) {
            self.index.entry(key.clone()).or_default().insert(place.clone());
            changed.insert(key);
        }
        self.documents.insert(place.1, (place.0, document));
        changed
    }

    /// Removes a document, if it is there, and returns the keys that led to it.
    pub(super) fn remove(&mut self, id: &Id) -> BTreeSet<Key> {
        let Some((number, old)) = self.documents.remove(id) else { return BTreeSet::new() };
        let place = (number, id.clone());
        let keys: BTreeSet<Key> = keys(&old).into_iter().collect();
        for key in &keys {
            if let Some(found) = self.index.get_mut(key) {
                found.remove(&place);
                if found.is_empty() {
                    self.index.remove(key);
                }
            }
        }
        keys
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Arc<Document>> {
        self.documents.get(id).map(|(_, document)| document)
    }

    /// The number of a document.
    pub(super) fn number(&self, id: &Id) -> Option<u64> {
        self.documents.get(id).map(|(number, _)| *number)
    }

    /// The number of the first document of a key.
    pub(super) fn first(&self, key: &Key) -> Option<u64> {
        self.index.get(key)?.get_min().map(|(number, _)| *number)
    }

    /// All documents, by id.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.documents.values().map(|(_, document)| document)
    }
}

/// A set that remembers what was looked up in it.
pub(super) struct View<'a> {
    set: &'a Set,
    policy: &'a Policy,
    read: RefCell<BTreeSet<Key>>,
    /// Whether outcomes are to say where weights are written: it is too much to keep.
    pub(super) tells_weights: bool,
}

impl<'a> View<'a> {
    pub(super) fn new(set: &'a Set, policy: &'a Policy) -> Self {
        Self { set, policy, read: RefCell::default(), tells_weights: false }
    }

    /// The same, for who asks where weights are written.
    pub(super) fn telling_weights(self) -> Self {
        Self { tells_weights: true, ..self }
    }

    /// What of a cluster's objects counts.
    pub(super) fn policy(&self) -> &'a Policy {
        self.policy
    }

    /// The documents of a key, in the order in which they came.
    pub(super) fn find(&self, key: Key) -> Vec<&'a Document> {
        let found = self.set.index.get(&key).into_iter().flatten();
        let found = found.filter_map(|(_, id)| self.set.get(id).map(|found| &**found)).collect();
        self.read.borrow_mut().insert(key);
        found
    }

    /// The document of an id.
    pub(super) fn document(&self, id: &Id) -> Option<&'a Document> {
        self.find(Key::Document(id.clone())).first().copied()
    }

    /// What was looked up.
    pub(super) fn into_read(self) -> BTreeSet<Key> {
        self.read.into_inner()
    }
}
