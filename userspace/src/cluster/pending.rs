//! Changes that were not told yet, at most one of a kind for each document.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::desired::{Batch, Rejected};
use crate::resource::{Document, Id};

/// What is to be told.
#[derive(Default)]
pub(super) struct Pending {
    changes: HashMap<Id, Change>,
    /// Since when there is something.
    since: Option<Instant>,
}

#[derive(Default)]
struct Change {
    put: Option<Arc<Document>>,
    rejected: Option<Rejected>,
    deleted: bool,
}

impl Pending {
    /// A document is there.
    pub fn put(&mut self, document: Arc<Document>) {
        let id = document.id().clone();
        *self.of(id) = Change { put: Some(document), ..Change::default() };
    }

    /// A document is there and wrong. The one that was right before it is still to be told.
    pub fn reject(&mut self, rejected: Rejected) {
        let change = self.of(rejected.id.clone());
        change.rejected = Some(rejected);
    }

    /// A document is not there any more.
    pub fn delete(&mut self, id: Id) {
        *self.of(id) = Change { deleted: true, ..Change::default() };
    }

    /// Since when there is something; `None` if there is nothing.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    /// What is to be told, as far as it is not told by `complete`.
    pub fn take(&mut self) -> Batch {
        self.since = None;
        let mut batch = Batch::default();
        for (id, change) in std::mem::take(&mut self.changes) {
            let Change { put, rejected, deleted } = change;
            batch.put.extend(put);
            batch.rejected.extend(rejected);
            if deleted {
                batch.deleted.push(id);
            }
        }
        batch
    }

    fn of(&mut self, id: Id) -> &mut Change {
        self.since.get_or_insert_with(Instant::now);
        self.changes.entry(id).or_default()
    }
}
