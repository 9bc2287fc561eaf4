//! What Istio's and Kubernetes' documents mean, to the letter of their specifications.

use super::{PORT, good, lines, resolve, reviews, routes, rule, service, slice, splits, subsets};
use crate::model::Affinity;

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
            "1:8: spec.tcp[0].route[0].destination.subset: VirtualService default/reviews needs subset \"v9\" of host reviews.default.svc.cluster.local, which DestinationRule default/reviews (0:35) does not have; there is v1, v2, v3, v4",
        ),
        (
            &no_rule,
            "ratings.default",
            "1:8: spec.tcp[0].route[0].destination.subset: VirtualService default/ratings needs subset \"v1\" of host ratings.default.svc.cluster.local, which has no DestinationRule",
        ),
        (
            &no_host,
            "ratings.default",
            "1:8: spec.tcp[0].route[0].destination.host: VirtualService default/ratings needs host ratings.other, which no Service or ServiceEntry has; there is ratings.default.svc.cluster.local, reviews.default.svc.cluster.local",
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
    let pod = |name: &str, status: &str, more: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: db, version: v1}}{more}}}\nstatus: {{{status}}}\n---\n"
        )
    };
    let at = |ip: &str, ready: &str| {
        format!("podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: \"{ready}\"}}]")
    };
    let pods = [
        pod("ready", &at("10.0.0.20", "True"), ""),
        pod("other", &at("10.0.0.21", "True"), ", namespace: other"),
        pod("starts", &at("10.0.0.22", "False"), ""),
        pod("over", &format!("phase: Failed, {}", at("10.0.0.23", "True")), ""),
        pod("ends", &at("10.0.0.24", "True"), ", deletionTimestamp: \"2026-11-30T01:00:00Z\""),
        pod("later", "", ""),
        pod("third", &at("10.0.0.25", "True").replace("v1", "v2"), "")
            .replace("app: db", "app: web"),
    ]
    .concat();
    let all = [&selected, workload, &route, &rule("db.example.com", &["v1"]), &pods];
    let expected = ["v1 1 10.0.0.9:3307 10.0.0.20:3307"];
    assert_eq!(subsets(&good(&all), "db.example.com"), expected, "Pods, too");
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
        .replace("hosts: [reviews]", "hosts: [\"*.cluster.local\"]")
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
