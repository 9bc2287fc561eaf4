//! What becomes of one split: its definition, and the override that may be on it.

use std::sync::Arc;

use super::{Op, Override, PersistedState, Time};
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
}

impl Outcome {
    pub fn of(
        persisted: &PersistedState,
        name: &Name,
        definition: Option<&Arc<Split>>,
        wanted: Option<&Option<Weights>>,
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
        Self { split, defined, overridden, ended }
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

    /// The weights before and after, if they differ or there is something to say.
    pub fn change(&self, persisted: &PersistedState, name: &Name) -> Option<(Weights, Weights)> {
        let last = persisted.changes(name.as_str()).next_back();
        let from = last.map(|change| change.to.clone()).unwrap_or_default();
        let to = self.split.as_deref().map(Weights::of).unwrap_or_default();
        (from != to || self.ended.is_some()).then_some((from, to))
    }
}

/// A split with the weights of an override, which has been one of its own.
fn with(split: &Arc<Split>, overridden: Option<&Weights>) -> Arc<Split> {
    let overridden =
        overridden.and_then(|weights| split.with_weights(&weights.clone().into()).ok());
    overridden.map_or_else(|| Arc::clone(split), Arc::new)
}

/// A split as it is in force with its kept override.
pub(super) fn effective(split: &Arc<Split>, persisted: &PersistedState) -> Arc<Split> {
    let persisted = persisted.override_of(split.name().as_str());
    with(split, persisted.filter(|o| o.defined == Weights::of(split)).map(|o| &o.weights))
}
