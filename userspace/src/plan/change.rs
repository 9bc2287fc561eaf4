//! The difference of two desired states.

use std::sync::Arc;

use crate::model::{Name, Split, SplitSet};

use super::Ledger;

/// Splits to put in force, and to take out of force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Change {
    /// New ones, and new versions.
    pub put: Vec<Arc<Split>>,
    /// By name.
    pub remove: Vec<Name>,
}

impl Change {
    /// What gets from what the ledger has in force to `desired`.
    pub fn towards(desired: &SplitSet, ledger: &Ledger) -> Self {
        let differs = |split: &&Arc<Split>| ledger.split(split.name()) != Some(&***split);
        let put = desired.all_shared().filter(differs).cloned().collect();
        let gone = |name: &&Name| desired.get(name.as_str()).is_none();
        let remove = ledger.names().filter(gone).cloned().collect();
        Self { put, remove }
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.put.is_empty() && self.remove.is_empty()
    }
}
