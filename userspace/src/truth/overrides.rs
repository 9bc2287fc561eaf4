//! Steps that change weights without their definition.

use std::collections::BTreeMap;

use super::sources::{Intent, Truth};
use super::{Cause, Guard, Kept, Refusal, Step, Time};
use crate::model::{Name, Split, Weights, WeightsError};

impl Truth {
    /// Overrides weights of a split; a subset that is not named keeps its weight.
    pub fn set_weights(
        &self,
        kept: &Kept,
        name: &str,
        weights: &BTreeMap<Name, u32>,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Refusal> {
        let split = self.guarded(kept, name, guard)?;
        let split = split.with_weights(weights).map_err(|error| {
            let hint = match &error {
                WeightsError::UnknownSubset(subset) => split.hint(subset),
                WeightsError::Split(_) => String::new(),
            };
            Refusal::Invalid(format!("split \"{name}\": {error}{hint}"))
        })?;
        Ok(self.override_step(kept, Cause::Weights, split.name(), Some(Weights::of(&split)), now))
    }

    /// Ends the override of a split's weights, if there is one.
    pub fn reset(
        &self,
        kept: &Kept,
        name: &str,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Refusal> {
        let split = self.guarded(kept, name, guard)?;
        Ok(self.override_step(kept, Cause::Reset, split.name(), None, now))
    }

    /// Goes back to the weights that the change of that version set; without
    /// one, to those before the last change.
    pub fn rollback(
        &self,
        kept: &Kept,
        name: &str,
        to: Option<u64>,
        guard: &Guard,
        now: Time,
    ) -> Result<Step, Refusal> {
        let split = self.guarded(kept, name, guard)?;
        let weights = match to {
            None => kept.changes(name).next_back().map(|change| change.from.clone()),
            Some(version) => {
                let change = kept.changes(name).find(|change| change.version == version);
                let none = || {
                    Refusal::NotFound(format!(
                        "split \"{name}\" has no change {version}: see `weir history {name}`"
                    ))
                };
                Some(change.ok_or_else(none)?.to.clone())
            }
        };
        let weights = weights.filter(|weights| !weights.is_empty()).ok_or_else(|| {
            Refusal::Invalid(format!(
                "split \"{name}\" had no weights before, there is no way back"
            ))
        })?;
        let now_has = Weights::of(split);
        if !weights.iter().map(|(name, _)| name).eq(now_has.iter().map(|(name, _)| name)) {
            let message = format!(
                "split \"{name}\" has other subsets now: it has {now_has}, and had {weights}"
            );
            return Err(Refusal::Conflict(message));
        }
        Ok(self.override_step(kept, Cause::Rollback, split.name(), Some(weights), now))
    }

    fn guarded(&self, kept: &Kept, name: &str, guard: &Guard) -> Result<&Split, Refusal> {
        let none = || Refusal::NotFound(self.desired.no_split(name));
        let split = self.desired.get(name).ok_or_else(none)?;
        guard.check(split, kept.changes(name).next_back())?;
        Ok(split)
    }

    fn override_step(
        &self,
        kept: &Kept,
        cause: Cause,
        name: &Name,
        weights: Option<Weights>,
        now: Time,
    ) -> Step {
        let mut intent = Intent::new(cause, now);
        intent.overrides.insert(name.clone(), weights);
        self.step(kept, intent)
    }
}
