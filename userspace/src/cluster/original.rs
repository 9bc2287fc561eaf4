//! An object as the server has it, of which weir changes something.

use serde_json::Value;

/// An object that can say weights, as the server has it.
#[derive(Debug, Clone)]
pub(super) struct Original {
    pub path: String,
    pub object: Value,
}

impl Original {
    fn text(&self, field: &str) -> Option<&str> {
        self.object.get("metadata")?.get(field)?.as_str()
    }

    /// Its resourceVersion.
    pub fn version(&self) -> &str {
        self.text("resourceVersion").unwrap_or_default()
    }

    /// Which generation of its specification it is; 0 if the server does not count.
    pub fn generation(&self) -> u64 {
        let found = || self.object.get("metadata")?.get("generation")?.as_u64();
        found().unwrap_or_default()
    }

    /// An annotation.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.object.get("metadata")?.get("annotations")?.get(key)?.as_str()
    }
}
