//! Documents of files and of the API, and what became of them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ObjectName;
use crate::desired::{DesiredState, PersistedState};
use crate::model::Key;
use crate::resource::{Condition, Document, SourceDocument};

/// A document.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DocumentView {
    /// What it is.
    #[serde(flatten)]
    pub object: ObjectName,
    /// Where it is: `FILE:LINE` or `applied`.
    pub source: String,
    /// The version of the call that applied it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// Why it is not in force, if it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<String>,
    /// Of a route of the Gateway API: what became of it, for each of its parents.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<ConditionView>,
    /// What is to be said about it by itself: fields without effect and the like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A condition of a route, as the Gateway API has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConditionView {
    /// The route.
    pub route: String,
    /// The parent to which it is to be attached.
    pub parent: String,
    /// `Accepted` or `ResolvedRefs`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it is so.
    pub status: bool,
    /// Why, in one word.
    pub reason: String,
    /// Why; empty if it is so.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// A document of which a split is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OriginDocument {
    /// What it is.
    #[serde(flatten)]
    pub object: ObjectName,
    /// Where it is: `FILE:LINE` or `applied`.
    pub source: String,
}

impl From<&SourceDocument> for OriginDocument {
    fn from(origin: &SourceDocument) -> Self {
        Self { object: (&origin.id.key()).into(), source: origin.at.to_string() }
    }
}

impl From<&Condition> for ConditionView {
    fn from(condition: &Condition) -> Self {
        Self {
            route: condition.route.to_string(),
            parent: condition.parent.clone(),
            kind: condition.kind.to_string(),
            status: condition.status,
            reason: condition.reason.to_string(),
            message: condition.message.clone(),
        }
    }
}

impl DocumentView {
    /// Whether it is a route of the Gateway API.
    pub fn is_route(&self) -> bool {
        ["TCPRoute", "UDPRoute"].contains(&self.object.kind.as_str())
    }

    /// All documents, by kind, namespace and name.
    pub fn all(desired_state: &DesiredState, persisted: &PersistedState) -> Vec<Self> {
        let resolver = desired_state.resolver();
        let mut found: Vec<Self> = resolver
            .documents()
            .map(|document| Self {
                version: match document.file() {
                    Some(_) => None,
                    None => persisted.object(&document.id().key()).map(|object| object.version),
                },
                conditions: resolver.conditions_of(document.id()).iter().map(Into::into).collect(),
                ..Self::of(document, None)
            })
            .collect();
        found.extend(
            desired_state
                .shadowed()
                .map(|(document, problem)| Self::of(document, Some(problem.message.clone()))),
        );
        found.extend(desired_state.rejected().map(|(key, problem)| Self {
            version: persisted.object(key).map(|object| object.version),
            ..Self::new(key, "applied".to_owned(), Some(problem.to_string()))
        }));
        let order = |view: &Self| {
            let ObjectName { kind, namespace, name } = view.object.clone();
            (kind, namespace, name)
        };
        found.sort_by_cached_key(order);
        found
    }

    fn of(document: &Document, rejected: Option<String>) -> Self {
        let notes = document.notes().iter().map(ToString::to_string).collect();
        Self { notes, ..Self::new(&document.id().key(), document.spot().to_string(), rejected) }
    }

    fn new(key: &Key, source: String, rejected: Option<String>) -> Self {
        let (conditions, notes) = (Vec::new(), Vec::new());
        Self { object: key.into(), source, version: None, rejected, conditions, notes }
    }
}
