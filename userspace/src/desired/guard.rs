//! What must be so for a change of weights to happen.

use std::collections::BTreeMap;

use super::{Change, Rejection};
use crate::model::{Name, Split};

/// What whoever asks for a change believes to be so; nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Guard {
    /// Weights in force, of all subsets or some.
    pub expect: BTreeMap<Name, u32>,
    /// The version of the split's last change.
    pub version: Option<u64>,
    /// Whether this node may differ from the others, of a split of the cluster.
    pub this_node: bool,
}

impl Guard {
    /// Rejects if it is otherwise, and says how it is.
    pub fn check(&self, split: &Split, last: Option<&Change>) -> Result<(), Rejection> {
        let weight =
            |name: &Name| split.subsets().iter().find(|s| s.name == *name).map(|s| s.weight);
        if let Some(name) = self.expect.keys().find(|name| weight(name).is_none()) {
            let hint = split.hint(name);
            let message =
                format!("split \"{}\": there is no subset \"{name}\"{hint}", split.name());
            return Err(Rejection::Conflict(message));
        }
        let mut wrong = Vec::new();
        if self.expect.iter().any(|(name, &expected)| weight(name) != Some(expected)) {
            let expected: crate::model::Weights = self.expect.clone().into();
            wrong.push(format!("{expected}"));
        }
        if let Some(version) = self.version
            && version != version_of(last)
        {
            wrong.push(format!("version {version}"));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        let is = crate::model::Weights::of(split);
        let by = last.map_or_else(String::new, |last| {
            let by = match &last.author {
                Some(author) => format!("{} ({})", author.by, last.cause),
                None => last.cause.to_string(),
            };
            format!(" (version {}, {} by {by})", last.version, last.time)
        });
        let (name, wrong) = (split.name(), wrong.join(" and "));
        Err(Rejection::Conflict(format!("split \"{name}\" has {is}{by}, expected {wrong}")))
    }
}

/// The version of a split whose last change is this one.
pub fn version_of(last: Option<&Change>) -> u64 {
    last.map_or(0, |last| last.version)
}
