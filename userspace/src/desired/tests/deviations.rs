//! What is known and not in force.

use std::collections::BTreeMap;

use super::origins::{batch, namespaced};
use super::{World, split};
use crate::desired::{Batch, DeviationReason, DrainGuard, Guard};
use crate::model::Name;
use crate::resource::Kind;

fn deviations(world: &World) -> BTreeMap<String, (DeviationReason, String)> {
    let found = world.desired_state.deviations(Kind::TrafficSplit, &world.persisted);
    found.into_iter().map(|one| (one.id.name, (one.reason, one.message))).collect()
}

fn reasons(world: &World) -> Vec<(String, DeviationReason)> {
    deviations(world).into_iter().map(|(name, (reason, _))| (name, reason)).collect()
}

fn one(name: &str, reason: DeviationReason) -> Vec<(String, DeviationReason)> {
    vec![(name.to_owned(), reason)]
}

#[test]
fn what_is_in_force_as_it_says_is_not_among_them() {
    let mut world = World::of_cluster(false);
    world.files(&[split("a", 1, 1)]);
    world.observe(batch(&[namespaced(&split("b", 9, 1)), namespaced(&split("c", 1, 0))], true));
    assert_eq!(reasons(&world), []);
}

#[test]
fn what_is_wrong_goes_on_as_it_was_and_says_so_until_it_is_right() {
    let mut world = World::of_cluster(false);
    world.files(&[]);
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    let wrong = namespaced(&split("b", 9, 1)).replace("weight: 9", "weight: -9");
    world.observe(batch(&[wrong], false));
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::Rejected));
    let message = &deviations(&world)["b.shop"].1;
    assert!(message.starts_with("spec.subsets[0].weight: "), "{message}");
    world.observe(batch(&[namespaced(&split("b", 8, 2))], false));
    assert_eq!(reasons(&world), []);
}

#[test]
fn an_address_that_another_has_or_that_nobody_may_name_is_none() {
    let mut world = World::of_cluster(false);
    world.files(&[]);
    let twin = namespaced(&split("b", 1, 1)).replace("name: b", "name: twin");
    let foreign = namespaced(&split("c", 1, 1)).replace("10.0.0.99", "203.0.113.9");
    world.observe(batch(&[namespaced(&split("b", 9, 1)), twin, foreign], true));
    let found = reasons(&world);
    let expected =
        [("c.shop", DeviationReason::Rejected), ("twin.shop", DeviationReason::Conflicted)];
    assert_eq!(found, expected.map(|(name, reason)| (name.to_owned(), reason)));
}

#[test]
fn a_file_of_the_same_name_is_in_its_place() {
    let mut world = World::of_cluster(false);
    world.files(&[split("b.shop", 1, 1)]);
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::Shadowed));
}

#[test]
fn what_an_operator_changed_on_the_node_is_seen_and_over_with_the_change() {
    let mut world = World::of_cluster(false);
    world.files(&[]);
    world.observe(batch(&[namespaced(&split("b", 9, 1))], true));
    let here = Guard { this_node: true, ..Guard::default() };
    world.guarded("b.shop", &[("v1", 5)], &here).unwrap();
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::Overridden));
    let message = &deviations(&world)["b.shop"].1;
    assert!(message.contains("v1=5 v2=1"), "{message}");
    world.reset("b.shop").unwrap();
    assert_eq!(reasons(&world), []);

    let endpoint = {
        let running = world.desired_state.split_set().get("b.shop").unwrap();
        running.subsets()[1].endpoints.first().copied().unwrap()
    };
    let (persisted, now) = (world.persisted.clone(), world.now());
    let guard = DrainGuard { force: true, this_node: true };
    let step = world.desired_state.drain(&persisted, "b.shop", &endpoint.to_string(), guard, now);
    world.accept(step).unwrap();
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::Drained));
    // The newer intention ends an override, and not a drain.
    world.observe(batch(&[namespaced(&split("b", 8, 2))], false));
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::Drained));
}

#[test]
fn what_does_not_fit_is_not_in_force() {
    let mut world = World::of_cluster(false);
    world.files(&[]);
    world.observe(Batch { complete: true, ..Batch::default() });
    let observed = world.desired_state.observe(batch(&[namespaced(&split("b", 9, 1))], false));
    let excess = [(Name::new("b.shop").unwrap(), "it does not fit".to_owned())].into();
    let now = world.now();
    let step = world.desired_state.step_of(&world.persisted, &observed, excess, now);
    world.accept(Ok(step)).unwrap();
    assert_eq!(reasons(&world), one("b.shop", DeviationReason::NoRoom));
}
