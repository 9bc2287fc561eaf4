//! What is known of the cluster: of each object a number that tells whether it changed, what weir
//! made of it, and the last text that weir could make something of.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use super::object::{Key, Object};
use super::pending::Pending;
use crate::desired::{Batch, Rejected};
use crate::resource::{self, Document, Id, Kind};
use crate::source::Problem;

/// What is known.
#[derive(Default)]
pub(super) struct Objects {
    kinds: BTreeMap<Kind, Known>,
    /// Whoever may write objects does not know its key, and so makes no two that look alike.
    hasher: RandomState,
}

/// Of a kind.
#[derive(Default)]
struct Known {
    objects: HashMap<Key, Seen>,
    /// The number of the list that goes on, or of the last one.
    list: u32,
}

/// Of an object.
#[derive(Default)]
struct Seen {
    /// Of its text.
    hash: u64,
    /// What it says: of the last text that was right.
    document: Option<Arc<Document>>,
    /// That text.
    text: Option<Arc<str>>,
    /// Why the text that it has now is not right, if so.
    rejected: Option<Box<Rejected>>,
    /// The last list that it was in; or the one before which it came.
    list: u32,
}

impl Objects {
    /// How many there are of a kind.
    pub fn count(&self, kind: Kind) -> usize {
        self.kinds.get(&kind).map_or(0, |known| known.objects.len())
    }

    /// All that there is of a kind is about to be put.
    pub fn begin(&mut self, kind: Kind) {
        self.kinds.entry(kind).or_default().list += 1;
    }

    /// That was all.
    pub fn end(&mut self, kind: Kind, to: &mut Pending) {
        let known = self.kinds.entry(kind).or_default();
        let list = known.list;
        known.objects.retain(|key, seen| {
            let is_there = seen.list == list;
            if !is_there {
                to.delete(seen.id(kind, key));
            }
            is_there
        });
        known.objects.shrink_to_fit();
    }

    /// An object is there; whether it is not as it was.
    pub fn put(&mut self, kind: Kind, object: Object, to: &mut Pending) -> bool {
        let Object { key, text, .. } = object;
        let known = self.kinds.entry(kind).or_default();
        let (Ok(said) | Err(said)) = &text;
        let hash = self.hasher.hash_one(said.as_str());
        let list = known.list;
        let (seen, is_new) = match known.objects.get_mut(&key) {
            Some(seen) => (seen, false),
            None => (known.objects.entry(key.clone()).or_default(), true),
        };
        seen.list = list;
        if !is_new && seen.hash == hash {
            return false;
        }
        seen.hash = hash;
        let found = match &text {
            Ok(text) => resource::read_object(text),
            Err(error) => {
                let id = key.id(kind);
                let what = format!("{} {}", crate::source::IN_CLUSTER, id.key());
                let problems = vec![Problem::of_file(&what, error)];
                resource::Documents {
                    problems,
                    rejected: [(id, BTreeMap::new())].into(),
                    ..Default::default()
                }
            }
        };
        seen.take((kind, &key), text.unwrap_or_default().into(), found, to);
        true
    }

    /// An object was there in the last run, with that text. Who asks for all gets it; as a change
    /// it is not told.
    pub fn restore(&mut self, kind: Kind, key: Key, text: Arc<str>) {
        let hash = self.hasher.hash_one(&*text);
        let known = self.kinds.entry(kind).or_default();
        let seen = known.objects.entry(key.clone()).or_default();
        seen.hash = hash;
        seen.list = known.list;
        let found = resource::read_object(&text);
        for problem in &found.problems {
            tracing::warn!("{problem} (as it was known from the last run)");
        }
        seen.take((kind, &key), Arc::clone(&text), found, &mut Pending::default());
        // What another build had made something of may be read by one again.
        seen.text = Some(text);
    }

    /// An object is not there any more.
    pub fn delete(&mut self, kind: Kind, key: &Key, to: &mut Pending) {
        let Some(known) = self.kinds.get_mut(&kind) else { return };
        if let Some(seen) = known.objects.remove(key) {
            to.delete(seen.id(kind, key));
        }
    }

    /// Nothing of a kind is there any more.
    pub fn drop_kind(&mut self, kind: Kind, to: &mut Pending) {
        for (key, seen) in self.kinds.remove(&kind).unwrap_or_default().objects {
            to.delete(seen.id(kind, &key));
        }
    }

    /// All of it at once.
    pub fn batch(&self) -> Batch {
        let mut batch = Batch { complete: true, ..Batch::default() };
        for known in self.kinds.values() {
            for seen in known.objects.values() {
                batch.put.extend(seen.document.clone());
                batch.rejected.extend(seen.rejected.as_deref().cloned());
            }
        }
        batch
    }

    /// The last good texts.
    pub fn texts(&self) -> Vec<Arc<str>> {
        let all = self.kinds.values().flat_map(|known| known.objects.values());
        all.filter_map(|seen| seen.text.clone()).collect()
    }
}

impl Seen {
    fn id(&self, kind: Kind, key: &Key) -> Id {
        let rejected = self.rejected.as_deref().map(|rejected| &rejected.id);
        let id = self.document.as_deref().map(Document::id).or(rejected);
        id.cloned().unwrap_or_else(|| key.id(kind))
    }

    /// Takes over what weir made of a text.
    fn take(
        &mut self,
        (kind, key): (Kind, &Key),
        text: Arc<str>,
        found: resource::Documents,
        to: &mut Pending,
    ) {
        let resource::Documents { documents, problems, notes, rejected, .. } = found;
        self.rejected = None;
        if let Some(document) = documents.into_iter().next() {
            to.put(Arc::clone(&document));
            self.document = Some(document);
            self.text = Some(text);
        } else if problems.is_empty() {
            // It is none of weir's concern, or not any more.
            for note in notes {
                tracing::debug!("{note}");
            }
            if let Some(document) = self.document.take() {
                to.delete(document.id().clone());
            }
            self.text = None;
        } else {
            let unnamed = || (self.id(kind, key), BTreeMap::new());
            let (id, labels) = rejected.into_iter().next().unwrap_or_else(unnamed);
            let rejected = Rejected { id, labels, problems };
            to.reject(rejected.clone());
            self.rejected = Some(Box::new(rejected));
        }
    }
}
