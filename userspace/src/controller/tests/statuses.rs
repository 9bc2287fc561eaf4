//! What is written of a TrafficSplit, and what is not.

use serde_json::{Value, json};

use super::{World, upto};
use crate::controller::facts::Split;
use crate::controller::resolution::{Resolved, Subset};
use crate::controller::status::{Difference, difference, status};
use crate::desired::{Deviation, DeviationReason};
use crate::model::Name;
use crate::resource::{Id, Kind};

const NOON: &str = "2030-01-01T12:00:00Z";
const LATER: &str = "2030-01-01T12:30:00Z";

fn split(status: &Value) -> Split {
    Split {
        namespace: "shop".into(),
        name: "web".into(),
        uid: "u".into(),
        version: "9".into(),
        generation: 3,
        since: 7,
        status: status.clone(),
    }
}

fn resolved(endpoints: [usize; 2]) -> Resolved {
    let subset = |(name, weight, share, endpoints): (&str, u32, f64, usize)| Subset {
        name: Name::new(name).unwrap(),
        weight,
        share,
        endpoints,
    };
    let [first, second] = endpoints;
    let subsets = [("v1", 90, 0.9, first), ("v2", 10, 0.1, second)];
    Resolved { deviation: None, subsets: subsets.map(subset).into() }
}

fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let all = status["conditions"].as_array().unwrap();
    all.iter().find(|condition| condition["type"] == kind).unwrap()
}

fn summary(status: &Value) -> [String; 3] {
    ["Accepted", "ResolvedRefs", "Programmed"].map(|kind| {
        let of = condition(status, kind);
        format!("{} {}", of["status"].as_str().unwrap(), of["reason"].as_str().unwrap())
    })
}

#[test]
fn a_split_that_is_in_force_says_so_and_of_which_generation() {
    let mut world = World::of(&["a", "b"]);
    world.report("a", &upto(7));
    let now = |world: &World, before: &Value, time| {
        status(&split(before), &resolved([2, 1]), &world.verdict(7), time)
    };
    let half = now(&world, &Value::Null, NOON);
    assert_eq!(summary(&half), ["True Accepted", "True ResolvedRefs", "False NotInForce"]);
    assert_eq!(half["nodes"], json!({"ready": 1, "total": 2}));
    world.report("b", &upto(7));
    let whole = now(&world, &half, LATER);
    assert_eq!(summary(&whole)[2], "True Programmed");
    let programmed = condition(&whole, "Programmed");
    assert_eq!(programmed["observedGeneration"], 3);
    assert_eq!(programmed["message"], "in force on all 2 nodes");
    assert_eq!(whole["observedVersion"], "7");
    assert_eq!(whole["subsets"][1], json!({"name": "v2", "weight": 10, "endpoints": 1}));
    // What stays as it was has the time of before.
    assert_eq!(condition(&whole, "Accepted")["lastTransitionTime"], NOON);
    assert_eq!(programmed["lastTransitionTime"], LATER);
}

#[test]
fn a_split_without_nodes_or_endpoints_is_not_programmed_or_resolved() {
    let nowhere = World::of(&[]).verdict(7);
    let now = status(&split(&Value::Null), &resolved([2, 0]), &nowhere, NOON);
    assert_eq!(summary(&now), ["True Accepted", "False NoEndpoints", "False NoNodes"]);
    let message = condition(&now, "ResolvedRefs")["message"].as_str().unwrap();
    assert!(message.ends_with("subset v2 (10.00 % of new connections)"), "{message}");
}

#[test]
fn a_split_that_is_wrong_is_not_programmed_wherever_its_last_good_version_is() {
    let mut world = World::of(&["a"]);
    world.report("a", &upto(7));
    let id = Id { kind: Kind::TrafficSplit, namespace: String::new(), name: "web.shop".into() };
    let message = "spec.address: no".to_owned();
    let deviation = Some(Deviation { id, reason: DeviationReason::Rejected, message });
    let wrong = Resolved { deviation, ..resolved([2, 1]) };
    let now = status(&split(&Value::Null), &wrong, &world.verdict(7), NOON);
    assert_eq!(summary(&now), ["False Invalid", "True ResolvedRefs", "False NotAccepted"]);
    assert_eq!(condition(&now, "Accepted")["message"], "spec.address: no");
    let nothing = Resolved { subsets: Vec::new(), ..wrong };
    let now = status(&split(&Value::Null), &nothing, &world.verdict(7), NOON);
    assert_eq!(summary(&now)[1], "False NotAccepted");
}

#[test]
fn the_same_is_not_written_and_progress_is_told_from_news() {
    let mut world = World::of(&["a", "b", "c"]);
    let now = |world: &World, before: &Value| {
        status(&split(before), &resolved([2, 1]), &world.verdict(7), NOON)
    };
    let none = now(&world, &Value::Null);
    assert_eq!(difference(&none, &Value::Null), Difference::News);
    // Conditions of others are theirs.
    let mut there = none.clone();
    there["conditions"].as_array_mut().unwrap().push(json!({"type": "Theirs", "status": "True"}));
    assert_eq!(difference(&now(&world, &there), &there), Difference::None);
    world.report("a", &upto(7));
    let one = now(&world, &there);
    assert_eq!(difference(&one, &there), Difference::Progress);
    world.report("b", &upto(7));
    world.report("c", &upto(7));
    assert_eq!(difference(&now(&world, &one), &one), Difference::News);
    let other = status(&split(&one), &resolved([3, 1]), &world.verdict(8), NOON);
    assert_eq!(difference(&other, &one), Difference::News);
}
