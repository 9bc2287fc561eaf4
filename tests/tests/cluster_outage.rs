//! An API server that is away changes nothing: agents steer on by what they know, over restarts
//! of their own too, and say so. When it is back, they catch up at once, without a step back.
//! Needs root.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use weir::api::types::Verdict;
use weir_tests::agent::Agent;
use weir_tests::cluster::history::{History, Picture, picture};
use weir_tests::cluster::live::Live;
use weir_tests::cluster::node::Node;
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{FOLLOW, Steered, rule, versions, virtual_service};

const FLOWS: u16 = 1_500;
const VERSIONS: [&str; 2] = ["web-v1-", "web-v2-"];
const SPLIT: &str = "web.default";
/// How long it may take from the server's first answer to all of what it says.
const CATCH_UP: Duration = Duration::from_secs(5);

/// A cluster in which web is routed 80 to 20, and other likewise.
fn routed() -> Steered {
    let steered = Steered::start(1, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let route = |name: &str| rule(name) + &virtual_service(name, &[("v1", 80), ("v2", 20)]);
    kubectl.apply(&(versions("web", 2) + &versions("other", 1) + &route("web") + &route("other")));
    phase("pods", || {
        steered.cluster.await_pods("default", "app=web", 4);
        steered.cluster.await_pods("default", "app=other", 2);
    });
    phase("steered", || {
        steered.await_split(SPLIT, &[("v1", 80, 2), ("v2", 20, 2)]);
        steered.await_split("web.default.ipv6", &[("v1", 80, 2), ("v2", 20, 2)]);
        steered.await_split("other.default", &[("v1", 80, 1), ("v2", 20, 1)]);
        steered.await_split("other.default.ipv6", &[("v1", 80, 1), ("v2", 20, 1)]);
    });
    steered
}

/// What an agent steers by.
fn now(agent: &Agent) -> Picture {
    picture(&agent.splits().unwrap())
}

/// Waits until the agent says that what it knows is old, and checks how it says so.
fn assert_stale(agent: &Agent) {
    let status = agent.await_status("it is stale", |status| {
        status.kubernetes.as_ref().is_some_and(|view| !view.connected && view.stale_since.is_some())
    });
    assert_eq!(status.health.verdict, Verdict::Degraded, "{:?}", status.health);
    let output = agent.weir(&["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    let since = status.kubernetes.and_then(|view| view.stale_since).unwrap();
    assert!(text.starts_with("DEGRADED: what is known of the cluster is that of "), "{text}");
    assert!(text.contains(&format!("stale since {since}")), "{text}");
    let doctor = agent.printed(&["doctor"]);
    assert!(doctor.contains("no answer"), "{doctor}");
}

/// Waits until the agent is answered; since when that is.
fn await_connected(agent: &Agent) -> Instant {
    agent.await_status("it is answered", |status| {
        status.kubernetes.as_ref().is_some_and(|view| view.connected)
    });
    Instant::now()
}

fn await_fresh(agent: &Agent) {
    let status = agent.await_status("it is not stale", |status| {
        let fresh = |view: &weir::api::types::KubernetesView| {
            view.connected && view.complete && view.stale_since.is_none()
        };
        status.kubernetes.as_ref().is_some_and(fresh)
    });
    assert_eq!(status.health.verdict, Verdict::Ok, "{:?}", status.health);
}

#[test]
fn an_api_server_that_is_killed_changes_nothing_even_if_the_agent_is_restarted_meanwhile() {
    let mut steered = routed();
    let mut client = steered.client(0);
    let address = steered.addresses("default", "web")[0];
    let expected = [(VERSIONS[0], 80), (VERSIONS[1], 20)];
    client.assert_shares("before", address, FLOWS, &expected);
    let mut live = Live::open(&mut client, address, 20);
    let before = now(&steered.agents[0]);
    // What is known is written down within five seconds of the last change.
    std::thread::sleep(Duration::from_secs(6));

    let history = History::begin(steered.agents[0].socket()).unwrap();
    steered.cluster.control.stop_api_server();
    phase("stale", || assert_stale(&steered.agents[0]));
    client.assert_shares("server away", address, FLOWS, &expected);

    let node = std::sync::Arc::clone(&steered.cluster.nodes[0]);
    let agent = &mut steered.agents[0];
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        agent.end(signal).unwrap();
        client.assert_shares("agent away", address, FLOWS, &expected);
        phase("agent back", || agent.start_again(&node.ns)).unwrap();
        assert_stale(agent);
        assert_eq!(now(agent), before);
    }
    client.assert_shares("agent restarted", address, FLOWS, &expected);

    phase("server back", || steered.cluster.control.start_api_server()).unwrap();
    let agent = &steered.agents[0];
    let answered = phase("answered", || await_connected(agent));
    phase("fresh", || await_fresh(agent));
    assert!(answered.elapsed() < CATCH_UP, "{:?}", answered.elapsed());
    live.check("all the while");
    client.assert_shares("server back", address, FLOWS, &expected);
    // Long enough for whatever would come late.
    std::thread::sleep(Duration::from_secs(3));
    let seen = history.end();
    let pictures: Vec<&Picture> = seen.iter().map(|(_, picture)| picture).collect();
    assert_eq!(pictures, [&before], "nothing has changed at any time");
}

/// Has the node reject all that goes to the API server.
fn cut(node: &Node) {
    let rule = "table inet cut { chain output { type filter hook output priority 0; \
                tcp dport 6443 reject with tcp reset; }; }";
    let output = node.ns.command("nft").arg(rule).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn mend(node: &Node) {
    let output = node.ns.command("nft").args(["delete", "table", "inet", "cut"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_changed_while_the_server_was_out_of_reach_is_known_at_once_and_without_a_flap() {
    let mut steered = routed();
    let kubectl = steered.kubectl().clone();
    let agent = &steered.agents[0];
    let mut client = steered.client(0);
    let address = steered.addresses("default", "web")[0];
    let before = now(agent);
    // What is known is written down within five seconds of the last change.
    std::thread::sleep(Duration::from_secs(6));
    let history = History::begin(agent.socket()).unwrap();

    // Connections that live would bring one more event each: they end with the server.
    steered.cluster.control.stop_api_server();
    cut(&steered.cluster.nodes[0]);
    steered.cluster.control.start_api_server().unwrap();
    let agent = &steered.agents[0];
    // Weights, a route that goes, and pods that go and come; all of it while nobody looks.
    let routes = [("v1", 40), ("v2", 60)].map(|(subset, weight)| {
        json!({ "destination": { "host": "web", "subset": subset }, "weight": weight })
    });
    let patch = json!({ "spec": { "tcp": [{ "route": routes }] } });
    kubectl.patch(&["virtualservice", "web"], "merge", &patch);
    kubectl.run(&["delete", "virtualservice", "other"]);
    kubectl.run(&["scale", "deployment", "web-v2", "--replicas=3"]);
    steered.cluster.await_pods("default", "app=web", 5);
    phase("stale", || assert_stale(agent));
    assert_eq!(now(agent), before);
    let expected = [(VERSIONS[0], 80), (VERSIONS[1], 20)];
    client.assert_shares("out of reach", address, FLOWS, &expected);
    // One that starts knows of what is gone only what is in its cache.
    let node = std::sync::Arc::clone(&steered.cluster.nodes[0]);
    let agent = &mut steered.agents[0];
    agent.end(Signal::SIGTERM).unwrap();
    agent.start_again(&node.ns).unwrap();
    assert_stale(agent);
    assert_eq!(now(agent), before);

    let agent = &steered.agents[0];
    mend(&steered.cluster.nodes[0]);
    let answered = phase("answered", || await_connected(agent));
    steered.await_no_split("other");
    steered.await_split(SPLIT, &[("v1", 40, 2), ("v2", 60, 3)]);
    steered.await_split("web.default.ipv6", &[("v1", 40, 2), ("v2", 60, 3)]);
    let took = answered.elapsed();
    eprintln!("caught up in {took:?}");
    assert!(took < CATCH_UP, "{took:?}");
    await_fresh(agent);
    let after = now(agent);
    let expected = [(VERSIONS[0], 40), (VERSIONS[1], 60)];
    client.assert_shares("back", address, FLOWS, &expected);
    std::thread::sleep(Duration::from_secs(3));
    let seen = history.end();
    let pictures: Vec<&Picture> = seen.iter().map(|(_, picture)| picture).collect();
    assert_eq!(pictures, [&before, &after], "one step, and none between");
}
