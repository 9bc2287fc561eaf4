//! Objects of a cluster that are known and not in force as they say, and why.

use std::collections::{BTreeMap, BTreeSet};

use super::outcome::Outcome;
use super::{DesiredState, PersistedState};
use crate::model::{Name, Weights};
use crate::resource::{Id, Kind, Origin};
use crate::source::Problem;

/// An object of a cluster that is not in force as it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// The object.
    pub id: Id,
    /// Why, in a word.
    pub reason: DeviationReason,
    /// Why, for people.
    pub message: String,
}

/// Why an object is not in force.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub enum DeviationReason {
    /// It is wrong; what it said before it was goes on.
    Rejected,
    /// Another has its name or address, or does not give it back yet.
    Conflicted,
    /// It says nothing that could be steered by, for want of what it refers to.
    Unresolved,
    /// The node's own files or applied objects have one of its name, which is in force.
    Shadowed,
    /// There is no room for it in the node's maps.
    NoRoom,
    /// The node's operator gave it other weights.
    Overridden,
    /// The node's operator took endpoints out of it.
    Drained,
    /// What it said before goes on.
    Held,
}

impl DeviationReason {
    /// Whether it is what the object says that is wrong, and not the state of one node.
    pub const fn is_of_object(self) -> bool {
        matches!(self, Self::Rejected | Self::Conflicted | Self::Unresolved)
    }
}

impl DesiredState {
    /// The objects of a kind that a cluster has and that are not in force as they say, by id, the
    /// first reason of each. What is not among them, and was told by a batch that was put into
    /// force, is in force.
    pub fn deviations(&self, kind: Kind, persisted: &PersistedState) -> Vec<Deviation> {
        let base = &self.base;
        let mut found = BTreeMap::new();
        let mut add = |id: &Id, reason, message: String| {
            found.entry(id.clone()).or_insert(Deviation { id: id.clone(), reason, message });
        };
        let of_cluster = |id: &Id, origin: Origin| id.kind == kind && origin == Origin::Cluster;
        for ((id, origin), rejected) in &base.rejected {
            if of_cluster(id, *origin) {
                add(id, DeviationReason::Rejected, said(&rejected.problems));
            }
        }
        for ((id, origin), (_, problem)) in &base.shadowed {
            if of_cluster(id, *origin) {
                add(id, DeviationReason::Shadowed, said(std::slice::from_ref(problem)));
            }
        }
        let mut names = base.resolver.splits_by(kind);
        for document in base.resolver.documents() {
            let id = document.id();
            if !of_cluster(id, document.origin()) {
                continue;
            }
            let names = names.remove(id).unwrap_or_default();
            if let Some((reason, message)) = self.deviation(id, &names, persisted) {
                add(id, reason, message);
            }
        }
        found.into_values().collect()
    }

    fn deviation(
        &self,
        id: &Id,
        names: &BTreeSet<Name>,
        persisted: &PersistedState,
    ) -> Option<(DeviationReason, String)> {
        let base = &self.base;
        let own = base.resolver.problems_with(id);
        if !own.is_empty() {
            return Some((DeviationReason::Rejected, said(&own)));
        }
        if names.is_empty() {
            let message = "it says nothing that could be steered by".to_owned();
            return Some((DeviationReason::Unresolved, message));
        }
        names.iter().find_map(|name| {
            let first = |problem: &Problem| said(std::slice::from_ref(problem));
            if let Some(problem) = base.excess.get(name) {
                return Some((DeviationReason::NoRoom, first(problem)));
            }
            if let Some(problem) = base.waiting.get(name) {
                return Some((DeviationReason::Conflicted, first(problem)));
            }
            if let Some(problem) = base.unsure.get(name) {
                return Some((DeviationReason::Held, first(problem)));
            }
            let wanted = base.resolver.wanted(name);
            let wanted = wanted.filter(|_| base.resolver.is_made_of(name, id));
            let Some(wanted) = wanted.and_then(|wanted| wanted.split) else {
                return Some((DeviationReason::Conflicted, said(&self.problems_of(name))));
            };
            if base.observes {
                return None;
            }
            if self.defined.get(name).is_none_or(|defined| *defined != wanted) {
                let problems = self.problems_of(name);
                let held = "what it said before goes on".to_owned();
                let message = if problems.is_empty() { held } else { said(&problems) };
                return Some((DeviationReason::Held, message));
            }
            self.changed_on_node(name, persisted)
        })
    }

    /// How the node's operator changed a split.
    fn changed_on_node(
        &self,
        name: &Name,
        persisted: &PersistedState,
    ) -> Option<(DeviationReason, String)> {
        let outcome = Outcome::of(persisted, name, self.defined.get(name), None, None);
        let (defined, weights) = (&outcome.defined, outcome.weights());
        if Weights::clone(defined) != weights {
            let message = format!("its weights are {weights} here, by `weir weights` on the node");
            return Some((DeviationReason::Overridden, message));
        }
        let endpoint = outcome.drains.keys().next()?;
        let more = match outcome.drains.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let message = format!("{endpoint}{more} is out, by `weir drain` on the node");
        Some((DeviationReason::Drained, message))
    }
}

/// The first of what is wrong, and how much more is.
fn said(problems: &[Problem]) -> String {
    let Some(first) = problems.first() else { return "another has its name or address".to_owned() };
    let field = if first.field.is_empty() { String::new() } else { format!("{}: ", first.field) };
    let more = match problems.len() - 1 {
        0 => String::new(),
        more => format!(" (and {more} more)"),
    };
    format!("{field}{}{more}", first.message)
}
