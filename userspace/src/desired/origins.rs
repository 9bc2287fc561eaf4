//! Documents of several origins: which one of an id is in force.
//!
//! The one in force stays until its origin takes it back, whatever the others say meanwhile;
//! then the first origin that has one, in the order of [`Origin`], is next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::reconcile::Reconciled;
use super::sources::{Base, DesiredState, Intent};
use super::{Cause, PersistedState, Step, Time};
use crate::model::Name;
use crate::resource::{self, Document, Id, Kind, Origin};
use crate::source::{IN_CLUSTER, Problem};

/// What an origin has to say at once.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// Documents that are there now, each in place of the one of its id.
    pub put: Vec<Arc<Document>>,
    /// Documents that are there and wrong: the last good ones stay in force.
    pub rejected: Vec<Rejected>,
    /// Documents that are not there any more.
    pub deleted: Vec<Id>,
    /// Whether this is all that there is: what is not named is not there any more.
    pub complete: bool,
    /// Up to where it has been heard of what there is, with this batch; `None` if the batch says
    /// nothing of that.
    pub positions: Option<Positions>,
}

/// Of each kind of a cluster, the version (`resourceVersion`) up to which everything that
/// happened is known. Versions of one kind are numbers that grow, those of different kinds have
/// nothing to do with each other. A kind is missing if it is not followed, or has versions that
/// are no numbers.
pub type Positions = BTreeMap<Kind, u64>;

/// A document that is there and wrong.
#[derive(Debug, Clone)]
pub struct Rejected {
    /// What it is.
    pub id: Id,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// What is wrong with it.
    pub problems: Vec<Problem>,
}

/// What a cluster says, resolved.
#[derive(Debug, Clone)]
pub struct Observed {
    base: Base,
    names: BTreeSet<Name>,
    is_first: bool,
}

impl Batch {
    /// Whether it names no document, and is not all that there is.
    pub fn is_empty(&self) -> bool {
        let Self { put, rejected, deleted, complete, .. } = self;
        put.is_empty() && rejected.is_empty() && deleted.is_empty() && !complete
    }

    /// Whether it may change what is known of a kind.
    pub fn is_about(&self, kind: Kind) -> bool {
        let Self { put, rejected, deleted, complete, .. } = self;
        let put = put.iter().map(|document| document.id());
        let all = put.chain(rejected.iter().map(|rejected| &rejected.id)).chain(deleted);
        *complete || all.map(|id| id.kind).any(|one| one == kind)
    }

    /// The same, and then what came later.
    #[must_use]
    pub fn then(self, later: Self) -> Self {
        let Self { mut put, mut rejected, mut deleted, complete, positions } = self;
        let replaced: BTreeSet<Id> =
            later.put.iter().map(|document| document.id().clone()).collect();
        let gone: BTreeSet<&Id> = later.deleted.iter().collect();
        let wrong: BTreeSet<&Id> = later.rejected.iter().map(|rejected| &rejected.id).collect();
        // The last good one of a document that is wrong now is still to be heard of.
        let stays = |id: &Id| !gone.contains(id) && (!later.complete || wrong.contains(id));
        put.retain(|document| !replaced.contains(document.id()) && stays(document.id()));
        rejected.retain(|one| {
            !replaced.contains(&one.id) && !wrong.contains(&one.id) && stays(&one.id)
        });
        deleted.retain(|id| !replaced.contains(id) && !later.complete);
        put.extend(later.put);
        rejected.extend(later.rejected);
        deleted.extend(later.deleted);
        let positions = later.positions.or(positions);
        Self { put, rejected, deleted, complete: complete || later.complete, positions }
    }
}

impl DesiredState {
    /// A cluster says this. What is wrong has no effect, and is among [`DesiredState::problems`].
    ///
    /// Until the first complete batch, nothing that ran when the agent started is withdrawn.
    pub fn observe(&self, batch: Batch) -> Observed {
        let mut base = self.base.clone();
        let is_first = batch.complete && base.awaited.remove(&Origin::Cluster);
        base.take(Origin::Cluster, batch);
        let mut names = base.resolver.update().names;
        names.extend(self.base.excess.keys().cloned());
        Observed { base, names, is_first }
    }

    /// Whether there are splits of a cluster that do not fit.
    pub fn has_excess(&self) -> bool {
        !self.base.excess.is_empty()
    }

    /// The step that follows from what a cluster says, without splits that do not fit, which
    /// stay as they were, and why.
    pub fn step_of(
        &self,
        persisted: &PersistedState,
        observed: &Observed,
        excess: BTreeMap<Name, String>,
        now: Time,
    ) -> Step {
        let Observed { mut base, names, is_first } = observed.clone();
        base.excess.clear();
        for (name, message) in excess {
            let problem = base.resolver.address_problem(&name, &message);
            let problem = problem.unwrap_or_else(|| Problem::of_file(IN_CLUSTER, message));
            base.excess.insert(name, problem);
        }
        self.conclude(persisted, Intent::new(Cause::Cluster, now), base, (names, is_first))
    }

    /// What follows from documents of an origin, which were resolved to these names.
    /// `is_first`: it has said for the first time what it has.
    pub(super) fn conclude(
        &self,
        persisted: &PersistedState,
        mut intent: Intent,
        mut base: Base,
        (mut names, is_first): (BTreeSet<Name>, bool),
    ) -> Step {
        if is_first {
            names.extend(base.resolver.names().cloned());
        }
        let Reconciled { mut definitions, waiting } = self.reconcile(&base, names);
        base.waiting = waiting;
        if base.awaited.is_empty() && base.is_faultless() {
            base.was_faultless = true;
            self.retire(persisted, &base, &mut definitions);
        } else {
            self.keep_adopted(&mut definitions);
        }
        intent.definitions = definitions;
        intent.base = Some(base);
        Step { completes: is_first, ..self.step(persisted, intent) }
    }
}

impl Base {
    /// Takes over what an origin says.
    pub(super) fn take(&mut self, origin: Origin, batch: Batch) {
        let Batch { put, rejected, mut deleted, complete, .. } = batch;
        if complete {
            let named: BTreeSet<&Id> = put
                .iter()
                .map(|document| document.id())
                .chain(rejected.iter().map(|r| &r.id))
                .collect();
            let gone: Vec<Id> =
                self.ids_of(origin).filter(|id| !named.contains(id)).cloned().collect();
            deleted.extend(gone);
            self.rejected.retain(|(_, of), _| *of != origin);
        }
        for id in deleted {
            self.withdraw(origin, &id);
        }
        for document in put {
            self.rejected.remove(&(document.id().clone(), origin));
            self.put(origin, document);
        }
        for rejected in rejected {
            self.rejected.insert((rejected.id.clone(), origin), rejected);
        }
    }

    /// What an origin has, in force or not.
    fn ids_of(&self, origin: Origin) -> impl Iterator<Item = &Id> {
        let documents = self.resolver.documents();
        let in_force = documents.filter(move |document| document.origin() == origin);
        let others = self.shadowed.keys().filter(move |(_, of)| *of == origin);
        in_force.map(|document| document.id()).chain(others.map(|(id, _)| id))
    }

    fn put(&mut self, origin: Origin, document: Arc<Document>) {
        match self.resolver.get(document.id()) {
            Some(current) if current.origin() != origin => {
                let problem = shadow(current, &document);
                self.shadowed.insert((document.id().clone(), origin), (document, problem));
            }
            Some(current) if Arc::ptr_eq(current, &document) => {}
            _ => self.resolver.apply([document]),
        }
    }

    /// An origin has no document of that id any more.
    pub(super) fn withdraw(&mut self, origin: Origin, id: &Id) {
        self.rejected.remove(&(id.clone(), origin));
        let is_in_force = self.resolver.get(id).is_some_and(|current| current.origin() == origin);
        if !is_in_force {
            self.shadowed.remove(&(id.clone(), origin));
            return;
        }
        let all = [Origin::Files, Origin::Applied, Origin::Cluster];
        let next = all.into_iter().find_map(|other| self.shadowed.remove(&(id.clone(), other)));
        match next {
            Some((document, _)) => self.resolver.apply([document]),
            None => _ = self.resolver.delete([id]),
        }
        self.rename_shadows(id);
    }

    /// Those that still have to wait say for which one.
    fn rename_shadows(&mut self, id: &Id) {
        let Some(current) = self.resolver.get(id) else { return };
        for ((of, _), (document, problem)) in &mut self.shadowed {
            if of == id {
                *problem = shadow(current, document);
            }
        }
    }
}

/// Why a document is not in force while another of its id is.
fn shadow(current: &Document, document: &Document) -> Problem {
    let (what, key) = (resource::called(document.id()), document.id().key());
    document.name_problem(&match (current.origin(), document.origin()) {
        (Origin::Applied, Origin::Files) => format!(
            "{what} was also applied through the API; remove it here, or there by `weir delete {key}`"
        ),
        (Origin::Cluster, _) => format!(
            "{what} is also in the cluster, whose definition is in force; remove it here, or there by `kubectl delete`"
        ),
        (_, _) => format!("{what} is also defined on the node, by {}, which is in force", current.spot()),
    })
}
