//! Which nodes are required, which reports count, and since when a generation is there.

use serde_json::{Value, json};

use super::{World, required, upto};
use crate::cluster::{Report, Sighting, Tracked};

#[test]
fn nodes_are_required_while_they_have_pods_or_carry_programs() {
    let mut world = World::of(&["a"]);
    for node in ["b", "c"] {
        world.put(Tracked::Nodes, json!({"metadata": {"name": node}}));
    }
    assert_eq!(required(&world).into_keys().collect::<Vec<_>>(), ["a"]);
    world.pod("second", "a");
    world.see(Sighting::Gone(Tracked::Pods, "shop/on-a".into()));
    assert_eq!(required(&world).into_keys().collect::<Vec<_>>(), ["a"]);
    world.see(Sighting::Gone(Tracked::Pods, "shop/second".into()));
    assert!(required(&world).is_empty());
    // An agent with interfaces, or with some that fail; not one that touches none.
    world.report("a", &Report { attached: false, ..upto(1) });
    world.report("b", &upto(1));
    world.report("c", &Report { attached: false, failing: vec!["x: no".into()], ..upto(1) });
    assert_eq!(required(&world).into_keys().collect::<Vec<_>>(), ["b", "c"]);
    // A node that is gone needs none.
    world.see(Sighting::Gone(Tracked::Nodes, "b".into()));
    assert_eq!(required(&world).into_keys().collect::<Vec<_>>(), ["c"]);
    // A Pod that went to another node.
    world.pod("moving", "a");
    world.pod("moving", "c");
    assert_eq!(required(&world).into_keys().collect::<Vec<_>>(), ["c"]);
}

#[test]
fn a_report_counts_until_two_renewals_are_missed() {
    let mut world = World::of(&["a"]);
    world.report("a", &upto(7));
    let stale = world.facts.next_stale(world.now).unwrap();
    world.pass(609);
    assert!(world.verdict(7).is_in_force() && world.now < stale);
    // Seen again, and not renewed.
    let written = world.now - std::time::Duration::from_secs(609);
    world.report_of("a", &upto(7), written);
    world.pass(1);
    assert_eq!(stale, world.now);
    assert_eq!(
        world.verdict(7).to_string(),
        "not in force on 1 of 1 nodes: a (its agent reports no more)"
    );
    assert_eq!(world.facts.next_stale(world.now), None);
    world.report("a", &upto(7));
    assert!(world.verdict(7).is_in_force());
    // A controller that has just started goes by what the report itself says.
    let mut other = World::of(&["a"]);
    let old = other.now - std::time::Duration::from_secs(611);
    other.report_of("a", &upto(7), old);
    assert!(!other.verdict(7).is_in_force());
}

#[test]
fn a_report_that_cannot_be_read_is_none() {
    let mut world = World::of(&["a"]);
    world.report("a", &upto(7));
    let report = json!({"activity": "Dreaming", "renewedEvery": 300});
    world.put(Tracked::Reports, json!({"metadata": {"name": "a"}, "report": report}));
    assert!(!world.verdict(7).is_in_force());
}

#[test]
fn reports_of_nodes_that_are_gone_are_orphans_when_nobody_renews_them() {
    let mut world = World::of(&["a", "b"]);
    world.report("a", &upto(7));
    world.report("b", &upto(7));
    world.see(Sighting::Gone(Tracked::Nodes, "b".into()));
    assert_eq!(world.facts.orphans(world.now), [] as [&str; 0]);
    world.pass(700);
    assert_eq!(world.facts.orphans(world.now), ["b"]);
    world.see(Sighting::Gone(Tracked::Reports, "b".into()));
    assert_eq!(world.facts.orphans(world.now), [] as [&str; 0]);
}

#[test]
fn a_generation_is_there_since_it_was_seen_first() {
    let mut world = World::of(&[]);
    world.split(100, 1, Value::Null);
    assert_eq!(world.since(), 100);
    // A status, labels: the same generation.
    world.split(140, 1, json!({"observedGeneration": 1, "observedVersion": "100"}));
    assert_eq!(world.since(), 100);
    world.split(150, 2, json!({"observedGeneration": 1, "observedVersion": "100"}));
    assert_eq!(world.since(), 150);
    // Another object of the same name begins anew.
    world.see(Sighting::Gone(Tracked::Splits, "shop/web".into()));
    world.split(200, 1, Value::Null);
    assert_eq!(world.since(), 200);

    // A controller that comes later knows it from the one before, and of no other generation.
    let mut other = World::of(&[]);
    other.split(140, 1, json!({"observedGeneration": 1, "observedVersion": "100"}));
    assert_eq!(other.since(), 100);
    let mut other = World::of(&[]);
    other.split(150, 2, json!({"observedGeneration": 1, "observedVersion": "100"}));
    assert_eq!(other.since(), 150);
    // Which version it says cannot be later than the object itself.
    let mut other = World::of(&[]);
    other.split(150, 2, json!({"observedGeneration": 2, "observedVersion": "900"}));
    assert_eq!(other.since(), 150);
}

#[test]
fn all_is_known_when_every_collection_was_listed() {
    let mut world = World::of(&["a"]);
    for tracked in Tracked::ALL {
        assert!(!world.facts.is_complete());
        world.see(Sighting::Listed(tracked));
    }
    assert!(world.facts.is_complete());
}
