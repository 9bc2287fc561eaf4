//! Endpoints that slices name, and whose address is another's by now.

use super::{good, lines, routes, rule, service, subsets};

/// A slice of one endpoint of the Service `shop`, a Pod, with some conditions.
fn slice(name: &str, pod: &str, ip: &str, conditions: &str) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, labels: {{kubernetes.io/service-name: shop}}}}\n\
         addressType: IPv4\nports: [{{name: tcp, port: 8080}}]\n\
         endpoints: [{{addresses: [{ip}], conditions: {{{conditions}}}, targetRef: {{kind: Pod, {pod}}}}}]\n---\n"
    )
}

fn pod(name: &str, version: &str, metadata: &str, status: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{version: {version}}}{metadata}}}\nstatus: {{{status}}}\n---\n"
    )
}

const READY: &str = "ready: true";
const ENDING: &str = "ready: false, serving: true, terminating: true";
const NEITHER: &str = "ready: false";

/// What the subsets v1 and v2, of half of the connections each, come to.
fn halves(documents: &[String]) -> Vec<String> {
    let base = [
        service("shop", "192.0.2.60", "{name: tcp, port: 80}"),
        rule("shop", &["v1", "v2"]),
        routes("shop", "tcp", &[("v1", 50), ("v2", 50)]),
    ];
    let text = [&base[..], documents].concat().concat();
    subsets(&good(&[&text]), "shop.default")
}

#[test]
fn the_address_of_a_pod_that_ends_goes_to_no_other_version() {
    let pods = [pod("ghost", "v1", "", ""), pod("new", "v2", "", "")].concat();
    let (x, y) = ("198.51.100.10", "198.51.100.11");
    let lost = ["v1 50", "v2 50 198.51.100.10:8080"];
    for (what, ghost, new, expected) in [
        ("ready", ENDING, READY, lost.as_slice()),
        ("started, not yet ready", ENDING, NEITHER, &["v1 50", "v2 50"]),
        ("ready before it ends", "ready: true, terminating: true", READY, &lost),
    ] {
        let slices = [slice("a", "name: ghost", x, ghost), slice("b", "name: new", x, new)];
        assert_eq!(halves(&[pods.clone(), slices.concat()]), expected, "{what}");
        let [a, b] = slices;
        assert_eq!(halves(&[b, a, pods.clone()]), expected, "{what}, the other way round");
    }
    // While the address is its own, it serves until it ends.
    let slices = [slice("a", "name: ghost", x, ENDING), slice("b", "name: new", y, READY)];
    let expected = ["v1 50 198.51.100.10:8080", "v2 50 198.51.100.11:8080"];
    assert_eq!(halves(&[pods, slices.concat()]), expected);
}

#[test]
fn a_pod_in_two_slices_is_no_rival_of_itself() {
    let pods = pod("one", "v1", "", "");
    let x = "198.51.100.10";
    for (first, second) in [(READY, READY), (ENDING, READY), (READY, ENDING)] {
        let slices = [slice("a", "name: one", x, first), slice("b", "name: one", x, second)];
        let expected = ["v1 50 198.51.100.10:8080", "v2 50"];
        assert_eq!(halves(&[pods.clone(), slices.concat()]), expected, "{first}, {second}");
    }
}

#[test]
fn of_two_that_are_ready_the_newer_pod_has_the_address() {
    let x = "198.51.100.10";
    let slices = [slice("a", "name: old", x, READY), slice("b", "name: new", x, READY)].concat();
    let at = |hour| format!(", creationTimestamp: \"2026-11-30T0{hour}:00:00Z\"");
    let pods = [pod("old", "v1", &at(1), ""), pod("new", "v2", &at(2), "")].concat();
    assert_eq!(halves(&[slices.clone(), pods]), ["v1 50", "v2 50 198.51.100.10:8080"]);
    // Of which nothing is known, none is preferred.
    let pods = [pod("old", "v1", "", ""), pod("new", "v2", "", "")].concat();
    let both = ["v1 50 198.51.100.10:8080", "v2 50 198.51.100.10:8080"];
    assert_eq!(halves(&[slices, pods]), both);
}

#[test]
fn labels_are_those_of_the_pod_that_is_meant_and_not_of_another_of_its_name() {
    let x = "198.51.100.10";
    let old = slice("a", "name: db-0, uid: u1", x, READY);
    let none = ["v1 50", "v2 50"];
    let own = ["v1 50 198.51.100.10:8080", "v2 50"];
    for (what, metadata, status, version, expected) in [
        ("the same", ", uid: u1", "podIP: 198.51.100.10", "v1", own.as_slice()),
        ("of which little is known", "", "", "v1", &own),
        ("another one", ", uid: u2", "", "v2", &none),
        ("elsewhere", ", uid: u1", "podIP: 198.51.100.99", "v2", &none),
        ("over", ", uid: u1", "phase: Failed", "v1", &none),
    ] {
        assert_eq!(
            halves(&[old.clone(), pod("db-0", version, metadata, status)]),
            expected,
            "{what}"
        );
    }
}

#[test]
fn an_address_that_a_workload_entry_has_is_no_ending_pods() {
    let base = "apiVersion: v1\nkind: Service\nmetadata: {name: shop}\nspec: {clusterIP: 192.0.2.60, selector: {app: shop}, ports: [{name: tcp, port: 80, targetPort: 8080}]}\n---\n";
    let entry = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: vm}\nspec: {address: 198.51.100.10, labels: {app: shop, version: v2}}\n---\n";
    let text = [
        base.to_owned(),
        entry.to_owned(),
        rule("shop", &["v1", "v2"]),
        routes("shop", "tcp", &[("v1", 50), ("v2", 50)]),
        slice("a", "name: ghost", "198.51.100.10", ENDING),
        pod("ghost", "v1", "", ""),
    ]
    .concat();
    let found = subsets(&good(&[&text]), "shop.default");
    assert_eq!(found, ["v1 50", "v2 50 198.51.100.10:8080"]);
}

#[test]
fn versions_that_are_services_of_their_own_do_not_get_each_others_addresses() {
    let of = |service: &str, text: String| {
        text.replace("service-name: shop", &format!("service-name: {service}"))
    };
    let text = [
        service("web", "192.0.2.70", "{name: tcp, port: 80}"),
        service("web-v1", "None", "{name: tcp, port: 80}"),
        service("web-v2", "None", "{name: tcp, port: 80}"),
        of("web-v1", slice("a", "name: ghost", "198.51.100.10", ENDING)),
        of("web-v2", slice("b", "name: new", "198.51.100.10", READY)),
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {name: web}\nspec:\n  \
         parentRefs: [{group: \"\", kind: Service, name: web}]\n  rules: [{backendRefs: [{name: web-v1, port: 80, weight: 80}, {name: web-v2, port: 80, weight: 20}]}]\n"
            .to_owned(),
    ]
    .concat();
    let resolved = good(&[&text]);
    let found = subsets(&resolved, "web.default");
    assert_eq!(found, ["web-v1 80", "web-v2 20 198.51.100.10:8080"]);
    let notes = lines(&resolved.notes);
    let said =
        notes.iter().any(|note| note.contains("subset \"web-v1\"") && note.contains("rejected"));
    assert!(said, "{notes:?}");
}

#[test]
fn the_address_of_a_pod_that_ends_may_be_that_of_a_service_beside() {
    let x = "198.51.100.10";
    let of = |service: &str, text: String| {
        text.replace("service-name: shop", &format!("service-name: {service}"))
    };
    let beside =
        |slice: String| [slice, service("cart", "192.0.2.61", "{name: tcp, port: 80}")].concat();
    for (what, ghost, new, port, expected) in [
        ("ready there", ENDING, READY, "8080", ["v1 50", "v2 50"]),
        ("not ready here, ready there", NEITHER, READY, "8080", ["v1 50", "v2 50"]),
        ("not ready there", ENDING, ENDING, "8080", ["v1 50 198.51.100.10:8080", "v2 50"]),
        ("another port", ENDING, READY, "9090", ["v1 50 198.51.100.10:8080", "v2 50"]),
    ] {
        let new = of("cart", slice("b", "name: new", x, new)).replace("8080", port);
        let slices = [slice("a", "name: ghost", x, ghost), beside(new)].concat();
        assert_eq!(halves(&[pod("ghost", "v1", "", ""), slices]), expected, "{what}");
    }
    // The same Pod may be an endpoint of both.
    let same = of("cart", slice("b", "name: ghost", x, READY));
    let slices = [slice("a", "name: ghost", x, ENDING), beside(same)].concat();
    let expected = ["v1 50 198.51.100.10:8080", "v2 50"];
    assert_eq!(halves(&[pod("ghost", "v1", "", ""), slices]), expected);
}
