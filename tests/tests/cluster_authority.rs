//! An editor of one namespace steers what is of that namespace, and nothing else; and an agent
//! that may not look at something says so, and goes on with the rest. Needs root.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use weir_tests::agent::Agent;
use weir_tests::cluster::live::Live;
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{
    FOLLOW, ROLE, Steered, deployment, rule, service, versions, virtual_service,
};

const FLOWS: u16 = 1_500;
const VERSIONS: [&str; 2] = ["web-v1-", "web-v2-"];

/// Waits until the agent says of the cluster that something is not in force, in one line with all
/// of these words.
fn await_rejection(agent: &Agent, words: &[&str]) {
    let has = |line: &String| words.iter().all(|word| line.contains(word));
    let what = format!("it is rejected: {words:?}");
    agent.await_status(&what, |status| {
        status.kubernetes.as_ref().is_some_and(|view| view.rejected.iter().any(has))
    });
    let text = agent.printed(&["status"]);
    assert!(text.lines().any(|line| has(&line.to_owned())), "{words:?}: {text}");
}

/// The documents, in a namespace.
fn apply_in(steered: &Steered, namespace: &str, documents: &str) {
    let arguments = ["apply", "--server-side", "-n", namespace, "-f", "-"];
    steered.kubectl().try_run(&arguments, documents).unwrap();
}

/// What the cluster's DNS is to its clients: a Service of another namespace that everybody needs.
fn names() -> String {
    deployment("coredns", "dns", &[("version", "v1")].into(), 2) + &service("kube-dns", "app: dns")
}

#[test]
fn nobody_takes_an_address_of_another_namespace() {
    // Even where the administrator allows the Services' own addresses, by mistake.
    let config = format!("{}\n", FOLLOW.replace("{}", "{addresses: [0.0.0.0/0, '::/0']}"));
    let steered =
        Steered::start(1, &[Definitions::Istio, Definitions::GatewayStandard], &config).unwrap();
    steered.define_traffic_splits();
    steered.kubectl().run(&["create", "namespace", "mallory"]);
    apply_in(&steered, "kube-system", &names());
    apply_in(&steered, "mallory", &versions("web", 1));
    steered.cluster.await_pods("kube-system", "app=dns", 2);
    let pods = steered.cluster.await_pods("mallory", "app=web", 2);
    let mut client = steered.client(0);
    let dns = steered.addresses("kube-system", "kube-dns")[0];
    client.await_answer(dns);

    let host = "kube-dns.kube-system.svc.cluster.local";
    let (own, ip) = (pods[0].v4(), dns.ip());
    let documents = format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: by-host}}
spec: {{hosts: [{host}], tcp: [{{route: [{{destination: {{host: web.mallory.svc.cluster.local}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: by-all}}
spec: {{hosts: ['*.cluster.local'], tcp: [{{route: [{{destination: {{host: web.mallory.svc.cluster.local}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: by-address}}
spec:
  hosts: [names.example.com]
  addresses: [{ip}]
  ports: [{{number: 80, name: tcp, protocol: TCP, targetPort: 8080}}]
  resolution: STATIC
  endpoints: [{{address: {own}}}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: by-entry}}
spec:
  hosts: [{host}]
  addresses: [198.51.100.9]
  ports: [{{number: 80, name: tcp, protocol: TCP, targetPort: 8080}}]
  resolution: STATIC
  endpoints: [{{address: {own}}}]
---
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {{name: by-parent}}
spec:
  parentRefs: [{{group: '', kind: Service, name: kube-dns, namespace: kube-system, port: 80}}]
  rules: [{{backendRefs: [{{name: web, port: 80}}]}}]
---
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: by-split}}
spec: {{address: {ip}, port: 80, subsets: [{{name: a, weight: 1, endpoints: ['{own}:8080']}}]}}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: by-loopback}}
spec: {{address: 127.0.0.1, port: 80, subsets: [{{name: a, weight: 1, endpoints: ['{own}:8080']}}]}}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: by-link}}
spec: {{address: 169.254.169.254, port: 80, subsets: [{{name: a, weight: 1, endpoints: ['{own}:8080']}}]}}
---
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: good}}
spec: {{address: 198.51.100.1, port: 80, subsets: [{{name: a, weight: 1, endpoints: ['{own}:8080']}}]}}
"
    );
    apply_in(&steered, "mallory", &documents);
    // What is allowed is in force; all of the others were read by then.
    steered.await_split("good.mallory", &[("a", 1, 1)]);
    let agent = &steered.agents[0];
    await_rejection(agent, &["by-host", "another namespace"]);
    await_rejection(agent, &["by-address", &ip.to_string(), "kube-dns"]);
    await_rejection(agent, &["by-entry", "cluster's own domain"]);
    await_rejection(agent, &["by-split", &ip.to_string(), "kube-dns"]);
    for name in ["by-loopback", "by-link"] {
        await_rejection(agent, &[name]);
    }
    let splits: Vec<String> = agent.splits().unwrap().into_iter().map(|split| split.name).collect();
    let expected = ["good.mallory", "web.mallory", "web.mallory.ipv6"];
    assert_eq!(splits, expected, "the route of all hosts is one of its own namespace");
    client.assert_shares("names", dns, FLOWS, &[("coredns-", 1)]);
    let good = "198.51.100.1:80".parse().unwrap();
    client.assert_shares("its own", good, 200, &[(&pods[0].name, 1)]);
}

#[test]
fn objects_name_addresses_in_the_networks_of_the_configuration_alone() {
    let networks = "{addresses: [198.51.100.0/24, 10.128.0.0/9]}";
    let config = FOLLOW.replace("{}", networks);
    let steered = Steered::start(1, &[], &config).unwrap();
    steered.define_traffic_splits();
    let kubectl = steered.kubectl();
    kubectl.apply(&versions("web", 1));
    let pods = steered.cluster.await_pods("default", "app=web", 2);
    let split = |name: &str, address: &str, weights: [u32; 2], endpoints: [String; 2]| {
        let [first, second] = endpoints;
        format!(
            "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: {name}}}
spec:
  address: {address}
  port: 7000
  protocol: TCP
  affinity: None
  drainSeconds: 60
  subsets:
  - {{name: v1, weight: {}, endpoints: ['{first}']}}
  - {{name: v2, weight: {}, endpoints: ['{second}']}}
---",
            weights[0], weights[1]
        )
    };
    let own = || [0, 1].map(|at: usize| format!("{}:8080", pods[at].v4()));
    let foreign = || [own()[0].clone(), "192.0.2.7:8080".to_owned()];
    kubectl.apply(
        &(split("good", "198.51.100.1", [75, 25], own())
            + &split("elsewhere", "203.0.113.1", [1, 1], own())
            + &split("foreign", "198.51.100.2", [1, 1], foreign())),
    );
    steered.await_split("good.default", &[("v1", 75, 1), ("v2", 25, 1)]);
    let agent = &steered.agents[0];
    await_rejection(agent, &["elsewhere", "203.0.113.1", "kubernetes.addresses"]);
    await_rejection(agent, &["foreign", "192.0.2.7", "kubernetes.addresses"]);
    let doctor = agent.printed(&["doctor"]);
    assert!(doctor.contains("elsewhere") && doctor.contains("203.0.113.1"), "{doctor}");

    let mut client = steered.client(0);
    let address: SocketAddr = "198.51.100.1:7000".parse().unwrap();
    let of = |weights: [u64; 2]| [(VERSIONS[0], weights[0]), (VERSIONS[1], weights[1])];
    client.assert_shares("written", address, FLOWS, &of([75, 25]));
    let subsets = json!([{ "op": "replace", "path": "/spec/subsets/0/weight", "value": 25 },
        { "op": "replace", "path": "/spec/subsets/1/weight", "value": 75 }]);
    kubectl.patch(&["trafficsplit", "good"], "json", &subsets);
    steered.await_split("good.default", &[("v1", 25, 1), ("v2", 75, 1)]);
    client.assert_shares("patched", address, FLOWS, &of([25, 75]));
    kubectl.run(&["delete", "trafficsplit", "--all"]);
    steered.await_no_split("");
}

#[test]
fn a_namespace_with_more_than_fits_holds_up_nobody_else() {
    const ROOM: usize = 8;
    let networks = "{addresses: [198.51.100.0/24, 10.128.0.0/9]}";
    let config = format!("{}limits: {{splits: {ROOM}}}\n", FOLLOW.replace("{}", networks));
    let steered = Steered::start(1, &[Definitions::Istio], &config).unwrap();
    steered.define_traffic_splits();
    let kubectl = steered.kubectl();
    kubectl.run(&["create", "namespace", "greedy"]);
    kubectl.apply(&(versions("web", 2) + &rule("web")));
    kubectl.apply(&virtual_service("web", &[("v1", 50), ("v2", 50)]));
    steered.cluster.await_pods("default", "app=web", 4);
    steered.await_split("web.default.ipv6", &[("v1", 50, 2), ("v2", 50, 2)]);

    // Two splits that are over soon, and eight Services of one family each: there is room for six.
    let written: String = (0..2)
        .map(|n| {
            format!(
                "
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {{name: written-{n}}}
spec:
  address: 198.51.100.{n}
  port: 80
  drainSeconds: 1
  subsets: [{{name: a, weight: 1, endpoints: ['10.129.77.7:80']}}]
---"
            )
        })
        .collect();
    apply_in(&steered, "greedy", &written);
    for split in ["written-0.greedy", "written-1.greedy"] {
        steered.await_split(split, &[("a", 1, 1)]);
    }
    let single = |name: &str| {
        let service = service(name, "app: none").replace("RequireDualStack", "SingleStack");
        service + &virtual_service(name, &[("x", 1)]).replace(", subset: x", "")
    };
    let many: String = (0..8).map(|n| single(&format!("many-{n}"))).collect();
    apply_in(&steered, "greedy", &many);
    let agent = &steered.agents[0];
    agent.await_status("all places are taken", |_| {
        agent.splits().is_ok_and(|splits| splits.len() == ROOM)
    });
    let each = (4..8).map(|n| format!("split \"many-{n}.greedy\" does not fit: limits.splits"));
    each.for_each(|line| await_rejection(agent, &[&line, "namespace \"greedy\" has 6 splits"]));

    // Meanwhile another namespace replaces all of its pods.
    let address = steered.addresses("default", "web")[0];
    let mut client = steered.client(0);
    let before = steered.cluster.await_pods("default", "app=web,version=v1", 2);
    kubectl.run(&["rollout", "restart", "deployment/web-v1"]);
    phase("rolled", || kubectl.run(&["rollout", "status", "deployment/web-v1", "--timeout=60s"]));
    let after = steered.cluster.await_pods("default", "app=web,version=v1", 2);
    assert!(after.iter().all(|pod| before.iter().all(|old| old.name != pod.name)));
    let wanted: Vec<SocketAddr> =
        after.iter().map(|pod| SocketAddr::new(pod.v4().into(), 8080)).collect();
    agent.await_status("the new pods are steered to", |_| {
        agent.split("web.default").is_ok_and(|split| {
            let mut endpoints = split.subsets[0].endpoints.iter();
            endpoints.len() == 2 && endpoints.all(|endpoint| wanted.contains(&endpoint.address))
        })
    });
    let expected = VERSIONS.map(|version| (version, 1));
    client.assert_shares("rolled", address, FLOWS, &expected);

    // What is given back is somebody else's, a minute after it has drained, though nothing
    // changes then.
    kubectl.run(&["delete", "trafficsplit", "--all", "-n", "greedy"]);
    std::thread::sleep(Duration::from_secs(62));
    agent.await_status("others take the places", |status| {
        let rejected = status.kubernetes.as_ref().map(|view| view.rejected.len());
        rejected == Some(2) && agent.splits().is_ok_and(|splits| splits.len() == ROOM)
    });
}

#[test]
fn a_verb_that_is_taken_away_is_named_and_nothing_else_breaks() {
    let mut steered = Steered::start(1, &[Definitions::Istio], FOLLOW).unwrap();
    let kubectl = steered.kubectl().clone();
    kubectl.apply(&(versions("web", 2) + &rule("web")));
    kubectl.apply(&virtual_service("web", &[("v1", 70), ("v2", 30)]));
    steered.cluster.await_pods("default", "app=web", 4);
    steered.await_split("web.default", &[("v1", 70, 2), ("v2", 30, 2)]);
    let address = steered.addresses("default", "web")[0];
    let mut client = steered.client(0);
    let mut live = Live::open(&mut client, address, 20);
    let expected = [(VERSIONS[0], 70), (VERSIONS[1], 30)];

    // It can look, and nothing else.
    let weir = steered.cluster.control.kubeconfig_of("weir-system", "weir").unwrap();
    let weir = kubectl.of(&weir);
    for verb in ["create", "update", "patch", "delete"] {
        let may = weir.try_run(&["auth", "can-i", verb, "services", "-A"], "");
        assert!(may.is_err(), "{verb}: {may:?}");
    }
    assert!(weir.try_get(&["secrets", "-A"]).is_err());

    // A watch that goes on is not asked again; so the server is restarted.
    let path = format!("/apis/rbac.authorization.k8s.io/v1/clusterroles/{ROLE}");
    let role = steered.cluster.control.api().get(&path).unwrap();
    let mut rules = role["rules"].clone();
    for rule in rules.as_array_mut().unwrap() {
        if rule["apiGroups"][0] == "networking.istio.io" {
            rule["verbs"] = json!(["get", "list"]);
        }
    }
    kubectl.patch(&["clusterrole", ROLE], "merge", &json!({ "rules": rules }));
    steered.cluster.control.stop_api_server();
    phase("server back", || steered.cluster.control.start_api_server()).unwrap();
    let kind = "virtualservices.networking.istio.io";
    let agent = &steered.agents[0];
    phase("forbidden", || {
        agent.await_status("it is forbidden", |status| {
            let view = status.kubernetes.as_ref();
            view.is_some_and(|view| view.connected && view.kinds[kind].state == "forbidden")
        })
    });
    let text = agent.printed(&["doctor"]);
    text.lines().filter(|line| line.contains("cannot")).for_each(|line| eprintln!("{line}"));
    assert!(!text.contains("too old"), "{text}");
    assert!(text.contains(&format!("cannot watch {kind}: forbidden")), "{text}");
    assert!(text.contains("ClusterRole"), "{text}");
    client.assert_shares("forbidden", address, FLOWS, &expected);
    // Endpoints are another kind: they go on.
    kubectl.run(&["scale", "deployment", "web-v2", "--replicas=3"]);
    phase("scaled", || steered.await_split("web.default", &[("v1", 70, 2), ("v2", 30, 3)]));
    kubectl.patch(&["clusterrole", ROLE], "merge", &json!({ "rules": role["rules"] }));
    let fresh = |steered: &Steered, what: &str| {
        phase(what, || {
            steered.await_view(what, |view| view.connected && view.stale_since.is_none())
        })
    };
    fresh(&steered, "allowed again");

    // A token that is worth nothing any more, and one that takes its place.
    steered.account.set_token("nothing").unwrap();
    steered.cluster.control.stop_api_server();
    steered.cluster.control.start_api_server().unwrap();
    let agent = &steered.agents[0];
    agent.await_status("nobody knows it", |status| {
        let errors = status.kubernetes.iter().flat_map(|view| &view.errors);
        errors.into_iter().any(|error| error.contains("not authenticated"))
    });
    client.assert_shares("not authenticated", address, FLOWS, &expected);
    steered.account.renew(&steered.cluster.control).unwrap();
    fresh(&steered, "a new token");
    kubectl.run(&["scale", "deployment", "web-v2", "--replicas=1"]);
    steered.await_split("web.default", &[("v1", 70, 2), ("v2", 30, 1)]);
    live.check("all the while");
    std::thread::sleep(Duration::from_millis(100));
    client.assert_shares("a new token", address, FLOWS, &expected);
}
