//! What objects are known by.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Kind, namespace and name of an object, together unique on a node. Kinds
/// without namespaces have an empty one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Key {
    /// The kind, such as `TrafficSplit`.
    pub kind: String,
    /// The namespace; empty if the kind has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// The name, unique in kind and namespace.
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace.as_str() {
            "" => f.pad(&format!("{kind}/{name}")),
            namespace => f.pad(&format!("{kind}/{namespace}/{name}")),
        }
    }
}
