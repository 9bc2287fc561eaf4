//! Documents in, splits out; after a change, only what depends on it is
//! resolved again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::Labels;
use super::document::{Body, Document, Origin, name};
use super::host::Host;
use super::identity::{ISTIO, Id, Kind};
use super::outcome::{Condition, Provenance, Resolved, SourceDocument, WeightField};
use super::placement::{Claim, Placement, Standing};
use super::policy::Policy;
use super::resolve::{self, Outcome, Planned, Rank};
use super::set::{Key, Set, View};
use crate::model::{Name, ServiceAddress, Split, SplitSetError, Subset};
use crate::source::{FieldPath, Problem};

/// What is resolved by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unit {
    /// A document.
    Document(Id),
    /// All that describes a host.
    Host(Host),
}

/// A unit's outcome, and the keys that were looked up for it.
#[derive(Debug, Clone)]
struct Solved {
    /// The number of the first document that describes it.
    order: u64,
    outcome: Arc<Outcome>,
    read: Arc<BTreeSet<Key>>,
}

/// The documents that are in force, and what they come to. A copy costs
/// nothing, so that a change can be tried out on one.
#[derive(Debug, Clone, Default)]
pub struct Resolver {
    set: Set,
    solved: OrdMap<Arc<Unit>, Solved>,
    /// The units for which a key was looked up.
    readers: OrdMap<Key, OrdSet<Arc<Unit>>>,
    /// The units in which something is wrong.
    faulty: OrdSet<Arc<Unit>>,
    placement: Placement,
    /// The keys by which something else is found since the last resolution.
    changed: BTreeSet<Key>,
    /// The splits that the last resolution looked at again.
    touched: BTreeSet<Name>,
    policy: Arc<Policy>,
}

/// What an update found.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// The splits that were resolved again.
    pub names: BTreeSet<Name>,
    /// What was wrong with what was resolved again.
    pub before: Vec<Problem>,
    /// What is wrong with it now.
    pub problems: Vec<Problem>,
    /// What is to be said about it now.
    pub notes: Vec<Problem>,
}

/// What a name comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The split, if there can be one.
    pub split: Option<Arc<Split>>,
    /// Whether something that it should be cannot be.
    pub failed: bool,
}

impl Resolver {
    /// The same, for a cluster of which this counts.
    #[must_use]
    pub fn with_policy(mut self, policy: Policy) -> Self {
        self.policy = Arc::new(policy);
        self
    }

    /// Whether somebody asked for weir to go by an object of a cluster.
    pub fn is_asked_for(&self, id: &Id, labels: &Labels) -> bool {
        let view = View::new(&self.set, &self.policy);
        id.kind.group() != ISTIO || resolve::authority::is_asked_for(&view, &id.namespace, labels)
    }

    /// Puts documents in force, each in place of the one of its id if there is one.
    pub fn apply<D: Into<Arc<Document>>>(&mut self, documents: impl IntoIterator<Item = D>) {
        for document in documents {
            self.changed.extend(self.set.put(document.into()));
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
    pub fn get(&self, id: &Id) -> Option<&Arc<Document>> {
        self.set.get(id)
    }

    /// All documents in force, by id.
    pub fn documents(&self) -> impl Iterator<Item = &Arc<Document>> {
        self.set.all()
    }

    /// The splits that were resolved again the last time.
    pub fn touched(&self) -> &BTreeSet<Name> {
        &self.touched
    }

    /// Resolves what depends on what has changed, and nothing else.
    pub fn update(&mut self) -> Update {
        let mut update = Update::default();
        let mut claims = Vec::new();
        for unit in self.concerned() {
            if let Some(old) = self.solved.remove(&unit) {
                update.before.extend(old.outcome.problems.iter().cloned());
                self.forget(&unit, &old);
                claims
                    .extend(Claim::all(&unit, old.order, old.outcome).map(|claim| (claim, false)));
            }
            if let Some(new) = self.solve(&unit) {
                update.problems.extend(new.outcome.problems.iter().cloned());
                update.notes.extend(new.outcome.notes.iter().cloned());
                self.remember(&unit, &new);
                let outcome = Arc::clone(&new.outcome);
                claims.extend(Claim::all(&unit, new.order, outcome).map(|claim| (claim, true)));
                self.solved.insert(unit, new);
            }
        }
        self.changed.clear();
        let set = &self.set;
        let placed = self.placement.change(claims, |claim, found| clash(set, claim, found));
        update.before.extend(placed.before);
        for name in &placed.names {
            let standing = self.placement.standing(name);
            let problems = standing.iter().flat_map(|standing| &standing.problems);
            update.problems.extend(problems.cloned());
            let winner = standing.and_then(Standing::planned);
            if let Some(planned) = winner {
                update.notes.extend(planned.notes.iter().cloned());
                update.notes.extend(self.chained(planned));
            }
        }
        tidy(&mut update.problems);
        tidy(&mut update.notes);
        self.touched.clone_from(&placed.names);
        update.names = placed.names;
        update
    }

    /// The units that looked up what has changed, and those that are described by it.
    fn concerned(&self) -> BTreeSet<Arc<Unit>> {
        let mut units = BTreeSet::new();
        for key in &self.changed {
            units.extend(self.readers.get(key).into_iter().flatten().cloned());
            match key {
                Key::Document(id) if is_unit(id.kind) => {
                    units.insert(Arc::new(Unit::Document(id.clone())));
                }
                Key::Service(host) => _ = units.insert(Arc::new(Unit::Host(host.clone()))),
                _ => {}
            }
        }
        units
    }

    fn forget(&mut self, unit: &Arc<Unit>, solved: &Solved) {
        self.faulty.remove(unit);
        for key in &*solved.read {
            if let Some(units) = self.readers.get_mut(key) {
                units.remove(unit);
                if units.is_empty() {
                    self.readers.remove(key);
                }
            }
        }
    }

    fn remember(&mut self, unit: &Arc<Unit>, solved: &Solved) {
        if !solved.outcome.problems.is_empty() {
            self.faulty.insert(Arc::clone(unit));
        }
        for key in &*solved.read {
            self.readers.entry(key.clone()).or_default().insert(Arc::clone(unit));
        }
    }

    /// None if nothing describes the unit.
    fn solve(&self, unit: &Unit) -> Option<Solved> {
        let order = match unit {
            Unit::Document(id) => self.set.number(id),
            Unit::Host(host) => self.set.first(&Key::Service(host.clone())),
        };
        let view = View::new(&self.set, &self.policy);
        let outcome = Arc::new(outcome(&view, unit));
        Some(Solved { order: order?, outcome, read: Arc::new(view.into_read()) })
    }

    /// What a name comes to; None if nothing asks for it.
    pub fn wanted(&self, name: &Name) -> Option<Wanted> {
        let standing = self.placement.standing(name)?;
        let split = standing.planned().and_then(|planned| planned.split.clone());
        Some(Wanted { split, failed: standing.failed })
    }

    /// The names that something asks for.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.placement.standings().map(|(name, _)| name)
    }

    /// Who says what the split of a name is.
    pub fn provenance(&self, name: &Name) -> Option<Provenance> {
        let planned = self.placement.foremost(name)?;
        let document = self.set.get(&planned.document)?;
        let documents = match planned.rank {
            Rank::Written => Vec::new(),
            _ => self.origins(planned),
        };
        Some(Provenance { at: document.spot(), documents })
    }

    /// Whether a cluster's objects say what the split of a name is, or some of it.
    pub fn is_of_cluster(&self, name: &Name) -> bool {
        let Some(planned) = self.placement.foremost(name) else { return false };
        let parts = planned.sources.iter().chain([&planned.document]);
        parts.filter_map(|id| self.set.get(id)).any(|part| part.origin() == Origin::Cluster)
    }

    /// Where the weights of a split are written: of several fields for one subset, they are its
    /// weight together. None if nobody wrote any.
    pub fn weights_of(&self, name: &Name) -> Vec<WeightField> {
        let Some(claim) = self.placement.foremost_claim(name) else { return Vec::new() };
        let view = View::new(&self.set, &self.policy).telling_weights();
        let outcome = outcome(&view, claim.unit());
        claim.of(&outcome).map(|planned| planned.weights.clone()).unwrap_or_default()
    }

    /// The documents that say how the connections to a split's address are divided: its route or
    /// TrafficSplit, else what is addressed.
    pub fn dividers(&self, name: &Name) -> Vec<&Document> {
        let Some(planned) = self.placement.foremost(name) else { return Vec::new() };
        let routes = planned.sources.iter().filter(|id| id.kind.says_weights());
        let routes: Vec<&Id> = routes.collect();
        let ids = if routes.is_empty() { vec![&planned.document] } else { routes };
        ids.into_iter().filter_map(|id| self.set.get(id).map(|found| &**found)).collect()
    }

    /// The namespace of the cluster's object that says what the split of a name is, and a
    /// number that grows with the time when it was made.
    pub fn owner(&self, name: &Name) -> Option<(String, u64)> {
        let planned = self.placement.foremost(name).filter(|_| self.is_of_cluster(name))?;
        let routed = planned.sources.iter().filter(|id| id.kind.says_weights());
        let by = routed.chain([&planned.document]).next()?;
        let namespace = match &self.set.get(by)?.of_namespace {
            of_split if !of_split.is_empty() => of_split,
            _ => &by.namespace,
        };
        Some((namespace.clone(), self.set.number(by)?))
    }

    /// A problem of the service address of a split, where it is said.
    pub fn address_problem(&self, name: &Name, message: &str) -> Option<Problem> {
        let planned = self.placement.standing(name)?.planned()?;
        let document = self.set.get(&planned.document)?;
        Some(document.problem(&planned.address_at, message))
    }

    /// The splits that documents of a kind say something of, or would: by document.
    pub fn splits_by(&self, kind: Kind) -> BTreeMap<Id, BTreeSet<Name>> {
        let mut found = BTreeMap::<Id, BTreeSet<Name>>::new();
        for name in self.names() {
            for claim in self.placement.claims(name) {
                let planned = claim.planned();
                let sources = planned.sources.iter().chain([&planned.document]);
                for id in sources.filter(|id| id.kind == kind) {
                    found.entry(id.clone()).or_default().insert(name.clone());
                }
            }
        }
        found
    }

    /// Whether what has a name is made of a document.
    pub fn is_made_of(&self, name: &Name, id: &Id) -> bool {
        let planned = self.placement.standing(name).and_then(Standing::planned);
        planned.is_some_and(|planned| planned.document == *id || planned.sources.contains(id))
    }

    /// What is wrong with a document, seen beside the others.
    pub fn problems_with(&self, id: &Id) -> Vec<Problem> {
        self.outcome(id).map(|outcome| outcome.problems.clone()).unwrap_or_default()
    }

    /// What is wrong with what a name should be.
    pub fn problems_of(&self, name: &Name) -> Vec<Problem> {
        let Some(standing) = self.placement.standing(name) else { return Vec::new() };
        let outcomes = self.placement.claims(name).map(|claim| &claim.outcome);
        let wrong = |outcome: &Arc<Outcome>| {
            outcome.splits.iter().any(|planned| planned.name == *name && planned.split.is_none())
        };
        let mut found = standing.problems.clone();
        found.extend(outcomes.filter(|o| wrong(o)).flat_map(|o| o.problems.iter().cloned()));
        tidy(&mut found);
        found
    }

    /// What is to be said about the split of a name and its documents.
    pub fn notes_of(&self, name: &Name) -> Vec<Problem> {
        let planned = self.placement.standing(name).and_then(|standing| standing.planned());
        let Some(planned) = planned else { return Vec::new() };
        let mut found = planned.notes.clone();
        found.extend(self.chained(planned));
        for id in &planned.sources {
            found.extend(self.set.get(id).into_iter().flat_map(|d| d.notes.iter().cloned()));
            found.extend(self.outcome(id).into_iter().flat_map(|o| o.notes.iter().cloned()));
        }
        let units = self.placement.claims(name).map(|claim| &claim.outcome);
        found.extend(units.flat_map(|outcome| outcome.notes.iter().cloned()));
        tidy(&mut found);
        found
    }

    /// What became of a route of the Gateway API, for each of its parents.
    pub fn conditions_of(&self, id: &Id) -> &[Condition] {
        self.outcome(id).map_or(&[], |outcome| &outcome.conditions)
    }

    fn outcome(&self, id: &Id) -> Option<&Outcome> {
        self.solved.get(&Unit::Document(id.clone())).map(|solved| &*solved.outcome)
    }

    /// Whether nothing is wrong.
    pub fn is_faultless(&self) -> bool {
        self.faulty.is_empty() && self.placement.problems().next().is_none()
    }

    /// All that is wrong, by file and line.
    pub fn problems(&self) -> Vec<Problem> {
        let outcomes = self.faulty.iter().filter_map(|unit| self.solved.get(unit));
        let mut found: Vec<Problem> =
            outcomes.flat_map(|solved| solved.outcome.problems.iter().cloned()).collect();
        found.extend(self.placement.problems().cloned());
        tidy(&mut found);
        found
    }

    /// All that is to be said, by file and line.
    pub fn notes(&self) -> Vec<Problem> {
        let mut found: Vec<Problem> =
            self.set.all().flat_map(|document| document.notes.iter().cloned()).collect();
        found.extend(self.solved.values().flat_map(|s| s.outcome.notes.iter().cloned()));
        let planned = self.placement.standings().filter_map(|(_, standing)| standing.planned());
        for planned in planned {
            found.extend(planned.notes.iter().cloned());
            found.extend(self.chained(planned));
        }
        tidy(&mut found);
        found
    }

    /// What is to be said of endpoints that are the service addresses of other splits.
    fn chained(&self, planned: &Planned) -> Vec<Problem> {
        let Some(split) = &planned.split else { return Vec::new() };
        let Some(document) = self.set.get(&planned.document) else { return Vec::new() };
        let mut found = Vec::new();
        for (index, subset) in split.subsets().iter().enumerate() {
            for endpoint in &subset.endpoints {
                let (ip, port) = (endpoint.ip(), endpoint.port());
                let address = ServiceAddress { ip, port, protocol: split.address().protocol };
                let Some(other) = self.placement.owner(&address) else { continue };
                let at = match planned.rank {
                    Rank::Written => FieldPath::of("spec.subsets").index(index).key("endpoints"),
                    _ => name(),
                };
                let message = format!(
                    "endpoint {endpoint} of subset \"{}\" of split \"{}\" is the service address of split \"{}\": what is steered there is not steered again; expected the endpoints themselves",
                    subset.name,
                    split.name(),
                    other.name
                );
                found.push(document.problem(&at, &message));
            }
        }
        found
    }

    /// What the documents come to, all of it.
    pub fn resolve(&mut self) -> Resolved {
        self.update();
        let mut solved: Vec<&Solved> = self.solved.values().collect();
        solved.sort_by_key(|solved| solved.order);
        let conditions = solved.iter().flat_map(|s| s.outcome.conditions.iter().cloned());
        let mut out = Resolved {
            problems: self.problems(),
            notes: self.notes(),
            conditions: conditions.collect(),
            ..Resolved::default()
        };
        for (name, standing) in self.placement.standings() {
            if standing.failed {
                out.failed.insert(name.clone());
            }
            if let Some(planned) = standing.planned() {
                out.provenance.insert(name.clone(), self.origins(planned));
                // Names and addresses of those that have a place are unique.
                out.desired.extend(planned.split.clone());
            }
        }
        out
    }

    fn origins(&self, planned: &Planned) -> Vec<SourceDocument> {
        let found = planned.sources.iter().filter_map(|id| self.set.get(id));
        found
            .map(|document| SourceDocument { id: document.id.clone(), at: document.spot() })
            .collect()
    }
}

/// What is in the way of a claim: the one that has its name or its address.
pub(super) enum Clash<'a> {
    Name(&'a Planned),
    Address(&'a Planned),
}

/// What is wrong with a claim that another is in the way of.
fn clash(set: &Set, claim: &Claim, clash: &Clash<'_>) -> Option<Problem> {
    let planned = claim.planned();
    let (error, at, first, of) = match clash {
        Clash::Name(first) => {
            (SplitSetError::DuplicateName(planned.name.clone()), name(), first, name())
        }
        Clash::Address(first) => {
            let (address, owner) = (planned.address, first.name.clone());
            let error = SplitSetError::DuplicateAddress { address, owner };
            (error, planned.address_at.clone(), first, first.address_at.clone())
        }
    };
    let first = set.get(&first.document);
    let first = first
        .map_or_else(String::new, |document| format!(" (first at {})", document.place.spot(&of)));
    let document = set.get(&planned.document)?;
    Some(document.problem(&at, &format!("{error}{first}")))
}

/// Whether documents of a kind are resolved by themselves.
fn is_unit(kind: Kind) -> bool {
    matches!(
        kind,
        Kind::TrafficSplit
            | Kind::VirtualService
            | Kind::DestinationRule
            | Kind::SmiTrafficSplit
            | Kind::IstioGateway
            | Kind::Gateway
            | Kind::TcpRoute
            | Kind::UdpRoute
            | Kind::WorkloadEntry
    )
}

/// By file and line, each once.
fn tidy(all: &mut Vec<Problem>) {
    all.sort();
    all.dedup();
}

fn outcome(view: &View<'_>, unit: &Unit) -> Outcome {
    match unit {
        Unit::Host(host) => resolve::service::resolve(view, host),
        Unit::Document(id) => match view.document(id) {
            None => Outcome::default(),
            Some(document) => match id.kind {
                Kind::VirtualService | Kind::SmiTrafficSplit => {
                    resolve::routing::report(view, document)
                }
                Kind::DestinationRule => resolve::routing::report_rule(view, document),
                Kind::IstioGateway => resolve::istio_gateway::resolve(view, document),
                Kind::Gateway => resolve::gateway::resolve(view, document),
                Kind::TrafficSplit if matches!(document.body, Body::TrafficSplit(_)) => {
                    resolve::traffic_split::resolve(view, document)
                }
                Kind::TrafficSplit => written(view, document),
                Kind::WorkloadEntry => resolve::authority::report_workload(view, document),
                _ => resolve::conditions::resolve(view, document),
            },
        },
    }
}

/// A TrafficSplit says itself what it is.
fn written(view: &View<'_>, document: &Document) -> Outcome {
    let Body::Split(split) = &document.body else { return Outcome::default() };
    let problems = resolve::authority::report_split(view, document, split);
    if !problems.is_empty() {
        return Outcome { problems, ..Outcome::default() };
    }
    let planned = Planned {
        name: split.name().clone(),
        address: split.address(),
        split: Some(Arc::clone(split)),
        notes: Vec::new(),
        rank: Rank::Written,
        sources: BTreeSet::from([document.id.clone()]),
        document: document.id.clone(),
        address_at: FieldPath::of("spec.address"),
        weights: if view.tells_weights { weights_of(document, split) } else { Vec::new() },
    };
    Outcome { splits: vec![planned], ..Outcome::default() }
}

/// Where the weights of a TrafficSplit are, which is in the order of its subsets.
fn weights_of(document: &Document, split: &Split) -> Vec<WeightField> {
    let at = FieldPath::of("spec.subsets");
    let field = |(index, subset): (usize, &Subset)| WeightField {
        subset: subset.name.clone(),
        document: document.id.clone(),
        field: at.index(index).key("weight"),
    };
    split.subsets().iter().enumerate().map(field).collect()
}
