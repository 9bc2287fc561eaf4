//! What documents mean, to the letter of their specifications.

use std::collections::BTreeSet;

use super::{good, lines, resolve, routes, rule, service, slice, splits, subsets};
use crate::model::Affinity;
use crate::resource::{ConditionType, Reason, Resolved};

/// Of no protocol by its name, so that both kinds of route apply.
const PORT: &str = "{name: web, port: 9080}";

/// A Service `reviews` with endpoints of v1 (three), v2 (one) and v3 (two).
fn reviews() -> String {
    [
        service("reviews", "10.96.0.10", PORT),
        slice("reviews", "v1", "web", 80, &["10.0.1.1", "10.0.1.2", "10.0.1.3"]),
        slice("reviews", "v2", "web", 80, &["10.0.2.1"]),
        slice("reviews", "v3", "web", 80, &["10.0.3.1", "10.0.3.2"]),
        rule("reviews", &["v1", "v2", "v3", "v4"]),
    ]
    .concat()
}

#[test]
fn subset_weights_are_weights_of_subsets() {
    let resolved = good(&[&reviews(), &routes("reviews", "tcp", &[("v1", 80), ("v2", 20)])]);
    let expected = ["v1 80 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80", "v2 20 10.0.2.1:80"];
    assert_eq!(subsets(&resolved, "reviews.default"), expected);
}

#[test]
fn istio_weights_need_not_sum_to_100() {
    let weights = [("v1", 3), ("v2", 0), ("v3", 2_000_000_000)];
    let resolved = good(&[&reviews(), &routes("reviews", "http", &weights)]);
    let found = subsets(&resolved, "reviews.default");
    assert!(found[0].starts_with("v1 3 ") && found[1].starts_with("v2 0 "), "{found:?}");
    assert!(found[2].starts_with("v3 2000000000 "), "{found:?}");
}

#[test]
fn a_single_destination_gets_everything_whatever_its_weight() {
    for weight in [0, 1, 50] {
        let resolved = good(&[&reviews(), &routes("reviews", "http", &[("v2", weight)])]);
        assert_eq!(subsets(&resolved, "reviews.default"), ["v2 1 10.0.2.1:80"], "{weight}");
    }
}

#[test]
fn without_a_route_all_endpoints_share() {
    let resolved = good(&[&reviews()]);
    let expected =
        "reviews 1 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80 10.0.2.1:80 10.0.3.1:80 10.0.3.2:80";
    assert_eq!(subsets(&resolved, "reviews.default"), [expected]);
}

#[test]
fn a_subset_without_endpoints_rejects_its_share() {
    let resolved = good(&[&reviews(), &routes("reviews", "tcp", &[("v1", 1), ("v4", 1)])]);
    assert_eq!(subsets(&resolved, "reviews.default")[1], "v4 1");
    let note = "1:9: spec.tcp[0].route[1].destination: subset \"v4\" of split \"reviews.default\" has no IPv4 endpoint: its share is rejected";
    assert_eq!(lines(&resolved.notes), [note]);
}

#[test]
fn what_is_missing_names_both_documents_and_fails_only_its_split() {
    let ratings = service("ratings", "10.96.0.11", PORT);
    let base = [reviews(), ratings].concat();
    let no_subset = routes("reviews", "tcp", &[("v9", 1)]);
    let no_rule = routes("ratings", "tcp", &[("v1", 1)]);
    let no_host = no_rule.replace("host: ratings, subset: v1", "host: ratings.other");
    let cases = [
        (
            &no_subset,
            "reviews.default",
            "1:8: spec.tcp[0].route[0].destination.subset: VirtualService default/reviews needs subset \"v9\" of host reviews.default.svc.cluster.local, which DestinationRule default/reviews (0:35) does not have",
        ),
        (
            &no_rule,
            "ratings.default",
            "1:8: spec.tcp[0].route[0].destination.subset: VirtualService default/ratings needs subset \"v1\" of host ratings.default.svc.cluster.local, which has no DestinationRule",
        ),
        (
            &no_host,
            "ratings.default",
            "1:8: spec.tcp[0].route[0].destination.host: VirtualService default/ratings needs host ratings.other, which no Service or ServiceEntry has",
        ),
    ];
    for (text, failed, message) in cases {
        let resolved = resolve(&[&base, text]);
        assert_eq!(lines(&resolved.problems), [message]);
        assert_eq!(resolved.failed.iter().map(|n| n.as_str()).collect::<Vec<_>>(), [failed]);
        assert!(resolved.desired.get(failed).is_none());
        assert_eq!(resolved.desired.splits().len(), 1, "the other service goes on");
    }
}

#[test]
fn what_ran_before_goes_on_where_something_is_wrong() {
    let before = good(&[&reviews(), &routes("reviews", "tcp", &[("v1", 1)])]);
    let old = before.desired.get("reviews.default");
    let missing = resolve(&[&reviews(), &routes("reviews", "tcp", &[("v9", 1)])]);
    assert_eq!(missing.after(&before).get("reviews.default"), old, "a subset is missing");
    let text = routes("reviews", "tcp", &[("v1", 1)]).replace("route:", "rout:");
    let refused = resolve(&[&reviews(), &text]);
    assert_eq!(subsets(&refused, "reviews.default").len(), 1, "it is plain by itself");
    assert_eq!(refused.after(&before).get("reviews.default"), old, "the document is refused");
    let deleted = good(&[&reviews()]);
    assert_eq!(deleted.after(&before), deleted.desired, "the document is deleted");
}

#[test]
fn hosts_resolve_by_namespace() {
    let there = |text: &str| {
        text.replace("metadata:", "metadata:\n  namespace: shop")
            .replace("metadata:\n  namespace: shop {", "metadata: {namespace: shop, ")
    };
    let all = there(&[reviews(), routes("reviews", "tcp", &[("v1", 1)])].concat());
    let here = service("reviews", "10.96.0.99", PORT);
    let resolved = good(&[&all, &here]);
    let expected = ["reviews.default 10.96.0.99:9080/TCP", "reviews.shop 10.96.0.10:9080/TCP"];
    assert_eq!(splits(&resolved), expected);
    assert_eq!(subsets(&resolved, "reviews.default"), ["reviews 1"]);
    assert_eq!(subsets(&resolved, "reviews.shop"), ["v1 1 10.0.1.1:80 10.0.1.2:80 10.0.1.3:80"]);
    // From another namespace by the full name.
    let route = routes("reviews", "tcp", &[("v1", 1), ("v2", 1)])
        .replace("host: reviews", "host: reviews.shop.svc.cluster.local");
    let resolved = good(&[&all, &here, &route]);
    assert_eq!(subsets(&resolved, "reviews.default").len(), 2);
}

#[test]
fn a_port_is_a_split_with_its_own_route() {
    let ports =
        "{name: tcp, port: 80}, {name: tcp-db, port: 90}, {name: udp, port: 80, protocol: UDP}";
    let slices = slice("a", "v1", "tcp", 1, &["10.0.0.1"])
        + &slice("a", "v2", "tcp-db", 2, &["10.0.0.2"])
        + &slice("a", "v3", "udp, protocol: UDP", 3, &["10.0.0.3"]);
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  tcp:\n  - match: [{port: 90}, {port: 91}]\n    route: [{destination: {host: a, subset: v2}}]\n";
    let rules = rule("a", &["v1", "v2", "v3"]);
    let resolved = good(&[&service("a", "10.96.0.1", ports), &slices, &rules, text]);
    let expected = [
        "a.default 10.96.0.1:80/TCP",
        "a.default.80-udp 10.96.0.1:80/UDP",
        "a.default.90-tcp 10.96.0.1:90/TCP",
    ];
    assert_eq!(splits(&resolved), expected);
    assert_eq!(subsets(&resolved, "a.default"), ["a 1 10.0.0.1:1"], "no route takes it");
    assert_eq!(subsets(&resolved, "a.default.90-tcp"), ["v2 1 10.0.0.2:2"]);
    assert_eq!(subsets(&resolved, "a.default.80-udp"), ["a 1 10.0.0.3:3"]);
}

#[test]
fn http_without_a_route_is_rejected_and_tcp_is_not() {
    let route = routes("reviews", "http", &[("v1", 1)])
        .replace("- route:", "- match: [{port: 1}]\n    route:");
    let named = |name: &str| reviews().replace("name: web", &format!("name: {name}"));
    let resolved = good(&[&named("http-web"), &route]);
    assert_eq!(subsets(&resolved, "reviews.default"), ["none 1"]);
    let note = "1:6: spec.http: no route takes port 9080: its connections are rejected";
    assert_eq!(lines(&resolved.notes), [note]);
    let resolved = good(&[&named("tcp"), &route]);
    assert!(subsets(&resolved, "reviews.default")[0].starts_with("reviews 1 "));
}

#[test]
fn both_families_are_a_split_each() {
    let text = reviews()
        .replace("clusterIP: \"10.96.0.10\"", "clusterIPs: [10.96.0.10, \"2001:db8::10\"]")
        + &slice("reviews", "v1", "web", 81, &["2001:db8::1"]);
    let resolved = good(&[&text, &routes("reviews", "http", &[("v1", 1), ("v2", 1)])]);
    let expected =
        ["reviews.default 10.96.0.10:9080/TCP", "reviews.default.ipv6 [2001:db8::10]:9080/TCP"];
    assert_eq!(splits(&resolved), expected);
    assert_eq!(subsets(&resolved, "reviews.default.ipv6"), ["v1 1 [2001:db8::1]:81", "v2 1"]);
}

#[test]
fn use_source_ip_is_client_affinity() {
    let policy = "trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}";
    let of_host = reviews().replace("  host: reviews\n", &format!("  host: reviews\n  {policy}\n"));
    let of_subset = reviews().replace("{version: v1}}", &format!("{{version: v1}}, {policy}}}"));
    let route = routes("reviews", "http", &[("v1", 1), ("v2", 1)]);
    let affinity = |texts: &[&str]| good(texts).desired.get("reviews.default").unwrap().affinity();
    assert_eq!(affinity(&[&reviews(), &route]), Affinity::None);
    assert_eq!(affinity(&[&of_host, &route]), Affinity::ClientIp);
    assert_eq!(affinity(&[&of_host]), Affinity::ClientIp, "without a route");
    assert_eq!(affinity(&[&of_subset, &route]), Affinity::ClientIp);
    assert_eq!(affinity(&[&of_subset, &routes("reviews", "http", &[("v2", 1)])]), Affinity::None);
    let notes = lines(&good(&[&of_subset, &route]).notes);
    assert!(
        notes.iter().any(|note| note.contains("client affinity is of a whole split")),
        "{notes:?}"
    );
    let session =
        reviews().replace("spec: {clusterIP", "spec: {sessionAffinity: ClientIP, clusterIP");
    assert_eq!(affinity(&[&session]), Affinity::ClientIp);
}

#[test]
fn endpoints_are_ready_or_draining_where_none_is() {
    let slices = |conditions: [&str; 3]| {
        let endpoints: Vec<String> = conditions
            .iter()
            .enumerate()
            .map(|(n, given)| format!("{{addresses: [10.0.0.{n}], conditions: {{{given}}}}}"))
            .collect();
        let text = slice("a", "v1", "web", 80, &[]);
        service("a", "10.96.0.1", PORT)
            + &text.replace("endpoints: []", &format!("endpoints: [{}]", endpoints.join(", ")))
    };
    let cases = [
        (["", "ready: true", "ready: null"], "a 1 10.0.0.0:80 10.0.0.1:80 10.0.0.2:80"),
        (["ready: false", "", "ready: false, serving: true, terminating: true"], "a 1 10.0.0.1:80"),
        (
            [
                "ready: false",
                "ready: false, serving: false, terminating: true",
                "ready: false, serving: true, terminating: true",
            ],
            "a 1 10.0.0.2:80",
        ),
        (["ready: false", "ready: false, serving: true", "ready: false, serving: false"], "a 1"),
    ];
    for (conditions, expected) in cases {
        assert_eq!(
            subsets(&good(&[&slices(conditions)]), "a.default"),
            [expected],
            "{conditions:?}"
        );
    }
}

#[test]
fn pods_give_the_labels_of_endpoints() {
    let pod = |name: &str, version: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{version: {version}}}}}\nspec: {{containers: [{{image: a}}]}}\n---\n"
        )
    };
    let endpoint = |ip: &str, pod: &str| {
        format!("{{addresses: [{ip}], targetRef: {{kind: Pod, name: {pod}}}}}")
    };
    let text = slice("reviews", "x", "web", 80, &[]).replace(
        "endpoints: []",
        &format!("endpoints: [{}, {}]", endpoint("10.0.0.1", "p1"), endpoint("10.0.0.2", "p2")),
    );
    let all = [
        service("reviews", "10.96.0.10", PORT),
        text,
        rule("reviews", &["v1", "v2"]),
        pod("p1", "v1"),
        pod("p2", "v2"),
    ]
    .concat();
    let resolved = good(&[&all, &routes("reviews", "http", &[("v1", 1), ("v2", 3)])]);
    let expected = ["v1 1 10.0.0.1:80", "v2 3 10.0.0.2:80"];
    assert_eq!(subsets(&resolved, "reviews.default"), expected);
}

#[test]
fn target_ports_of_workloads_are_named_or_numbers() {
    let workload = |name: &str, ip: &str, ports: &str| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {{name: {name}}}\nspec: {{address: {ip}, labels: {{app: a}}, ports: {{{ports}}}}}\n---\n"
        )
    };
    let workloads = workload("w1", "10.0.0.1", "http: 8001")
        + &workload("w2", "10.0.0.2", "web: 8002")
        + &workload("w3", "10.0.0.3", "");
    let cases = [
        ("", "a 1 10.0.0.1:8001 10.0.0.2:80 10.0.0.3:80"),
        (", targetPort: 8080", "a 1 10.0.0.1:8001 10.0.0.2:8080 10.0.0.3:8080"),
        (", targetPort: web", "a 1 10.0.0.1:8001 10.0.0.2:8002"),
    ];
    for (target, expected) in cases {
        let text = service("a", "10.96.0.1", &format!("{{name: http, port: 80{target}}}"))
            .replace("spec: {", "spec: {selector: {app: a}, ");
        assert_eq!(subsets(&good(&[&text, &workloads]), "a.default"), [expected], "{target}");
    }
}

#[test]
fn service_entries_have_endpoints_of_their_own_or_select_them() {
    let entry = |end: &str| {
        format!(
            "apiVersion: networking.istio.io/v1beta1\nkind: ServiceEntry\nmetadata: {{name: db}}\nspec:\n  hosts: [db.example.com]\n  addresses: [192.0.2.1/32]\n  ports: [{{number: 3306, name: tcp, protocol: TCP, targetPort: 3307}}]\n  resolution: STATIC\n  {end}\n"
        )
    };
    let own = entry(
        "endpoints: [{address: 10.0.0.1, labels: {version: v1}}, {address: 10.0.0.2, ports: {tcp: 5}}]",
    );
    let resolved = good(&[&own]);
    assert_eq!(splits(&resolved), ["db.example.com 192.0.2.1:3306/TCP"]);
    let expected = ["db.example.com 1 10.0.0.1:3307 10.0.0.2:5"];
    assert_eq!(subsets(&resolved, "db.example.com"), expected);
    let workload = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: w, labels: {version: v1}}\nspec: {address: 10.0.0.9, labels: {app: db}}\n";
    let selected = entry("workloadSelector: {labels: {app: db}}");
    let route = routes("db.example.com", "tcp", &[("v1", 1)]);
    let resolved = good(&[&selected, workload, &route, &rule("db.example.com", &["v1"])]);
    assert_eq!(
        subsets(&resolved, "db.example.com"),
        ["v1 1 10.0.0.9:3307"],
        "by both kinds of label"
    );
}

#[test]
fn subsets_of_several_hosts_are_told_apart() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\nspec:\n  hosts: [a]\n  tcp:\n  - route:\n    - {destination: {host: a, subset: v1}, weight: 1}\n    - {destination: {host: b, subset: v1}, weight: 2}\n    - {destination: {host: b}, weight: 3}\n    - {destination: {host: b, port: {number: 9080}}, weight: 4}\n";
    let services = service("a", "10.96.0.1", PORT) + &service("b", "10.96.0.2", PORT);
    let resolved = good(&[&services, &rule("a", &["v1"]), &rule("b", &["v1"]), text]);
    let expected = ["v1.a 1", "v1.b 2", "b 7"];
    let found = subsets(&resolved, "a.default");
    assert_eq!(found, expected, "the last two are the same and add up");
}

#[test]
fn the_closest_host_routes_and_two_that_are_as_close_are_an_error() {
    let any = routes("reviews", "tcp", &[("v1", 1)])
        .replace("hosts: [reviews]", "hosts: [\"*\"]")
        .replace("name: reviews", "name: any");
    let exact = routes("reviews", "tcp", &[("v2", 1)]);
    let resolved = good(&[&reviews(), &any]);
    assert!(subsets(&resolved, "reviews.default")[0].starts_with("v1 "));
    let resolved = good(&[&reviews(), &any, &exact]);
    assert!(subsets(&resolved, "reviews.default")[0].starts_with("v2 "));
    let second = exact.replace("metadata: {name: reviews}", "metadata: {name: second}");
    let resolved = resolve(&[&reviews(), &exact, &second]);
    let message = "2:5: spec.hosts: host reviews.default.svc.cluster.local is already routed by VirtualService default/reviews (1:3)";
    assert_eq!(lines(&resolved.problems), [message]);
}

/// A TCPRoute or UDPRoute.
fn route(kind: &str, name: &str, parent: &str, backends: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1alpha2\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n  parentRefs: [{parent}]\n  rules:\n  - backendRefs: [{backends}]\n---\n"
    )
}

fn gateway(listeners: &str) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: gw}}\nspec:\n  gatewayClassName: any\n  addresses: [{{value: 192.0.2.1}}]\n  listeners: [{listeners}]\n---\n"
    )
}

/// Services a, b and c with one endpoint each, and no address, with port 80 of both protocols.
fn backends() -> String {
    let one = |name: &str, ip: &str| {
        let ports = "{name: tcp, port: 80}, {name: udp, port: 80, protocol: UDP}";
        service(name, "None", ports)
            + &slice(name, "x", "tcp", 8080, &[ip])
                .replace("port: 8080}]", "port: 8080}, {name: udp, port: 8081, protocol: UDP}]")
    };
    one("a", "10.0.0.1") + &one("b", "10.0.0.2") + &one("c", "10.0.0.3")
}

fn conditions(resolved: &Resolved, route: &str) -> Vec<(ConditionType, Reason)> {
    let of = resolved.conditions.iter().filter(|c| c.route.name == route);
    of.map(|condition| (condition.kind, condition.reason)).collect()
}

const ACCEPTED: (ConditionType, Reason) = (ConditionType::Accepted, Reason::Accepted);
const RESOLVED: (ConditionType, Reason) = (ConditionType::ResolvedRefs, Reason::ResolvedRefs);

#[test]
fn a_route_divides_by_its_weights_over_tcp_and_udp() {
    let refs = "{name: a, port: 80, weight: 70}, {name: b, port: 80, weight: 30}, {name: c, port: 80, weight: 0}";
    for (kind, protocol, port) in [("TCPRoute", "TCP", 8080), ("UDPRoute", "UDP", 8081)] {
        let text = gateway(&format!("{{name: l, port: 5000, protocol: {protocol}}}"));
        let resolved = good(&[&backends(), &text, &route(kind, "r", "{name: gw}", refs)]);
        assert_eq!(splits(&resolved), [format!("l.gw.default 192.0.2.1:5000/{protocol}")]);
        let expected = [
            format!("a 70 10.0.0.1:{port}"),
            format!("b 30 10.0.0.2:{port}"),
            format!("c 0 10.0.0.3:{port}"),
        ];
        assert_eq!(subsets(&resolved, "l.gw.default"), expected);
        assert_eq!(conditions(&resolved, "r"), [ACCEPTED, RESOLVED]);
    }
}

#[test]
fn a_reference_in_vain_rejects_its_share() {
    let listener = gateway("{name: l, port: 5000, protocol: TCP}");
    let cases = [
        ("{name: nobody, port: 80}", "nobody 1", Reason::BackendNotFound),
        ("{name: b, port: 81}", "b 1", Reason::BackendNotFound),
        ("{name: b, group: x.io, kind: Bucket}", "b 1", Reason::InvalidKind),
        ("{name: b, namespace: other, port: 80}", "b 1", Reason::RefNotPermitted),
    ];
    for (reference, expected, reason) in cases {
        let refs = format!("{{name: a, port: 80}}, {reference}, {{name: c, port: 80, weight: 2}}");
        let resolved =
            good(&[&backends(), &listener, &route("TCPRoute", "r", "{name: gw}", &refs)]);
        let found = subsets(&resolved, "l.gw.default");
        assert_eq!(found, ["a 1 10.0.0.1:8080", expected, "c 2 10.0.0.3:8080"], "{reference}");
        let expected = [ACCEPTED, (ConditionType::ResolvedRefs, reason)];
        assert_eq!(conditions(&resolved, "r"), expected, "{reference}");
        let note = format!("2:7: spec.rules[0].backendRefs[1]: {reason}: ");
        assert!(lines(&resolved.notes)[0].starts_with(&note), "{:?}", resolved.notes);
    }
}

#[test]
fn all_weights_zero_reject_everything() {
    let listener = gateway("{name: l, port: 5000, protocol: TCP}");
    let refs = "{name: a, port: 80, weight: 0}, {name: b, port: 80, weight: 0}";
    let resolved = good(&[&backends(), &listener, &route("TCPRoute", "r", "{name: gw}", refs)]);
    assert_eq!(subsets(&resolved, "l.gw.default"), ["none 1"]);
}

#[test]
fn another_namespace_needs_a_grant() {
    let listener = gateway("{name: l, port: 5000, protocol: TCP}");
    let there = backends()
        .replace("metadata: {", "metadata: {namespace: other, ")
        .replace("metadata:\n", "metadata:\n  namespace: other\n");
    let refs = "{name: a, port: 80, namespace: other}, {name: b, port: 80, namespace: other}";
    let text = route("TCPRoute", "r", "{name: gw}", refs);
    let grant = |kind: &str, namespace: &str, to: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: {namespace}}}\nspec:\n  from: [{{group: gateway.networking.k8s.io, kind: {kind}, namespace: default}}]\n  to: [{{group: \"\", kind: Service{to}}}]\n"
        )
    };
    let (a, b) = ("a 1 10.0.0.1:8080", "b 1 10.0.0.2:8080");
    let cases = [
        (String::new(), ["a 1", "b 1"], Reason::RefNotPermitted),
        (grant("TCPRoute", "other", ""), [a, b], Reason::ResolvedRefs),
        (grant("TCPRoute", "other", ", name: b"), ["a 1", b], Reason::RefNotPermitted),
        (grant("UDPRoute", "other", ""), ["a 1", "b 1"], Reason::RefNotPermitted),
        (grant("TCPRoute", "default", ""), ["a 1", "b 1"], Reason::RefNotPermitted),
    ];
    for (grant, expected, reason) in cases {
        let resolved = good(&[&there, &listener, &text, &grant]);
        assert_eq!(subsets(&resolved, "l.gw.default"), expected, "{grant}");
        assert_eq!(conditions(&resolved, "r")[1].1, reason, "{grant}");
    }
}

#[test]
fn services_of_two_namespaces_are_told_apart() {
    let there = backends()
        .replace("metadata: {", "metadata: {namespace: other, ")
        .replace("metadata:\n", "metadata:\n  namespace: other\n")
        .replace("10.0.0.", "10.0.9.");
    let grant = "apiVersion: gateway.networking.k8s.io/v1\nkind: ReferenceGrant\nmetadata: {name: g, namespace: other}\nspec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}], to: [{group: \"\", kind: Service}]}\n";
    let refs = "{name: a, port: 80}, {name: a, port: 80, namespace: other}, {name: b, port: 80}";
    let resolved = good(&[
        &backends(),
        &there,
        grant,
        &gateway("{name: l, port: 5000, protocol: TCP}"),
        &route("TCPRoute", "r", "{name: gw}", refs),
    ]);
    let expected = ["a.default 1 10.0.0.1:8080", "a.other 1 10.0.9.1:8080", "b 1 10.0.0.2:8080"];
    assert_eq!(subsets(&resolved, "l.gw.default"), expected);
}

#[test]
fn several_routes_have_listeners_of_one_gateway() {
    let listeners = gateway(
        "{name: foo, port: 8080, protocol: TCP}, {name: bar, port: 8090, protocol: TCP}, {name: dns, port: 8080, protocol: UDP}",
    );
    let text = [
        route("TCPRoute", "r1", "{name: gw, sectionName: foo}", "{name: a, port: 80}"),
        route("TCPRoute", "r2", "{name: gw, port: 8090}", "{name: b, port: 80}"),
        route("UDPRoute", "r3", "{name: gw}", "{name: c, port: 80}"),
        route("TCPRoute", "r4", "{name: gw, sectionName: nobody}", "{name: a, port: 80}"),
        route("TCPRoute", "r5", "{name: gw, sectionName: dns}", "{name: a, port: 80}"),
        route("TCPRoute", "r6", "{name: gw}", "{name: a, port: 80}"),
        route("TCPRoute", "r7", "{name: other}", "{name: a, port: 80}"),
    ]
    .concat();
    let resolved = good(&[&backends(), &listeners, &text]);
    let expected = [
        "bar.gw.default 192.0.2.1:8090/TCP",
        "dns.gw.default 192.0.2.1:8080/UDP",
        "foo.gw.default 192.0.2.1:8080/TCP",
    ];
    assert_eq!(splits(&resolved), expected);
    assert_eq!(subsets(&resolved, "foo.gw.default"), ["a 1 10.0.0.1:8080"]);
    assert_eq!(subsets(&resolved, "bar.gw.default"), ["b 1 10.0.0.2:8080"]);
    assert_eq!(subsets(&resolved, "dns.gw.default"), ["c 1 10.0.0.3:8081"]);
    let reasons = ["r1", "r2", "r3", "r4", "r5", "r6", "r7"].map(|r| conditions(&resolved, r)[0].1);
    let expected = [
        Reason::Accepted,
        Reason::Accepted,
        Reason::Accepted,
        Reason::NoMatchingParent,
        Reason::NotAllowedByListeners,
        Reason::Conflicted,
        Reason::NoMatchingParent,
    ];
    assert_eq!(reasons, expected);
}

#[test]
fn the_oldest_route_has_a_listener() {
    let listener = gateway("{name: l, port: 5000, protocol: TCP}");
    let dated = |name: &str, backend: &str, date: &str| {
        let text = route("TCPRoute", name, "{name: gw}", &format!("{{name: {backend}, port: 80}}"));
        text.replace("metadata: {", &format!("metadata: {{{date}"))
    };
    let (old, new) = (
        "creationTimestamp: \"2024-01-01T00:00:00Z\", ",
        "creationTimestamp: \"2025-01-01T00:00:00Z\", ",
    );
    let cases = [("", "", "a"), ("", new, "b"), (new, old, "b"), (old, new, "a"), (old, old, "a")];
    for (first, second, owner) in cases {
        // The order of the documents does not matter.
        let (r1, r2) = (dated("r1", "a", first), dated("r2", "b", second));
        for texts in [[&r1, &r2], [&r2, &r1]] {
            let resolved = good(&[&backends(), &listener, texts[0], texts[1]]);
            let found = subsets(&resolved, "l.gw.default");
            assert!(found[0].starts_with(owner), "{first} {second}: {found:?}");
        }
    }
}

#[test]
fn listeners_allow_namespaces_and_kinds() {
    let routes = route("TCPRoute", "r", "{name: gw, namespace: infra}", "{name: a, port: 80}");
    let namespace =
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default, labels: {team: x}}\n";
    let cases = [
        ("", false),
        ("namespaces: {from: Same}", false),
        ("namespaces: {from: All}", true),
        ("namespaces: {from: Selector, selector: {matchLabels: {team: x}}}", true),
        ("namespaces: {from: Selector, selector: {matchLabels: {team: y}}}", false),
        (
            "namespaces: {from: Selector, selector: {matchLabels: {kubernetes.io/metadata.name: default}}}",
            true,
        ),
        (
            "namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: In, values: [x, y]}]}}",
            true,
        ),
        (
            "namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: NotIn, values: [x]}]}}",
            false,
        ),
        (
            "namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: DoesNotExist}]}}",
            false,
        ),
        (
            "namespaces: {from: Selector, selector: {matchExpressions: [{key: team, operator: Exists}]}}",
            true,
        ),
        ("namespaces: {from: All}, kinds: [{kind: TCPRoute}]", true),
        ("namespaces: {from: All}, kinds: [{kind: UDPRoute}, {kind: HTTPRoute}]", false),
        ("namespaces: {from: All}, kinds: [{group: x.io, kind: TCPRoute}]", false),
    ];
    for (allowed, accepted) in cases {
        let listener = gateway(&format!(
            "{{name: l, port: 5000, protocol: TCP, allowedRoutes: {{{allowed}}}}}"
        ));
        let listener = listener.replace("{name: gw}", "{name: gw, namespace: infra}");
        let resolved = good(&[&backends(), &listener, &routes, namespace]);
        let expected = if accepted { Reason::Accepted } else { Reason::NotAllowedByListeners };
        assert_eq!(conditions(&resolved, "r")[0].1, expected, "{allowed}");
        assert_eq!(resolved.desired.splits().len(), usize::from(accepted), "{allowed}");
    }
}

#[test]
fn a_route_attaches_to_ports_of_a_service() {
    let front = service(
        "front",
        "10.96.0.1",
        "{name: one, port: 1}, {name: two, port: 2}, {name: dns, port: 2, protocol: UDP}",
    );
    let parent = |end: &str| format!("{{group: \"\", kind: Service, name: front{end}}}");
    let refs = "{name: a, port: 80, weight: 9}, {name: b, port: 80}";
    let split = ["a 9 10.0.0.1:8080", "b 1 10.0.0.2:8080"];
    let plain = ["front 1"];
    let cases: [(&str, [&[&str]; 2]); 4] = [
        ("", [&split, &split]),
        (", port: 2", [&plain, &split]),
        (", sectionName: one", [&split, &plain]),
        (", namespace: default, port: 1", [&split, &plain]),
    ];
    for (end, expected) in cases {
        let resolved = good(&[&backends(), &front, &route("TCPRoute", "r", &parent(end), refs)]);
        let found = ["front.default", "front.default.2-tcp"].map(|name| subsets(&resolved, name));
        assert_eq!(found, expected, "{end}");
        assert_eq!(subsets(&resolved, "front.default.2-udp"), plain, "{end}");
    }
    let vain = [
        (parent(", port: 9"), Reason::NoMatchingParent),
        (parent("").replace("front", "a"), Reason::NoMatchingParent),
        ("{kind: Service, name: front}".to_owned(), Reason::NoMatchingParent),
        (parent(", namespace: other"), Reason::UnsupportedValue),
    ];
    let elsewhere = front
        .replace("{name: front}", "{name: front, namespace: other}")
        .replace("10.96.0.1", "10.96.0.2");
    for (parent, reason) in vain {
        let text = route("TCPRoute", "r", &parent, refs);
        let resolved = good(&[&backends(), &front, &elsewhere, &text]);
        assert_eq!(conditions(&resolved, "r")[0].1, reason, "{parent}");
        assert_eq!(subsets(&resolved, "front.default"), plain, "{parent}");
    }
}

#[test]
fn routes_that_share_a_service_do_not_disturb_each_other() {
    let listeners = gateway("{name: x, port: 1, protocol: TCP}, {name: y, port: 2, protocol: TCP}");
    let text = route(
        "TCPRoute",
        "r1",
        "{name: gw, sectionName: x}",
        "{name: a, port: 80, weight: 90}, {name: b, port: 80, weight: 10}",
    ) + &route(
        "TCPRoute",
        "r2",
        "{name: gw, sectionName: y}",
        "{name: b, port: 80, weight: 3}, {name: a, port: 80, weight: 1}",
    );
    let resolved = good(&[&backends(), &listeners, &text]);
    assert_eq!(subsets(&resolved, "x.gw.default"), ["a 90 10.0.0.1:8080", "b 10 10.0.0.2:8080"]);
    assert_eq!(subsets(&resolved, "y.gw.default"), ["b 3 10.0.0.2:8080", "a 1 10.0.0.1:8080"]);
}

#[test]
fn a_gateway_has_the_address_of_its_service() {
    let listener = gateway("{name: l, port: 5000, protocol: TCP}")
        .replace("  addresses: [{value: 192.0.2.1}]\n", "");
    let text = route("TCPRoute", "r", "{name: gw}", "{name: a, port: 80}");
    let resolved = good(&[&backends(), &listener, &text]);
    assert_eq!(splits(&resolved), Vec::<String>::new());
    assert!(
        lines(&resolved.notes)[0].contains("the Gateway has no address"),
        "{:?}",
        resolved.notes
    );
    let own = service("gw-any", "10.96.0.7", "{name: l, port: 5000}").replace(
        "metadata: {",
        "metadata: {labels: {gateway.networking.k8s.io/gateway-name: gw}, ",
    );
    let resolved = good(&[&backends(), &listener, &text, &own]);
    assert_eq!(splits(&resolved), ["l.gw.default 10.96.0.7:5000/TCP"], "and no plain one");
    let status =
        listener.replace("---\n", "status: {addresses: [{type: IPAddress, value: 192.0.2.9}]}\n");
    let resolved = good(&[&backends(), &status, &text]);
    assert_eq!(splits(&resolved), ["l.gw.default 192.0.2.9:5000/TCP"]);
}

#[test]
fn names_and_addresses_are_unique() {
    let split = "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {name: NAME}\nspec: {address: 10.96.0.10, port: 9080, subsets: [{name: a, weight: 1, endpoints: []}]}\n";
    let mine = split.replace("NAME", "mine");
    let resolved = good(&[&reviews(), &mine]);
    assert_eq!(splits(&resolved), ["mine 10.96.0.10:9080/TCP"], "in place of a plain one");
    let resolved = resolve(&[&reviews(), &mine, &routes("reviews", "tcp", &[("v1", 1)])]);
    let message = "0:4: spec.clusterIP: service address 10.96.0.10:9080/TCP is already taken by split \"mine\" (first at 1:4)";
    assert_eq!(lines(&resolved.problems), [message]);
    let other = split.replace("NAME", "reviews.default").replace("10.96.0.10", "10.96.0.11");
    let resolved = resolve(&[&reviews(), &other]);
    let message = "0:3: metadata.name: split \"reviews.default\" is defined twice (first at 1:3)";
    assert_eq!(lines(&resolved.problems), [message]);
    let resolved = resolve(&[&reviews(), &service("reviews", "10.96.0.11", PORT)]);
    let message = "1:3: metadata.name: Service default/reviews is defined twice (first at 0:3)";
    assert_eq!(lines(&resolved.problems), [message]);
}

#[test]
fn a_failed_gateway_leaves_its_address_to_nobody() {
    let ingress = service("ingress", "10.96.0.8", "{name: tcp, port: 31400}")
        .replace("spec: {", "spec: {selector: {istio: ingressgateway}, ");
    let gateway = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  selector: {istio: ingressgateway}\n  servers: [{port: {number: 31400, protocol: TCP, name: tcp}, hosts: [\"*\"]}]\n";
    let text = routes("reviews", "tcp", &[("v9", 1)])
        .replace("hosts: [reviews]", "hosts: [\"*\"]\n  gateways: [g]");
    let resolved = resolve(&[&reviews(), &ingress, gateway, &text]);
    assert_eq!(splits(&resolved), ["reviews.default 10.96.0.10:9080/TCP"]);
    let failed: BTreeSet<_> = resolved.failed.iter().map(|name| name.as_str()).collect();
    assert_eq!(failed, ["31400.g.default"].into());
}

#[test]
fn splits_say_what_they_come_from() {
    let resolved = good(&[&reviews(), &routes("reviews", "tcp", &[("v1", 80), ("v2", 20)])]);
    let name = resolved.desired.get("reviews.default").unwrap().name();
    let origins: Vec<String> = resolved.provenance[name].iter().map(ToString::to_string).collect();
    let expected = [
        "VirtualService default/reviews (1:3)",
        "DestinationRule default/reviews (0:35)",
        "Service default/reviews (0:3)",
        "EndpointSlice default/reviews-v1-ipv4 (0:9)",
        "EndpointSlice default/reviews-v2-ipv4 (0:18)",
    ];
    assert_eq!(origins, expected);
}

#[test]
fn translated_splits_read_as_the_same() {
    let text = reviews()
        .replace("clusterIP: \"10.96.0.10\"", "clusterIPs: [10.96.0.10, \"2001:db8::10\"]");
    let resolved = good(&[&text, &routes("reviews", "tcp", &[("v1", 80), ("v2", 20)])]);
    let text = crate::resource::translate(&resolved);
    assert!(
        text.contains("\n# from VirtualService default/reviews (1:3)\n")
            || text.starts_with("---\n# from VirtualService default/reviews (1:3)\n"),
        "{text}"
    );
    assert_eq!(good(&[&text]).desired, resolved.desired);
}
