//! A cluster that is made up: what is known of it, and what is said of that.

mod elections;
mod known;
mod properties;
mod statuses;

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::facts::Facts;
use super::judge::{Subject, Verdict, judge};
use crate::cluster::{Activity, Exception, Report, Sighting, Tracked, Watermark};
use crate::desired::Time;
use crate::resource::Kind;

/// What reports are of in these tests.
const SPLITS: &str = "trafficsplits.weir.dev";

/// What is known, and a clock.
struct World {
    facts: Facts,
    now: Instant,
}

impl World {
    /// One in which there are these nodes, each with a Pod.
    fn of(nodes: &[&str]) -> Self {
        let mut world = Self { facts: Facts::default(), now: Instant::now() };
        for node in nodes {
            world.put(Tracked::Nodes, json!({"metadata": {"name": node}}));
            world.pod(&format!("on-{node}"), node);
        }
        world
    }

    fn see(&mut self, sighting: Sighting) {
        self.facts.take(sighting, self.now, date(self.now));
    }

    fn put(&mut self, of: Tracked, object: Value) {
        self.see(Sighting::There(of, object.to_string()));
    }

    fn pod(&mut self, name: &str, node: &str) {
        let metadata = json!({"namespace": "shop", "name": name});
        self.put(Tracked::Pods, json!({"metadata": metadata, "spec": {"nodeName": node}}));
    }

    fn report(&mut self, node: &str, report: &Report) {
        self.report_of(node, report, self.now);
    }

    /// One that its agent wrote at another time than now.
    fn report_of(&mut self, node: &str, report: &Report, at: Instant) {
        let mut report = serde_json::to_value(report).unwrap();
        report["renewed"] = date(at).to_string().into();
        self.put(Tracked::Reports, json!({"metadata": {"name": node}, "report": report}));
    }

    fn split(&mut self, version: u64, generation: i64, status: Value) {
        let metadata = json!({
            "namespace": "shop", "name": "web", "uid": "u", "generation": generation,
            "resourceVersion": version.to_string(),
        });
        self.put(Tracked::Splits, json!({"metadata": metadata, "status": status}));
    }

    fn pass(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
    }

    fn verdict(&self, since: u64) -> Verdict {
        judge(&subject(since), &self.facts.required(self.now))
    }

    fn since(&self) -> u64 {
        self.facts.splits().next().unwrap().since
    }
}

/// The time of the day at a point of the other clock.
fn date(at: Instant) -> Time {
    let (now, day) = (Instant::now(), SystemTime::now());
    let past = now.checked_duration_since(at);
    past.map_or_else(|| day + (at - now), |past| day - past).into()
}

fn subject(since: u64) -> Subject<'static> {
    Subject { kind: Kind::TrafficSplit, namespace: "shop", name: "web", since }
}

/// A report of an agent that steers, with everything in force up to a version.
fn upto(version: u64) -> Report {
    let resource_version = version.to_string();
    Report {
        attached: true,
        in_force: vec![Watermark { resource: SPLITS.into(), resource_version }],
        renewed_every: 300,
        ..Report::default()
    }
}

fn exception(namespace: &str, name: &str) -> Exception {
    Exception {
        resource: SPLITS.into(),
        namespace: namespace.into(),
        name: name.into(),
        reason: "Overridden".into(),
        message: "its weights are v1=1 here".into(),
    }
}

#[test]
fn an_object_is_in_force_where_reports_have_come_as_far() {
    let mut world = World::of(&["a", "b", "c"]);
    assert_eq!(
        world.verdict(7).to_string(),
        "not in force on 3 of 3 nodes: a (no agent has reported); b (no agent has reported); c (no agent has reported)"
    );
    world.report("a", &upto(7));
    world.report("b", &upto(8));
    world.report("c", &upto(6));
    let verdict = world.verdict(7);
    assert_eq!((verdict.ready, verdict.total, verdict.is_in_force()), (2, 3, false));
    assert_eq!(verdict.to_string(), "not in force on 1 of 3 nodes: c (not yet)");
    world.report("c", &upto(7));
    assert!(world.verdict(7).is_in_force());
    assert_eq!(world.verdict(7).to_string(), "in force on all 3 nodes");
    assert!(!world.verdict(8).is_in_force());
    assert!(!World::of(&[]).verdict(7).is_in_force(), "nowhere is not everywhere");
}

#[test]
fn what_a_report_says_beside_counts_against_it() {
    let cases: [(Report, &str); 8] = [
        (Report { activity: Activity::Observing, ..upto(9) }, "its agent only observes"),
        (Report { activity: Activity::Unloaded, ..upto(9) }, "weir was unloaded"),
        (Report { attached: false, ..upto(9) }, "no interface has weir's programs"),
        (Report { failing: vec!["veth-1: no".into()], ..upto(9) }, "interface veth-1: no"),
        (Report { in_force: Vec::new(), ..upto(9) }, "not yet"),
        (Report { more_exceptions: 1, ..upto(9) }, "its agent has more exceptions than it reports"),
        (
            Report { exceptions: vec![exception("shop", "web")], ..upto(9) },
            "Overridden: its weights are v1=1 here",
        ),
        (
            Report {
                in_force: vec![Watermark { resource: SPLITS.into(), resource_version: "x".into() }],
                ..upto(9)
            },
            "not yet",
        ),
    ];
    for (report, expected) in cases {
        let mut world = World::of(&["a"]);
        world.report("a", &report);
        let expected = format!("not in force on 1 of 1 nodes: a ({expected})");
        assert_eq!(world.verdict(9).to_string(), expected);
    }
    // Of others.
    let mut world = World::of(&["a"]);
    let others = vec![exception("other", "web"), exception("shop", "api")];
    world.report("a", &Report { exceptions: others, ..upto(9) });
    assert!(world.verdict(9).is_in_force());
}

#[test]
fn of_many_nodes_the_first_are_named_and_the_others_counted() {
    let names: Vec<String> = (0..25).map(|n| format!("n{n:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut world = World::of(&names);
    world.report("n03", &upto(7));
    let text = world.verdict(7).to_string();
    assert!(text.starts_with("not in force on 24 of 25 nodes: n00 ("), "{text}");
    assert!(!text.contains("n03") && text.contains("n10") && !text.contains("n11"), "{text}");
    assert!(text.ends_with("; and 14 more"), "{text}");
}

/// By name, whether each node that is required is known to have come as far.
fn required(world: &World) -> BTreeMap<&str, bool> {
    let nodes = world.facts.required(world.now);
    nodes.into_iter().map(|(name, node)| (name, node.is_fresh)).collect()
}
