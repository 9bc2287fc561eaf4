//! Steps that follow from files.

use std::collections::BTreeSet;

use super::sources::{Intent, Truth, address_problem, applied, declare};
use super::{Cause, Defined, Event, Kept, Refusal, Source, Step, Time};
use crate::model::{Key, Name, ServiceAddress};
use crate::source::{Declared, Problem};

impl Truth {
    /// The files say this now, all of it.
    pub fn load_files(
        &self,
        kept: &Kept,
        declared: Vec<Declared>,
        now: Time,
    ) -> Result<Step, Refusal> {
        let mut intent = Intent::new(Cause::File, now);
        intent.loaded = true;
        self.retire(kept, &declared, &mut intent);
        let contested = self.define(declared, &mut intent);
        if self.loaded && !contested.is_empty() {
            return Err(Refusal::Problems(contested.into_iter().map(|(_, p)| p).collect()));
        }
        for (key, problem) in contested {
            if let Some(name) = self.split_of(&key) {
                intent.definitions.entry(name).or_insert(None);
            }
            intent.events.push(Event::SetAside(problem.clone()));
            intent.idle.insert(key, Some(problem));
        }
        self.restore(kept, &mut intent);
        Ok(self.step(kept, intent))
    }

    /// Ends what no file defines any more: splits, and what is remembered of
    /// such that vanished while no agent ran.
    fn retire(&self, kept: &Kept, declared: &[Declared], intent: &mut Intent) {
        let declared: BTreeSet<&Name> = declared.iter().map(|d| d.split.name()).collect();
        let remembered = kept.overrides().map(|(name, _)| name).chain(kept.splits());
        for name in self.defined.keys().chain(remembered) {
            let applied = self.defined.get(name).is_some_and(Defined::is_applied);
            if !applied && !declared.contains(name) {
                intent.definitions.insert(name.clone(), None);
            }
        }
    }

    /// Defines what files declare. What is at odds with applied objects is
    /// returned, with their keys.
    fn define(&self, declared: Vec<Declared>, intent: &mut Intent) -> Vec<(Key, Problem)> {
        let mut contested = Vec::new();
        for Declared { split, place, .. } in declared {
            let name = split.name().clone();
            if let Some(Defined { source: Source::Applied(key), .. }) = self.defined.get(&name) {
                let message = format!(
                    "split \"{name}\" was also applied through the API; \
                     remove it here, or there by `weir delete split {name}`"
                );
                contested.push((key.clone(), place.name_problem(&message)));
            }
            let source = Source::File(place);
            intent.definitions.insert(name, Some(self.shared(Defined { split, source })));
        }
        for (taken, owner) in self.contested_addresses(&intent.definitions) {
            if let Some(Defined { source: Source::Applied(key), .. }) = self.defined.get(&owner) {
                contested.push((key.clone(), address_problem(taken, &owner, "applied")));
            }
        }
        contested
    }

    /// Puts objects into force that had been set aside, where nothing is in the way now.
    fn restore(&self, kept: &Kept, intent: &mut Intent) {
        let new = intent.definitions.values().flatten();
        let mut addresses: BTreeSet<ServiceAddress> =
            new.map(|defined| defined.split.address()).collect();
        for object in self.idle.keys().filter_map(|key| kept.object(key)) {
            let Ok(declared) = declare(object) else { continue };
            let (name, address) = (declared.split.name(), declared.split.address());
            let named = match intent.definitions.get(name) {
                Some(defined) => defined.is_some(),
                None => self.defined.contains_key(name),
            };
            let owner = self.desired.at(&address).map(|split| split.name());
            let owned = owner.is_some_and(|owner| !intent.definitions.contains_key(owner));
            if named || owned || !addresses.insert(address) {
                continue;
            }
            intent.events.push(Event::Restored(object.key.clone()));
            intent.idle.insert(object.key.clone(), None);
            intent.definitions.insert(name.clone(), Some(applied(declared)));
        }
    }
}
