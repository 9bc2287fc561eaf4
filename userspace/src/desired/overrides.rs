//! Steps that change weights without their definition.

use std::collections::BTreeMap;

use super::sources::{DesiredState, Intent};
use super::{Cause, Change, Guard, PersistedState, Rejection, Step, Time};
use crate::model::{Name, Split, Weights, WeightsError};

impl DesiredState {
    /// Overrides weights of a split; a subset that is not named keeps its weight.
    pub fn set_weights(
        &self,
        persisted: &PersistedState,
        name: &str,
        weights: &BTreeMap<Name, u32>,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Rejection> {
        let split = self.guarded(persisted, name, guard)?;
        let split = split.with_weights(weights).map_err(|error| {
            let hint = match &error {
                WeightsError::UnknownSubset(subset) => split.hint(subset),
                WeightsError::Split(_) => String::new(),
            };
            Rejection::Invalid(format!("split \"{name}\": {error}{hint}"))
        })?;
        let weights = Weights::of(&split);
        let instead = format!("weir weights {name} {weights} --cluster");
        self.alike_on_all_nodes(split.name(), guard.this_node, &instead)?;
        Ok(self.override_step(persisted, Cause::Weights, split.name(), Some(weights), now))
    }

    /// Ends the override of a split's weights, if there is one.
    pub fn reset(
        &self,
        persisted: &PersistedState,
        name: &str,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Rejection> {
        let split = self.guarded(persisted, name, guard)?;
        Ok(self.override_step(persisted, Cause::Reset, split.name(), None, now))
    }

    /// Goes back to the weights that the change of that version set; without
    /// one, to those before the last change.
    pub fn rollback(
        &self,
        persisted: &PersistedState,
        name: &str,
        to: Option<u64>,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Rejection> {
        let split = self.guarded(persisted, name, guard)?;
        let weights = match to {
            None => {
                // One that took an endpoint out, or put it back, left the weights.
                let of_weights = |change: &&Change| change.endpoint.is_none();
                let last = persisted.changes(name).rev().find(of_weights);
                last.map(|change| change.from.clone())
            }
            Some(version) => {
                let change = persisted.changes(name).find(|change| change.version == version);
                let none = || {
                    Rejection::NotFound(format!(
                        "split \"{name}\" has no change {version}: see `weir history {name}`"
                    ))
                };
                Some(change.ok_or_else(none)?.to.clone())
            }
        };
        let weights = weights.filter(|weights| !weights.is_empty()).ok_or_else(|| {
            Rejection::Invalid(format!(
                "split \"{name}\" had no weights before, there is no way back"
            ))
        })?;
        let now_has = Weights::of(split);
        if !weights.iter().map(|(name, _)| name).eq(now_has.iter().map(|(name, _)| name)) {
            let message = format!(
                "split \"{name}\" has other subsets now: it has {now_has}, and had {weights}"
            );
            return Err(Rejection::Conflict(message));
        }
        let instead = format!("weir rollback {name} --cluster");
        self.alike_on_all_nodes(split.name(), guard.this_node, &instead)?;
        Ok(self.override_step(persisted, Cause::Rollback, split.name(), Some(weights), now))
    }

    fn guarded(
        &self,
        persisted: &PersistedState,
        name: &str,
        guard: &Guard,
    ) -> Result<&Split, Rejection> {
        let none = || Rejection::NotFound(self.desired.no_split(name));
        let split = self.desired.get(name).ok_or_else(none)?;
        guard.check(split, persisted.changes(name).next_back())?;
        Ok(split)
    }

    fn override_step(
        &self,
        persisted: &PersistedState,
        cause: Cause,
        name: &Name,
        weights: Option<Weights>,
        now: Time,
    ) -> Step {
        let mut intent = Intent::new(cause, now);
        intent.overrides.insert(name.clone(), weights);
        self.step(persisted, intent)
    }
}
