//! Documents to splits: weir's own, Istio's, the Gateway API's and Kubernetes'.
//!
//! [`read`] makes a text into documents, each checked by itself: every field is
//! looked up in one list (`table`) that says whether it is honoured, noted or
//! rejected, then the document is read as a type of `k8s-openapi`, of
//! `gateway-api` or of `istio`, then as the types of this module, which hold
//! only what steering is made of.
//!
//! A [`Resolver`] holds the documents that are in force together and says what
//! they come to. Each host, gateway and route is resolved by itself, and
//! remembers what was looked up for it (`set`): after a change, only what
//! looked up something that changed is resolved again. A split that cannot be
//! is named as such ([`Wanted::failed`]) and does not concern the others;
//! [`crate::desired`] says what runs then.
//!
//! `docs/resources.md` is the specification. No clock, no file system, no kernel.

mod core;
mod document;
mod files;
mod gateway;
mod host;
mod identity;
mod istio;
mod outcome;
mod placement;
mod policy;
mod resolve;
mod resolver;
mod set;
mod smi;
mod table;
#[cfg(test)]
mod tests;
mod translate;
mod validator;

use std::collections::BTreeMap;

pub(crate) use document::read_applied;
pub use document::{
    Declarations, Declared, Document, Documents, Origin, declarations, ids, read, read_object,
};
pub use files::{FileRead, Files, is_blank};
pub use identity::{DEFAULT_NAMESPACE, Id, Kind};
pub use outcome::{
    Condition, ConditionType, Provenance, Reason, Resolved, SourceDocument, WeightField,
};
pub use policy::{Istio, Policy, STEER, Services};
pub use resolver::{Resolver, Update, Wanted};
pub use table::markdown;
#[cfg(test)]
pub(crate) use tests::GOOD;
pub use translate::translate;

use crate::model::SplitSet;
use crate::source::Problem;

/// Labels of endpoints and what selects by them.
type Labels = BTreeMap<String, String>;

/// What files, as pairs of name and text, want together; or everything that is
/// wrong with them, in the order of the files and lines.
pub fn resolve<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Result<SplitSet, Vec<Problem>> {
    let resolved = resolve_all(files);
    if resolved.problems.is_empty() { Ok(resolved.desired) } else { Err(resolved.problems) }
}

/// What files, as pairs of name and text, come to together; problems and notes
/// are in the order of the files and lines.
pub fn resolve_all<N: AsRef<str>, T: AsRef<str>>(files: &[(N, T)]) -> Resolved {
    let mut resolver = Resolver::default();
    let mut all = Documents::default();
    for (file, text) in files {
        let Documents { documents, problems, notes, .. } = read(file.as_ref(), text.as_ref());
        all.problems.extend(problems);
        all.notes.extend(notes);
        for document in documents {
            match resolver.get(&document.id) {
                None => resolver.apply([document]),
                Some(first) => all.problems.push(twice(&document, first)),
            }
        }
    }
    let mut resolved = resolver.resolve();
    resolved.problems.extend(all.problems);
    resolved.notes.extend(all.notes);
    let order = |problem: &Problem| {
        let file = files.iter().position(|(name, _)| name.as_ref() == problem.file);
        (file, problem.line)
    };
    resolved.problems.sort_by_cached_key(order);
    resolved.notes.sort_by_cached_key(order);
    resolved
}

/// The problem of a document that is in force already.
pub(crate) fn twice(document: &Document, first: &Document) -> Problem {
    let what = called(document.id());
    document.name_problem(&format!("{what} is defined twice (first at {})", first.spot()))
}

/// How messages about sources name a document.
pub(crate) fn called(id: &Id) -> String {
    match id.kind {
        Kind::TrafficSplit => format!("split \"{}\"", id.name),
        _ => id.to_string(),
    }
}
