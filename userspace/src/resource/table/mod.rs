//! What weir does with each field of each kind: one list, from which documents
//! are checked and `docs/resources.md` is written.

mod core;
mod gateway;
mod istio;
mod render;
mod smi;

use std::collections::BTreeSet;

use serde_yaml::Value;

use super::identity::Kind;
use crate::source::{FieldPath, Node, Problem};

pub use render::markdown;

/// What is done with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Treatment {
    /// It does what its specification says, as far as the text says.
    Honoured,
    /// It is accepted and has no effect; a note says so.
    Noted,
    /// The document is rejected.
    Rejected,
    /// It is accepted: it says nothing about steering.
    Silent,
}

/// A field, and all that is below it.
pub(super) struct Field {
    /// Dotted, with `[]` after what is a sequence.
    pub path: &'static str,
    pub treatment: Treatment,
    /// For people; of a noted or rejected field, also the message.
    pub text: &'static str,
    /// Values, as JSON, that ask for what weir does anyway: API servers fill in some of them.
    pub fine: &'static [&'static str],
    /// The texts that it may have, itself or each of its items; any, if there are none.
    pub values: &'static [&'static str],
}

impl Field {
    /// The same, but for these values.
    const fn but(self, fine: &'static [&'static str]) -> Self {
        Self { fine, ..self }
    }

    /// The same, of these texts alone.
    const fn one_of(self, values: &'static [&'static str]) -> Self {
        Self { values, ..self }
    }

    /// What is wrong with a value, if it is to be one of some texts.
    fn wrong(&self, value: &Value) -> Option<String> {
        if self.values.is_empty() || value.is_null() {
            return None;
        }
        let what = match value {
            // As API servers and Protocol Buffers have it for none.
            Value::String(text) if text.is_empty() || self.values.contains(&text.as_str()) => {
                return None;
            }
            Value::String(text) => format!("\"{text}\" is unknown"),
            _ => "not a string".to_owned(),
        };
        let mut values: Vec<String> = self.values.iter().map(|v| format!("\"{v}\"")).collect();
        let last = values.pop().unwrap_or_default();
        Some(format!("{what}, expected {} or {last}", values.join(", ")))
    }

    /// Whether nothing is to be said about a value.
    fn is_fine(&self, value: &Value) -> bool {
        let empty = match value {
            Value::String(text) => text.is_empty(),
            Value::Sequence(items) => items.is_empty(),
            Value::Mapping(entries) => entries.is_empty(),
            Value::Bool(is) => !is,
            _ => false,
        };
        // An absent value, as tools write it: of Protocol Buffers, an empty one is the same.
        value.is_null()
            || empty
            || serde_json::to_string(value).is_ok_and(|json| self.fine.contains(&json.as_str()))
    }
}

const fn honoured(path: &'static str, text: &'static str) -> Field {
    Field { path, treatment: Treatment::Honoured, text, fine: &[], values: &[] }
}

const fn noted(path: &'static str, text: &'static str) -> Field {
    Field { path, treatment: Treatment::Noted, text, fine: &[], values: &[] }
}

const fn rejected(path: &'static str, text: &'static str) -> Field {
    Field { path, treatment: Treatment::Rejected, text, fine: &[], values: &[] }
}

const fn silent(path: &'static str, text: &'static str) -> Field {
    Field { path, treatment: Treatment::Silent, text, fine: &[], values: &[] }
}

/// The fields that every Kubernetes object has.
const COMMON: &[Field] = &[
    honoured("apiVersion", "selects how the document is read"),
    honoured("kind", "selects how the document is read"),
    honoured("metadata.name", "identifies the document in its namespace"),
    honoured("metadata.namespace", "`default` if there is none"),
    honoured("metadata.labels", "where labels of this kind are selected by; else of no meaning"),
    honoured(
        "metadata.creationTimestamp",
        "of two routes that want the same listener or port, the older has it; else of no meaning",
    ),
    silent("metadata.annotations", ""),
    silent("metadata.finalizers", ""),
    silent("metadata.generateName", ""),
    silent("metadata.generation", ""),
    silent("metadata.managedFields", ""),
    silent("metadata.ownerReferences", ""),
    silent("metadata.resourceVersion", ""),
    silent("metadata.selfLink", ""),
    silent("metadata.uid", ""),
    silent("metadata.deletionTimestamp", ""),
    silent("metadata.deletionGracePeriodSeconds", ""),
];

/// The fields of a kind, without the [`COMMON`] ones. None of a kind of which
/// not every field is checked.
pub(super) fn fields(kind: Kind) -> Option<&'static [Field]> {
    Some(match kind {
        Kind::VirtualService => istio::VIRTUAL_SERVICE,
        Kind::DestinationRule => istio::DESTINATION_RULE,
        Kind::ServiceEntry => istio::SERVICE_ENTRY,
        Kind::WorkloadEntry => istio::WORKLOAD_ENTRY,
        Kind::IstioGateway => istio::GATEWAY,
        Kind::Gateway => gateway::GATEWAY,
        Kind::TcpRoute | Kind::UdpRoute => gateway::ROUTE,
        Kind::ReferenceGrant => gateway::REFERENCE_GRANT,
        Kind::SmiTrafficSplit => smi::TRAFFIC_SPLIT,
        Kind::Service => core::SERVICE,
        Kind::EndpointSlice => core::ENDPOINT_SLICE,
        Kind::TrafficSplit | Kind::Pod | Kind::Namespace => return None,
    })
}

/// What becomes of a document with fields that are in no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unknown {
    /// It is rejected: somebody misspelt them, perhaps.
    Rejected,
    /// A note says that they have no effect.
    Noted,
}

/// What [`check`] found.
#[derive(Default)]
pub(super) struct Found {
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
}

/// Looks up every field of a document of a kind in the kind's list.
pub(super) fn check(node: &Node<'_>, kind: Kind, unknown: Unknown) -> Found {
    let mut found = Found::default();
    if let Some(fields) = fields(kind) {
        let mut walk = Walk { node, fields, unknown, found: &mut found };
        walk.below(&node.value, "", &FieldPath::root());
    }
    found
}

struct Walk<'a> {
    node: &'a Node<'a>,
    fields: &'static [Field],
    unknown: Unknown,
    found: &'a mut Found,
}

impl Walk<'_> {
    /// `path` is that of the list, `at` the document's own.
    fn below(&mut self, value: &Value, path: &str, at: &FieldPath) {
        match value {
            Value::Mapping(entries) => {
                for (key, value) in entries {
                    // What is no string is no field; nor is one that looks like two.
                    let key = key.as_str().unwrap_or_default();
                    let listed = if key.contains(['.', '[']) { "" } else { key };
                    let inner = if path.is_empty() { "" } else { "." };
                    self.field(value, &format!("{path}{inner}{listed}"), key, &at.key(key));
                }
            }
            Value::Sequence(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.below(item, &format!("{path}[]"), &at.index(index));
                }
            }
            // What should have been one of these is found when it is read as a type.
            _ => {}
        }
    }

    fn field(&mut self, value: &Value, path: &str, key: &str, at: &FieldPath) {
        let all = || COMMON.iter().chain(self.fields);
        let exact = all().find(|f| f.path == path || f.path.strip_suffix("[]") == Some(path));
        let inner = |f: &Field| {
            let below = f.path.strip_prefix(path).filter(|_| !path.is_empty());
            below.is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        match exact {
            Some(field) => self.listed(field, value, at),
            None if all().any(inner) => self.below(value, path, at),
            None if self.unknown == Unknown::Noted => {
                let message = "no effect: weir does not know this field";
                self.found.notes.push(self.node.problem(at, message));
            }
            None => {
                let parent = path.rsplit_once('.').map_or("", |(parent, _)| parent);
                let siblings = siblings(all(), parent);
                let message = format!("unknown field `{key}`, expected one of {siblings}");
                self.found.problems.push(self.node.problem(at, &message));
            }
        }
    }
}

impl Walk<'_> {
    /// What is said of a field that is in the list.
    fn listed(&mut self, field: &Field, value: &Value, at: &FieldPath) {
        let wrong: Vec<(FieldPath, String)> = match value {
            Value::Sequence(items) if field.path.ends_with("[]") => {
                let each = items.iter().enumerate();
                each.filter_map(|(n, item)| Some((at.index(n), field.wrong(item)?))).collect()
            }
            _ => field.wrong(value).map(|message| (at.clone(), message)).into_iter().collect(),
        };
        if !wrong.is_empty() {
            let problems = wrong.iter().map(|(at, message)| self.node.problem(at, message));
            self.found.problems.extend(problems);
            return;
        }
        match field.treatment {
            Treatment::Honoured | Treatment::Silent => {}
            _ if field.is_fine(value) => {}
            Treatment::Noted => self.found.notes.push(self.node.problem(at, field.text)),
            Treatment::Rejected => {
                let message = format!("rejected: {}", field.text);
                self.found.problems.push(self.node.problem(at, &message));
            }
        }
    }
}

/// The keys directly below `parent`, for a message.
fn siblings<'a>(fields: impl Iterator<Item = &'a Field>, parent: &str) -> String {
    let below = |field: &'a Field| match parent {
        "" => Some(field.path),
        _ => field.path.strip_prefix(parent)?.strip_prefix('.'),
    };
    let key = |rest: &'a str| rest.split(['.', '[']).next().unwrap_or(rest);
    let keys: BTreeSet<&str> = fields.filter_map(below).map(key).collect();
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}
