//! Steps that apply and delete objects.

use std::collections::BTreeSet;

use super::sources::{Intent, Truth, address_problem};
use super::{Cause, Defined, Fate, Kept, Object, Op, Refusal, Source, Step, Time};
use crate::model::Key;
use crate::source::{self, Declared};

impl Truth {
    /// Applies documents, all or none.
    pub fn apply(&self, kept: &Kept, declared: Vec<Declared>, now: Time) -> Result<Step, Refusal> {
        let mut intent = Intent::new(Cause::Apply, now);
        let mut problems = Vec::new();
        let version = kept.version() + 1;
        for declared in declared {
            let (name, key) = (declared.split.name().clone(), declared.key.clone());
            if let Some(Defined { source: source @ Source::File(_), .. }) = self.defined.get(&name)
            {
                let message = format!("split \"{name}\" is already defined at {source}");
                problems.push(declared.place.name_problem(&message));
                continue;
            }
            let fate = match kept.object(&key) {
                None => Fate::Created,
                Some(object) if object.document != declared.document => Fate::Changed,
                Some(_) => Fate::Unchanged,
            };
            if fate != Fate::Unchanged {
                let (key, document) = (key.clone(), declared.document.clone());
                intent.ops.push(Op::Put(Object { key, version, document }));
            }
            if self.idle.contains_key(&key) {
                intent.idle.insert(key.clone(), None);
            }
            intent.objects.push((key, fate));
            let source = Source::File(declared.place);
            let defined = Defined { split: declared.split, source };
            intent.definitions.insert(name, Some(self.shared(defined)));
        }
        for (taken, owner) in self.contested_addresses(&intent.definitions) {
            let source = self.defined.get(&owner).map(|defined| defined.source.to_string());
            problems.push(address_problem(taken, &owner, &source.unwrap_or_default()));
        }
        if !problems.is_empty() {
            return Err(Refusal::Problems(problems));
        }
        // The places were only for errors: the files are gone when the call is.
        for (name, defined) in &mut intent.definitions {
            if let Some(defined) = defined {
                defined.source = Source::Applied(source::key(name));
            }
        }
        Ok(self.step(kept, intent))
    }

    /// Deletes applied objects, all or none.
    pub fn delete(&self, kept: &Kept, keys: &[Key], now: Time) -> Result<Step, Refusal> {
        let mut intent = Intent::new(Cause::Delete, now);
        let keys: BTreeSet<&Key> = keys.iter().collect();
        for &key in &keys {
            if kept.object(key).is_none() {
                return Err(self.not_applied(key));
            }
            intent.ops.push(Op::Delete(key.clone()));
            intent.objects.push((key.clone(), Fate::Deleted));
            match self.split_of(key) {
                Some(name) => _ = intent.definitions.insert(name, None),
                None => _ = intent.idle.insert(key.clone(), None),
            }
        }
        Ok(self.step(kept, intent))
    }

    fn not_applied(&self, key: &Key) -> Refusal {
        match self.defined.get(key.name.as_str()) {
            Some(Defined { source: source @ Source::File(_), .. }) if key.kind == source::KIND => {
                Refusal::Conflict(format!("{key} is defined at {source}: remove it there"))
            }
            _ => Refusal::NotFound(format!("{key} was not applied")),
        }
    }
}
