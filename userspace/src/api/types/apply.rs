//! Objects that are applied and deleted, and what that changes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::desired::{Difference, Fate, Move, SplitDifference, Step, SubsetDifference};
use crate::model::{Key, SplitSettings};

/// A file with documents.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileText {
    /// Its name, for messages.
    pub name: String,
    /// YAML or JSON; any number of documents.
    pub text: String,
}

/// Objects to be there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// The files that say what they are.
    pub files: Vec<FileText>,
    /// Say what would happen, and let nothing happen.
    #[serde(default)]
    pub dry_run: bool,
    /// Say what would happen if documents that the node's files have were changed there. With
    /// `dry_run` only: the API changes no file.
    #[serde(default)]
    pub in_place_of_files: bool,
}

/// Objects to be there no more.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteRequest {
    /// Objects by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<RequestedObject>,
    /// Files whose documents name objects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<FileText>,
    /// Say what would happen, and let nothing happen.
    #[serde(default)]
    pub dry_run: bool,
}

/// What an object is known by, in an answer. As a part of others it says nothing of other fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectName {
    /// The kind, such as `TrafficSplit`.
    pub kind: String,
    /// The namespace; empty if the kind has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// What an object is known by, in a request, where an unknown field is a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequestedObject {
    /// The kind, such as `TrafficSplit`.
    pub kind: String,
    /// The namespace; empty if the kind has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl From<RequestedObject> for Key {
    fn from(RequestedObject { kind, namespace, name }: RequestedObject) -> Self {
        Self { kind, namespace, name }
    }
}

impl From<Key> for RequestedObject {
    fn from(Key { kind, namespace, name }: Key) -> Self {
        Self { kind, namespace, name }
    }
}

impl From<ObjectName> for Key {
    fn from(ObjectName { kind, namespace, name }: ObjectName) -> Self {
        Self { kind, namespace, name }
    }
}

impl From<&Key> for ObjectName {
    fn from(Key { kind, namespace, name }: &Key) -> Self {
        Self { kind: kind.clone(), namespace: namespace.clone(), name: name.clone() }
    }
}

/// What a call did, or would do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ApplyView {
    /// Whether nothing happened.
    pub dry_run: bool,
    /// The objects of the call, in its order.
    pub objects: Vec<ObjectView>,
    /// What differs between before and after.
    pub difference: DifferenceView,
    /// What is to be said about the documents: fields without effect and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// What else an operator should know, for people.
    pub events: Vec<String>,
}

impl ApplyView {
    /// What a step does, or would do. Computes the step's difference.
    pub fn of(step: &Step, dry_run: bool) -> Self {
        let object =
            |(key, fate): &(Key, Fate)| ObjectView { object: key.into(), fate: (*fate).into() };
        Self {
            dry_run,
            objects: step.objects.iter().map(object).collect(),
            difference: (&step.difference()).into(),
            notes: step.notes.iter().map(ToString::to_string).collect(),
            events: step.events.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whether an object or a split is not what it was before.
    pub fn changes_something(&self) -> bool {
        let DifferenceView { added, removed, changed, .. } = &self.difference;
        self.objects.iter().any(|object| object.fate != FateView::Unchanged)
            || !(added.is_empty() && removed.is_empty() && changed.is_empty())
    }
}

/// An object and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectView {
    /// The object.
    #[serde(flatten)]
    pub object: ObjectName,
    /// What became of it.
    pub fate: FateView,
}

/// What became of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FateView {
    /// It was not there before.
    Created,
    /// It was there, and something else.
    Changed,
    /// It was there, and the same.
    Unchanged,
    /// It is there no more.
    Deleted,
}

impl From<Fate> for FateView {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Created => Self::Created,
            Fate::Changed => Self::Changed,
            Fate::Unchanged => Self::Unchanged,
            Fate::Deleted => Self::Deleted,
        }
    }
}

/// What differs between the splits before and after.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceView {
    /// Splits that are new.
    pub added: Vec<String>,
    /// Splits that are gone.
    pub removed: Vec<String>,
    /// Splits that are not what they were.
    pub changed: Vec<SplitDifferenceView>,
    /// The number of all others.
    pub unchanged: usize,
}

impl From<&Difference> for DifferenceView {
    fn from(difference: &Difference) -> Self {
        Self {
            added: difference.added.iter().map(ToString::to_string).collect(),
            removed: difference.removed.iter().map(ToString::to_string).collect(),
            changed: difference.changed.iter().map(Into::into).collect(),
            unchanged: difference.unchanged,
        }
    }
}

/// How a split changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SplitDifferenceView {
    /// Its name.
    pub name: String,
    /// The service address before and after, if it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<[String; 2]>,
    /// What it is set to before and after, if that changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<[SplitSettings; 2]>,
    /// All subsets of before and after.
    pub subsets: Vec<SubsetDifferenceView>,
    /// Which parts of new flows go to another subset than they would have.
    pub moves: Vec<MoveView>,
    /// The part of new flows, 0 to 1, that go to another subset or endpoint.
    /// Flows that live keep their endpoint.
    pub moved: f64,
}

impl From<&SplitDifference> for SplitDifferenceView {
    fn from(split: &SplitDifference) -> Self {
        Self {
            name: split.name.to_string(),
            address: split.address.map(|(old, new)| [old.to_string(), new.to_string()]),
            settings: split.settings.map(<[SplitSettings; 2]>::from),
            subsets: split.subsets.iter().map(Into::into).collect(),
            moves: split.moves.iter().map(Into::into).collect(),
            moved: split.moved,
        }
    }
}

/// How a subset changes, or stays.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SubsetDifferenceView {
    /// Its name.
    pub name: String,
    /// The weight before; None if it is new.
    pub weight_before: Option<u32>,
    /// The weight after; None if it is gone.
    pub weight_after: Option<u32>,
    /// The share of new flows before, 0 to 1.
    pub share_before: f64,
    /// The share of new flows after, 0 to 1.
    pub share_after: f64,
    /// Endpoints that are new.
    pub endpoints_added: Vec<String>,
    /// Endpoints that are gone.
    pub endpoints_removed: Vec<String>,
    /// The part of the flows which stay in the subset, 0 to 1, that go to another endpoint.
    pub moved_between_endpoints: f64,
}

impl From<&SubsetDifference> for SubsetDifferenceView {
    fn from(subset: &SubsetDifference) -> Self {
        Self {
            name: subset.name.to_string(),
            weight_before: subset.weights.0,
            weight_after: subset.weights.1,
            share_before: subset.shares.0,
            share_after: subset.shares.1,
            endpoints_added: subset.added.iter().map(ToString::to_string).collect(),
            endpoints_removed: subset.removed.iter().map(ToString::to_string).collect(),
            moved_between_endpoints: subset.moved,
        }
    }
}

/// A part of new flows that goes to another subset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MoveView {
    /// The subset that loses it.
    pub from: String,
    /// The subset that gets it.
    pub to: String,
    /// How much of all new flows, 0 to 1.
    pub share: f64,
}

impl From<&Move> for MoveView {
    fn from(Move { from, to, share }: &Move) -> Self {
        Self { from: from.to_string(), to: to.to_string(), share: *share }
    }
}
