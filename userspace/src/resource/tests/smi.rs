//! TrafficSplits of the Service Mesh Interface.

use super::{lines, resolve, service, slice, splits, subsets};
use crate::resource::Kind;

/// A root Service of HTTP and TCP ports, and the Services behind it, as Flagger makes them.
fn shop() -> String {
    let ports = "{name: http, port: 80}, {name: tcp-db, port: 5432}";
    let behind = |name: &str, ip: &str, endpoint: &str| {
        let slices = ["http", "tcp-db"].map(|port| slice(name, port, port, 8080, &[endpoint]));
        service(name, ip, ports) + &slices.concat()
    };
    [
        service("shop", "10.96.0.20", ports),
        behind("shop-primary", "10.96.0.21", "10.0.1.1"),
        behind("shop-canary", "10.96.0.22", "10.0.2.1"),
    ]
    .concat()
}

fn split(version: &str, backends: &str) -> String {
    format!(
        "apiVersion: split.smi-spec.io/{version}\nkind: TrafficSplit\nmetadata: {{name: shop}}\n\
         spec:\n  service: shop\n  backends: {backends}\n"
    )
}

const BOTH: &str = "[{service: shop-primary, weight: 90}, {service: shop-canary, weight: 10}]";

#[test]
fn backends_divide_every_port_of_the_root_service_whatever_is_spoken_there() {
    for version in ["v1alpha2", "v1alpha3", "v1alpha4"] {
        let resolved = resolve(&[&shop(), &split(version, BOTH)]);
        assert_eq!(lines(&resolved.problems), [""; 0]);
        for (name, port) in [("shop.default", 80), ("shop.default.5432-tcp", 5432)] {
            let found = splits(&resolved);
            let address = format!("{name} 10.96.0.20:{port}/TCP");
            assert!(found.contains(&address), "{version}: {address} is not in {found:?}");
            let expected = ["shop-primary 90 10.0.1.1:8080", "shop-canary 10 10.0.2.1:8080"];
            assert_eq!(subsets(&resolved, name), expected, "{version}");
        }
    }
}

#[test]
fn a_backend_of_weight_0_gets_nothing() {
    let backends = "[{service: shop-primary, weight: 1}, {service: shop-canary, weight: 0}]";
    let resolved = resolve(&[&shop(), &split("v1alpha2", backends)]);
    assert!(subsets(&resolved, "shop.default")[1].starts_with("shop-canary 0 "));
}

#[test]
fn what_is_wrong_names_its_line_and_field() {
    let cases = [
        ("[]", "1:6: spec.backends: empty, expected at least one backend"),
        (
            "[{service: shop-primary, weight: 0}]",
            "1:6: spec.backends: the weights must not all be 0",
        ),
        (
            "[{service: shop-primary, weight: -1}]",
            "1:6: spec.backends[0].weight: -1 is out of range, expected an integer from 0 to 4294967295",
        ),
        (
            "[{service: shop-primary, weight: 1}, {service: shop-primary, weight: 2}]",
            "1:6: spec.backends[1].service: shop-primary.default.svc.cluster.local is listed twice (first as backends[0])",
        ),
        (
            "[{service: shop-green, weight: 1}]",
            "1:6: spec.backends[0].service: SMI TrafficSplit default/shop needs host shop-green.default.svc.cluster.local, which no Service or ServiceEntry has",
        ),
    ];
    for (backends, expected) in cases {
        let resolved = resolve(&[&shop(), &split("v1alpha2", backends)]);
        let found = lines(&resolved.problems);
        assert!(found.iter().any(|line| line.starts_with(expected)), "{backends}: {found:?}");
    }
    let matched = split("v1alpha4", BOTH) + "  matches: [{kind: HTTPRouteGroup, name: x}]\n";
    let found = lines(&resolve(&[&shop(), &matched]).problems);
    assert!(found.iter().any(|line| line.contains("spec.matches: rejected: layer 4")), "{found:?}");
    let quantities = split("v1alpha1", BOTH);
    let found = lines(&resolve(&[&shop(), &quantities]).problems);
    assert!(found[0].contains("unknown apiVersion \"split.smi-spec.io/v1alpha1\""), "{found:?}");
}

#[test]
fn weirs_own_kind_is_meant_where_no_group_is_said() {
    assert_eq!(Kind::of_word("trafficsplit"), Some(Kind::TrafficSplit));
    assert_eq!(Kind::of_word("trafficsplits.split.smi-spec.io"), Some(Kind::SmiTrafficSplit));
}
