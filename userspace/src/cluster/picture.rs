//! What a cluster has at one moment, resolved as agents resolve it: by the same code, so that
//! names of splits and what divides them mean here what they mean on the nodes.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde_json::Value;

use super::object::Object;
use super::objects::Objects;
use super::original::Original;
use super::pending::Pending;
use super::record::{self, Record};
use super::served::Served;
use crate::desired::{DesiredState, PersistedState, Time};
use crate::model::{Name, Split, hint};
use crate::resource::{Document, Id, Kind, Policy, Services, WeightField};
use crate::source::document::split_name;

/// What is known of a cluster.
#[derive(Default)]
pub struct Picture {
    objects: Objects,
    originals: BTreeMap<Id, Original>,
    desired: DesiredState,
    /// Kinds that may not be listed, as RBAC names them.
    pub unseen: Vec<String>,
}

/// What is read, whatever agents are told: which addresses may be named is theirs to say.
fn policy() -> Policy {
    let all: [IpNet; 2] = [
        Ipv4Net::new_assert(Ipv4Addr::UNSPECIFIED, 0).into(),
        Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0).into(),
    ];
    Policy { services: Services::All, addresses: all.into(), ..Policy::default() }
}

impl Picture {
    /// An object is there. One that does not even say its name is none.
    pub(super) fn put(&mut self, kind: Kind, of: &Served, json: &str) {
        let Ok(object) = Object::read(json, of) else { return };
        self.objects.put(kind, object, &mut Pending::default());
        if !kind.says_weights() {
            return;
        }
        let Ok(object) = serde_json::from_str::<Value>(json) else { return };
        let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default();
        let (namespace, name) = (text("namespace"), text("name"));
        let path = format!("{}/{name}", of.path(Some(namespace)));
        let id = match kind {
            Kind::TrafficSplit => {
                let name = split_name(name, Some(namespace));
                Id { kind, namespace: String::new(), name }
            }
            _ => Id { kind, namespace: namespace.to_owned(), name: name.to_owned() },
        };
        self.originals.insert(id, Original { path, object });
    }

    /// All is put: what it comes to.
    pub(super) fn resolve(&mut self) {
        let nothing = PersistedState::default();
        let mut desired = DesiredState::start(&nothing, []).awaiting_cluster(policy(), false);
        let observed = desired.observe(self.objects.batch());
        let now = Time::from(std::time::SystemTime::UNIX_EPOCH);
        let step = desired.step_of(&nothing, &observed, BTreeMap::new(), now);
        desired.accept(step);
        self.desired = desired;
    }

    /// What agents that know no more would steer.
    pub fn desired_state(&self) -> &DesiredState {
        &self.desired
    }

    /// The split that somebody means: by its name, or that of a Service or TrafficSplit in a
    /// namespace.
    ///
    /// # Errors
    ///
    /// In words: if there is none, or what should be one cannot be.
    pub fn split(&self, name: &str, namespace: &str) -> Result<&Split, String> {
        let splits = self.desired.split_set();
        let found = splits.get(name).or_else(|| splits.get(&format!("{name}.{namespace}")));
        let found = found.ok_or_else(|| self.no_split(name, namespace))?;
        let resolver = self.desired.resolver();
        match resolver.wanted(found.name()) {
            Some(wanted) if !wanted.failed => Ok(found),
            _ => Err(self.contested(found.name())),
        }
    }

    fn no_split(&self, name: &str, namespace: &str) -> String {
        let resolver = self.desired.resolver();
        let full = format!("{name}.{namespace}");
        let wanted = [name, &full].into_iter().filter_map(|name| Name::of_object(name).ok());
        if let Some(name) = wanted.into_iter().find(|name| resolver.wanted(name).is_some()) {
            return self.contested(&name);
        }
        let known: Vec<&str> =
            self.desired.split_set().splits().map(|s| s.name().as_str()).collect();
        let mut of_others: Vec<&str> = known
            .iter()
            .copied()
            .filter(|known| known.strip_prefix(name).is_some_and(|rest| rest.starts_with('.')))
            .collect();
        of_others.truncate(8);
        let hint = match of_others.as_slice() {
            [] => hint(name, known.iter().copied()),
            some => format!("; there are {}", some.join(", ")),
        };
        let mut text = format!("the cluster has no split \"{name}\"{hint}");
        for problem in self.desired.problems().iter().take(5) {
            text.push_str(&format!("\nwithout effect: {problem}"));
        }
        if !self.unseen.is_empty() {
            text.push_str(&format!(
                "\nnot looked at, for want of rights: {}",
                self.unseen.join(", ")
            ));
        }
        text
    }

    /// Why a split cannot be, with the objects that it is about.
    fn contested(&self, name: &Name) -> String {
        let problems = self.desired.problems_of(name);
        let lines: Vec<String> = problems.iter().map(|problem| format!("\n  {problem}")).collect();
        format!("the cluster's objects are at odds about split \"{name}\":{}", lines.concat())
    }

    /// Where the weights of a split are written, all in one object.
    ///
    /// # Errors
    ///
    /// In words: if they are nowhere, or in several places.
    pub(super) fn weights_of(
        &self,
        split: &Split,
    ) -> Result<(&Document, Vec<WeightField>), String> {
        let (name, resolver) = (split.name(), self.desired.resolver());
        let fields = resolver.weights_of(name);
        let Some(first) = fields.first() else {
            let by = resolver.dividers(name);
            let by =
                by.first().map_or_else(String::new, |document| format!(" ({})", document.id()));
            return Err(format!(
                "no object says how split \"{name}\"{by} is divided: write a VirtualService, \
                 TCPRoute, UDPRoute or TrafficSplit"
            ));
        };
        if let Some(other) = fields.iter().find(|field| field.document != first.document) {
            return Err(format!(
                "the weights of split \"{name}\" are in several objects, {} and {}: change them there",
                first.document, other.document
            ));
        }
        let document = resolver.get(&first.document).ok_or("the object is gone")?;
        Ok((&**document, fields))
    }

    /// The other splits that a change of these fields changes, too.
    pub(super) fn also_changed(&self, split: &Name, fields: &[WeightField]) -> Vec<Name> {
        let resolver = self.desired.resolver();
        let mut found = Vec::new();
        for other in self.desired.split_set().splits().map(Split::name) {
            let dividers = resolver.dividers(other);
            let is_near = dividers.iter().any(|d| fields.iter().any(|f| f.document == *d.id()));
            if other != split && is_near {
                let own = resolver.weights_of(other);
                let same = |field: &WeightField| {
                    own.iter().any(|o| o.document == field.document && o.field == field.field)
                };
                if fields.iter().any(same) {
                    found.push(other.clone());
                }
            }
        }
        found
    }

    pub(super) fn original(&self, id: &Id) -> Option<&Original> {
        self.originals.get(id)
    }

    /// Which generation the object is that divides a split: it counts changes of what is asked
    /// for, and those of weights among them. 0 if there is no such object.
    pub fn generation(&self, split: &Name) -> u64 {
        let dividers = self.desired.resolver().dividers(split);
        let original = dividers.first().and_then(|document| self.original(document.id()));
        original.map_or(0, Original::generation)
    }

    /// What is known of changes of a split's weights, the oldest first.
    pub fn records(&self, split: &Split) -> Vec<Record> {
        let dividers = self.desired.resolver().dividers(split.name());
        let original = dividers.first().and_then(|document| self.original(document.id()));
        original.map(|original| record::all(original, split)).unwrap_or_default()
    }

    /// Whether an object divides a split: otherwise it is a Service as kube-proxy serves it.
    pub fn is_divided(&self, split: &Name) -> bool {
        let dividers = self.desired.resolver().dividers(split);
        dividers.iter().any(|document| document.id().kind.says_weights())
    }

    /// Who else, of those that are no people, writes what a split's object asks for: they may
    /// write it again.
    pub fn controllers(&self, split: &Name) -> Vec<String> {
        let dividers = self.desired.resolver().dividers(split);
        let original = dividers.first().and_then(|document| self.original(document.id()));
        original.map(record::controllers).unwrap_or_default()
    }
}
