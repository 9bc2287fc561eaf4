//! What documents come to together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::identity::Id;
use crate::model::{Desired, Name};
use crate::source::{Declared, Place, Problem};

/// What documents come to together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The splits that are right.
    pub desired: Desired,
    /// What is wrong, by file and line.
    pub problems: Vec<Problem>,
    /// What is to be said: fields without effect, shares without endpoints.
    pub notes: Vec<Problem>,
    /// What became of the routes of the Gateway API.
    pub conditions: Vec<Condition>,
    /// The documents that each split comes from, those of `failed` included.
    pub provenance: BTreeMap<Name, Vec<Origin>>,
    /// Where the name and address of each of the splits are said.
    pub places: BTreeMap<Name, Place>,
    /// The splits that are wanted but cannot be: the problems say why.
    pub failed: BTreeSet<Name>,
    /// The documents that are wrong by themselves, as far as they say what they are.
    pub refused: BTreeSet<Id>,
}

/// A document that a split comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The document.
    pub id: Id,
    /// Its file.
    pub file: String,
    /// The line of its name.
    pub line: usize,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.id, self.file, self.line)
    }
}

/// What became of a route, for one of its parents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// The route.
    pub route: Id,
    /// The parent, for people.
    pub parent: String,
    /// What it is about.
    pub kind: ConditionType,
    /// Whether it is so.
    pub status: bool,
    /// Why.
    pub reason: Reason,
    /// More about it; empty if it is so.
    pub message: String,
}

/// The types of condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The route is attached to the parent.
    Accepted,
    /// All that the route refers to is there.
    ResolvedRefs,
}

impl fmt::Display for ConditionType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The reasons of conditions, as the Gateway API names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// It is attached.
    Accepted,
    /// There is no such parent, listener or port.
    NoMatchingParent,
    /// No listener allows it.
    NotAllowedByListeners,
    /// weir cannot do what a field says.
    UnsupportedValue,
    /// Another route has the listener or port. The API has no reason for this.
    Conflicted,
    /// All that it refers to is there.
    ResolvedRefs,
    /// It refers to a kind that is no Service.
    InvalidKind,
    /// It refers to another namespace, which does not allow it.
    RefNotPermitted,
    /// It refers to what is not there.
    BackendNotFound,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Resolved {
    /// The splits as files declare them, or everything that is wrong.
    pub fn declared(self) -> Result<Vec<Declared>, Vec<Problem>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        let Self { desired, places, .. } = self;
        let mut all = Vec::new();
        for (name, place) in places {
            let Some(split) = desired.shared(name.as_str()) else { continue };
            all.push(super::translate::declared(split, place)?);
        }
        Ok(all)
    }

    /// What runs after `before` (make before break): what is right now; but a
    /// split that cannot be, or that came from a document that is now wrong,
    /// goes on as it was.
    pub fn after(&self, before: &Self) -> Desired {
        let kept = |name: &Name| {
            let origins = before.provenance.get(name).into_iter().flatten();
            self.failed.contains(name)
                || origins.into_iter().any(|origin| self.refused.contains(&origin.id))
        };
        let mut desired = Desired::default();
        let kept = before.desired.splits().filter(|split| kept(split.name()));
        for split in kept.chain(self.desired.splits()) {
            // What is kept comes first: who has its name or address waits.
            _ = desired.insert(split.clone());
        }
        desired
    }
}
