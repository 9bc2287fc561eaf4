//! The three sources, and what follows from them together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::outcome::{Outcome, effective};
use super::step::{Defined, Event, Fate, Source, SplitChange, Step};
use super::{Cause, Change, Kept, Object, Op, Time, Transaction};
use crate::model::{Desired, Key, Name, ServiceAddress, Weights};
use crate::source::{self, Declared, Problem};

/// What files and applied objects define and overrides change.
///
/// Files come first: weir cannot change them. Then come applied objects, then
/// overrides of weights. A name or a service address in two sources is an
/// error of the later one; only when the agent starts may it find both, and
/// then the applied object is set aside for as long as the file is there.
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
pub struct Truth {
    pub(super) defined: BTreeMap<Name, Defined>,
    pub(super) desired: Desired,
    /// Applied objects that are not in force, and why.
    pub(super) idle: BTreeMap<Key, Problem>,
    /// Whether files were ever loaded.
    pub(super) loaded: bool,
}

/// What a step is to do, before what follows from it.
pub(super) struct Intent {
    pub cause: Cause,
    pub now: Time,
    pub definitions: BTreeMap<Name, Option<Defined>>,
    /// Weights to set, or None to go back to those of the definition.
    pub overrides: BTreeMap<Name, Option<Weights>>,
    pub objects: Vec<(Key, Fate)>,
    pub ops: Vec<Op>,
    pub events: Vec<Event>,
    pub idle: BTreeMap<Key, Option<Problem>>,
    pub loaded: bool,
}

impl Intent {
    pub fn new(cause: Cause, now: Time) -> Self {
        Self {
            cause,
            now,
            definitions: BTreeMap::new(),
            overrides: BTreeMap::new(),
            objects: Vec::new(),
            ops: Vec::new(),
            events: Vec::new(),
            idle: BTreeMap::new(),
            loaded: false,
        }
    }
}

impl Truth {
    /// What was kept says, before any file is read. Objects which cannot be
    /// understood any more are set aside; see [`Truth::set_aside`].
    pub fn start(kept: &Kept) -> Self {
        let mut truth = Self::default();
        for object in kept.objects() {
            match declare(object) {
                Ok(declared) => match truth.desired.insert(effective(&declared.split, kept)) {
                    Ok(()) => {
                        _ = truth.defined.insert(declared.split.name().clone(), applied(declared))
                    }
                    Err(error) => {
                        let problem = declared.place.address_problem(&error.to_string());
                        truth.idle.insert(object.key.clone(), problem);
                    }
                },
                Err(problem) => _ = truth.idle.insert(object.key.clone(), problem),
            }
        }
        truth
    }

    /// What is to be in force.
    pub fn desired(&self) -> &Desired {
        &self.desired
    }

    /// How a split is defined and by whom; its weights may be overridden.
    pub fn defined(&self, split: &str) -> Option<&Defined> {
        self.defined.get(split)
    }

    /// Whether files were loaded. Before, it is not known what they define.
    pub fn has_files(&self) -> bool {
        self.loaded
    }

    /// Why applied objects are not in force.
    pub fn set_aside(&self) -> impl ExactSizeIterator<Item = (&Key, &Problem)> {
        self.idle.iter()
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
        for (key, problem) in step.idle {
            match problem {
                Some(problem) => _ = self.idle.insert(key, problem),
                None => _ = self.idle.remove(&key),
            }
        }
        self.loaded |= step.loaded;
    }

    /// A definition that shares the split that is there, if it is the same.
    pub(super) fn shared(&self, mut defined: Defined) -> Defined {
        if let Some(old) = self.defined.get(defined.split.name())
            && old.split == defined.split
        {
            defined.split = Arc::clone(&old.split);
        }
        defined
    }

    /// The split that an applied object in force defines.
    pub(super) fn split_of(&self, key: &Key) -> Option<Name> {
        let (name, defined) = self.defined.get_key_value(key.name.as_str())?;
        matches!(&defined.source, Source::Applied(by) if by == key).then(|| name.clone())
    }

    /// New definitions whose service address is a split's which has no new
    /// definition, with that split. (Among themselves they are unique.)
    pub(super) fn contested_addresses<'a>(
        &self,
        definitions: &'a BTreeMap<Name, Option<Defined>>,
    ) -> Vec<(&'a Defined, Name)> {
        let new = definitions.values().flatten();
        new.filter_map(|defined| {
            let owner = self.desired.at(&defined.split.address())?.name();
            (!definitions.contains_key(owner)).then(|| (defined, owner.clone()))
        })
        .collect()
    }

    /// All that follows from an intent.
    pub(super) fn step(&self, kept: &Kept, intent: Intent) -> Step {
        let Intent {
            cause,
            now,
            definitions,
            overrides,
            objects,
            mut ops,
            mut events,
            idle,
            loaded,
        } = intent;
        let version = kept.version() + 1;
        let mut changes = Vec::new();
        let mut splits = self.desired.splits().len();
        let names: BTreeSet<&Name> = definitions.keys().chain(overrides.keys()).collect();
        for name in names {
            let defined = definitions.get(name).map_or(self.defined.get(name), Option::as_ref);
            let outcome = Outcome::of(kept, name, defined, overrides.get(name));
            ops.extend(outcome.override_op(kept, name, now));
            ops.extend(outcome.change(kept, name).map(|(from, to)| {
                let ended = outcome.ended.clone();
                Op::Changed(name.clone(), Change { version, time: now, cause, from, to, ended })
            }));
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
        Step { transaction, changes, objects, events, splits, definitions, idle, loaded }
    }
}

/// What an applied object defines.
pub(super) fn declare(object: &Object) -> Result<Declared, Problem> {
    let name = format!("applied {}", object.key);
    let mut declared = source::declarations(&[(&name, &object.document)])
        .map_err(|mut problems| problems.swap_remove(0))?;
    declared.pop().ok_or_else(|| Problem::of_file(&name, "it is empty, expected a document"))
}

pub(super) fn applied(declared: Declared) -> Defined {
    Defined { split: declared.split, source: Source::Applied(declared.key) }
}

pub(super) fn address_problem(defined: &Defined, owner: &Name, source: &str) -> Problem {
    let address: ServiceAddress = defined.split.address();
    let message =
        format!("service address {address} is already taken by split \"{owner}\" ({source})");
    match &defined.source {
        Source::File(place) => place.address_problem(&message),
        Source::Applied(key) => Problem::of_file(&format!("applied {key}"), message),
    }
}
