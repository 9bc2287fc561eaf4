//! Sources that agree and sources that do not.

mod deviations;
mod drains;
mod files;
mod origins;
mod resources;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;

use super::*;
use crate::model::{Key, Name, Weights};
use crate::resource::{Declarations, Files, Id, Kind, declarations};

/// An agent without kernel and disk: steps happen at once.
#[derive(Debug, Clone, Default)]
struct World {
    persisted: PersistedState,
    desired_state: DesiredState,
    clock: u64,
}

impl World {
    /// With files, each a split.
    fn with(files: &[String]) -> Self {
        let mut world = Self::default();
        world.files(files);
        assert_eq!(world.complaints(), [] as [&str; 0]);
        world
    }

    fn now(&mut self) -> Time {
        self.clock += 1;
        (SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock)).into()
    }

    fn accept(&mut self, step: Result<Step, Rejection>) -> Result<Step, String> {
        let step = step.map_err(|rejection| rejection.to_string())?;
        if !step.transaction.ops.is_empty() {
            self.persisted.accept(step.transaction.clone());
        }
        self.desired_state.accept(step.clone());
        Ok(step)
    }

    /// One file, of these documents.
    fn files(&mut self, documents: &[String]) -> Step {
        self.load(&[("/etc/f", documents)])
    }

    /// These files; one without documents is not there.
    fn load(&mut self, files: &[(&str, &[String])]) -> Step {
        let files = files.iter().filter(|(_, documents)| !documents.is_empty());
        let files = files.map(|(file, documents)| (*file, documents.join("---\n")));
        self.load_files(&Files::of(files))
    }

    fn load_files(&mut self, files: &Files) -> Step {
        let now = self.now();
        let step = self.desired_state.load_files(&self.persisted, files, now);
        self.accept(Ok(step)).expect("files are never rejected")
    }

    /// What is wrong with documents.
    fn complaints(&self) -> Vec<String> {
        self.desired_state.problems().iter().map(ToString::to_string).collect()
    }

    fn apply(&mut self, documents: &[String]) -> Result<Step, String> {
        let now = self.now();
        let step = self.desired_state.apply(&self.persisted, declared("x.yaml", documents)?, now);
        self.accept(step)
    }

    fn delete(&mut self, names: &[&str]) -> Result<Step, String> {
        let now = self.now();
        let keys: Vec<Key> = names.iter().map(|name| key(name)).collect();
        let step = self.desired_state.delete(&self.persisted, &keys, now);
        self.accept(step)
    }

    fn weights(&mut self, name: &str, pairs: &[(&str, u32)]) -> Result<Step, String> {
        self.guarded(name, pairs, &Guard::default())
    }

    fn guarded(
        &mut self,
        name: &str,
        pairs: &[(&str, u32)],
        guard: &Guard,
    ) -> Result<Step, String> {
        let now = self.now();
        let step = self.desired_state.set_weights(&self.persisted, name, &map(pairs), guard, now);
        self.accept(step)
    }

    fn reset(&mut self, name: &str) -> Result<Step, String> {
        let now = self.now();
        let step = self.desired_state.reset(&self.persisted, name, &Guard::default(), now);
        self.accept(step)
    }

    fn rollback(&mut self, name: &str, to: Option<u64>) -> Result<Step, String> {
        let now = self.now();
        let step = self.desired_state.rollback(&self.persisted, name, to, &Guard::default(), now);
        self.accept(step)
    }

    /// The agent starts anew, with this file, and adopts what runs.
    fn restart(&mut self, files: &[String]) -> Step {
        self.start_again();
        self.files(files)
    }

    fn start_again(&mut self) {
        let running: Vec<_> =
            self.desired_state.split_set().splits().map(|split| Arc::new(split.clone())).collect();
        self.desired_state = DesiredState::start(&self.persisted, running);
    }

    /// The machine starts anew: nothing runs.
    fn reboot(&mut self, files: &[String]) -> Step {
        self.desired_state = DesiredState::start(&self.persisted, []);
        self.files(files)
    }

    /// The weights in force.
    fn now_has(&self, name: &str) -> String {
        self.desired_state
            .split_set()
            .get(name)
            .map_or("none".into(), |split| Weights::of(split).to_string())
    }

    fn history(&self, name: &str) -> Vec<String> {
        let line = |c: &Change| format!("{} {}: {} to {}", c.version, c.cause, c.from, c.to);
        self.persisted.changes(name).map(line).collect()
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn map(pairs: &[(&str, u32)]) -> BTreeMap<Name, u32> {
    pairs.iter().map(|&(subset, weight)| (name(subset), weight)).collect()
}

/// The key of a split.
fn key(name: &str) -> Key {
    Id { kind: Kind::TrafficSplit, namespace: String::new(), name: name.to_owned() }.key()
}

fn declared(file: &str, documents: &[String]) -> Result<Declarations, String> {
    declarations(&[(file, documents.join("---\n"))])
        .map_err(|problems| Rejection::Problems(problems).to_string())
}

/// A document of five lines: its service address and endpoints end in these.
fn document(name: &str, address: u8, weights: &[(&str, u32)], endpoint: u8) -> String {
    let subsets: Vec<String> = weights
        .iter()
        .map(|(subset, weight)| {
            format!("{{name: {subset}, weight: {weight}, endpoints: ['10.1.0.{endpoint}:80']}}")
        })
        .collect();
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: {name}}}\n\
         spec: {{address: 10.0.0.{address}, port: 80,\n subsets: [{}]}}\n",
        subsets.join(", ")
    )
}

fn split(name: &str, v1: u32, v2: u32) -> String {
    document(name, name.as_bytes()[0], &[("v1", v1), ("v2", v2)], 1)
}

#[test]
fn an_override_lasts_until_the_definitions_weights_change() {
    for from_file in [true, false] {
        let mut world = World::default();
        let define = |world: &mut World, document: String| {
            if from_file { world.files(&[document]) } else { world.apply(&[document]).unwrap() }
        };
        define(&mut world, split("a", 90, 10));
        world.weights("a", &[("v1", 50)]).unwrap();
        assert_eq!(world.now_has("a"), "v1=50 v2=10");
        let since = world.persisted.override_of("a").unwrap().since;
        // Other endpoints, the same weights.
        let step = define(&mut world, document("a", b'a', &[("v1", 90), ("v2", 10)], 9));
        assert_eq!((step.changes.len(), step.events), (1, vec![]));
        assert_eq!(world.now_has("a"), "v1=50 v2=10");
        assert_eq!(world.persisted.override_of("a").unwrap().since, since);
        // Newer weights.
        let step = define(&mut world, split("a", 80, 20));
        assert_eq!(world.now_has("a"), "v1=80 v2=20");
        let said: Vec<String> = step.events.iter().map(ToString::to_string).collect();
        let expected = "split a: the override v1=50 v2=10 is over, \
                        as the weights in its definition changed to v1=80 v2=20";
        assert_eq!(said, [expected]);
        assert!(world.persisted.override_of("a").is_none());
        let last = world.persisted.changes("a").next_back().unwrap();
        assert_eq!(last.ended.as_ref().unwrap().to_string(), "v1=50 v2=10");
    }
}

#[test]
fn an_override_survives_restarts_but_not_weights_that_changed_meanwhile() {
    let files = [split("a", 90, 10), split("b", 1, 1)];
    let mut world = World::with(&files);
    world.apply(&[split("c", 3, 4)]).unwrap();
    for name in ["a", "b", "c"] {
        world.weights(name, &[("v2", 7)]).unwrap();
    }
    let before = world.persisted.clone();
    let step = world.restart(&files);
    assert_eq!((step.transaction.ops.len(), step.events.len()), (0, 0), "{step:?}");
    assert_eq!(world.persisted, before);
    for (name, weights) in [("a", "v1=90 v2=7"), ("b", "v1=1 v2=7"), ("c", "v1=3 v2=7")] {
        assert_eq!(world.now_has(name), weights);
    }
    let step = world.restart(&[split("a", 91, 10), split("b", 1, 1)]);
    assert_eq!(step.events.len(), 1, "{step:?}");
    for (name, weights) in [("a", "v1=91 v2=10"), ("b", "v1=1 v2=7"), ("c", "v1=3 v2=7")] {
        assert_eq!(world.now_has(name), weights);
    }
}

#[test]
fn what_vanished_while_no_agent_ran_is_over() {
    let mut world = World::with(&[split("a", 90, 10), split("b", 1, 1)]);
    world.weights("a", &[("v1", 5)]).unwrap();
    let step = world.restart(&[split("b", 1, 1)]);
    let expected = "split a: its override v1=5 v2=10 is over, as the split is gone";
    assert_eq!(step.events[0].to_string(), expected);
    world.files(&[split("a", 90, 10), split("b", 1, 1)]);
    assert_eq!(world.now_has("a"), "v1=90 v2=10");
    let expected = [
        "1 file: - to v1=90 v2=10",
        "2 weights: v1=90 v2=10 to v1=5 v2=10",
        "3 file: v1=5 v2=10 to -",
        "4 file: - to v1=90 v2=10",
    ];
    assert_eq!(world.history("a"), expected);
}

#[test]
fn a_document_in_two_sources_is_an_error_that_names_both() {
    let mut world = World::with(&[split("z", 1, 1), split("a", 1, 2)]);
    let before = world.desired_state.split_set().clone();
    let error = world.apply(&[split("b", 1, 1), split("a", 1, 2)]).unwrap_err();
    let expected = "x.yaml:9: metadata.name: split \"a\" is already defined at /etc/f:9";
    assert_eq!(error, expected);
    assert_eq!(*world.desired_state.split_set(), before, "b was not applied either");

    world.apply(&[split("b", 1, 1)]).unwrap();
    world.files(&[split("a", 5, 5), split("b", 7, 7)]);
    let expected = "/etc/f:9: metadata.name: split \"b\" was also applied through the API; \
                    remove it here, or there by `weir delete TrafficSplit/b`";
    assert_eq!(world.complaints(), [expected]);
    let now = ["a", "b", "z"].map(|name| world.now_has(name));
    assert_eq!(now, ["v1=5 v2=5", "v1=1 v2=1", "none"], "what was applied goes on");
    world.restart(&[split("a", 5, 5), split("b", 7, 7)]);
    assert_eq!(
        (world.complaints(), world.now_has("b")),
        (vec![expected.to_owned()], "v1=1 v2=1".into())
    );
    world.delete(&["b"]).unwrap();
    assert_eq!(world.complaints(), [] as [&str; 0]);
    assert_eq!(world.now_has("b"), "v1=7 v2=7", "the file has its say now");
}

#[test]
fn an_address_in_two_sources_is_an_error_that_names_both() {
    let mut world = World::with(&[document("a", 1, &[("v1", 1)], 1)]);
    let error = world.apply(&[document("b", 1, &[("v1", 1)], 1)]).unwrap_err();
    let expected = "x.yaml:4: spec.address: service address 10.0.0.1:80/TCP is already taken by \
                    split \"a\" (first at /etc/f:4)";
    assert_eq!(error, expected);
    world.apply(&[document("b", 2, &[("v1", 1)], 1)]).unwrap();
    world.files(&[document("c", 2, &[("v1", 1)], 1)]);
    let expected = "/etc/f:4: spec.address: service address 10.0.0.2:80/TCP is already taken by \
                    split \"b\" (first at applied)";
    assert_eq!(world.complaints(), [expected]);
    assert_eq!(["a", "b", "c"].map(|name| world.now_has(name)), ["none", "v1=1", "none"]);
}

#[test]
fn addresses_may_change_hands_in_one_call() {
    let of = |name, address| document(name, address, &[("v1", 1)], 1);
    let mut world = World::default();
    world.apply(&[of("a", 1), of("b", 2)]).unwrap();
    let step = world.apply(&[of("a", 2), of("b", 1)]).unwrap();
    assert_eq!(step.changes.len(), 2);
    let desired = world.desired_state.split_set();
    for (name, address) in [("a", "10.0.0.2:80/TCP"), ("b", "10.0.0.1:80/TCP")] {
        let split = desired.get(name).unwrap();
        assert_eq!(split.address().to_string(), address);
        assert_eq!(desired.at(&split.address()), Some(split));
    }
    world.apply(&[of("c", 1)]).expect_err("b has it now");
    world.apply(&[of("a", 1)]).expect_err("b has it now");
}

#[test]
fn an_object_that_is_no_longer_understood_is_kept_aside() {
    let mut world = World::with(&[]);
    world.apply(&[split("a", 1, 2), split("b", 1, 1)]).unwrap();
    let mut object = world.persisted.object(&key("a")).unwrap().clone();
    object.document = object.document.replace("weir.dev/v1alpha1", "weir.dev/v0");
    world.persisted.accept(Transaction { version: 9, ops: vec![Op::Put(object)] });
    world.restart(&[]);
    let said: Vec<String> =
        world.desired_state.rejected().map(|(_, why)| why.to_string()).collect();
    let expected = "applied TrafficSplit/a: apiVersion: unknown apiVersion \"weir.dev/v0\", expected one of \"split.smi-spec.io/v1alpha2\", \"split.smi-spec.io/v1alpha3\", \"split.smi-spec.io/v1alpha4\", \"weir.dev/v1alpha1\"";
    assert_eq!(said, [expected]);
    assert_eq!(world.now_has("b"), "v1=1 v2=1");
    world.apply(&[split("a", 1, 2)]).expect("a good one replaces it");
    assert_eq!(
        (world.desired_state.rejected().count(), world.now_has("a")),
        (0, "v1=1 v2=2".into())
    );
}

#[test]
fn applying_says_what_became_of_each_object() {
    let mut world = World::with(&[]);
    world.apply(&[split("a", 1, 2), split("b", 1, 1)]).unwrap();
    // Written otherwise, but the same.
    let same = split("b", 1, 1).replace("weight: 1", "weight: 0x1").replace("kind:", "\"kind\":  ");
    let step = world.apply(&[split("a", 2, 2), same, split("c", 1, 1)]).unwrap();
    let fates: Vec<(String, Fate)> =
        step.objects.iter().map(|(key, fate)| (key.to_string(), *fate)).collect();
    let expected = [
        ("TrafficSplit/a".to_owned(), Fate::Changed),
        ("TrafficSplit/b".to_owned(), Fate::Unchanged),
        ("TrafficSplit/c".to_owned(), Fate::Created),
    ];
    assert_eq!(fates, expected);
    let difference = step.difference();
    assert_eq!((difference.added, difference.unchanged), (vec![name("c")], 1));
    assert_eq!(difference.changed.len(), 1);
    assert!((difference.changed[0].moved - (2.0 / 3.0 - 0.5)).abs() < 1e-12);
    let versions: Vec<u64> = world.persisted.objects().map(|object| object.version).collect();
    assert_eq!(versions, [2, 1, 2]);
    let step = world.apply(&[split("c", 1, 1)]).unwrap();
    assert!(step.transaction.ops.is_empty() && step.changes.is_empty(), "{step:?}");
}

#[test]
fn deleting_is_all_or_nothing() {
    let mut world = World::with(&[split("f", 1, 1)]);
    world.apply(&[split("a", 1, 2), split("b", 1, 1)]).unwrap();
    world.weights("a", &[("v1", 4)]).unwrap();
    for (names, says) in [
        (["a", "x"], "TrafficSplit/x was not applied; there is a, b"),
        (["a", "f"], "TrafficSplit/f is defined at /etc/f:3: remove it there"),
    ] {
        assert_eq!(world.delete(&names).unwrap_err(), says);
        assert_eq!(world.now_has("a"), "v1=4 v2=2");
    }
    let step = world.delete(&["a", "b", "a"]).unwrap();
    assert_eq!(step.difference().removed, [name("a"), name("b")]);
    assert_eq!(step.difference().unchanged, 1);
    assert_eq!(world.now_has("a"), "none");
    assert_eq!(world.persisted.overrides().len(), 0);
    assert_eq!(world.history("a").last().unwrap(), "4 delete: v1=4 v2=2 to -");
}

#[test]
fn weights_are_set_only_if_they_are_as_expected() {
    let mut world = World::with(&[split("a", 90, 10)]);
    let guard = |expect: &[(&str, u32)], version| Guard {
        expect: map(expect),
        version,
        ..Guard::default()
    };
    world.guarded("a", &[("v1", 80)], &guard(&[("v1", 90), ("v2", 10)], Some(1))).unwrap();
    let is =
        "split \"a\" has v1=80 v2=10 (version 2, 1970-01-01T00:00:02.000Z by weights), expected";
    for (guard, expected) in [
        (guard(&[("v1", 90)], None), "v1=90"),
        (guard(&[], Some(1)), "version 1"),
        (guard(&[("v1", 80), ("v2", 11)], Some(9)), "v1=80 v2=11 and version 9"),
    ] {
        let error = world.guarded("a", &[("v1", 70)], &guard).unwrap_err();
        assert_eq!(error, format!("{is} {expected}"));
        assert_eq!(world.now_has("a"), "v1=80 v2=10");
    }
    let error = world.guarded("a", &[("v1", 7)], &guard(&[("v3", 1)], None)).unwrap_err();
    assert_eq!(error, "split \"a\": there is no subset \"v3\"; there is v1, v2");
    // Not all subsets have to be named.
    world.guarded("a", &[("v1", 70)], &guard(&[("v2", 10)], None)).unwrap();
}

#[test]
fn weights_that_make_no_sense_are_rejected() {
    let mut world = World::with(&[split("a", 90, 10)]);
    for (name, weights, says) in [
        ("b", &[("v1", 1)][..], "there is no split \"b\"; there is a"),
        ("a", &[("v3", 1)], "split \"a\": there is no subset \"v3\"; there is v1, v2"),
        ("a", &[("v1", 0), ("v2", 0)], "split \"a\": the weights of a split must not all be 0"),
    ] {
        assert_eq!(world.weights(name, weights).unwrap_err(), says);
    }
    assert_eq!(world.reset("b").unwrap_err(), "there is no split \"b\"; there is a");
    assert_eq!(world.rollback("b", None).unwrap_err(), "there is no split \"b\"; there is a");
}

#[test]
fn a_reset_gives_the_definition_its_say_again() {
    let mut world = World::with(&[split("a", 90, 10)]);
    assert!(world.reset("a").unwrap().transaction.ops.is_empty(), "there is nothing to reset");
    world.weights("a", &[("v1", 1)]).unwrap();
    world.reset("a").unwrap();
    assert_eq!(world.now_has("a"), "v1=90 v2=10");
    assert_eq!(world.history("a").last().unwrap(), "3 reset: v1=1 v2=10 to v1=90 v2=10");
    // Weights that are the defined ones override nothing.
    world.weights("a", &[("v1", 1)]).unwrap();
    world.weights("a", &[("v1", 90)]).unwrap();
    assert_eq!(world.persisted.overrides().len(), 0);
}

#[test]
fn a_rollback_goes_back_to_any_change() {
    let mut world = World::with(&[split("a", 90, 10)]);
    let error = world.rollback("a", None).unwrap_err();
    assert_eq!(error, "split \"a\" had no weights before, there is no way back");
    world.weights("a", &[("v1", 80)]).unwrap();
    world.weights("a", &[("v1", 70)]).unwrap();
    world.rollback("a", None).unwrap();
    assert_eq!(world.now_has("a"), "v1=80 v2=10");
    world.rollback("a", None).unwrap();
    assert_eq!(world.now_has("a"), "v1=70 v2=10", "a second one goes back to before the first");
    world.rollback("a", Some(1)).unwrap();
    assert_eq!(world.now_has("a"), "v1=90 v2=10");
    assert_eq!(world.persisted.overrides().len(), 0, "these are the defined ones");
    let error = world.rollback("a", Some(77)).unwrap_err();
    assert_eq!(error, "split \"a\" has no change 77: see `weir history a`");
    world.files(&[document("a", b'a', &[("v1", 1), ("v3", 1)], 1)]);
    let error = world.rollback("a", None).unwrap_err();
    let expected = "split \"a\" has other subsets now: it has v1=1 v3=1, and had v1=90 v2=10";
    assert_eq!(error, expected);
}

#[derive(Debug, Clone)]
enum Action {
    Files(Vec<(u8, u32)>),
    Apply(Vec<(u8, u32)>),
    Delete(u8),
    Weights(u8, u32),
    Reset(u8),
    Rollback(u8),
    Restart,
}

fn action() -> impl Strategy<Value = Action> {
    let splits = || prop::collection::btree_map(0..5u8, 1..4u32, 0..4);
    prop_oneof![
        splits().prop_map(|s| Action::Files(s.into_iter().collect())),
        splits().prop_map(|s| Action::Apply(s.into_iter().collect())),
        (0..5u8).prop_map(Action::Delete),
        (0..5u8, 0..4u32).prop_map(|(n, w)| Action::Weights(n, w)),
        (0..5u8).prop_map(Action::Reset),
        (0..5u8).prop_map(Action::Rollback),
        Just(Action::Restart),
    ]
}

proptest! {
    /// Whatever was done, an agent that starts anew comes to the same, and the
    /// history ends with what is in force.
    #[test]
    fn a_restart_comes_to_the_same(actions in prop::collection::vec(action(), 0..30)) {
        let mut world = World::with(&[]);
        let mut files = Vec::new();
        let letter = |n: u8| char::from(b'a' + n).to_string();
        let documents = |splits: &[(u8, u32)]| -> Vec<String> {
            splits.iter().map(|&(n, weight)| split(&letter(n), weight, 1)).collect()
        };
        for action in actions {
            let before = world.clone();
            let result = match &action {
                Action::Files(splits) => {
                    files = documents(splits);
                    Ok(world.files(&files))
                }
                Action::Apply(splits) => world.apply(&documents(splits)),
                Action::Delete(n) => world.delete(&[&letter(*n)]),
                Action::Weights(n, weight) => world.weights(&letter(*n), &[("v1", *weight)]),
                Action::Reset(n) => world.reset(&letter(*n)),
                Action::Rollback(n) => world.rollback(&letter(*n), None),
                Action::Restart => Ok(world.restart(&files)),
            };
            match result {
                Ok(step) => {
                    let difference = Difference::between(before.desired_state.split_set(), world.desired_state.split_set());
                    if !matches!(action, Action::Restart) {
                        prop_assert_eq!(step.difference(), difference);
                    }
                }
                Err(_) => {
                    prop_assert_eq!(before.desired_state.split_set(), world.desired_state.split_set());
                    prop_assert_eq!(&before.persisted, &world.persisted);
                }
            }
            let mut again = world.clone();
            again.restart(&files);
            prop_assert_eq!(again.desired_state.split_set(), world.desired_state.split_set(), "after {:?}", action);
            prop_assert_eq!(&again.persisted, &world.persisted, "after {:?}", action);
            for n in 0..5 {
                let last = world.persisted.changes(&letter(n)).next_back();
                let last = last.map(|change| change.to.clone()).unwrap_or_default();
                let now = world.desired_state.split_set().get(&letter(n)).map(Weights::of);
                prop_assert_eq!(last, now.unwrap_or_default());
            }
        }
    }
}
