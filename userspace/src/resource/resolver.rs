//! Documents in, splits out; after a change, only what depends on it is
//! resolved again.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::document::{Body, Document, name};
use super::host::Host;
use super::identity::{Id, Kind};
use super::outcome::{Origin, Resolved};
use super::resolve::{self, Outcome, Planned, Rank};
use super::set::{Key, Set, View};
use crate::model::{DesiredError, Name, ServiceAddress};
use crate::source::{FieldPath, Place, Problem};

/// What is resolved by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Unit {
    /// A document.
    Document(Id),
    /// All that describes a host.
    Host(Host),
}

/// A unit's outcome, and the keys that were looked up for it.
#[derive(Debug, Clone)]
struct Solved {
    outcome: Outcome,
    read: BTreeSet<Key>,
}

/// The documents that are in force, and what they come to.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    set: Set,
    solved: BTreeMap<Unit, Solved>,
    /// The keys by which something else is found since the last resolution.
    changed: BTreeSet<Key>,
    /// The splits that the last resolution looked at again.
    touched: BTreeSet<Name>,
}

impl Resolver {
    /// Puts documents in force, each in place of the one of its id if there is one.
    pub fn apply(&mut self, documents: impl IntoIterator<Item = Document>) {
        for document in documents {
            self.changed.extend(self.set.put(Arc::new(document)));
        }
    }

    /// Takes documents out of force. Returns those that were not.
    pub fn delete<'a>(&mut self, ids: impl IntoIterator<Item = &'a Id>) -> Vec<&'a Id> {
        let mut missing = Vec::new();
        for id in ids {
            let keys = self.set.remove(id);
            if keys.is_empty() {
                missing.push(id);
            }
            self.changed.extend(keys);
        }
        missing
    }

    /// The document of an id, if it is in force.
    pub fn get(&self, id: &Id) -> Option<&Document> {
        self.set.get(id)
    }

    /// The splits that were resolved again the last time.
    pub fn touched(&self) -> &BTreeSet<Name> {
        &self.touched
    }

    /// What the documents come to.
    pub fn resolve(&mut self) -> Resolved {
        let units = self.units();
        self.touched.clear();
        let gone = |unit: &Unit| !units.contains(unit);
        let touched = &mut self.touched;
        let mut forget = |solved: &Solved| {
            touched.extend(solved.outcome.splits.iter().map(|planned| planned.name.clone()));
        };
        let changed = &self.changed;
        self.solved.retain(|unit, solved| {
            let keep = !gone(unit) && solved.read.is_disjoint(changed);
            if !keep {
                forget(solved);
            }
            keep
        });
        for unit in &units {
            if !self.solved.contains_key(unit) {
                let solved = solve(&self.set, unit);
                self.touched.extend(solved.outcome.splits.iter().map(|p| p.name.clone()));
                self.solved.insert(unit.clone(), solved);
            }
        }
        self.changed.clear();
        self.assemble(&units)
    }

    /// In the order in which the documents came.
    fn units(&self) -> Vec<Unit> {
        let mut seen = BTreeSet::new();
        let unit = |document: &Document| match &document.body {
            Body::Service(service) => Some(Unit::Host(service.host.clone())),
            Body::Split(_)
            | Body::VirtualService(_)
            | Body::IstioGateway(_)
            | Body::Gateway(_)
            | Body::Route(_) => Some(Unit::Document(document.id.clone())),
            Body::DestinationRule(_)
            | Body::Workload(_)
            | Body::Grant(_)
            | Body::Slice(_)
            | Body::Labels => None,
        };
        let units = self.set.all().into_iter().filter_map(unit);
        units.filter(|unit| seen.insert(unit.clone())).collect()
    }

    fn assemble(&self, units: &[Unit]) -> Resolved {
        let mut out = Resolved::default();
        for document in self.set.all() {
            out.notes.extend(document.notes.iter().cloned());
        }
        let outcomes = || units.iter().filter_map(|unit| self.solved.get(unit)).map(|s| &s.outcome);
        for outcome in outcomes() {
            out.problems.extend(outcome.problems.iter().cloned());
            out.notes.extend(outcome.notes.iter().cloned());
            out.conditions.extend(outcome.conditions.iter().cloned());
        }
        let mut planned: Vec<&Planned> = outcomes().flat_map(|outcome| &outcome.splits).collect();
        // Stable: those of a rank in the order in which their documents came.
        planned.sort_by_key(|planned| planned.rank);
        let mut taken: HashMap<ServiceAddress, &Planned> = HashMap::new();
        let mut named: HashMap<&Name, &Planned> = HashMap::new();
        for planned in planned {
            let owner = taken.get(&planned.address);
            // What is written, or goes through a gateway, takes the place of what no
            // route asks for.
            if planned.rank == Rank::Plain && owner.is_some_and(|o| o.rank < Rank::Routed) {
                continue;
            }
            let clash = match (named.get(&planned.name), owner) {
                (Some(first), _) => {
                    let error = DesiredError::DuplicateName(planned.name.clone());
                    Some((name(), error, self.first(first, &name())))
                }
                (None, Some(first)) => {
                    let (address, owner) = (planned.address, first.name.clone());
                    let error = DesiredError::DuplicateAddress { address, owner };
                    let at = self.first(first, &first.address_at);
                    Some((planned.address_at.clone(), error, at))
                }
                (None, None) => None,
            };
            if let Some((at, error, first)) = clash {
                out.problems.extend(self.problem(planned, &at, &format!("{error}{first}")));
                out.failed.insert(planned.name.clone());
                continue;
            }
            taken.insert(planned.address, planned);
            named.insert(&planned.name, planned);
            out.notes.extend(planned.notes.iter().cloned());
            let origins = self.origins(planned);
            out.places.extend(self.place(planned, &origins).map(|p| (planned.name.clone(), p)));
            out.provenance.insert(planned.name.clone(), origins);
            match &planned.split {
                // Its name and address were just found to be free.
                Some(split) => _ = out.desired.insert(split.clone()),
                None => _ = out.failed.insert(planned.name.clone()),
            }
        }
        tidy(&mut out.problems);
        tidy(&mut out.notes);
        out
    }

    fn first(&self, planned: &Planned, at: &FieldPath) -> String {
        let place = self.set.get(&planned.document).map(|d| &d.place);
        place.map_or_else(String::new, |place| {
            format!(" (first at {}:{})", place.file(), place.position(at).line)
        })
    }

    fn problem(&self, planned: &Planned, at: &FieldPath, message: &str) -> Option<Problem> {
        self.set.get(&planned.document).map(|document| document.problem(at, message))
    }

    fn place(&self, planned: &Planned, origins: &[Origin]) -> Option<Place> {
        let located = &self.set.get(&planned.document)?.place;
        let documents = match planned.rank {
            Rank::Written => Vec::new(),
            _ => origins.iter().map(|origin| origin.id.clone()).collect(),
        };
        Some(Place {
            file: located.file().into(),
            name: located.position(&name()),
            address: located.position(&planned.address_at),
            address_field: planned.address_at.clone(),
            documents,
        })
    }

    fn origins(&self, planned: &Planned) -> Vec<Origin> {
        let found = planned.sources.iter().filter_map(|id| self.set.get(id));
        let origin = |document: &Document| Origin {
            id: document.id.clone(),
            file: document.place.file().to_owned(),
            line: document.place.position(&name()).line,
        };
        found.map(origin).collect()
    }
}

/// By file and line, each once.
fn tidy(all: &mut Vec<Problem>) {
    all.sort();
    all.dedup();
}

fn solve(set: &Set, unit: &Unit) -> Solved {
    let view = View::new(set);
    let outcome = match unit {
        Unit::Host(host) => resolve::service::resolve(&view, host),
        Unit::Document(id) => match view.document(id) {
            None => Outcome::default(),
            Some(document) => match id.kind {
                Kind::VirtualService => resolve::routing::report(&view, document),
                Kind::IstioGateway => resolve::istio_gateway::resolve(&view, document),
                Kind::Gateway => resolve::gateway::resolve(&view, document),
                Kind::TrafficSplit => written(document),
                _ => resolve::conditions::resolve(&view, document),
            },
        },
    };
    Solved { outcome, read: view.into_read() }
}

/// A TrafficSplit says itself what it is.
fn written(document: &Document) -> Outcome {
    let Body::Split(split) = &document.body else { return Outcome::default() };
    let planned = Planned {
        name: split.name().clone(),
        address: split.address(),
        split: Some(split.clone()),
        notes: Vec::new(),
        rank: Rank::Written,
        sources: BTreeSet::from([document.id.clone()]),
        document: document.id.clone(),
        address_at: FieldPath::of("spec.address"),
    };
    Outcome { splits: vec![planned], ..Outcome::default() }
}
