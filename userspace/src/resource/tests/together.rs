//! What all documents come to together.

use std::collections::BTreeSet;

use super::{PORT, good, lines, resolve, reviews, routes, service, splits};

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
