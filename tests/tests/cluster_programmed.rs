//! What the status of a TrafficSplit says is so on every node. Needs root.
//!
//! A hundred changes, unless WEIR_SHIFTS says another number: `cargo xtask stress shifts` makes a
//! thousand.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use weir_tests::cluster::controller;
use weir_tests::cluster::process::Process;
use weir_tests::cluster::steered::{Client, NAMESPACE, Steered, versions};

/// Changes of weights, after each of which every node is asked.
const SHIFTS: u64 = 100;
/// How many of these are waited for by `kubectl`: each takes a process.
const BY_KUBECTL: u64 = 10;
/// What counts of the cluster.
const OF_CLUSTER: &str = "addresses: [198.51.100.0/24, 10.128.0.0/9]";
const SERVICE: &str = "198.51.100.10:80";
const SPLIT: &str = "/apis/weir.dev/v1alpha1/namespaces/default/trafficsplits/web";
const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/weir-system/leases/weir-controller";
/// How long anything may take; generous, since other tests run too.
const TIMEOUT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(5);

struct Case {
    clients: Vec<Client>,
    controllers: Vec<Option<Process>>,
    steered: Steered,
}

impl Case {
    /// Three nodes with agents that report within `pause`, and so many controllers.
    fn new(pause: &str, renewal: &str, controllers: u16) -> Self {
        let reports = format!("reports: {{pause: {pause}, renewal: {renewal}}}");
        let config = format!("hashSeed: 0x5eed\nkubernetes: {{{OF_CLUSTER}, {reports}}}\n");
        let steered = Steered::reporting(3, &config).unwrap();
        let control = &steered.cluster.control;
        controller::grant(control).unwrap();
        let start = |number| Some(controller::start(control, number, OF_CLUSTER).unwrap());
        let controllers = (0..controllers).map(start).collect();
        steered.kubectl().apply(&versions("web", 1));
        steered.cluster.await_pods("default", "app=web", 2);
        let clients = (0..3).map(|node| steered.client(node)).collect();
        Self { clients, controllers, steered }
    }

    fn api(&self, path: &str) -> Value {
        self.steered.cluster.control.api().get(path).unwrap()
    }

    /// Makes the split: all connections go to v1.
    fn make(&self) {
        let endpoints = ["version=v1", "version=v2"].map(|version| {
            let pods = self.steered.cluster.await_pods("default", &format!("app=web,{version}"), 1);
            format!("{}:8080", pods[0].v4())
        });
        let [v1, v2] = endpoints;
        self.steered.kubectl().apply(&format!(
            "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: web, namespace: default}}
spec:
  address: 198.51.100.10
  port: 80
  subsets:
  - {{name: v1, weight: 100, endpoints: ['{v1}']}}
  - {{name: v2, weight: 0, endpoints: ['{v2}']}}
"
        ));
    }

    /// Sends all new connections to one version.
    fn shift(&self, to: &str) {
        let weight = |of: &str| if of == to { 100 } else { 0 };
        let patch = json!([
            {"op": "replace", "path": "/spec/subsets/0/weight", "value": weight("v1")},
            {"op": "replace", "path": "/spec/subsets/1/weight", "value": weight("v2")},
        ]);
        self.patch(&patch);
    }

    fn patch(&self, patch: &Value) {
        let body = Some(("application/json-patch+json", patch));
        let (status, object) =
            self.steered.cluster.control.api().call("PATCH", SPLIT, body).unwrap();
        assert_eq!(status, 200, "{object}");
    }

    /// Waits until what the split says is so.
    #[track_caller]
    fn until(&self, what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let split = self.api(SPLIT);
            if done(&split) {
                return split;
            }
            if Instant::now() > deadline {
                let reports = self.api("/apis/weir.dev/v1alpha1/nodereports");
                let logs = self.controllers.iter().flatten().map(Process::tail);
                let logs: Vec<String> = logs.collect();
                panic!("{what}: {split:#}\n{reports:#}\n{}", logs.join("\n"));
            }
            std::thread::sleep(POLL);
        }
    }

    #[track_caller]
    fn until_programmed(&self) -> Value {
        self.until("it is programmed", is_programmed)
    }

    /// That a new connection of each node goes to that version.
    #[track_caller]
    fn check(&mut self, version: &str) {
        let to: SocketAddr = SERVICE.parse().unwrap();
        let pods = format!("web-{version}-");
        for client in &mut self.clients {
            client.counts(to, 1, &[&pods]);
        }
    }

    fn signal(&self, agent: usize, signal: Signal) {
        let pid = self.steered.agents[agent].pid().unwrap();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }
}

fn condition<'a>(split: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = split["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == kind)
}

/// Whether its generation is, as `kubectl wait` sees it.
fn is_programmed(split: &Value) -> bool {
    condition(split, "Programmed").is_some_and(|condition| {
        condition["status"] == "True"
            && condition["observedGeneration"] == split["metadata"]["generation"]
    })
}

fn message(split: &Value) -> &str {
    let condition = condition(split, "Programmed");
    condition.and_then(|condition| condition["message"].as_str()).unwrap_or_default()
}

/// Whether it is said of its generation that a node is in the way, in these words.
fn lags(split: &Value, what: &str) -> bool {
    let is_of_it = condition(split, "Programmed").is_some_and(|condition| {
        condition["status"] == "False"
            && condition["observedGeneration"] == split["metadata"]["generation"]
    });
    is_of_it && message(split).contains(what)
}

fn shifts() -> u64 {
    let Ok(told) = std::env::var("WEIR_SHIFTS") else { return SHIFTS };
    told.parse().unwrap_or_else(|error| panic!("WEIR_SHIFTS={told}: {error}"))
}

#[test]
fn a_change_that_is_said_to_be_in_force_is_so_on_every_node() {
    let mut case = Case::new("100ms", "3s", 1);
    case.make();
    case.until_programmed();
    let kubectl = case.steered.kubectl().clone();
    eprintln!("{}", kubectl.run(&["get", "trafficsplit,nodereport"]));
    case.check("v1");
    let begun = Instant::now();
    for count in 0..shifts() {
        let version = ["v2", "v1"][usize::from(count % 2 == 1)];
        case.shift(version);
        if count % (SHIFTS / BY_KUBECTL) == 0 {
            kubectl.run(&[
                "wait",
                "trafficsplit/web",
                "--for=condition=Programmed",
                "--timeout=60s",
            ]);
        } else {
            case.until_programmed();
        }
        case.check(version);
    }
    eprintln!("{} changes: {:.1} s", shifts(), begun.elapsed().as_secs_f64());

    // An agent that hears nothing: the others have it, and that is what is said.
    case.shift("v1");
    case.until_programmed();
    case.signal(2, Signal::SIGSTOP);
    case.shift("v2");
    let split = case.until("one lags", |split| lags(split, "on 1 of 3 nodes: node-3 (not yet)"));
    assert_eq!(split["status"]["nodes"], json!({"ready": 2, "total": 3}));
    eprintln!("{}", kubectl.run(&["get", "trafficsplit"]));
    eprintln!("{}", kubectl.run(&["describe", "trafficsplit", "web"]));
    let waited = ["wait", "trafficsplit/web", "--for=condition=Programmed", "--timeout=1s"];
    assert!(kubectl.try_run(&waited, "").is_err());
    let to: SocketAddr = SERVICE.parse().unwrap();
    case.clients[0].counts(to, 1, &["web-v2-"]);
    case.clients[2].counts(to, 1, &["web-v1-"]);
    // Then its reports are too old.
    case.until("its reports have ended", |split| lags(split, "node-3 (its agent reports no more)"));
    case.signal(2, Signal::SIGCONT);
    case.until_programmed();
    case.check("v2");

    // A node's own weights are seen.
    case.steered.agents[1].ask(&["weights", "web.default", "v1=1", "--this-node"]).unwrap();
    case.until("overridden", |split| {
        lags(split, "node-2 (Overridden: its weights are v1=1 v2=100")
    });
    case.steered.agents[1].ask(&["weights", "web.default", "--reset"]).unwrap();
    case.until_programmed();

    // What weir alone finds wrong is not in force: what it said before goes on.
    let split = case.api(SPLIT);
    let endpoint = split["spec"]["subsets"][0]["endpoints"][0].as_str().unwrap();
    let twice = endpoint.replace(":8080", ":08080");
    let at = "/spec/subsets/0/endpoints/1";
    case.patch(&json!([{"op": "add", "path": at, "value": twice}]));
    let split = case.until("not accepted", |split| lags(split, "not accepted: spec.subsets[0]"));
    assert_eq!(condition(&split, "Accepted").unwrap()["status"], "False");
    eprintln!("{}", kubectl.run(&["describe", "trafficsplit", "web"]));
    case.check("v2");
    case.patch(&json!([{"op": "remove", "path": at}]));
    case.until_programmed();

    // A node that steers no more says so, as long as its agent is there.
    case.steered.agents[0].ask(&["unload", "--yes"]).unwrap();
    case.until("unloaded", |split| lags(split, "node-1 (weir was unloaded)"));
}

/// What the API server was asked, by resource and verb.
fn asked(case: &Case) -> BTreeMap<(String, String), u64> {
    let text = case.api("/metrics");
    let lines = text.as_str().unwrap().lines();
    let lines = lines.filter(|line| line.starts_with("apiserver_request_total{"));
    let label = |line: &str, name: &str| {
        let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
        rest.split_once('"').unwrap().0.to_owned()
    };
    let mut found = BTreeMap::new();
    for line in lines {
        let count: f64 = line.rsplit_once(' ').unwrap().1.parse().unwrap();
        let key = (label(line, "resource"), label(line, "verb"));
        *found.entry(key).or_default() += count as u64;
    }
    found
}

#[test]
fn one_of_two_controllers_writes_and_the_other_takes_over_and_nothing_is_written_for_nothing() {
    let mut case = Case::new("100ms", "1h", 2);
    case.make();
    case.until_programmed();
    case.check("v1");
    let holder = |case: &Case| {
        let lease = case.api(LEASE);
        lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    };
    let leads = |case: &Case| {
        let held = holder(case);
        let logs = case.controllers.iter().map(|one| one.as_ref().map(Process::tail));
        let mut holds =
            logs.map(|log| log.is_some_and(|log| log.contains(&format!("held by {held},"))));
        holds.position(|it| it)
    };

    // For longer than it takes to write anything: a change, and then none.
    case.shift("v2");
    case.until_programmed();
    let versions = |case: &Case| {
        let of = |path: &str| case.api(path)["metadata"]["resourceVersion"].clone();
        let reports =
            [1, 2, 3].map(|n| of(&format!("/apis/weir.dev/v1alpha1/nodereports/node-{n}")));
        (of(SPLIT), reports)
    };
    // A last report may still come of what the status has changed: none does.
    let (before, asked_before, since) = (versions(&case), asked(&case), Instant::now());
    std::thread::sleep(Duration::from_secs(12));
    assert_eq!(versions(&case), before, "nothing has happened");
    let idle = since.elapsed().as_secs_f64();
    for ((resource, verb), count) in asked(&case) {
        let count = count - asked_before.get(&(resource.clone(), verb.clone())).unwrap_or(&0);
        if count > 0 {
            eprintln!("idle for {idle:.0} s: {verb} {resource}: {count}");
        }
    }
    let asked_before = asked(&case);
    for version in ["v1", "v2", "v1", "v2"] {
        case.shift(version);
        case.until_programmed();
    }
    for ((resource, verb), count) in asked(&case) {
        let count = count - asked_before.get(&(resource.clone(), verb.clone())).unwrap_or(&0);
        if count > 0 {
            eprintln!("four changes: {verb} {resource}: {count}");
        }
    }

    // The one that writes is killed: what changes meanwhile is said by the other one.
    let first = leads(&case).expect("one leads");
    let (before, held) = (case.api(LEASE), holder(&case));
    case.controllers[first] = None;
    let killed = Instant::now();
    case.shift("v1");
    case.until_programmed();
    eprintln!("taken over after {:.1} s", killed.elapsed().as_secs_f64());
    let after = case.api(LEASE);
    assert_ne!(holder(&case), held);
    let transitions = |lease: &Value| lease["spec"]["leaseTransitions"].as_i64().unwrap();
    assert_eq!(transitions(&after), transitions(&before) + 1);
    case.check("v1");

    // One that is told to stop gives it back, so that a new one need not wait for the lease.
    let last = case.controllers.iter().position(Option::is_some).unwrap();
    case.controllers[last].as_ref().unwrap().signal(Signal::SIGTERM);
    assert!(case.controllers[last].as_ref().unwrap().ends_within(TIMEOUT));
    assert_eq!(holder(&case), "");
    let control = &case.steered.cluster.control;
    case.controllers[last] = Some(controller::start(control, 7, OF_CLUSTER).unwrap());
    case.shift("v2");
    case.until_programmed();
    case.check("v2");
    // What a controller that has just started found was not written anew.
    let split = case.api(SPLIT);
    assert_eq!(condition(&split, "Accepted").unwrap()["status"], "True");
}

#[test]
fn a_node_cannot_report_for_another() {
    let case = Case::new("100ms", "1h", 0);
    let control = &case.steered.cluster.control;
    let reports = "/apis/weir.dev/v1alpha1/nodereports";
    let deadline = Instant::now() + TIMEOUT;
    while case.api(reports)["items"].as_array().map(Vec::len) != Some(3) {
        assert!(Instant::now() < deadline, "{:#}", case.api(reports));
        std::thread::sleep(POLL);
    }
    let forged = |node: &str| {
        format!(
            "
apiVersion: weir.dev/v1alpha1
kind: NodeReport
metadata: {{name: {node}}}
report:
  activity: Steering
  attached: true
  inForce: [{{resource: trafficsplits.weir.dev, resourceVersion: '9999999'}}]
  renewed: '2030-01-01T00:00:00Z'
  renewedEvery: 3600
"
        )
    };
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
    // A policy counts some time after it is there.
    let dry = [&apply[..], &["--dry-run=server"]].concat();
    while control.kubectl().try_run(&dry, &forged("node-9")).is_ok() {
        assert!(Instant::now() < deadline, "the policy does not count");
        std::thread::sleep(POLL);
    }
    let of_node = control.token_of_node(NAMESPACE, "weir", "node-2").unwrap();
    let taken = control.kubectl().of(&control.kubeconfig_with("taken", &of_node).unwrap());
    // Its own, it may.
    taken.try_run(&apply, &forged("node-2")).unwrap();
    for node in ["node-1", "node-9"] {
        let said = taken.try_run(&apply, &forged(node)).unwrap_err().to_string();
        eprintln!("{said}");
        let expected =
            format!("the token is of a Pod on node node-2, and the report of node {node}");
        assert!(said.contains(&expected), "{said}");
    }
    let said = taken.try_run(&["delete", "nodereport", "node-1"], "").unwrap_err().to_string();
    assert!(said.contains("Forbidden"), "{said}");
    // A token that is bound to no node, and others who have all rights.
    let unbound = control.kubectl().of(&control.kubeconfig_of(NAMESPACE, "weir").unwrap());
    let said = unbound.try_run(&apply, &forged("node-1")).unwrap_err().to_string();
    assert!(said.contains("the token is not bound to a Pod of a node"), "{said}");
    let said = control.kubectl().try_run(&apply, &forged("node-1")).unwrap_err().to_string();
    assert!(said.contains("only the ServiceAccount of weir's agents"), "{said}");
    let report = case.api(&format!("{reports}/node-1"));
    assert_ne!(report["report"]["inForce"][0]["resourceVersion"], "9999999");
    // And an agent may write nothing else.
    for (verb, what) in [("patch", "trafficsplits"), ("create", "leases"), ("list", "nodereports")]
    {
        let can = ["auth", "can-i", verb, what, "-A"];
        assert!(taken.try_run(&can, "").is_err(), "{verb} {what}");
    }
}
