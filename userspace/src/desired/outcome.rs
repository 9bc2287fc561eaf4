//! What becomes of one split: its definition, and the override that may be on it.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{Drains, Op, Override, PersistedState, Time};
use crate::model::{Name, Split, Weights};

/// What becomes of one split.
pub(super) struct Outcome {
    pub split: Option<Arc<Split>>,
    /// The weights of the definition.
    pub defined: Weights,
    /// The override that is in force.
    overridden: Option<Weights>,
    /// The override that is over since the definition's weights changed.
    pub ended: Option<Weights>,
    /// The endpoints that are out of force.
    pub drains: Drains,
    /// Those that were, and that the definition does not have any more.
    pub undrained: Vec<SocketAddr>,
}

impl Outcome {
    pub fn of(
        persisted: &PersistedState,
        name: &Name,
        definition: Option<&Arc<Split>>,
        wanted: Option<&Option<Weights>>,
        drains: Option<&Drains>,
    ) -> Self {
        let defined = definition.map(|split| Weights::of(split)).unwrap_or_default();
        let (mut overridden, mut ended) = (None, None);
        match (wanted, persisted.override_of(name.as_str())) {
            (Some(wanted), _) => overridden.clone_from(wanted),
            (None, Some(old)) if old.defined == defined => overridden = Some(old.weights.clone()),
            (None, Some(old)) => ended = Some(old.weights.clone()),
            (None, None) => {}
        }
        // One that says the same is none.
        let overridden = overridden.filter(|weights| *weights != defined);
        let split = definition.map(|split| with(split, overridden.as_ref()));
        let mut drains =
            drains.or_else(|| persisted.drains_of(name.as_str())).cloned().unwrap_or_default();
        let has = |address: &SocketAddr| {
            let mut subsets = definition.iter().flat_map(|split| split.subsets());
            subsets.any(|subset| subset.endpoints.contains(address))
        };
        let undrained = drains.keys().filter(|address| !has(address)).copied().collect();
        drains.retain(|address, _| has(address));
        let split = split.map(|split| without(split, &drains));
        Self { split, defined, overridden, ended, drains, undrained }
    }

    pub fn drains_op(&self, persisted: &PersistedState, name: &Name) -> Option<Op> {
        let is_same = match persisted.drains_of(name.as_str()) {
            Some(old) => *old == self.drains,
            None => self.drains.is_empty(),
        };
        (!is_same).then(|| Op::Drains(name.clone(), self.drains.clone()))
    }

    pub fn override_op(&self, persisted: &PersistedState, name: &Name, since: Time) -> Option<Op> {
        let old = persisted.override_of(name.as_str());
        match &self.overridden {
            Some(weights) if old.is_some_and(|old| old.weights == *weights) => None,
            Some(weights) => {
                let (weights, defined) = (weights.clone(), self.defined.clone());
                Some(Op::Override(name.clone(), Override { weights, defined, since }))
            }
            None => old.map(|_| Op::Reset(name.clone())),
        }
    }

    /// The weights that are in force then.
    pub fn weights(&self) -> Weights {
        self.split.as_deref().map(Weights::of).unwrap_or_default()
    }

    /// The weights before and after, if they differ or there is something to say.
    pub fn change(&self, persisted: &PersistedState, name: &Name) -> Option<(Weights, Weights)> {
        let last = persisted.changes(name.as_str()).next_back();
        let from = last.map(|change| change.to.clone()).unwrap_or_default();
        let to = self.weights();
        (from != to || self.ended.is_some()).then_some((from, to))
    }
}

/// A split with the weights of an override, which has been one of its own.
fn with(split: &Arc<Split>, overridden: Option<&Weights>) -> Arc<Split> {
    let overridden =
        overridden.and_then(|weights| split.with_weights(&weights.clone().into()).ok());
    overridden.map_or_else(|| Arc::clone(split), Arc::new)
}

/// A split without the endpoints that are out of force.
fn without(split: Arc<Split>, drains: &Drains) -> Arc<Split> {
    if drains.is_empty() { split } else { Arc::new(split.without(|at| drains.contains_key(at))) }
}

/// A split as it is in force with its kept override and drains.
pub(super) fn effective(split: &Arc<Split>, persisted: &PersistedState) -> Arc<Split> {
    let drains = persisted.drains_of(split.name().as_str());
    effective_with(split, persisted, drains.unwrap_or(&Drains::new()))
}

/// The same, with these drains.
pub(super) fn effective_with(
    split: &Arc<Split>,
    persisted: &PersistedState,
    drains: &Drains,
) -> Arc<Split> {
    let kept = persisted.override_of(split.name().as_str());
    let kept = kept.filter(|o| o.defined == Weights::of(split)).map(|o| &o.weights);
    without(with(split, kept), drains)
}
