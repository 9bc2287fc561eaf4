//! The three sources, and what follows from them together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::outcome::{Outcome, effective};
use super::persisted::Drains;
use super::reconcile::Reconciled;
use super::step::{Event, Fate, SplitChange, Step};
use super::{Cause, Change, Op, PersistedState, Rejected, Time, Transaction};
use crate::model::{Key, Name, Split, SplitSet, Weights};
use crate::resource::{Document, Id, Origin, Policy, Provenance, Resolver, read_applied};
use crate::source::Problem;

/// What files and applied objects define and overrides change.
///
/// The documents of both are resolved together, so that those of one may refer
/// to those of the other. A document, a name or a service address in both is an
/// error of the one that came later, which then has no effect. What cannot be,
/// whatever the reason, leaves what it would replace as it was: each split
/// changes as a whole, or goes on.
///
/// Methods that change something return a [`Step`] and leave the truth as it is:
///
/// ```text
/// let mut step = truth.set_weights(store.kept(), &name, &weights, &guard, now)?;
/// // put step.changes into force
/// store.commit(std::mem::take(&mut step.transaction))?;
/// truth.accept(step);
/// ```
///
/// Between the step and `accept` nothing else may change it.
#[derive(Debug, Clone, Default)]
pub struct DesiredState {
    pub(super) base: Base,
    /// The splits with the weights of their definitions.
    pub(super) defined: BTreeMap<Name, Arc<Split>>,
    pub(super) desired: SplitSet,
    /// What ran when the agent started, until every origin has said what it has.
    pub(super) adopted: BTreeMap<Name, Arc<Split>>,
}

/// What definitions follow from.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub resolver: Resolver,
    /// Applied objects that are not understood, and why.
    pub idle: BTreeMap<Key, Problem>,
    /// Documents which are not in force since another origin's of the same id is.
    pub shadowed: BTreeMap<(Id, Origin), (Arc<Document>, Problem)>,
    /// What is wrong with documents of which the last good ones, if any, stay in force; those
    /// of files are among `problems`.
    pub rejected: BTreeMap<(Id, Origin), Rejected>,
    /// Splits whose address is still another's.
    pub waiting: BTreeMap<Name, Problem>,
    /// Splits that go on as they ran when the agent started, since documents that it
    /// has never seen right may be part of them.
    pub unsure: BTreeMap<Name, Problem>,
    /// Splits of the cluster that stay as they were, or do not begin, since there is no room.
    pub excess: BTreeMap<Name, Problem>,
    /// What is wrong with files.
    pub problems: Vec<Problem>,
    /// Origins of which it is not known yet what they have.
    pub awaited: BTreeSet<Origin>,
    /// Whether what a cluster says is shown and not steered.
    pub observes: bool,
    /// Whether all origins were known at some time, and nothing was wrong with what the node's
    /// operator says.
    pub was_faultless: bool,
}

impl Default for Base {
    fn default() -> Self {
        Self {
            resolver: Resolver::default(),
            idle: BTreeMap::new(),
            shadowed: BTreeMap::new(),
            rejected: BTreeMap::new(),
            waiting: BTreeMap::new(),
            unsure: BTreeMap::new(),
            excess: BTreeMap::new(),
            problems: Vec::new(),
            awaited: BTreeSet::from([Origin::Files]),
            observes: false,
            was_faultless: false,
        }
    }
}

/// Who says what a split is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Documents.
    Documents(Provenance),
    /// Nobody: it ran when the agent started, and what should say so cannot be read.
    Adopted,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Documents(provenance) => f.pad(&provenance.to_string()),
            Self::Adopted => f.pad("adopted"),
        }
    }
}

/// What a step is to do, before what follows from it.
pub(super) struct Intent {
    pub cause: Cause,
    pub now: Time,
    pub definitions: BTreeMap<Name, Option<Arc<Split>>>,
    /// Weights to set, or None to go back to those of the definition.
    pub overrides: BTreeMap<Name, Option<Weights>>,
    /// The endpoint to take out or put back, and all that are out then.
    pub drains: BTreeMap<Name, (SocketAddr, Drains)>,
    pub objects: Vec<(Key, Fate)>,
    pub ops: Vec<Op>,
    pub notes: Vec<Problem>,
    pub base: Option<Base>,
}

impl Intent {
    pub fn new(cause: Cause, now: Time) -> Self {
        Self {
            cause,
            now,
            definitions: BTreeMap::new(),
            overrides: BTreeMap::new(),
            drains: BTreeMap::new(),
            objects: Vec::new(),
            ops: Vec::new(),
            notes: Vec::new(),
            base: None,
        }
    }
}

impl DesiredState {
    /// What was kept says, before any file is read. Objects which cannot be
    /// understood any more are rejected; see [`DesiredState::rejected`]. `adopted`
    /// is what runs already.
    pub fn start(
        persisted: &PersistedState,
        adopted: impl IntoIterator<Item = Arc<Split>>,
    ) -> Self {
        let mut desired_state = Self::default();
        for object in persisted.objects() {
            match read_applied(&object.key, &object.document) {
                Ok(document) => desired_state.base.resolver.apply([document]),
                Err(problem) => _ = desired_state.base.idle.insert(object.key.clone(), problem),
            }
        }
        desired_state.base.resolver.update();
        let names = desired_state.base.resolver.names().cloned().collect();
        let Reconciled { definitions, .. } = desired_state.reconcile(&desired_state.base, names);
        for (name, split) in definitions {
            let Some(split) = split else { continue };
            desired_state.desired.replace(effective(&split, persisted));
            desired_state.defined.insert(name, split);
        }
        let adopted = adopted.into_iter().map(|split| as_defined(split, persisted));
        desired_state.adopted = adopted.map(|split| (split.name().clone(), split)).collect();
        desired_state
    }

    /// The same, which has to hear of a cluster as well before it knows what is not there. Of
    /// that, what the policy says counts; if it only `observes`, nothing is steered by it.
    #[must_use]
    pub fn awaiting_cluster(mut self, policy: Policy, observes: bool) -> Self {
        self.base.awaited.insert(Origin::Cluster);
        self.base.resolver = self.base.resolver.with_policy(policy);
        self.base.observes = observes;
        self
    }

    /// What is to be in force.
    pub fn split_set(&self) -> &SplitSet {
        &self.desired
    }

    /// The documents of files and applied objects, and what they come to.
    pub fn resolver(&self) -> &Resolver {
        &self.base.resolver
    }

    /// Who says what a split is.
    pub fn source(&self, split: &str) -> Option<Source> {
        let (name, _) = self.defined.get_key_value(split)?;
        let provenance = self.base.resolver.provenance(name);
        Some(provenance.map_or(Source::Adopted, Source::Documents))
    }

    /// Whether a split goes on as it was, since what it should be cannot be.
    pub fn is_held(&self, split: &str) -> bool {
        self.defined.get_key_value(split).is_some_and(|(name, split)| {
            let wanted = self.base.resolver.wanted(name).and_then(|wanted| wanted.split);
            wanted.is_none_or(|wanted| wanted != *split)
        })
    }

    /// Why a split is not what documents say, or not at all.
    pub fn problems_of(&self, split: &Name) -> Vec<Problem> {
        let mut found = self.base.resolver.problems_of(split);
        let own = [&self.base.waiting, &self.base.unsure, &self.base.excess];
        found.extend(own.into_iter().filter_map(|problems| problems.get(split).cloned()));
        found
    }

    /// Whether every origin has said what it has. Before, what ran when the agent started goes on.
    pub fn is_complete(&self) -> bool {
        self.base.awaited.is_empty()
    }

    /// Whether all that is defined was in force at some time.
    pub fn was_faultless(&self) -> bool {
        self.base.was_faultless
    }

    /// Why applied objects are not in force.
    pub fn rejected(&self) -> impl ExactSizeIterator<Item = (&Key, &Problem)> {
        self.base.idle.iter()
    }

    /// Documents that are not in force, since another origin's of the same id are.
    pub fn shadowed(&self) -> impl ExactSizeIterator<Item = &(Arc<Document>, Problem)> {
        self.base.shadowed.values()
    }

    /// All that is wrong with documents, by file and line.
    pub fn problems(&self) -> Vec<Problem> {
        self.base.all_problems()
    }

    /// All that is to be said about documents, by file and line.
    pub fn notes(&self) -> Vec<Problem> {
        let mut found = self.base.resolver.notes();
        found.extend(self.base.unasked().cloned());
        found.sort();
        found
    }

    /// The splits of the cluster that are shown and not steered.
    pub fn observed(&self) -> Vec<Arc<Split>> {
        if !self.base.observes {
            return Vec::new();
        }
        let resolver = &self.base.resolver;
        let names = resolver.names().filter(|name| resolver.is_of_cluster(name));
        names.filter_map(|name| resolver.wanted(name)?.split).collect()
    }

    /// Makes a step happen.
    pub fn accept(&mut self, step: Step) {
        for (name, defined) in step.definitions {
            match defined {
                Some(defined) => _ = self.defined.insert(name, defined),
                None => _ = self.defined.remove(&name),
            }
        }
        for change in step.changes {
            match change.after {
                Some(split) => self.desired.replace(split),
                None => self.desired.remove(change.name.as_str()),
            }
        }
        if let Some(base) = step.base {
            self.base = *base;
        }
        if self.is_complete() {
            self.adopted.clear();
        }
    }

    /// All that follows from an intent.
    pub(super) fn step(&self, persisted: &PersistedState, intent: Intent) -> Step {
        let Intent { cause, now, definitions, overrides, drains, objects, mut ops, notes, base } =
            intent;
        let version = persisted.version() + 1;
        let mut changes = Vec::new();
        let mut events = Vec::new();
        let mut splits = self.desired.splits().len();
        let names = definitions.keys().chain(overrides.keys()).chain(drains.keys());
        let names: BTreeSet<&Name> = names.collect();
        for name in names {
            let defined = definitions.get(name).map_or(self.defined.get(name), Option::as_ref);
            let drained = drains.get(name);
            let out = drained.map(|(_, out)| out);
            let outcome = Outcome::of(persisted, name, defined, overrides.get(name), out);
            ops.extend(outcome.override_op(persisted, name, now));
            let drains_op = outcome.drains_op(persisted, name);
            let endpoint = drained.filter(|_| drains_op.is_some()).map(|&(endpoint, _)| endpoint);
            ops.extend(drains_op);
            let kept = || endpoint.map(|_| (outcome.weights(), outcome.weights()));
            ops.extend(outcome.change(persisted, name).or_else(kept).map(|(from, to)| {
                let ended = outcome.ended.clone();
                let author = None;
                let endpoint = endpoint.map(Box::new);
                let change =
                    Change { version, time: now, cause, from, to, ended, endpoint, author };
                Op::Changed(name.clone(), change)
            }));
            if definitions.contains_key(name) && !outcome.drains.is_empty() {
                let (split, endpoints) = (name.clone(), outcome.drains.keys().copied().collect());
                events.push(Event::StaysDrained { split, endpoints });
            }
            if !outcome.undrained.is_empty() {
                let (split, endpoints) = (name.clone(), outcome.undrained);
                events.push(Event::DrainsEnded { split, endpoints });
            }
            events.extend(outcome.ended.map(|overridden| Event::OverrideEnded {
                split: name.clone(),
                overridden,
                defined: outcome.defined,
            }));
            let (before, after) = (self.desired.shared(name.as_str()).cloned(), outcome.split);
            if before != after {
                splits = splits + usize::from(after.is_some()) - usize::from(before.is_some());
                changes.push(SplitChange { name: name.clone(), before, after });
            }
        }
        let transaction = Transaction { version, ops };
        let base = base.map(Box::new);
        let completes = false;
        Step { transaction, changes, objects, events, notes, splits, definitions, base, completes }
    }
}

impl Base {
    pub fn all_problems(&self) -> Vec<Problem> {
        let mut found = self.resolver.problems();
        let shadowed = self.shadowed.values().map(|(_, problem)| problem);
        let splits = self.waiting.values().chain(self.unsure.values()).chain(self.excess.values());
        let asked =
            |rejected: &&Rejected| self.resolver.is_asked_for(&rejected.id, &rejected.labels);
        let rejected = self.rejected.values().filter(asked).flat_map(|rejected| &rejected.problems);
        found.extend(self.problems.iter().chain(splits).chain(shadowed).chain(rejected).cloned());
        found.sort();
        found
    }

    /// What is wrong with objects of a cluster that nobody asked weir to go by.
    fn unasked(&self) -> impl Iterator<Item = &Problem> {
        let unasked =
            |rejected: &&Rejected| !self.resolver.is_asked_for(&rejected.id, &rejected.labels);
        self.rejected.values().filter(unasked).flat_map(|rejected| &rejected.problems)
    }

    /// Whether all that the node's operator defines is in force.
    pub fn is_faultless(&self) -> bool {
        self.all_problems().iter().all(Problem::is_of_cluster)
    }
}

/// A split that runs with the weights and endpoints that its definition had.
fn as_defined(split: Arc<Split>, persisted: &PersistedState) -> Arc<Split> {
    let name = split.name().as_str();
    let drains = persisted.drains_of(name).into_iter().flatten();
    let split = drains.fold(Arc::clone(&split), |split, (endpoint, drain)| {
        Arc::new(split.with(*endpoint, &drain.subsets))
    });
    let Some(overridden) = persisted.override_of(split.name().as_str()) else { return split };
    match split.with_weights(&overridden.defined.clone().into()) {
        Ok(defined) if overridden.weights == Weights::of(&split) => Arc::new(defined),
        _ => split,
    }
}
