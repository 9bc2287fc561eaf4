//! What the Gateway API's documents mean, to the letter of its specification.

use super::{good, lines, service, slice, splits, subsets};
use crate::resource::{ConditionType, Reason, Resolved};

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
