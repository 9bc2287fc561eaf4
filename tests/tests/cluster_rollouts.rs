//! Rollouts under load: of a Deployment by itself, and by the patches that the controllers of
//! Argo Rollouts and Flagger make, one after the other. Needs root.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::client::connect_from;
use weir_tests::cluster::live::Live;
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{Client, FOLLOW, Steered, deployment, service, virtual_service};
use weir_tests::server::read_line;

const FLOWS: u16 = 1_500;
/// Between two connections of a client under load: its ports must last.
const PAUSE: Duration = Duration::from_millis(1);

/// Makes one connection after the other until `ends` says so; how many there were. Each must have
/// been answered.
fn load(client: &mut Client, to: SocketAddr, ends: &AtomicBool, made: &AtomicU64) {
    let sources = client.sources(to.ip(), 40_000);
    client.ns().run(|| {
        for source in sources {
            if ends.load(Ordering::Relaxed) {
                return;
            }
            let answer = connect_from(source, to).and_then(|mut stream| read_line(&mut stream));
            assert!(answer.is_ok(), "{source} to {to}: {answer:?}");
            made.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(PAUSE);
        }
        panic!("the load ended before what it is for");
    });
}

/// The addresses of web's pods that are not to end.
fn remaining(steered: &Steered) -> Vec<IpAddr> {
    let list = steered.kubectl().get(&["pods", "-l", "app=web"]);
    let pods = list["items"].as_array().unwrap().iter();
    let pods = pods.filter(|pod| pod["metadata"]["deletionTimestamp"].is_null());
    pods.map(|pod| pod["status"]["podIP"].as_str().unwrap().parse().unwrap()).collect()
}

#[test]
fn a_deployment_is_replaced_under_load_and_no_new_connection_fails() {
    let steered = Steered::start(2, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let pods = deployment("web", "web", &[("version", "v1")].into(), 6);
    // As everywhere where no connection may fail: who is about to end waits until all know it.
    let pods = pods.replace(
        "image: identify,",
        "image: identify, lifecycle: {preStop: {sleep: {seconds: 3}}},",
    );
    let route = virtual_service("web", &[("x", 1)]).replace(", subset: x", "");
    kubectl.apply(&(pods + &service("web", "app: web") + &route));
    let before = phase("pods", || steered.cluster.await_pods("default", "app=web", 6));
    phase("steered", || steered.await_split("web.default", &[("web", 1, 6)]));
    let addresses = steered.addresses("default", "web");
    let mut clients: Vec<Client> = (0..2).map(|node| steered.client(node)).collect();
    let mut live = Live::open(&mut steered.client(0), addresses[0], 12);

    let (ends, made) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let (ends, made) = (&ends, &made);
        let threads: Vec<_> = clients
            .iter_mut()
            .zip(&addresses)
            .map(|(client, &to)| scope.spawn(move || load(client, to, ends, made)))
            .collect();
        std::thread::sleep(Duration::from_millis(500));
        kubectl.run(&["rollout", "restart", "deployment/web"]);
        phase("rolled", || kubectl.run(&["rollout", "status", "deployment/web", "--timeout=90s"]));
        // By then, all of the old ones have been asked to end; those that nobody is connected to
        // are gone.
        std::thread::sleep(Duration::from_secs(5));
        let after = remaining(&steered);
        assert_eq!(after.len(), 6, "{after:?}");
        let old = |ip: &IpAddr| before.iter().any(|pod| IpAddr::from(pod.v4()) == *ip);
        assert!(!after.iter().any(old), "{after:?}");
        steered.await_split("web.default", &[("web", 1, 6)]);
        // Connections to pods that are to end live until they end by themselves.
        live.check("of pods that are about to end");
        std::thread::sleep(Duration::from_millis(500));
        ends.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no connection failed");
        }
        let made = made.load(Ordering::Relaxed);
        eprintln!("{made} connections, none failed");
        assert!(made > 500, "{made} connections are no load");
        for agent in &steered.agents {
            agent.await_status("only the new ones are steered to", |_| {
                agent.split("web.default").is_ok_and(|split| {
                    split.subsets[0].endpoints.iter().all(|it| after.contains(&it.address.ip()))
                })
            });
        }
    });
    drop(live);
    // With nobody connected to them any more, those are gone at once.
    phase("gone", || {
        let gone = ["pods", "-l", "app=web"];
        kubectl.until(&gone, "six are left", |list| list["items"].as_array().unwrap().len() == 6)
    });
}

/// The label by which Argo Rollouts tells ReplicaSets apart.
const HASH: &str = "rollouts-pod-template-hash";

#[test]
fn argo_rollouts_shifts_a_canary_by_istios_objects_and_aborts_another() {
    let steered = Steered::start(1, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let set = |hash: &str| {
        let labels = [(HASH, hash)].into();
        deployment(&format!("web-{hash}"), "web", &labels, 2)
    };
    let objects = format!(
        "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: web}}
spec:
  host: web
  subsets:
  - {{name: stable, labels: {{app: web, {HASH}: aaaa}}}}
  - {{name: canary, labels: {{app: web, {HASH}: aaaa}}}}
---
apiVersion: networking.istio.io/v1beta1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: [web]
  tcp:
  - route:
    - {{destination: {{host: web, subset: stable}}, weight: 100}}
    - {{destination: {{host: web, subset: canary}}, weight: 0}}
---"
    );
    kubectl.apply(&(set("aaaa") + &service("web", "app: web") + &objects));
    steered.cluster.await_pods("default", "app=web", 2);
    let split = |stable: (u32, usize), canary: (u32, usize)| {
        let subsets = [("stable", stable.0, stable.1), ("canary", canary.0, canary.1)];
        phase("steered", || steered.await_split("web.default", &subsets));
    };
    split((100, 2), (0, 2));
    let address = steered.addresses("default", "web")[0];
    let mut client = steered.client(0);

    // What its controller does, step by step.
    let subsets = |stable: &str, canary: &str| {
        let of = |name: &str, hash: &str| json!({ "name": name, "labels": { "app": "web", HASH: hash } });
        let patch = json!({ "spec": { "subsets": [of("stable", stable), of("canary", canary)] } });
        kubectl.patch(&["destinationrule", "web"], "merge", &patch);
    };
    let weights = |canary: u32| {
        let of = |at: usize, weight: u32| {
            let path = format!("/spec/tcp/0/route/{at}/weight");
            json!({ "op": "replace", "path": path, "value": weight })
        };
        let patch = json!([of(0, 100 - canary), of(1, canary)]);
        kubectl.patch(&["virtualservice", "web"], "json", &patch);
    };
    kubectl.apply(&set("bbbb"));
    subsets("aaaa", "bbbb");
    steered.cluster.await_pods("default", "app=web", 4);
    split((100, 2), (0, 2));
    client.assert_shares("a canary that nobody sees", address, FLOWS, &[("web-aaaa-", 1)]);
    for canary in [20, 50, 100] {
        weights(canary);
        split((100 - canary, 2), (canary, 2));
        let expected = [("web-aaaa-", 100 - u64::from(canary)), ("web-bbbb-", canary.into())];
        client.assert_shares("canary", address, FLOWS, &expected);
    }
    // Promoted: both subsets are the new one before the weights go back.
    subsets("bbbb", "bbbb");
    weights(0);
    split((100, 2), (0, 2));
    client.assert_shares("promoted", address, FLOWS, &[("web-bbbb-", 1)]);
    kubectl.run(&["delete", "deployment", "web-aaaa"]);
    steered.cluster.await_pods("default", "app=web", 2);

    kubectl.apply(&set("cccc"));
    subsets("bbbb", "cccc");
    steered.cluster.await_pods("default", "app=web", 4);
    weights(30);
    split((70, 2), (30, 2));
    let expected = [("web-bbbb-", 70), ("web-cccc-", 30)];
    client.assert_shares("another canary", address, FLOWS, &expected);
    let mut live = Live::open(&mut client, address, 20);
    // Aborted.
    weights(0);
    split((100, 2), (0, 2));
    subsets("bbbb", "bbbb");
    client.assert_shares("aborted", address, FLOWS, &[("web-bbbb-", 1)]);
    kubectl.run(&["delete", "deployment", "web-cccc", "--wait=false"]);
    live.check("after it was aborted");
}

#[test]
fn flagger_shifts_a_canary_between_two_services_and_rolls_another_back() {
    let steered = Steered::start(1, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let pods = |name: &str| deployment(name, name, &[("of", "web")].into(), 2);
    let of = |name: &str, app: &str| {
        service(name, &format!("app: {app}"))
            .replace("{name: tcp,", "{name: web, appProtocol: tcp,")
    };
    let rule = |host: &str| {
        format!(
            "
apiVersion: networking.istio.io/v1beta1
kind: DestinationRule
metadata: {{name: {host}}}
spec: {{host: {host}}}
---"
        )
    };
    // As its controller leaves them when it begins.
    let route = |canary: u32| {
        let of =
            |host: &str, weight: u32| json!({ "destination": { "host": host }, "weight": weight });
        json!([{ "route": [of("web-primary", 100 - canary), of("web-canary", canary)] }])
    };
    let head = json!({
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": { "name": "web" },
        "spec": { "hosts": ["web"], "gateways": ["mesh"], "tcp": route(0) },
    });
    kubectl.apply(
        &(pods("web-primary")
            + &pods("web")
            + &of("web", "web-primary")
            + &of("web-primary", "web-primary")
            + &of("web-canary", "web")
            + &rule("web-primary")
            + &rule("web-canary")
            + &format!("\n{head}")),
    );
    steered.cluster.await_pods("default", "of=web", 4);
    // It puts all of `spec.tcp`.
    let shift = |canary: u32| {
        let spec: Value = json!({ "spec": { "tcp": route(canary) } });
        kubectl.patch(&["virtualservice", "web"], "merge", &spec);
    };
    let split = |canary: u32, endpoints: usize| {
        let subsets = [("web-primary", 100 - canary, 2), ("web-canary", canary, endpoints)];
        phase("steered", || steered.await_split("web.default", &subsets));
    };
    split(0, 2);
    let address = steered.addresses("default", "web")[0];
    let mut client = steered.client(0);
    let expect = |client: &mut Client, what: &str, canary: u64| {
        let expected = [("web-primary-", 100 - canary), ("web-", canary)];
        client.assert_shares(what, address, FLOWS, &expected);
    };
    expect(&mut client, "it begins", 0);
    for canary in [10, 30, 50] {
        shift(canary);
        split(canary, 2);
        expect(&mut client, "canary", canary.into());
    }
    // Promoted: the primary gets the new pods before it gets the connections.
    kubectl.run(&["rollout", "restart", "deployment/web-primary"]);
    kubectl.run(&["rollout", "status", "deployment/web-primary", "--timeout=60s"]);
    shift(0);
    kubectl.run(&["scale", "deployment", "web", "--replicas=0"]);
    split(0, 0);
    expect(&mut client, "promoted", 0);

    // Another, which is not good.
    kubectl.run(&["scale", "deployment", "web", "--replicas=2"]);
    split(0, 2);
    shift(10);
    split(10, 2);
    expect(&mut client, "another canary", 10);
    let mut live = Live::open(&mut client, address, 40);
    shift(0);
    split(0, 2);
    expect(&mut client, "rolled back", 0);
    live.check("after it was rolled back");
}
