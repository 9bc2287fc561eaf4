//! ReferenceGrants.

use gateway_api::experimental::referencegrants::{
    ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo,
};
use serde::Deserialize;

use super::GROUP;
use crate::resource::check::Check;
use crate::resource::identity::Kind;
use crate::source::FieldPath;

/// Who may refer to what is in the document's namespace.
#[derive(Debug, Clone)]
pub(in crate::resource) struct ReferenceGrant {
    from: Vec<ReferenceGrantFrom>,
    to: Vec<ReferenceGrantTo>,
}

#[derive(Deserialize)]
struct Document {
    spec: ReferenceGrantSpec,
}

impl ReferenceGrant {
    pub(in crate::resource) fn read(check: &mut Check<'_>) -> Option<Self> {
        let Document { spec: ReferenceGrantSpec { from, to } } = check.typed()?;
        for (key, empty) in [("from", from.is_empty()), ("to", to.is_empty())] {
            if empty {
                check.problem(&FieldPath::of("spec").key(key), "empty, expected at least one");
            }
        }
        Some(Self { from, to })
    }

    /// Whether a route of a kind and namespace may refer to a Service.
    pub(in crate::resource) fn allows(&self, kind: Kind, namespace: &str, service: &str) -> bool {
        let kind = kind.to_string();
        let from = |from: &ReferenceGrantFrom| {
            from.group == GROUP && from.kind == kind && from.namespace == namespace
        };
        let to = |to: &ReferenceGrantTo| {
            let named = to.name.as_deref().is_none_or(|name| name.is_empty() || name == service);
            to.group.is_empty() && to.kind == "Service" && named
        };
        self.from.iter().any(from) && self.to.iter().any(to)
    }
}
