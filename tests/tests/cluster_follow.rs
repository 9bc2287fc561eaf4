//! Agents that follow a cluster steer by its routes, beside kube-proxy, and by nothing else.
//! Needs root.

use serde_json::json;
use weir::api::types::KubernetesView;
use weir_tests::cluster::live::Live;
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{FOLLOW, Steered, rule, service, versions, virtual_service};

/// Connections for each share: one that is 5 % off would be seen.
const FLOWS: u16 = 2_000;
const VERSIONS: [&str; 2] = ["web-v1-", "web-v2-"];
/// The splits of the Service's two families.
const SPLITS: [&str; 2] = ["web.default", "web.default.ipv6"];

#[test]
fn a_virtual_service_is_steered_by_while_it_is_there() {
    let steered = Steered::start(2, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    kubectl.apply(&versions("web", 2));
    phase("pods", || steered.cluster.await_pods("default", "app=web", 4));
    let mut client = steered.client(0);
    let addresses = steered.addresses("default", "web");
    for &address in &addresses {
        client.await_answer(address);
    }

    // Nothing routes it: kube-proxy serves.
    for agent in &steered.agents {
        let splits = agent.splits().unwrap();
        assert!(splits.is_empty(), "{splits:?}");
    }
    for &address in &addresses {
        client.assert_shares("no route", address, FLOWS, &VERSIONS.map(|of| (of, 1)));
    }
    let mut before: Vec<Live> =
        addresses.iter().map(|&address| Live::open(&mut client, address, 20)).collect();

    kubectl.apply(&(rule("web") + &virtual_service("web", &[("v1", 90), ("v2", 10)])));
    phase("steered", || {
        SPLITS.map(|split| steered.await_split(split, &[("v1", 90, 2), ("v2", 10, 2)]))
    });
    for &address in &addresses {
        let expected = [(VERSIONS[0], 90), (VERSIONS[1], 10)];
        client.assert_shares("90/10", address, FLOWS, &expected);
    }
    before.iter_mut().for_each(|live| live.check("taken over"));

    let routes = [("v1", 30), ("v2", 70)].map(|(subset, weight)| {
        json!({ "destination": { "host": "web", "subset": subset }, "weight": weight })
    });
    let patch = json!({ "spec": { "tcp": [{ "route": routes }] } });
    kubectl.patch(&["virtualservice", "web"], "merge", &patch);
    phase("shifted", || {
        SPLITS.map(|split| steered.await_split(split, &[("v1", 30, 2), ("v2", 70, 2)]))
    });
    let mut other = steered.client(1);
    for &address in &addresses {
        let expected = [(VERSIONS[0], 30), (VERSIONS[1], 70)];
        client.assert_shares("30/70", address, FLOWS, &expected);
        other.assert_shares("30/70 on the other node", address, FLOWS, &expected);
    }

    let mut live: Vec<Live> =
        addresses.iter().map(|&address| Live::open(&mut client, address, 40)).collect();
    kubectl.run(&["delete", "virtualservice", "web"]);
    phase("left", || steered.await_no_split("web"));
    live.iter_mut().for_each(|live| live.check("after it was steered"));
    before.iter_mut().for_each(|live| live.check("given back"));
    for &address in &addresses {
        client.assert_shares("route deleted", address, FLOWS, &VERSIONS.map(|of| (of, 1)));
    }
    // Of a hundred connections that kube-proxy divides, all four pods have some.
    let plain = Live::open(&mut client, addresses[0], 100);
    assert_eq!(plain.names().len(), 4, "{:?}", plain.names());
    live.iter_mut().for_each(|live| live.check("much later"));
    let health = steered.agents[0].status().unwrap().health;
    assert!(health.reasons.is_empty(), "{health:?}");
}

/// A route of the Gateway API whose parent is the Service itself.
const ROUTE: &str = "
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: web}
spec:
  parentRefs: [{group: '', kind: Service, name: web, port: 80}]
  rules:
  - backendRefs:
    - {name: web-v1, port: 80, weight: 80}
    - {name: web-v2, port: 80, weight: 20}
";
const ROUTES: &str = "tcproutes.gateway.networking.k8s.io";

#[test]
fn kinds_are_followed_from_when_they_are_defined_until_they_are_not_any_more() {
    let steered = Steered::start(1, &[], FOLLOW).unwrap();
    let kubectl = steered.kubectl();
    let pid = steered.agents[0].pid();
    let of = |version: &str| {
        service(&format!("web-{version}"), &format!("app: web, version: {version}"))
    };
    kubectl.apply(&(versions("web", 2) + &of("v1") + &of("v2")));
    phase("pods", || steered.cluster.await_pods("default", "app=web", 4));
    let mut client = steered.client(0);
    let addresses = steered.addresses("default", "web");
    addresses.iter().for_each(|&address| client.await_answer(address));
    let is = |state: &'static str| {
        move |view: &KubernetesView| view.kinds.get(ROUTES).is_some_and(|kind| kind.state == state)
    };
    steered.await_view("not served", is("notServed"));

    for round in ["defined", "defined again"] {
        steered.cluster.define(Definitions::GatewayStandard).unwrap();
        phase("followed", || steered.await_view(round, is("following")));
        kubectl.apply(ROUTE);
        phase("steered", || {
            SPLITS.map(|split| steered.await_split(split, &[("web-v1", 80, 2), ("web-v2", 20, 2)]))
        });
        for &address in &addresses {
            let expected = [(VERSIONS[0], 80), (VERSIONS[1], 20)];
            client.assert_shares(round, address, FLOWS, &expected);
        }
        let weights = [("web-v1", 25), ("web-v2", 75)]
            .map(|(name, weight)| json!({ "name": name, "port": 80, "weight": weight }));
        let patch = json!({ "spec": { "rules": [{ "backendRefs": weights }] } });
        kubectl.patch(&["tcproute", "web"], "merge", &patch);
        phase("shifted", || {
            SPLITS.map(|split| steered.await_split(split, &[("web-v1", 25, 2), ("web-v2", 75, 2)]))
        });
        let expected = [(VERSIONS[0], 25), (VERSIONS[1], 75)];
        client.assert_shares(round, addresses[0], FLOWS, &expected);

        let mut live = Live::open(&mut client, addresses[0], 20);
        kubectl.run(&["delete", "crd", ROUTES]);
        phase("left", || steered.await_no_split("web"));
        phase("not followed", || steered.await_view("not served any more", is("notServed")));
        live.check("after the kind was gone");
        client.assert_shares("no route", addresses[0], FLOWS, &VERSIONS.map(|of| (of, 1)));
    }
    assert_eq!(steered.agents[0].pid(), pid, "it was never restarted");
    let health = steered.agents[0].status().unwrap().health;
    assert!(health.reasons.is_empty(), "{health:?}");
}
