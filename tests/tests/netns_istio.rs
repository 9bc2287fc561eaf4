//! Istio's tasks "Traffic Shifting" and "TCP Traffic Shifting" with real servers.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use nix::sys::signal::Signal;
use weir::api::types::{DocumentView, SplitView};
use weir::model::Protocol;
use weir::table::maglev;
use weir_tests::agent::Setup;
use weir_tests::client::{connect_from, ports, survey, survey_with, tally};
use weir_tests::samples::{Sample, Samples};
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{Server, say};
use weir_tests::shelf::Shelf;
use weir_tests::stats::assert_shares;
use weir_tests::topology::CLIENT_V4;

/// Services whose endpoints are those of [`ENDPOINTS`], in this order.
const SERVICES: &str = include_str!("guide/services.yaml");
const ENDPOINTS: &[&str] = &[
    "reviews-v1-a",
    "reviews-v1-b",
    "reviews-v1-c",
    "reviews-v2",
    "reviews-v3",
    "productpage-v1",
    "ratings-v1",
    "ratings-v2",
    "details-v1",
    "one",
    "two",
];
/// Connections for each step: half a percent of a share that is a hundredth off would be seen.
const FLOWS: u16 = 4_000;
const REVIEWS: &str = "reviews.default";

/// How documents get to the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// As files in its directory.
    Files,
    /// By `weir apply` and `weir delete`.
    Apply,
}

struct Task {
    way: Way,
    scene: Scene,
    samples: Samples,
    shelf: Shelf,
    /// The client's next port: no tuple is used twice.
    next: u16,
}

impl Task {
    fn new(way: Way) -> Self {
        let scene = Scene::new(ENDPOINTS, |_| Setup::default().resource("services.yaml", SERVICES))
            .unwrap();
        let shelf = Shelf::new(scene.agent.resources());
        Self { way, scene, samples: Samples::find(), shelf, next: 10_000 }
    }

    fn apply(&self, sample: Sample) {
        match self.way {
            Way::Files => self.shelf.apply(&self.samples.text(sample)),
            Way::Apply => println!("{}", self.command("apply", sample).expect("it is applied")),
        }
    }

    fn delete(&self, sample: Sample) {
        match self.way {
            Way::Files => self.shelf.delete(&self.samples.text(sample)),
            Way::Apply => println!("{}", self.command("delete", sample).expect("it is deleted")),
        }
    }

    /// `weir COMMAND -f FILE`, of the unchanged file.
    fn command(&self, command: &str, sample: Sample) -> anyhow::Result<String> {
        let path = self.samples.file(sample, self.scene.agent.directory());
        self.scene.agent.ask(&[command, "-f", path.to_str().expect("UTF-8")])
    }

    /// Waits until the agent says that a split has these subsets.
    fn await_weights(&self, split: &str, expected: &[(&str, u32)]) {
        self.scene.agent.await_status(&format!("{split}: {expected:?}"), |_| {
            self.scene.agent.split(split).is_ok_and(|split| weights(&split) == expected)
        });
    }

    fn sources(&mut self) -> Vec<SocketAddr> {
        let first = self.next;
        self.next += FLOWS;
        ports(CLIENT_V4.into(), first..first + FLOWS)
    }

    /// How many of new connections to a service each endpoint answered.
    fn answers(&mut self, service: &str) -> BTreeMap<String, u64> {
        let sources = self.sources();
        let to = service.parse().expect("an address");
        let answers = survey(&self.scene.topology.client, Protocol::Tcp, to, &sources);
        tally(&answers).unwrap_or_else(|error| panic!("{service}: {error}"))
    }

    /// Asserts that versions of a service answer in proportion to weights.
    fn assert_versions(&mut self, what: &str, service: &str, name: &str, weights: &[(&str, u64)]) {
        let answers = self.answers(service);
        let of = |version: &str| {
            let prefix = format!("{name}-{version}");
            let found = answers.iter().filter(|(name, _)| name.starts_with(&prefix));
            found.map(|(_, count)| count).sum::<u64>()
        };
        let seen: Vec<u64> = weights.iter().map(|(version, _)| of(version)).collect();
        println!("{what}: {name} {answers:?}");
        assert_eq!(seen.iter().sum::<u64>(), u64::from(FLOWS), "{what}: only {name} answers");
        let weights: Vec<u64> = weights.iter().map(|(_, weight)| *weight).collect();
        assert_shares(&seen, &weights, what);
    }

    /// Asserts that all endpoints of reviews answer, as evenly as their table has them.
    fn assert_plain(&mut self, what: &str) {
        self.await_weights(REVIEWS, &[("reviews", 1)]);
        let answers = self.answers("203.0.113.21:9080");
        println!("{what}: {answers:?}");
        let names = &ENDPOINTS[..5];
        let ips = self.scene.topology.ips(names, CLIENT_V4.into());
        let seen: Vec<u64> = names.iter().map(|&n| answers.get(n).copied().unwrap_or(0)).collect();
        assert_shares(&seen, &slots(&ips), what);
    }
}

fn weights(split: &SplitView) -> Vec<(&str, u32)> {
    split.subsets.iter().map(|subset| (subset.name.as_str(), subset.weight)).collect()
}

/// The share of each endpoint of a subset, in the order of addresses: its slots in the table.
fn slots(ips: &[IpAddr]) -> Vec<u64> {
    let seeds: Vec<u64> = ips.iter().map(|&ip| maglev::seed(SocketAddr::new(ip, PORT))).collect();
    let table = maglev::populate(&seeds, maglev::size_for(ips.len()).expect("not too many"));
    let count = |at| table.iter().filter(|&&slot| slot as usize == at).count() as u64;
    (0..ips.len()).map(count).collect()
}

#[test]
fn the_traffic_shifting_task_through_files() {
    the_traffic_shifting_task(Way::Files);
}

#[test]
fn the_traffic_shifting_task_through_apply() {
    let mut task = the_traffic_shifting_task(Way::Apply);
    let kinds: Vec<String> = documents(&task).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["DestinationRule"; 4], "no route is left");
    let error = task.command("delete", Sample::AllV1).expect_err("they are gone").to_string();
    for name in ["details", "productpage", "ratings", "reviews"] {
        let line = format!("VirtualService/default/{name} was not applied");
        assert!(error.contains(&line), "{error}");
    }

    // The same again, for what comes between: a shift by hand, a mistake, a restart.
    task.apply(Sample::AllV1);
    task.apply(Sample::Reviews5050);
    let agent = &task.scene.agent;
    println!("{}", agent.ask(&["weights", REVIEWS, "v1=20", "v3=80"]).unwrap());
    let reviews = "203.0.113.21:9080";
    let by_hand = [("v1", 20), ("v2", 0), ("v3", 80)];
    task.assert_versions("by hand", reviews, "reviews", &by_hand);
    let error = task.command("apply", Sample::ReviewsByHeader).expect_err("layer 4").to_string();
    let rejection = "spec.http[0].match[0].headers: rejected: layer 4 cannot match HTTP requests";
    assert!(error.contains(rejection), "{error}");
    task.scene.agent.end(Signal::SIGKILL).unwrap();
    task.scene.agent.start_again(&task.scene.topology.node).unwrap();
    task.assert_versions("after a restart", reviews, "reviews", &by_hand);
    task.apply(Sample::Reviews9010);
    let agent = &task.scene.agent;
    let history = agent.ask(&["history", REVIEWS]).unwrap();
    println!("{history}");
    // Behind the table is what drains.
    let rows: Vec<&str> = history.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let causes: Vec<&str> = rows.iter().filter_map(|row| row.split_whitespace().nth(2)).collect();
    let expected =
        ["file", "apply", "apply", "apply", "delete", "apply", "apply", "weights", "apply"];
    assert_eq!(causes, expected, "{history}");
    assert!(rows.last().unwrap().ends_with("ended the override v1=20 v3=80"), "{history}");
    task.assert_versions("90 v1", reviews, "reviews", &[("v1", 90), ("v2", 10), ("v3", 0)]);
}

/// Kinds and names of what was applied.
fn documents(task: &Task) -> Vec<(String, String)> {
    let text = task.scene.agent.ask(&["get", "documents", "--applied", "-o", "json"]).unwrap();
    let views: Vec<DocumentView> = serde_json::from_str(&text).unwrap();
    views.into_iter().map(|view| (view.object.kind, view.object.name)).collect()
}

fn the_traffic_shifting_task(way: Way) -> Task {
    let mut task = Task::new(way);
    let reviews = "203.0.113.21:9080";
    task.assert_plain("before the first file");

    task.apply(Sample::DestinationRules);
    task.apply(Sample::AllV1);
    for (service, to) in [
        ("productpage", "203.0.113.22:9080"),
        ("reviews", reviews),
        ("ratings", "203.0.113.23:9080"),
    ] {
        task.await_weights(&format!("{service}.default"), &[("v1", 1)]);
        task.assert_versions("all v1", to, service, &[("v1", 1), ("v2", 0), ("v3", 0)]);
    }

    task.apply(Sample::Reviews5050);
    task.await_weights(REVIEWS, &[("v1", 50), ("v3", 50)]);
    task.assert_versions("50 v3", reviews, "reviews", &[("v1", 50), ("v2", 0), ("v3", 50)]);

    // Read back.
    let table = task.scene.agent.ask(&["get", "splits", REVIEWS]).unwrap();
    println!("{table}");
    let text = task.scene.agent.ask(&["get", "splits", REVIEWS, "-o", "json"]).unwrap();
    let split: SplitView = serde_json::from_str(&text).unwrap();
    assert_eq!(weights(&split), [("v1", 50), ("v3", 50)]);
    for document in ["VirtualService default/reviews", "DestinationRule default/reviews"] {
        assert!(split.origin.source.contains(document), "{}", split.origin.source);
        assert!(table.contains(document), "{table}");
    }

    task.apply(Sample::ReviewsV3);
    task.await_weights(REVIEWS, &[("v3", 1)]);
    task.assert_versions("all v3", reviews, "reviews", &[("v1", 0), ("v2", 0), ("v3", 1)]);

    task.delete(Sample::AllV1);
    task.assert_plain("after the clean-up");
    task
}

#[test]
fn what_layer_4_cannot_do_changes_nothing() {
    let mut task = Task::new(Way::Files);
    task.apply(Sample::DestinationRules);
    task.apply(Sample::Reviews9010);
    task.await_weights(REVIEWS, &[("v1", 90), ("v2", 10)]);
    let text = task.samples.text(Sample::ReviewsByHeader);
    task.scene.agent.write("VirtualService_default_reviews.yaml", &text);
    let rejection = "spec.http[0].match[0].headers: rejected: layer 4 cannot match HTTP requests";
    task.scene.agent.await_status("it is rejected by name", |status| {
        status.last_error.iter().any(|line| line.contains(rejection))
    });
    let weights = [("v1", 90), ("v2", 10), ("v3", 0)];
    task.assert_versions("as before", "203.0.113.21:9080", "reviews", &weights);
}

/// The TCP task: everything to one, then 80/20, with servers that answer `one LINE` and `two LINE`.
fn tcp_echo(way: Way, samples: [Sample; 2], split: &str, subsets: [&str; 2], to: &str) {
    let mut task = Task::new(way);
    let to: SocketAddr = to.parse().unwrap();
    let _servers = ["one", "two"].map(|name| {
        let ip = task.scene.topology.endpoint(name).ip(to.ip());
        let ns = &task.scene.topology.endpoint(name).ns;
        Server::lines(ns, SocketAddr::new(ip, 9000), name).unwrap()
    });
    type Weights<'a> = &'a [(&'a str, u32)];
    let steps: [(Weights<'_>, [u64; 2]); 2] =
        [(&[(subsets[0], 1)], [1, 0]), (&[(subsets[0], 80), (subsets[1], 20)], [80, 20])];
    for (sample, (expected, shares)) in samples.into_iter().zip(steps) {
        task.apply(sample);
        task.await_weights(split, expected);
        let sources = task.sources();
        let answers = survey_with(&task.scene.topology.client, &sources, |source| {
            let mut stream = connect_from(source, to)?;
            let first = say(&mut stream, "hello")?;
            // The connection stays where it is.
            let second = say(&mut stream, "hello")?;
            Ok(if first == second { first } else { format!("{first}, then {second}") })
        });
        let answers = tally(&answers).unwrap_or_else(|error| panic!("{sample:?}: {error}"));
        println!("{sample:?}: {answers:?}");
        let seen = ["one hello", "two hello"].map(|text| answers.get(text).copied().unwrap_or(0));
        assert_eq!(seen.iter().sum::<u64>(), u64::from(FLOWS), "{sample:?}: {answers:?}");
        assert_shares(&seen, &shares, &format!("{sample:?}"));
    }
    let shown = task.scene.agent.ask(&["get", split]).unwrap();
    println!("{shown}");
    if samples[0] == Sample::EchoRouteV1 {
        let accepted = ["Accepted", "True", "Accepted"];
        let accepted = shown.lines().any(|line| {
            line.starts_with("TCPRoute default/tcp-echo ")
                && line.split_whitespace().collect::<Vec<_>>().ends_with(&accepted)
        });
        assert!(accepted, "{shown}");
    }
}

fn through_istio(way: Way) {
    let split = "31400.tcp-echo-gateway.default";
    tcp_echo(way, [Sample::EchoV1, Sample::Echo8020], split, ["v1", "v2"], "203.0.113.31:31400");
}

fn through_gateway_api(way: Way) {
    let samples = [Sample::EchoRouteV1, Sample::EchoRoute8020];
    let split = "tcp-31400.tcp-echo-gateway.default";
    tcp_echo(way, samples, split, ["tcp-echo-v1", "tcp-echo-v2"], "203.0.113.32:31400");
}

#[test]
fn the_tcp_task_through_istio_files() {
    through_istio(Way::Files);
}

#[test]
fn the_tcp_task_through_istio_apply() {
    through_istio(Way::Apply);
}

#[test]
fn the_tcp_task_through_gateway_api_files() {
    through_gateway_api(Way::Files);
}

#[test]
fn the_tcp_task_through_gateway_api_apply() {
    through_gateway_api(Way::Apply);
}
