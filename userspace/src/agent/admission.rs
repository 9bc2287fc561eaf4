//! What of a cluster's splits fits into the maps. Who exceeds a limit is refused by itself:
//! changes of the endpoints of all others go on.
//!
//! New splits are admitted in turn, of the namespace that has the fewest, the oldest first, and
//! leave room for endpoints to come. What does not fit is looked at again with each batch.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Name;
use crate::plan::{Capacity, Ledger, PlanError, cost, plan};
use crate::truth::{Step, Truth};

use super::state::change;

/// The part of endpoints and tables that new splits leave to those that are there: one of this many.
const RESERVE: u32 = 8;
/// How often a step is planned again without one more split that does not fit.
const ATTEMPTS: usize = 100;

/// The step that is left of what a cluster says when what does not fit is refused; `step` makes
/// one without these splits.
pub(super) fn admitted(
    truth: &Truth,
    ledger: &Ledger,
    step: impl Fn(BTreeMap<Name, String>) -> Step,
) -> Step {
    let all = step(BTreeMap::new());
    let fits = |step: &Step| plan(ledger, &change(&step.changes), 0).err();
    let Some(_) = fits(&all) else { return all };
    let mut refused = excess(truth, ledger, &all);
    let mut left = step(refused.clone());
    for _ in 0..ATTEMPTS {
        let (split, why) = match fits(&left) {
            None => break,
            Some(error @ (PlanError::Full { .. } | PlanError::Endpoints { .. })) => {
                (error.split().clone(), error.to_string())
            }
        };
        // One that is refused already, or is not the cluster's, is for whoever carries it out.
        if !left.resolver().is_some_and(|resolver| resolver.is_of_cluster(&split))
            || refused.insert(split, why).is_some()
        {
            break;
        }
        left = step(refused.clone());
    }
    left
}

/// The new splits of a step that do not fit, and why.
fn excess(truth: &Truth, ledger: &Ledger, step: &Step) -> BTreeMap<Name, String> {
    let Some(resolver) = step.resolver() else { return BTreeMap::new() };
    let namespace = |name: &Name| resolver.owner(name);
    let mut has: BTreeMap<String, usize> = BTreeMap::new();
    for split in truth.desired().splits() {
        if let Some((of, _)) = namespace(split.name()) {
            *has.entry(of).or_default() += 1;
        }
    }
    // Those of each namespace, the oldest first.
    let mut candidates: BTreeMap<String, BTreeSet<(u64, &Name)>> = BTreeMap::new();
    let mut room = Room::of(ledger);
    for change in &step.changes {
        let Some(after) = &change.after else { continue };
        let cost = cost(ledger, after);
        match namespace(&change.name).filter(|_| change.before.is_none()) {
            Some((of, age)) => _ = candidates.entry(of).or_default().insert((age, &change.name)),
            // What is there grows as long as there is any room; who does not fit then is found
            // when all is planned.
            None => room.take(cost),
        }
    }
    let mut refused = BTreeMap::new();
    let next = |candidates: &BTreeMap<String, BTreeSet<(u64, &Name)>>,
                has: &BTreeMap<String, usize>| {
        let fewest =
            candidates.keys().min_by_key(|&of| (has.get(of).copied().unwrap_or(0), of.clone()));
        fewest.cloned()
    };
    while let Some(of) = next(&candidates, &has) {
        let Some(waiting) = candidates.get_mut(&of) else { break };
        let Some((_, name)) = waiting.pop_first() else {
            candidates.remove(&of);
            continue;
        };
        let split = step.changes.iter().find(|change| change.name == *name);
        let Some(after) = split.and_then(|change| change.after.as_deref()) else { continue };
        let cost = cost(ledger, after);
        match room.lacks(cost) {
            None => {
                room.take(cost);
                *has.entry(of).or_default() += 1;
            }
            Some(limit) => {
                let count = has.get(&of).copied().unwrap_or(0);
                let message = format!(
                    "split \"{name}\" does not fit: {limit} of the agent's configuration are in use; namespace \"{of}\" has {count} splits in force"
                );
                refused.insert(name.clone(), message);
            }
        }
    }
    refused
}

/// What new splits may take.
struct Room(Capacity);

impl Room {
    fn of(ledger: &Ledger) -> Self {
        let (all, used) = (ledger.capacity(), ledger.used());
        let left = |all: u32, used: u32| all.saturating_sub(used).saturating_sub(all / RESERVE);
        Self(Capacity {
            splits: all.splits.saturating_sub(used.splits),
            endpoints: left(all.endpoints, used.endpoints),
            chunks: left(all.chunks, used.chunks),
        })
    }

    /// The limit that something exceeds.
    fn lacks(&self, cost: Capacity) -> Option<&'static str> {
        let Self(room) = self;
        [
            (cost.splits > room.splits, "limits.splits"),
            (cost.endpoints > room.endpoints, "limits.endpoints"),
            (cost.chunks > room.chunks, "limits.tableSlots"),
        ]
        .into_iter()
        .find_map(|(exceeds, limit)| exceeds.then_some(limit))
    }

    fn take(&mut self, cost: Capacity) {
        let Self(room) = self;
        room.splits = room.splits.saturating_sub(cost.splits);
        room.endpoints = room.endpoints.saturating_sub(cost.endpoints);
        room.chunks = room.chunks.saturating_sub(cost.chunks);
    }
}
