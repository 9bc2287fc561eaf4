//! Changes one by one come to what all documents at once come to.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::{lines, routes, rule, service, slice};
use crate::resource::{Document, Id, Resolver, read};

const PORT: &str = "{name: web, port: 80}";

#[track_caller]
fn documents(text: &str) -> Vec<Arc<Document>> {
    let found = read("f", text);
    assert_eq!(lines(&found.problems), Vec::<String>::new());
    found.documents
}

fn two_services() -> String {
    let one = |name: &str, ip: &str| {
        service(name, &format!("10.96.0.{ip}"), PORT)
            + &slice(name, "v1", "web", 80, &[&format!("10.0.{ip}.1")])
            + &slice(name, "v2", "web", 80, &[&format!("10.0.{ip}.2")])
            + &rule(name, &["v1", "v2"])
            + &routes(name, "tcp", &[("v1", 1), ("v2", 1)])
    };
    one("a", "1") + &one("b", "2") + &service("c", "10.96.0.3", PORT)
}

#[test]
fn a_change_resolves_again_only_what_depends_on_it() {
    let mut resolver = Resolver::default();
    resolver.apply(documents(&two_services()));
    resolver.resolve();
    assert_eq!(resolver.touched().len(), 3, "at first everything");
    let mut touched = |text: &str, delete: bool| {
        let documents = documents(text);
        match delete {
            true => _ = resolver.delete(documents.iter().map(|document| document.id())),
            false => resolver.apply(documents),
        }
        resolver.resolve();
        resolver.touched().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let (a, b, c) = ("a.default", "b.default", "c.default");
    let of_both = routes("a", "tcp", &[("v1", 1), ("v2", 1)])
        .replace("host: a, subset: v2", "host: b, subset: v2");
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.1}\n";
    let wild = routes("c", "tcp", &[("v1", 1)]).replace("hosts: [c]", "hosts: [\"*.example.com\"]");
    assert_eq!(touched(&routes("a", "tcp", &[("v1", 9), ("v2", 1)]), false), [a]);
    assert_eq!(touched(&slice("b", "v1", "web", 80, &["10.0.2.9"]), false), [b]);
    assert_eq!(touched(&rule("c", &["v1"]), false), [c]);
    assert_eq!(touched(&of_both, false), [a]);
    assert_eq!(touched(&slice("b", "v2", "web", 80, &["10.0.2.8"]), false), [a, b], "both use it");
    assert_eq!(touched(workload, false), [] as [&str; 0], "nobody selects it");
    assert_eq!(touched(&wild, false), [a, b, c], "it could be for anybody");
    assert_eq!(touched(&rule("b", &["v1", "v2"]), true), [a, b]);
    assert_eq!(touched(&service("c", "10.96.0.3", PORT), true), [c], "it is gone");
    assert_eq!(touched(&service("c", "10.96.0.3", PORT), false), [c]);
}

#[test]
fn what_is_not_there_cannot_be_deleted() {
    let mut resolver = Resolver::default();
    let ids: Vec<Id> = documents(&rule("a", &["v1"])).iter().map(|d| d.id().clone()).collect();
    assert_eq!(resolver.delete(&ids), [&ids[0]]);
}

/// Documents of which several describe the same things in different ways.
fn pool() -> Vec<String> {
    let route = |kind: &str, parent: &str, backend: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: {kind}\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{parent}]\n  rules: [{{backendRefs: [{{name: {backend}, port: 80}}, {{name: b, namespace: n, port: 80}}]}}]\n---\n"
        )
    };
    let gateway = |port: u16| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: g}}\nspec:\n  gatewayClassName: x\n  addresses: [{{value: 192.0.2.1}}]\n  listeners: [{{name: l, port: {port}, protocol: TCP}}]\n---\n"
        )
    };
    let istio = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec: {selector: {app: a}, servers: [{port: {number: 80, name: t, protocol: TCP}, hosts: [\"*\"]}]}\n---\n";
    let grant = "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: n}\nspec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}], to: [{group: \"\", kind: Service}]}\n---\n";
    let there = |text: String| {
        text.replace("metadata: {", "metadata: {namespace: n, ")
            .replace("metadata:\n", "metadata:\n  namespace: n\n")
    };
    let split = "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {name: s}\nspec: {address: 10.96.0.1, port: 80, subsets: [{name: x, weight: 1, endpoints: []}]}\n---\n";
    let on_gateway =
        routes("a", "tcp", &[("v1", 1)]).replace("hosts: [a]", "hosts: [\"*\"]\n  gateways: [g]");
    vec![
        service("a", "10.96.0.1", PORT),
        service("a", "10.96.0.1", PORT).replace("spec: {", "spec: {selector: {app: a}, "),
        service("a", "10.96.0.2", "{name: web, port: 80}, {name: u, port: 80, protocol: UDP}"),
        service("b", "10.96.0.2", PORT),
        there(service("b", "None", PORT)),
        there(slice("b", "v1", "web", 80, &["10.0.9.1"])),
        slice("a", "v1", "web", 80, &["10.0.1.1"]),
        slice("a", "v1", "web", 80, &["10.0.1.1", "10.0.1.2"]),
        slice("a", "v2", "web", 80, &["10.0.1.3"]),
        slice("b", "v1", "web", 80, &["10.0.2.1"]),
        rule("a", &["v1"]),
        rule("a", &["v1", "v2"]),
        rule("b", &["v1"]),
        routes("a", "tcp", &[("v1", 1), ("v2", 3)]),
        routes("a", "http", &[("v1", 1)]),
        routes("b", "tcp", &[("v1", 1)]),
        routes("b", "tcp", &[("v1", 1)]).replace("host: b", "host: a"),
        routes("w", "tcp", &[("v1", 1)]).replace("hosts: [w]", "hosts: [\"*.local\"]").replace("host: w", "host: a"),
        on_gateway,
        istio.to_owned(),
        gateway(80),
        gateway(81),
        route("TCPRoute", "{name: g}", "a"),
        route("TCPRoute", "{group: \"\", kind: Service, name: a}", "b"),
        route("UDPRoute", "{group: \"\", kind: Service, name: a}", "a"),
        grant.to_owned(),
        split.to_owned(),
        "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w}\nspec: {address: 10.0.0.1, labels: {app: a, version: v2}}\n".to_owned(),
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: e}\nspec: {hosts: [b], addresses: [10.96.0.7], ports: [{number: 80, name: web}], resolution: STATIC, endpoints: [{address: 10.0.0.7, labels: {version: v1}}]}\n".to_owned(),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_one_by_one_come_to_the_same_as_all_at_once(
        steps in proptest::collection::vec((0..29usize, any::<bool>(), any::<bool>()), 1..40)
    ) {
        let pool = pool();
        prop_assert_eq!(pool.len(), 29);
        let mut resolver = Resolver::default();
        let mut live: Vec<(Id, usize)> = Vec::new();
        for (at, delete, resolve) in steps {
            for document in documents(&pool[at]) {
                let id = document.id().clone();
                let found = live.iter().position(|(other, _)| *other == id);
                match (delete, found) {
                    (true, Some(found)) => _ = live.remove(found),
                    // It keeps its turn.
                    (false, Some(found)) => live[found].1 = at,
                    (false, None) => live.push((id.clone(), at)),
                    (true, None) => {}
                }
                if delete {
                    resolver.delete([&id]);
                } else {
                    resolver.apply([document]);
                }
            }
            if resolve {
                resolver.update();
            }
        }
        let resolved = resolver.resolve();
        let mut fresh = Resolver::default();
        for (_, at) in &live {
            fresh.apply(documents(&pool[*at]));
        }
        prop_assert_eq!(&resolved, &fresh.resolve());
        let names: BTreeSet<_> = resolved.desired.splits().map(|s| s.name()).collect();
        prop_assert!(names.iter().all(|name| resolved.provenance.contains_key(*name)));
    }
}
