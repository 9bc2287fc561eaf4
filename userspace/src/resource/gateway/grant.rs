//! ReferenceGrants.

use gateway_api::experimental::referencegrants::{
    ReferenceGrantFrom, ReferenceGrantSpec, ReferenceGrantTo,
};
use serde::Deserialize;

use crate::resource::identity::Kind;
use crate::resource::validator::DocumentValidator;
use crate::source::FieldPath;

/// Who may refer to what is in the document's namespace.
#[derive(Debug, Clone)]
pub(in crate::resource) struct ReferenceGrant {
    from: Vec<ReferenceGrantFrom>,
    to: Vec<ReferenceGrantTo>,
}

#[derive(Deserialize)]
struct RawReferenceGrant {
    spec: ReferenceGrantSpec,
}

impl ReferenceGrant {
    pub(in crate::resource) fn read(check: &mut DocumentValidator<'_>) -> Option<Self> {
        let RawReferenceGrant { spec: ReferenceGrantSpec { from, to } } = check.typed()?;
        for (key, empty) in [("from", from.is_empty()), ("to", to.is_empty())] {
            if empty {
                check.problem(&FieldPath::of("spec").key(key), "empty, expected at least one");
            }
        }
        Some(Self { from, to })
    }

    /// Whether an object of a kind and namespace may refer to what is of a kind and name.
    pub(in crate::resource) fn allows(
        &self,
        (kind, namespace): (Kind, &str),
        (referred, name): (Kind, &str),
    ) -> bool {
        let from = |from: &ReferenceGrantFrom| {
            from.group == kind.group() && from.kind == kind.name() && from.namespace == namespace
        };
        let to = |to: &ReferenceGrantTo| {
            let named = to.name.as_deref().is_none_or(|own| own.is_empty() || own == name);
            to.group == referred.group() && to.kind == referred.name() && named
        };
        self.from.iter().any(from) && self.to.iter().any(to)
    }
}
