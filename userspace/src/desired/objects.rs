//! Steps that apply and delete objects.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use super::reconcile::Reconciled;
use super::sources::{Base, DesiredState, Intent};
use super::{Cause, Fate, Object, Op, PersistedState, Rejection, Step, Time};
use crate::model::{Key, Name, hint};
use crate::resource::{self, Declarations, Declared, Document, Id, Origin, Update};
use crate::source::Problem;

impl DesiredState {
    /// Applies documents, all or none. Rejected if they bring something that
    /// cannot be; what could not be before is no reason, unless it is said in
    /// one of them.
    pub fn apply(
        &self,
        persisted: &PersistedState,
        declarations: Declarations,
        now: Time,
    ) -> Result<Step, Rejection> {
        let Declarations { documents, notes, in_place_of_files } = declarations;
        self.apart(&documents, in_place_of_files)?;
        let mut intent = Intent::new(Cause::Apply, now);
        intent.notes = notes;
        let mut base = self.base.clone();
        let version = persisted.version() + 1;
        let mut changed = Vec::new();
        for Declared { document, text } in documents {
            let key = document.id().key();
            let is_idle = base.idle.remove(&key).is_some();
            intent.notes.extend(document.notes().iter().cloned());
            let current = self.base.resolver.get(document.id());
            let of_file = current.filter(|found| found.origin() == Origin::Files);
            let fate = match (of_file, persisted.object(&key)) {
                (Some(found), _) if found.says_what(&document) => Fate::Unchanged,
                (Some(_), _) => Fate::Changed,
                (None, None) => Fate::Created,
                (None, Some(object)) if object.document != text => Fate::Changed,
                (None, Some(_)) => Fate::Unchanged,
            };
            if fate != Fate::Unchanged {
                intent.ops.push(Op::Put(Object { key: key.clone(), version, document: text }));
            }
            if fate != Fate::Unchanged || is_idle {
                base.resolver.apply([Arc::clone(&document)]);
                changed.push(document);
            }
            intent.objects.push((key, fate));
        }
        let update = base.resolver.update();
        let files: HashSet<String> =
            changed.iter().filter_map(|d| d.file().map(str::to_owned)).collect();
        intent.notes.extend(update.notes.iter().filter(|n| files.contains(&n.file)).cloned());
        intent.notes.sort();
        intent.notes.dedup();
        let problems = self.new_problems(&base, &update, &files);
        if !problems.is_empty() {
            return Err(Rejection::Problems(problems));
        }
        // The places were only for what is said: the files are gone when the call is.
        base.resolver.apply(changed.iter().map(|document| document.applied()));
        let mut names = update.names;
        names.extend(base.resolver.update().names);
        self.reconciled(&mut intent, base, names);
        Ok(self.step(persisted, intent))
    }

    /// Rejects documents that are there twice, or defined elsewhere; in files only if they
    /// are not to stand in the place of those.
    fn apart(&self, documents: &[Declared], in_place_of_files: bool) -> Result<(), Rejection> {
        let mut seen: BTreeMap<&Id, &Document> = BTreeMap::new();
        let mut problems = Vec::new();
        for Declared { document, .. } in documents {
            let id = document.id();
            let current = self.base.resolver.get(id);
            let elsewhere = |origin: Origin| match origin {
                Origin::Applied => false,
                Origin::Files => !in_place_of_files,
                Origin::Cluster => true,
            };
            if let Some(found) = current.filter(|found| elsewhere(found.origin())) {
                let (what, at) = (resource::called(id), place(found));
                let message = format!("{what} is already defined {at}");
                problems.push(document.name_problem(&message));
            } else if let Some(first) = seen.insert(id, document) {
                problems.push(resource::twice(document, first));
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(Rejection::Problems(problems)) }
    }

    /// What is wrong after an update that was not before, or is said in these files.
    fn new_problems(&self, base: &Base, update: &Update, files: &HashSet<String>) -> Vec<Problem> {
        // Messages name places of other documents, which may have changed.
        let place = |p: &Problem| (p.file.clone(), p.line, p.field.clone());
        let known: HashSet<_> = update.before.iter().map(place).collect();
        let is_new = |p: &&Problem| files.contains(&p.file) || !known.contains(&place(p));
        let mut found: Vec<Problem> = update.problems.iter().filter(is_new).cloned().collect();
        let Reconciled { waiting, .. } = self.reconcile(base, update.names.clone());
        let blocked = waiting.into_iter().filter(|(name, _)| !self.base.waiting.contains_key(name));
        found.extend(blocked.map(|(_, problem)| problem));
        found
    }

    fn reconciled(&self, intent: &mut Intent, mut base: Base, names: BTreeSet<Name>) {
        let Reconciled { definitions, waiting } = self.reconcile(&base, names);
        base.waiting = waiting;
        intent.definitions = definitions;
        intent.base = Some(base);
    }

    /// Deletes applied objects, all or none. Rejected if something needs them.
    pub fn delete(
        &self,
        persisted: &PersistedState,
        keys: &[Key],
        now: Time,
    ) -> Result<Step, Rejection> {
        let mut intent = Intent::new(Cause::Delete, now);
        let mut base = self.base.clone();
        let keys: BTreeSet<&Key> = keys.iter().collect();
        self.all_applied(persisted, &keys)?;
        for &key in &keys {
            intent.ops.push(Op::Delete(key.clone()));
            intent.objects.push((key.clone(), Fate::Deleted));
            let in_force = base.idle.remove(key).is_none();
            let Some(id) = Id::of(key).filter(|_| in_force) else { continue };
            base.withdraw(Origin::Applied, &id);
        }
        let update = base.resolver.update();
        let problems = self.new_problems(&base, &update, &HashSet::new());
        if !problems.is_empty() {
            let message = Rejection::Problems(problems).to_string();
            return Err(Rejection::Conflict(format!("nothing is deleted, since then:\n{message}")));
        }
        self.reconciled(&mut intent, base, update.names);
        Ok(self.step(persisted, intent))
    }

    /// Rejects keys of which nothing was applied.
    fn all_applied(
        &self,
        persisted: &PersistedState,
        keys: &BTreeSet<&Key>,
    ) -> Result<(), Rejection> {
        let (mut elsewhere, mut lines) = (false, Vec::new());
        for key in keys.iter().filter(|key| persisted.object(key).is_none()) {
            match Id::of(key).and_then(|id| self.base.resolver.get(&id)) {
                Some(document) => {
                    elsewhere = true;
                    lines.push(format!("{key} is defined {}: remove it there", place(document)));
                }
                None => lines.push(format!("{key} was not applied{}", meant(persisted, key))),
            }
        }
        let message = lines.join("\n");
        match (lines.is_empty(), elsewhere) {
            (true, _) => Ok(()),
            (false, true) => Err(Rejection::Conflict(message)),
            (false, false) => Err(Rejection::NotFound(message)),
        }
    }
}

/// What to add to the message that this was not applied: what was, of that name in another
/// namespace, or of a near name.
fn meant(persisted: &PersistedState, key: &Key) -> String {
    let of_kind = || persisted.objects().map(|object| &object.key).filter(|k| k.kind == key.kind);
    match of_kind().find(|applied| applied.name == key.name) {
        Some(elsewhere) => format!("; there is {elsewhere}"),
        None => {
            let here = of_kind().filter(|applied| applied.namespace == key.namespace);
            hint(&key.name, here.map(|applied| applied.name.as_str()))
        }
    }
}

/// Where a document is that was not applied.
fn place(document: &Document) -> String {
    match document.origin() {
        Origin::Cluster => "in the cluster".to_owned(),
        _ => format!("at {}", document.spot()),
    }
}
