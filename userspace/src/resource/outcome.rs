//! What documents come to together.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::identity::Id;
use crate::model::{Name, SplitSet};
use crate::source::{FieldPath, Problem, Spot};

/// What documents come to together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The splits that are right.
    pub desired: SplitSet,
    /// What is wrong, by file and line.
    pub problems: Vec<Problem>,
    /// What is to be said: fields without effect, shares without endpoints.
    pub notes: Vec<Problem>,
    /// What became of the routes of the Gateway API.
    pub conditions: Vec<Condition>,
    /// The documents that each split comes from, those of `failed` included.
    pub provenance: BTreeMap<Name, Vec<SourceDocument>>,
    /// The splits that are wanted but cannot be: the problems say why.
    pub failed: BTreeSet<Name>,
}

/// Where a weight of a split is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightField {
    /// The subset that has it.
    pub subset: Name,
    /// The document.
    pub document: Id,
    /// The field, which may be missing: it has a default then.
    pub field: FieldPath,
}

/// A document that a split comes from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SourceDocument {
    /// The document.
    pub id: Id,
    /// Where its name is.
    pub at: Spot,
}

impl fmt::Display for SourceDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.id, self.at)
    }
}

/// Who says what a split is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provenance {
    /// Where the document is that says what is addressed.
    pub at: Spot,
    /// The documents that it is made of; none if one says all.
    pub documents: Vec<SourceDocument>,
}

impl fmt::Display for Provenance {
    /// `FILE:LINE` or `applied`, and the documents if it is made of several.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)?;
        let names: Vec<String> = self.documents.iter().map(|o| o.id.to_string()).collect();
        if names.is_empty() { Ok(()) } else { write!(f, " ({})", names.join(", ")) }
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
