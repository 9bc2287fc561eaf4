//! What of a cluster's splits fits into the maps. Who exceeds a limit is rejected by itself:
//! changes of the endpoints of all others go on.
//!
//! New splits are admitted in turn, of the namespace that has the fewest, the oldest first, and
//! leave room for endpoints to come. What does not fit is looked at again with each batch.

use std::collections::BTreeMap;

use crate::desired::{DesiredState, Step};
use crate::model::Name;
use crate::plan::{Capacity, Ledger, PlanError, cost, plan};

use super::state::change;

/// The part of endpoints and tables that new splits leave to those that are there: one of this many.
const RESERVE: u32 = 8;
/// How often a step is planned again without one more split that does not fit.
const ATTEMPTS: usize = 100;

/// The step that is left of what a cluster says when what does not fit is rejected; `step` makes
/// one without these splits.
pub(super) fn admitted(
    desired_state: &DesiredState,
    ledger: &Ledger,
    step: impl Fn(BTreeMap<Name, String>) -> Step,
) -> Step {
    let all = step(BTreeMap::new());
    let fits = |step: &Step| plan(ledger, &change(&step.changes), 0).err();
    let mut rejected = excess(desired_state, ledger, &all);
    if rejected.is_empty() && fits(&all).is_none() {
        return all;
    }
    let mut left = step(rejected.clone());
    for _ in 0..ATTEMPTS {
        let (split, why) = match fits(&left) {
            None => break,
            Some(error @ (PlanError::Full { .. } | PlanError::Endpoints { .. })) => {
                (error.split().clone(), error.to_string())
            }
        };
        // One that is rejected already, or is not the cluster's, is for whoever carries it out.
        if !left.resolver().is_some_and(|resolver| resolver.is_of_cluster(&split))
            || rejected.insert(split, why).is_some()
        {
            break;
        }
        left = step(rejected.clone());
    }
    left
}

/// By namespace, new splits and what they take, the oldest first.
type Waiting<'a> = BTreeMap<String, BTreeMap<(u64, &'a Name), Capacity>>;

/// The new splits of a step that do not fit, and why.
fn excess(desired_state: &DesiredState, ledger: &Ledger, step: &Step) -> BTreeMap<Name, String> {
    let Some(resolver) = step.resolver() else { return BTreeMap::new() };
    let namespace = |name: &Name| resolver.owner(name);
    // Those of each namespace, the oldest first.
    let mut candidates: Waiting<'_> = BTreeMap::new();
    let mut room = Room::of(ledger);
    for change in &step.changes {
        let Some(after) = &change.after else { continue };
        let cost = cost(ledger, after);
        match namespace(&change.name).filter(|_| change.before.is_none()) {
            Some((of, age)) => {
                candidates.entry(of).or_default().insert((age, &change.name), cost);
            }
            // What is there grows as long as there is any room; who does not fit then is found
            // when all is planned.
            None => room.take(cost),
        }
    }
    let mut has: BTreeMap<String, usize> = BTreeMap::new();
    if !candidates.is_empty() {
        for split in desired_state.split_set().splits() {
            if let Some((of, _)) = namespace(split.name()) {
                *has.entry(of).or_default() += 1;
            }
        }
    }
    let mut rejected = BTreeMap::new();
    let next = |candidates: &Waiting<'_>, has: &BTreeMap<String, usize>| {
        let fewest =
            candidates.keys().min_by_key(|&of| (has.get(of).copied().unwrap_or(0), of.clone()));
        fewest.cloned()
    };
    while let Some(of) = next(&candidates, &has) {
        let Some(waiting) = candidates.get_mut(&of) else { break };
        let Some(((_, name), cost)) = waiting.pop_first() else {
            candidates.remove(&of);
            continue;
        };
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
                rejected.insert(name.clone(), message);
            }
        }
    }
    rejected
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::{Batch, PersistedState};
    use crate::resource::{Policy, read_object};

    /// A Service of a namespace with so many endpoints, and a route to it.
    fn routed(namespace: &str, name: &str, number: u16, endpoints: u16) -> [String; 3] {
        let [high, low] = number.to_be_bytes();
        let made = format!(
            "\"creationTimestamp\": \"2026-01-01T00:{:02}:{:02}Z\"",
            number / 60,
            number % 60
        );
        let all: Vec<String> = (0..endpoints)
            .map(|at| format!("{{\"addresses\": [\"10.{high}.{low}.{}\"]}}", at + 1))
            .collect();
        [
            format!(
                "{{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {{\"namespace\": \"{namespace}\", \"name\": \"{name}\"}}, \"spec\": {{\"clusterIP\": \"10.96.{high}.{low}\", \"ports\": [{{\"name\": \"tcp\", \"port\": 80}}]}}}}"
            ),
            format!(
                "{{\"apiVersion\": \"discovery.k8s.io/v1\", \"kind\": \"EndpointSlice\", \"metadata\": {{\"namespace\": \"{namespace}\", \"name\": \"{name}-1\", \"labels\": {{\"kubernetes.io/service-name\": \"{name}\"}}}}, \"addressType\": \"IPv4\", \"ports\": [{{\"name\": \"tcp\", \"port\": 80}}], \"endpoints\": [{}]}}",
                all.join(", ")
            ),
            format!(
                "{{\"apiVersion\": \"networking.istio.io/v1\", \"kind\": \"VirtualService\", \"metadata\": {{\"namespace\": \"{namespace}\", \"name\": \"{name}\", {made}}}, \"spec\": {{\"hosts\": [\"{name}\"], \"tcp\": [{{\"route\": [{{\"destination\": {{\"host\": \"{name}\"}}}}]}}]}}}}"
            ),
        ]
    }

    struct Node {
        desired_state: DesiredState,
        persisted: PersistedState,
        ledger: Ledger,
    }

    impl Node {
        fn new(splits: u32, endpoints: u32) -> Self {
            let mut desired_state =
                DesiredState::default().awaiting_cluster(Policy::default(), false);
            let persisted = PersistedState::default();
            let now = std::time::SystemTime::UNIX_EPOCH.into();
            desired_state.accept(desired_state.load_files(
                &persisted,
                &crate::source::Files::default(),
                now,
            ));
            let ledger = Ledger::new(Capacity { splits, endpoints, chunks: 1024 });
            Self { desired_state, persisted, ledger }
        }

        fn observe(&mut self, objects: &[[String; 3]], complete: bool) {
            let documents = objects.iter().flatten().map(|text| read_object(text).documents);
            let batch = Batch { put: documents.flatten().collect(), complete, ..Batch::default() };
            let observed = self.desired_state.observe(batch);
            let now = std::time::SystemTime::UNIX_EPOCH.into();
            let step = admitted(&self.desired_state, &self.ledger, |excess| {
                self.desired_state.step_of(&self.persisted, &observed, excess, now)
            });
            let plan = plan(&self.ledger, &change(&step.changes), 0).expect("it fits");
            self.ledger = plan.ledger;
            self.desired_state.accept(step);
        }

        fn running(&self) -> Vec<String> {
            let all = self.desired_state.split_set().splits();
            all.map(|s| format!("{} {}", s.name(), s.subsets()[0].endpoints.len())).collect()
        }
    }

    #[test]
    fn who_exceeds_a_limit_is_rejected_by_itself() {
        let mut node = Node::new(4, 64);
        node.observe(&[routed("shop", "web", 1, 2)], true);
        // A namespace wants more than there is; another one's rollout goes on at the same moment.
        let mut objects: Vec<_> =
            (2..20).map(|n| routed("greedy", &format!("s{n}"), n, 1)).collect();
        objects.push(routed("shop", "web", 1, 5));
        node.observe(&objects, false);
        assert_eq!(node.running(), ["s2.greedy 1", "s3.greedy 1", "s4.greedy 1", "web.shop 5"]);
        let said = node.desired_state.problems();
        assert_eq!(said.len(), 15, "each is named: {said:?}");
        assert!(said.iter().all(|problem| problem.is_of_cluster()), "{said:?}");
        assert!(said[0].message.contains("limits.splits"), "{}", said[0].message);
        // Later, too.
        node.observe(&[routed("shop", "web", 1, 9)], false);
        assert_eq!(node.running()[3], "web.shop 9");
        assert_eq!(node.desired_state.problems().len(), 15);
    }

    #[test]
    fn namespaces_take_turns_and_the_oldest_come_first() {
        let mut node = Node::new(6, 64);
        let mut objects: Vec<_> = (10..30).map(|n| routed("a", &format!("s{n}"), n, 1)).collect();
        objects.extend([
            routed("b", "late", 900, 1),
            routed("b", "early", 800, 1),
            routed("c", "only", 999, 1),
        ]);
        node.observe(&objects, true);
        let expected = ["early.b 1", "late.b 1", "only.c 1", "s10.a 1", "s11.a 1", "s12.a 1"];
        assert_eq!(node.running(), expected);
    }

    #[test]
    fn new_splits_leave_room_for_endpoints_to_come() {
        let mut node = Node::new(64, 32);
        node.observe(&[routed("shop", "web", 1, 20), routed("shop", "big", 2, 12)], true);
        assert_eq!(node.running(), ["web.shop 20"], "the eighth part is left");
        node.observe(&[routed("shop", "web", 1, 32)], false);
        assert_eq!(node.running(), ["web.shop 32"]);
        // One that is there and grows beyond all that there is stays as it was.
        node.observe(&[routed("shop", "web", 1, 33)], false);
        assert_eq!(node.running(), ["web.shop 32"]);
        assert!(
            node.desired_state.problems().iter().any(|p| p.message.contains("limits.endpoints"))
        );
    }
}
