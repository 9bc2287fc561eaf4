//! Steps that follow from files.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::sources::{Base, DesiredState, Intent};
use super::{Batch, Cause, PersistedState, Step, Time};
use crate::model::{Name, Split};
use crate::resource::{self, Document, Documents, Files, Id, Kind, Origin};
use crate::source::Problem;

/// What is wrong with a file that never was anything else.
const BLANK: &str = "no document is in it: write some, or remove the file; until then, what ran \
                     when the agent started is not taken out of force";

/// What is wrong with a file that has become empty.
const EMPTIED: &str = "no document is in it any more: what was in it stays in force; remove the \
                       file to take that out of force";

impl DesiredState {
    /// The files say this now, all of it. What is wrong with them has no
    /// effect, and is among [`DesiredState::problems`] when the step is accepted:
    ///
    /// - the last good version of a document that is wrong stays in force;
    /// - so do all documents of a file that cannot be read, or in which something
    ///   does not even say what it is, unless they are found elsewhere;
    /// - so do those of a file that has become empty: it may be about to be written anew, and
    ///   what is to go is removed with its file. One of which no other content is known is
    ///   a mistake, too: an agent that starts while it is written anew does not know better;
    /// - a split that cannot be goes on as it was;
    /// - so does one that ran when the agent started, if it would be otherwise while a
    ///   document that may be part of it was never read without a mistake.
    pub fn load_files(&self, persisted: &PersistedState, files: &Files, now: Time) -> Step {
        let mut base = self.base.clone();
        let is_first = base.awaited.remove(&Origin::Files);
        base.problems.clone_from(&files.problems);
        base.problems.extend(files.files.iter().flat_map(|f| f.documents.problems.iter().cloned()));
        let emptied = self.emptied(files);
        for file in files.files.iter().filter(|file| file.is_blank()) {
            let what = if emptied.contains(file.name.as_str()) { EMPTIED } else { BLANK };
            base.problems.push(Problem::of_file(&file.name, what));
        }
        let mut put = self.chosen(files, &mut base.problems);
        put.extend(self.staying(files, &emptied, &put));
        base.problems.sort();
        base.take(Origin::Files, Batch { put, complete: true, ..Batch::default() });
        let mut names = base.resolver.update().names;
        names.extend(self.base.unsure.keys().cloned());
        base.unsure = self.unsure(files, &base);
        self.conclude(persisted, Intent::new(Cause::File, now), base, (names, is_first))
    }

    /// The files that are empty and have documents in force.
    fn emptied<'a>(&self, files: &'a Files) -> BTreeSet<&'a str> {
        let blank = files.files.iter().filter(|file| file.is_blank());
        let mut emptied: BTreeSet<&str> = blank.map(|file| file.name.as_str()).collect();
        if !emptied.is_empty() {
            let documents = self.base.resolver.documents();
            let in_force: HashSet<&str> = documents.filter_map(|found| found.file()).collect();
            emptied.retain(|name| in_force.contains(name));
        }
        emptied
    }

    /// A document of each id, in the order of the files. Of several, the one in
    /// the file that has it in force already, or else the first.
    fn chosen(&self, files: &Files, problems: &mut Vec<Problem>) -> Vec<Arc<Document>> {
        let mut chosen: Vec<Arc<Document>> = Vec::new();
        let mut taken: HashMap<&Id, usize> = HashMap::new();
        for document in files.files.iter().flat_map(|file| &file.documents.documents) {
            let Some(&at) = taken.get(document.id()) else {
                taken.insert(document.id(), chosen.len());
                chosen.push(Arc::clone(document));
                continue;
            };
            let in_force = self.base.resolver.get(document.id()).and_then(|d| d.file());
            let (first, second) = (&chosen[at], document);
            if in_force.is_some() && second.file() == in_force && first.file() != in_force {
                problems.push(resource::twice(first, second));
                chosen[at] = Arc::clone(document);
            } else {
                problems.push(resource::twice(second, first));
            }
        }
        chosen
    }

    /// Documents that are not found any more, or not right, and stay all the same.
    fn staying(
        &self,
        files: &Files,
        emptied: &BTreeSet<&str>,
        found: &[Arc<Document>],
    ) -> Vec<Arc<Document>> {
        let found: HashSet<&Id> = found.iter().map(|document| document.id()).collect();
        let stays = stays(files, emptied);
        let shadowed = self.base.shadowed.values().map(|(document, _)| document);
        let known = self.base.resolver.documents().chain(shadowed);
        let staying = known.filter(|document| {
            let id = document.id();
            !found.contains(id) && document.file().is_some_and(|file| stays(id, file))
        });
        staying.cloned().collect()
    }

    /// Splits that what is missing may be part of: a Service whose VirtualService
    /// cannot be read would be balanced over all its endpoints.
    fn unsure(&self, files: &Files, base: &Base) -> BTreeMap<Name, Problem> {
        if !lacks_parts(files) {
            return BTreeMap::new();
        }
        let first = self.base.awaited.contains(&Origin::Files);
        let (running, held) = (&self.adopted, &self.base.unsure);
        let names = running.keys().filter(|_| first).chain(held.keys());
        let mut unsure = BTreeMap::new();
        for name in names {
            let runs = self.defined.get(name).or_else(|| self.adopted.get(name));
            let wanted = base.resolver.wanted(name).and_then(|wanted| wanted.split);
            let differs = wanted.is_some() && wanted.as_ref() != runs;
            let parts = base.resolver.provenance(name).map(|found| found.documents);
            if differs && parts.is_some_and(|parts| !parts.is_empty()) {
                let message = format!(
                    "split \"{name}\" goes on as it was when the agent started, since what cannot be read may be part of it"
                );
                let problem = base.resolver.address_problem(name, &message);
                let problem = problem.unwrap_or_else(|| Problem::of_file("", message));
                unsure.insert(name.clone(), problem);
            }
        }
        unsure
    }

    /// Ends what nobody defines any more: splits that were adopted, and what is
    /// remembered of such that vanished while no agent ran.
    pub(super) fn retire(
        &self,
        persisted: &PersistedState,
        base: &Base,
        definitions: &mut BTreeMap<Name, Option<Arc<Split>>>,
    ) {
        let remembered = persisted.overrides().map(|(name, _)| name).chain(persisted.splits());
        for name in self.defined.keys().chain(remembered) {
            if base.resolver.wanted(name).is_none() && !definitions.contains_key(name) {
                definitions.insert(name.clone(), None);
            }
        }
    }

    /// As long as something is wrong, what ran when the agent started may be
    /// what should be there.
    pub(super) fn keep_adopted(&self, definitions: &mut BTreeMap<Name, Option<Arc<Split>>>) {
        let mut taken: BTreeSet<_> =
            definitions.values().flatten().map(|split| split.address()).collect();
        for (name, split) in &self.adopted {
            let owner = self.desired.at(&split.address()).map(Split::name);
            let owned =
                owner.is_some_and(|owner| owner != name && !definitions.contains_key(owner));
            let known = definitions.contains_key(name) || self.defined.contains_key(name);
            if !known && !owned && taken.insert(split.address()) {
                definitions.insert(name.clone(), Some(Arc::clone(split)));
            }
        }
    }
}

/// Whether documents are missing that splits may be made of together with others. A
/// TrafficSplit is all of its split.
fn lacks_parts(files: &Files) -> bool {
    let lacks = |documents: &Documents| {
        documents.unnamed || documents.rejected.keys().any(|id| id.kind != Kind::TrafficSplit)
    };
    files.unlisted
        || !files.unreadable.is_empty()
        || files.files.iter().any(|file| file.is_blank() || lacks(&file.documents))
}

/// Whether a document that is not found any more stays in force all the same.
fn stays<'a>(files: &'a Files, emptied: &BTreeSet<&'a str>) -> impl Fn(&Id, &str) -> bool {
    let rejected: BTreeSet<&Id> =
        files.files.iter().flat_map(|f| f.documents.rejected.keys()).collect();
    let unnamed = files.files.iter().filter(|file| file.documents.unnamed);
    let unsure: BTreeSet<&str> = unnamed
        .map(|file| file.name.as_str())
        .chain(files.unreadable.iter().map(String::as_str))
        .chain(emptied.iter().copied())
        .collect();
    move |id, file| files.unlisted || rejected.contains(id) || unsure.contains(file)
}
