//! Documents of a cluster beside files and applied ones.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{World, document, split};
use crate::desired::{
    Batch, Cause, DesiredState, DrainGuard, Guard, PersistedState, Rejected, Step,
};
use crate::model::{Name, Weights};
use crate::resource::{Id, Policy, read_object};
use crate::source::{Problem, documents};

/// What an API server has, as text. Addresses of 10.0.0.0/8 may be named.
pub(super) fn batch(texts: &[String], complete: bool) -> Batch {
    let mut batch = Batch { complete, ..Batch::default() };
    let text = texts.join("---\n");
    for node in documents("f", &text).0 {
        let found = read_object(&serde_json::to_string(&node.value).unwrap());
        batch.put.extend(found.documents);
        for (id, labels) in found.rejected {
            let problems = found.problems.clone();
            batch.rejected.push(Rejected { id, labels, problems });
        }
    }
    batch
}

fn policy() -> Policy {
    Policy { addresses: vec!["10.0.0.0/8".parse().unwrap()], ..Policy::default() }
}

fn id(name: &str) -> Id {
    Id { kind: crate::resource::Kind::TrafficSplit, namespace: String::new(), name: name.into() }
}

impl World {
    pub(super) fn of_cluster(observes: bool) -> Self {
        let desired_state = DesiredState::start(&PersistedState::default(), [])
            .awaiting_cluster(policy(), observes);
        Self { desired_state, ..Self::default() }
    }

    pub(super) fn observe(&mut self, batch: Batch) -> Step {
        let now = self.now();
        let observed = self.desired_state.observe(batch);
        let step = self.desired_state.step_of(&self.persisted, &observed, BTreeMap::new(), now);
        self.accept(Ok(step)).expect("what a cluster says is never rejected")
    }

    fn start_again_in_cluster(&mut self) {
        self.start_again();
        self.desired_state =
            std::mem::take(&mut self.desired_state).awaiting_cluster(policy(), false);
    }

    fn running(&self) -> Vec<String> {
        let line = |split: &crate::model::Split| format!("{} {}", split.name(), Weights::of(split));
        self.desired_state.split_set().splits().map(line).collect()
    }
}

/// A cluster's split has a namespace, so its name differs from those of files.
pub(super) fn namespaced(text: &str) -> String {
    text.replace("metadata: {name:", "metadata: {namespace: shop, name:")
}

#[test]
fn a_split_of_the_cluster_changes_on_this_node_alone_only_if_that_is_said() {
    let mut world = World::of_cluster(false);
    world.files(&[split("a", 1, 1)]);
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    world.weights("a", &[("v1", 5)]).unwrap();
    let here = Guard { this_node: true, ..Guard::default() };
    let of_this_node = |world: &World| {
        let names = world.desired_state.of_this_node(&world.persisted);
        names.iter().map(Name::as_str).collect::<Vec<_>>().join(" ")
    };
    let refused = world.weights("b.shop", &[("v1", 5)]).unwrap_err();
    let expected = "split \"b.shop\" is the cluster's (TrafficSplit b.shop), and this node alone \
                    would differ from the others: use weir weights b.shop v1=5 v2=1 --cluster, or \
                    kubectl -n shop edit trafficsplits.weir.dev/b; --this-node does it here all \
                    the same";
    assert_eq!(refused, expected);
    assert_eq!(
        (world.running()[1].as_str(), of_this_node(&world)),
        ("b.shop v1=9 v2=1", "".into())
    );

    world.guarded("b.shop", &[("v1", 5)], &here).unwrap();
    assert_eq!(world.running()[1], "b.shop v1=5 v2=1");
    assert_eq!(of_this_node(&world), "b.shop");
    let refused = world.rollback("b.shop", None).unwrap_err();
    assert!(refused.contains("use weir rollback b.shop --cluster, or kubectl"), "{refused}");
    // Back to what the cluster says is what everybody wants.
    world.reset("b.shop").unwrap();
    assert_eq!(of_this_node(&world), "");

    let drain = |world: &mut World, this_node| {
        let (guard, now) = (DrainGuard { this_node, force: true }, world.now());
        let endpoint = world.desired_state.split_set().get("b.shop").unwrap().subsets()[0]
            .endpoints
            .first()
            .unwrap()
            .to_string();
        let step = world.desired_state.drain(&world.persisted, "b.shop", &endpoint, guard, now);
        world.accept(step)
    };
    let refused = drain(&mut world, false).unwrap_err();
    assert!(refused.contains("the readiness of the Pod, or its labels"), "{refused}");
    drain(&mut world, true).unwrap();
    assert_eq!(of_this_node(&world), "b.shop");
}

#[test]
fn a_split_of_which_the_cluster_was_not_heard_yet_is_not_changed_unawares() {
    let mut world = World::of_cluster(false);
    world.files(&[]);
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    world.start_again_in_cluster();
    world.files(&[]);
    let refused = world.weights("b.shop", &[("v1", 5)]).unwrap_err();
    assert!(refused.contains("was not heard of yet"), "{refused}");
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    let refused = world.weights("b.shop", &[("v1", 5)]).unwrap_err();
    assert!(refused.contains("is the cluster's"), "{refused}");
}

#[test]
fn a_cluster_is_followed_beside_files() {
    let mut world = World::of_cluster(false);
    world.files(&[split("a", 1, 1)]);
    assert!(!world.desired_state.is_complete());
    assert!(!world.desired_state.was_faultless(), "the cluster is not known yet");
    world.observe(batch(&[namespaced(&split("b", 9, 1)), namespaced(&split("c", 1, 0))], true));
    assert!(world.desired_state.is_complete() && world.desired_state.was_faultless());
    assert_eq!(world.running(), ["a v1=1 v2=1", "b.shop v1=9 v2=1", "c.shop v1=1 v2=0"]);
    let step = world.observe(batch(&[namespaced(&split("b", 8, 2))], false));
    assert_eq!(step.changes.len(), 1);
    assert_eq!(world.persisted.changes("b.shop").next_back().unwrap().cause, Cause::Cluster);
    world.observe(Batch { deleted: vec![id("c.shop"), id("never.there")], ..Batch::default() });
    assert_eq!(world.running(), ["a v1=1 v2=1", "b.shop v1=8 v2=2"]);
    // What a complete list does not name is gone; files are not its business.
    world.observe(batch(&[], true));
    assert_eq!(world.running(), ["a v1=1 v2=1"]);
    // Nor is the cluster that of files.
    world.observe(batch(&[namespaced(&split("b", 8, 2))], true));
    world.files(&[]);
    assert_eq!(world.running(), ["b.shop v1=8 v2=2"]);
    assert_eq!(world.desired_state.source("b.shop").unwrap().to_string(), "cluster");
}

#[test]
fn what_is_in_force_stays_until_its_origin_takes_it_back() {
    // Without a namespace, so that all three can have one of the same id.
    let of = |weight| split("a", weight, 1);
    let mut world = World::of_cluster(false);
    world.observe(batch(&[of(3)], true));
    world.files(&[of(1)]);
    assert_eq!(world.running(), ["a v1=3 v2=1"], "the cluster's is in force");
    let said = world.complaints();
    assert_eq!(said.len(), 1);
    assert!(said[0].starts_with("/etc/f:3: metadata.name: split \"a\" is also in the cluster"));
    let rejected = world.apply(&[of(2)]).unwrap_err();
    assert!(rejected.contains("already defined in the cluster"), "{rejected}");
    let rejected = world.delete(&["a"]).unwrap_err();
    assert!(rejected.contains("is defined in the cluster: remove it there"), "{rejected}");
    world.observe(batch(&[], true));
    assert_eq!((world.running(), world.complaints()), (vec!["a v1=1 v2=1".to_owned()], vec![]));
    // Now the file's is, and the cluster's waits.
    world.observe(batch(&[of(3)], true));
    assert_eq!(world.running(), ["a v1=1 v2=1"]);
    let said = world.complaints();
    assert!(said[0].starts_with(
        "cluster TrafficSplit/a: metadata.name: split \"a\" is also defined on the node"
    ));
    assert!(world.desired_state.was_faultless());
    world.files(&[]);
    assert_eq!((world.running(), world.complaints()), (vec!["a v1=3 v2=1".to_owned()], vec![]));
}

#[test]
fn the_last_good_version_of_a_rejected_object_stays() {
    let mut world = World::of_cluster(false);
    let good = namespaced(&split("a", 1, 1));
    let bad = namespaced(&split("a", 5, 1)).replace("port: 80", "port: 0");
    world.files(&[]);
    world.observe(batch(std::slice::from_ref(&good), true));
    world.observe(batch(std::slice::from_ref(&bad), false));
    assert_eq!(world.running(), ["a.shop v1=1 v2=1"]);
    assert_eq!(world.complaints().len(), 1, "{:?}", world.complaints());
    assert!(world.complaints()[0].starts_with("cluster TrafficSplit/a.shop: spec.port: 0"));
    assert!(world.desired_state.was_faultless(), "an editor's mistake is none of the node's");
    world.observe(batch(&[bad], true));
    assert_eq!(world.running(), ["a.shop v1=1 v2=1"], "a list that names it keeps it, too");
    world.observe(batch(&[good], false));
    assert_eq!(world.complaints(), [] as [&str; 0]);
    world.observe(Batch { deleted: vec![id("a.shop")], ..Batch::default() });
    assert_eq!(world.running(), [] as [&str; 0]);
}

#[test]
fn nothing_that_ran_is_withdrawn_before_the_cluster_is_known() {
    let mut world = World::of_cluster(false);
    world.files(&[split("f", 1, 1)]);
    world.observe(batch(&[namespaced(&split("a", 1, 1)), namespaced(&split("b", 1, 1))], true));
    world.start_again_in_cluster();
    world.files(&[split("f", 2, 1)]);
    assert_eq!(world.running(), ["a.shop v1=1 v2=1", "b.shop v1=1 v2=1", "f v1=2 v2=1"]);
    // A change comes before all is listed.
    world.observe(batch(&[namespaced(&split("a", 7, 1))], false));
    assert_eq!(world.running(), ["a.shop v1=7 v2=1", "b.shop v1=1 v2=1", "f v1=2 v2=1"]);
    world.observe(batch(&[namespaced(&split("a", 7, 1))], true));
    assert_eq!(world.running(), ["a.shop v1=7 v2=1", "f v1=2 v2=1"]);
    // The other way round: the cluster is known, the files are not.
    world.start_again_in_cluster();
    world.observe(batch(&[], true));
    assert_eq!(world.running(), ["a.shop v1=7 v2=1", "f v1=2 v2=1"]);
    world.files(&[split("f", 2, 1)]);
    assert_eq!(world.running(), ["f v1=2 v2=1"]);
}

#[test]
fn who_observes_steers_nothing_of_the_cluster() {
    let mut world = World::of_cluster(true);
    world.files(&[split("f", 1, 1)]);
    world.observe(batch(&[namespaced(&split("a", 1, 1))], true));
    assert_eq!(world.running(), ["f v1=1 v2=1"]);
    let shown: Vec<String> =
        world.desired_state.observed().iter().map(|split| split.name().to_string()).collect();
    assert_eq!(shown, ["a.shop"]);
}

/// What a cluster has at some time: of each of four names, one of three definitions, a wrong
/// one, or none.
fn state() -> impl Strategy<Value = [u8; 4]> {
    proptest::array::uniform4(0u8..5)
}

fn object(name: usize, what: u8) -> String {
    let text = document(
        ["a", "b", "c", "d"][name],
        u8::try_from(name).unwrap() + 1,
        &[("v1", 1), ("v2", what.into())],
        9,
    );
    match what {
        4 => namespaced(&text).replace("port: 80", "port: 0"),
        _ => namespaced(&text),
    }
}

/// How a watch tells of the way from one state to the next: an event for each name, in an order.
fn events(from: [u8; 4], to: [u8; 4], order: &[usize]) -> Vec<Batch> {
    let changed = order.iter().filter(|&&name| from[name] != to[name]);
    let event = |&name: &usize| match to[name] {
        0 => Batch {
            deleted: vec![id(&format!("{}.shop", ["a", "b", "c", "d"][name]))],
            ..Batch::default()
        },
        what => batch(&[object(name, what)], false),
    };
    changed.map(event).collect()
}

fn list(state: [u8; 4]) -> Batch {
    let there: Vec<String> =
        (0..4).filter(|&name| state[name] != 0).map(|name| object(name, state[name])).collect();
    batch(&there, true)
}

/// What is in force and what is said, but for what was kept of rejected objects.
fn seen(world: &World) -> (Vec<String>, Vec<String>) {
    (world.running(), world.complaints())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// By single events in any order, by all of them at once, or by lists: the same comes of it.
    #[test]
    fn any_order_of_batches_leads_to_the_same(
        states in prop::collection::vec(state(), 1..6),
        order in Just(vec![0, 1, 2, 3]).prop_shuffle(),
    ) {
        let mut worlds: BTreeMap<&str, World> = ["single", "merged", "lists", "other order"]
            .into_iter().map(|how| (how, World::of_cluster(false))).collect();
        for world in worlds.values_mut() {
            world.files(&[]);
            world.observe(list([0; 4]));
        }
        let mut before = [0; 4];
        for state in states {
            for (how, world) in &mut worlds {
                match *how {
                    "single" => for event in events(before, state, &order) { world.observe(event); },
                    "other order" => for event in events(before, state, &[0, 1, 2, 3]) { world.observe(event); },
                    "merged" => {
                        let all = events(before, state, &order).into_iter();
                        world.observe(all.fold(Batch::default(), Batch::then));
                    }
                    _ => _ = world.observe(list(state)),
                }
            }
            before = state;
            let all: Vec<_> = worlds.values().map(seen).collect();
            for (how, found) in worlds.keys().zip(&all) {
                prop_assert_eq!(found, &all[0], "{}", how);
            }
        }
    }
}

#[test]
fn what_nobody_asked_weir_for_is_a_note() {
    let istiod = "apiVersion: v1\nkind: Service\nmetadata: {namespace: istio-system, name: istiod, labels: {app: istiod}}\nspec: {clusterIP: 10.96.0.9, ports: [{name: tcp, port: 80}]}\n";
    let route = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {namespace: shop, name: web}\nspec: {hosts: [web], http: [{match: [{headers: {a: {exact: b}}}], route: [{destination: {host: web}}]}]}\n";
    let mut world = World::of_cluster(false);
    world.files(&[]);
    world.observe(batch(&[route.to_owned()], true));
    assert!(!world.complaints().is_empty(), "without Istio, weir is what it is for");
    world.observe(batch(&[istiod.to_owned(), route.to_owned()], true));
    assert_eq!(world.complaints(), [] as [&str; 0]);
    let notes: Vec<String> = world.desired_state.notes().iter().map(Problem::to_string).collect();
    assert!(notes.iter().any(|note| note.contains("VirtualService/shop/web")), "{notes:?}");
    let labelled = route.replace("name: web}", "name: web, labels: {weir.dev/steer: \"true\"}}");
    world.observe(batch(&[istiod.to_owned(), labelled], true));
    assert!(!world.complaints().is_empty());
}
