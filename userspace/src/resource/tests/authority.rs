//! Who may steer what, of a cluster's objects.

use std::sync::Arc;

use super::{lines, rule, service, slice};
use crate::model::Name;
use crate::resource::{Document, Istio, Policy, Resolved, Resolver, Services, read_object};
use crate::source::documents;

/// The objects of these texts, as an API server has them.
fn objects(text: &str) -> (Vec<Arc<Document>>, Vec<String>) {
    let (nodes, problems) = documents("f", text);
    assert_eq!(lines(&problems), [] as [&str; 0]);
    let (mut good, mut rejected) = (Vec::new(), Vec::new());
    for node in nodes {
        let found = read_object(&serde_json::to_string(&node.value).unwrap());
        good.extend(found.documents);
        rejected.extend(lines(&found.problems));
    }
    (good, rejected)
}

fn policy() -> Policy {
    Policy { addresses: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() }
}

fn resolved_by(policy: Policy, text: &str) -> Resolved {
    let (documents, rejected) = objects(text);
    assert_eq!(rejected, [] as [&str; 0]);
    let mut resolver = Resolver::default().with_policy(policy);
    resolver.apply(documents);
    resolver.resolve()
}

pub(super) fn resolved(text: &str) -> Resolved {
    resolved_by(policy(), text)
}

pub(super) fn names(resolved: &Resolved) -> Vec<String> {
    resolved.desired.splits().map(|split| split.name().to_string()).collect()
}

/// The one problem, after the name of its object.
#[track_caller]
fn problem(resolved: &Resolved) -> String {
    match resolved.problems.as_slice() {
        [only] => format!("{} {}: {}", only.file, only.field, only.message),
        all => panic!("one problem is expected: {:?}", lines(all)),
    }
}

const PORT: &str = "{name: tcp, port: 80}";

/// A Service with endpoints of two versions, as Istio sees them.
fn web(namespace: &str, ip: &str) -> String {
    let text = [
        service("web", ip, PORT),
        slice("web", "v1", "tcp", 80, &["10.0.1.1"]),
        slice("web", "v2", "tcp", 80, &["10.0.2.1"]),
        rule("web", &["v1", "v2"]),
    ];
    within(namespace, &text.concat())
}

/// The same objects, in a namespace.
fn within(namespace: &str, text: &str) -> String {
    text.replace("metadata: {name:", &format!("metadata: {{namespace: {namespace}, name:"))
        .replace("metadata:\n  name:", &format!("metadata:\n  namespace: {namespace}\n  name:"))
}

/// A VirtualService with these fields beside `hosts`, of a namespace.
fn virtual_service(namespace: &str, host: &str, to: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
         metadata: {{namespace: {namespace}, name: web}}\n\
         spec: {{hosts: [{host}], {more}tcp: [{{route: [{{destination: {{host: {to}}}}}]}}]}}\n---\n"
    )
}

#[test]
fn only_what_is_routed_becomes_a_split() {
    let services = web("shop", "10.96.0.1") + &within("shop", &service("db", "10.96.0.2", PORT));
    assert_eq!(names(&resolved(&services)), [] as [&str; 0]);
    let routed = services.clone() + &virtual_service("shop", "web", "web", "");
    assert_eq!(names(&resolved(&routed)), ["web.shop"]);
    let all = Policy { services: Services::All, ..policy() };
    assert_eq!(names(&resolved_by(all, &services)), ["db.shop", "web.shop"]);
    // The node's own documents are the operator's choice.
    assert_eq!(names(&super::good(&[&services])), ["db.shop", "web.shop"]);
}

#[test]
fn a_namespace_routes_its_own_services_only() {
    let other = web("shop", "10.96.0.1")
        + &virtual_service(
            "mallory",
            "web.shop.svc.cluster.local",
            "web.shop.svc.cluster.local",
            "",
        );
    let found = resolved(&other);
    assert_eq!(names(&found), [] as [&str; 0]);
    assert_eq!(
        problem(&found),
        "cluster VirtualService/mallory/web spec.hosts[0]: Service shop/web (cluster) is of another namespace: an object routes what is of its own namespace \"mallory\" only"
    );
    // Nor does it stand in the way of who may.
    let both = other + &virtual_service("shop", "web", "web", "");
    assert_eq!(names(&resolved(&both)), ["web.shop"]);
    let wild = web("shop", "10.96.0.1")
        + &virtual_service("mallory", "\"*.local\"", "web.shop.svc.cluster.local", "");
    assert_eq!(names(&resolved(&wild)), [] as [&str; 0]);
}

#[test]
fn a_destination_elsewhere_needs_a_grant() {
    let text = web("shop", "10.96.0.1")
        + &web("other", "10.96.0.2")
        + &virtual_service("shop", "web", "web.other.svc.cluster.local", "");
    let found = resolved(&text);
    assert_eq!(names(&found), [] as [&str; 0]);
    assert_eq!(
        problem(&found),
        "cluster VirtualService/shop/web spec.tcp[0].route[0].destination.host: no ReferenceGrant of namespace \"other\" lets a VirtualService of namespace \"shop\" refer to Service \"web\""
    );
    let grant = |group: &str, namespace: &str, name: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {{namespace: other, name: g}}\n\
             spec: {{from: [{{group: {group}, kind: VirtualService, namespace: {namespace}}}], to: [{{group: \"\", kind: Service, name: {name}}}]}}\n---\n"
        )
    };
    for (group, namespace, name, is_enough) in [
        ("networking.istio.io", "shop", "web", true),
        ("gateway.networking.k8s.io", "shop", "web", false),
        ("networking.istio.io", "else", "web", false),
        ("networking.istio.io", "shop", "db", false),
    ] {
        let found = resolved(&(text.clone() + &grant(group, namespace, name)));
        assert_eq!(!names(&found).is_empty(), is_enough, "{group} {namespace} {name}");
    }
}

#[test]
fn what_is_exported_to_some_is_not_for_all() {
    let route = |more: &str| {
        resolved(&(web("shop", "10.96.0.1") + &virtual_service("shop", "web", "web", more)))
    };
    for everyone in ["", "exportTo: [\"*\"], ", "exportTo: [], "] {
        assert_eq!(names(&route(everyone)), ["web.shop"], "{everyone}");
    }
    for some in ["exportTo: [\".\"], ", "exportTo: [shop, other], ", "exportTo: [\"~\"], "] {
        let found = route(some);
        assert_eq!(names(&found), [] as [&str; 0], "{some}");
        let said = problem(&found);
        assert!(said.contains("exportTo names some namespaces"), "{said}");
    }
    // The rule of a foreign namespace is none; one of the host's own is, unless it is kept to it.
    let subset = |rule_of: &str, exported: &str| {
        let services =
            web("shop", "10.96.0.1").replace("kind: DestinationRule", "kind: DestinationRule #");
        let services = services.replace(
            "kind: DestinationRule #\nmetadata: {namespace: shop,",
            &format!("kind: DestinationRule\nmetadata: {{namespace: {rule_of},"),
        );
        let services = services
            .replace("  host: web\n", &format!("  host: web.shop.svc.cluster.local\n{exported}"));
        let to = "web, subset: v1";
        names(&resolved(&(services + &virtual_service("shop", "web", to, ""))))
    };
    assert_eq!(subset("shop", ""), ["web.shop"]);
    assert_eq!(subset("shop", "  exportTo: [\".\"]\n"), ["web.shop"]);
    assert_eq!(subset("mallory", ""), [] as [&str; 0]);
}

#[test]
fn addresses_that_objects_name_are_in_allowed_networks() {
    let split = |address: &str, endpoint: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{namespace: shop, name: s}}\n\
             spec: {{address: {address}, port: 80, subsets: [{{name: a, weight: 1, endpoints: ['{endpoint}:80']}}]}}\n---\n"
        )
    };
    assert_eq!(names(&resolved(&split("192.0.2.1", "192.0.2.2"))), ["s.shop"]);
    for (address, endpoint, field) in [
        ("198.51.100.1", "192.0.2.2", "spec.address: 198.51.100.1 is in no network"),
        ("192.0.2.1", "10.0.0.1", "spec.subsets[0].endpoints: 10.0.0.1 is in no network"),
    ] {
        let found = resolved(&split(address, endpoint));
        assert_eq!(names(&found), [] as [&str; 0]);
        assert!(problem(&found).contains(field), "{}", problem(&found));
    }
    let none = resolved_by(Policy::default(), &split("192.0.2.1", "192.0.2.2"));
    assert_eq!(names(&none), [] as [&str; 0], "the default allows none");
    let any = || Policy { addresses: vec!["0.0.0.0/0".parse().unwrap()], ..policy() };
    for (address, endpoint) in [("169.254.169.254", "192.0.2.2"), ("192.0.2.1", "169.254.169.254")]
    {
        let found = resolved_by(any(), &split(address, endpoint));
        assert_eq!(names(&found), [] as [&str; 0]);
        let expected = "169.254.169.254 is a loopback or link-local address";
        assert!(problem(&found).contains(expected), "{}", problem(&found));
    }
    // A cluster address is another object's, though the network is allowed.
    let dns = within("kube-system", &service("dns", "192.0.2.10", PORT));
    let found = resolved(&(dns + &split("192.0.2.10", "192.0.2.2")));
    assert_eq!(names(&found), [] as [&str; 0]);
    assert!(problem(&found).contains("192.0.2.10 is the address of Service kube-system/dns"));
}

#[test]
fn a_split_counts_for_the_namespace_of_the_object_that_says_it() {
    let text = "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {namespace: shop, name: s}\n\
                spec: {address: 192.0.2.1, port: 80, subsets: [{name: a, weight: 1, endpoints: []}]}\n---\n";
    let (documents, _) = objects(&(text.to_owned() + &web("zoo", "192.0.2.7")));
    let all = Policy { services: Services::All, ..policy() };
    let mut resolver = Resolver::default().with_policy(all);
    resolver.apply(documents);
    let _ = resolver.resolve();
    let owner = |name: &str| Some(resolver.owner(&Name::new(name).ok()?)?.0);
    assert_eq!(owner("s.shop").as_deref(), Some("shop"));
    assert_eq!(owner("web.zoo").as_deref(), Some("zoo"));
}

#[test]
fn entries_that_are_described_by_hand_name_allowed_addresses_too() {
    let entry = |host: &str, address: &str, endpoint: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: shop, name: s}}\n\
             spec: {{hosts: [{host}], addresses: [{address}], resolution: STATIC, ports: [{{number: 80, name: tcp, protocol: TCP}}], endpoints: [{{address: {endpoint}}}]}}\n---\n"
        )
    };
    let all = || Policy { services: Services::All, ..policy() };
    let found = |text: &str| resolved_by(all(), text);
    let right = found(&entry("a.example", "192.0.2.1", "192.0.2.2"));
    assert_eq!(names(&right), ["a.example"]);
    let wrong = found(&entry("a.example", "10.96.0.10", "192.0.2.2"));
    assert_eq!(names(&wrong), [] as [&str; 0]);
    assert!(problem(&wrong).contains("10.96.0.10 is in no network"));
    let endpoint = found(&entry("a.example", "192.0.2.1", "10.0.0.9"));
    let split = endpoint.desired.splits().next().expect("it has its address");
    assert!(split.subsets().iter().all(|subset| subset.endpoints.is_empty()), "{split:?}");
    // Nobody describes another's Service.
    let taken =
        web("other", "10.96.0.1") + &entry("web.other.svc.cluster.local", "192.0.2.1", "192.0.2.2");
    let found = found(&taken);
    assert_eq!(names(&found), ["web.other"]);
    assert!(problem(&found).contains("is of the cluster's own domain"), "{}", problem(&found));

    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {namespace: shop, name: vm}\nspec: {address: 10.0.0.9, labels: {app: vm}}\n---\n";
    let found = resolved(workload);
    assert!(problem(&found).starts_with("cluster WorkloadEntry/shop/vm spec.address: 10.0.0.9"));
}

#[test]
fn where_istiod_runs_objects_are_taken_that_ask_for_it() {
    let istiod = within("istio-system", &service("istiod", "10.96.0.99", PORT))
        .replace("name: istiod}", "name: istiod, labels: {app: istiod}}");
    let route = web("shop", "10.96.0.1") + &virtual_service("shop", "web", "web", "");
    assert_eq!(names(&resolved(&route)), ["web.shop"]);
    let beside = istiod.clone() + &route;
    let found = resolved(&beside);
    assert_eq!((names(&found), lines(&found.problems)), (vec![], vec![]));
    assert!(
        lines(&found.notes).iter().any(|note| note.contains("not taken: Istio runs")),
        "{:?}",
        found.notes
    );
    let label = |value: &str| {
        beside.replace(
            "kind: VirtualService\nmetadata: {",
            &format!("kind: VirtualService\nmetadata: {{labels: {{weir.dev/steer: \"{value}\"}}, "),
        )
    };
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, labels: {weir.dev/steer: \"true\"}}\n---\n";
    assert_eq!(names(&resolved(&label("true"))), ["web.shop"]);
    assert_eq!(names(&resolved(&(beside.clone() + namespace))), ["web.shop"]);
    assert_eq!(names(&resolved(&(label("false") + namespace))), [] as [&str; 0]);
    let all = Policy { istio: Istio::All, ..policy() };
    assert_eq!(names(&resolved_by(all, &beside)), ["web.shop"]);
    let labelled = Policy { istio: Istio::Labelled, ..policy() };
    assert_eq!(names(&resolved_by(labelled, &route)), [] as [&str; 0]);
}

#[test]
fn a_service_of_local_traffic_is_left_to_its_proxy() {
    let text = web("shop", "10.96.0.1")
        .replace("spec: {clusterIP", "spec: {internalTrafficPolicy: Local, clusterIP");
    assert_eq!(resolved(&text).problems, []);
    let found = resolved(&(text + &virtual_service("shop", "web", "web", "")));
    assert_eq!(names(&found), [] as [&str; 0]);
    assert!(
        problem(&found).contains("spec.internalTrafficPolicy: not taken"),
        "{}",
        problem(&found)
    );
}

#[test]
fn gateways_of_other_classes_are_left_alone() {
    let gateway = |class: &str, address: &str| {
        web("shop", "10.96.0.1")
            + &format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{namespace: shop, name: g}}\n\
                 spec: {{gatewayClassName: {class}, addresses: [{{value: {address}}}], listeners: [{{name: l, protocol: TCP, port: 80}}]}}\n---\n\
                 apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{namespace: shop, name: r}}\n\
                 spec: {{parentRefs: [{{name: g}}], rules: [{{backendRefs: [{{name: web, port: 80}}]}}]}}\n---\n"
            )
    };
    assert_eq!(names(&resolved(&gateway("weir", "192.0.2.1"))), ["l.g.shop"]);
    let found = resolved(&gateway("istio", "192.0.2.1"));
    assert_eq!((names(&found), found.problems), (vec![], vec![]));
    assert_eq!(names(&resolved(&gateway("weir", "198.51.100.1"))), [] as [&str; 0]);
}

#[test]
fn fields_that_weir_does_not_know_are_notes() {
    let text =
        web("shop", "10.96.0.1").replace("spec: {clusterIP", "spec: {fromTheFuture: 1, clusterIP");
    let found =
        resolved(&(text + &virtual_service("shop", "web", "web", "fromTheFuture: {a: 1}, ")));
    assert_eq!(names(&found), ["web.shop"]);
    let notes = lines(&found.notes);
    let known = notes.iter().filter(|note| {
        note.ends_with("spec.fromTheFuture: no effect: weir does not know this field")
    });
    assert_eq!(known.count(), 2, "{notes:?}");
    assert!(notes.iter().all(|note| note.starts_with("cluster ")), "{notes:?}");
}

#[test]
fn nodes_agree_in_whatever_order_they_hear() {
    // Two entries of one host, two rules of one Service, two routes of one listener.
    let made = |seconds: u8, text: &str| {
        text.replace(
            "metadata: {",
            &format!("metadata: {{creationTimestamp: \"2026-01-01T00:00:{seconds:02}Z\", "),
        )
    };
    let entry = |namespace: &str, endpoint: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{namespace: {namespace}, name: s}}\n\
             spec: {{hosts: [a.example], addresses: [192.0.2.1], resolution: STATIC, ports: [{{number: 80, name: tcp, protocol: TCP}}], endpoints: [{{address: {endpoint}}}]}}\n---\n"
        )
    };
    let texts = [
        made(9, &entry("a", "192.0.2.10")),
        made(3, &entry("b", "192.0.2.11")),
        made(3, &entry("c", "192.0.2.12")),
    ];
    let policy = Policy { services: Services::All, ..policy() };
    let mut seen = Vec::new();
    for order in [[0, 1, 2], [2, 1, 0], [1, 2, 0], [2, 0, 1]] {
        let text: String = order.map(|at| texts[at].as_str()).concat();
        seen.push(format!("{:?}", resolved_by(policy.clone(), &text)));
    }
    assert!(seen[0].contains("192.0.2.11:80"), "the oldest, then the first by name: {}", seen[0]);
    seen.dedup();
    assert_eq!(seen.len(), 1, "{seen:#?}");
}
