//! What is right, and nothing that weir can steer: a note while nobody routes to it by weir,
//! and an error where somebody does.

use super::{PORT, good, lines, resolve, reviews, routes, service, splits};

/// Documents that are right, and how weir says that it leaves them alone.
const UNSTEERED: &[(&str, &str)] = &[
    (
        "{apiVersion: v1, kind: Service, metadata: {name: ext}, spec: {type: ExternalName, externalName: db.example.com}}",
        "0:1: spec.type: no effect: weir resolves no names, such as that of an ExternalName",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ext}, spec: {hosts: [ext], addresses: [10.96.0.99], ports: [{number: 9080, name: tcp}], resolution: DNS, endpoints: [{address: eu.example.com}]}}",
        "0:1: spec.resolution: no effect: weir resolves no names, so not with resolution DNS; it steers with STATIC",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ext}, spec: {hosts: [ext], addresses: [10.96.0.99], ports: [{number: 9080, name: tcp}]}}",
        "0:1: spec.resolution: no effect: with resolution NONE (the default), connections go where they are addressed to",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ext}, spec: {hosts: [ext], addresses: [10.96.0.0/16], ports: [{number: 9080, name: tcp}], resolution: STATIC, endpoints: [{address: 10.0.9.1}]}}",
        "0:1: spec.addresses[0]: no effect: 10.96.0.0/16 is a range, and a split has one address",
    ),
    (
        "{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {name: ext}, spec: {hosts: [other.example.com, ext], addresses: [10.96.0.99], ports: [{number: 9080, name: tcp}], resolution: STATIC, endpoints: [{address: 10.0.9.1}]}}",
        "0:1: spec.hosts[1]: no effect: layer 4 cannot tell apart hosts with the same addresses, and there are several",
    ),
];

#[test]
fn a_note_while_nobody_routes_to_it_and_an_error_where_somebody_does() {
    for (document, note) in UNSTEERED {
        let text = format!("{document}\n---\n{}", reviews());
        let alone = good(&[&text]);
        let notes = lines(&alone.notes);
        let said = notes.iter().filter(|line| line.contains(note.split_once(": ").unwrap().1));
        assert_eq!(said.count(), 1, "{note}: {notes:?}");
        assert_eq!(splits(&alone), ["reviews.default 10.96.0.10:9080/TCP"], "{note}");

        let why = note.split_once("no effect: ").unwrap().1;
        let to = "host: reviews, subset: v2";
        let routed = routes("reviews", "tcp", &[("v1", 9), ("v2", 1)]).replace(to, "host: ext");
        let found = resolve(&[&text, &routed]);
        let kind = if document.contains("ServiceEntry") { "ServiceEntry" } else { "Service" };
        let expected = format!(
            "1:9: spec.tcp[0].route[1].destination.host: VirtualService default/reviews needs host \
             ext.default.svc.cluster.local, and weir cannot steer to {kind} default/ext (0:1): {why}"
        );
        assert_eq!(lines(&found.problems), [expected], "{note}");
        assert!(found.desired.get("reviews.default").is_none(), "it goes on as it was: {note}");

        // The host itself is nobody's that weir serves, and the route leads to it all the same.
        let own = routes("ext", "tcp", &[("v1", 1)]).replace(", subset: v1", "");
        let found = resolve(&[&text, &own]);
        assert_eq!(found.problems.len(), 1, "{note}: {:?}", lines(&found.problems));
        let notes = lines(&found.notes).join("\n");
        assert!(notes.contains("1:5: spec.hosts[0]: no effect: weir cannot steer "), "{notes}");
    }
}

/// A TCPRoute of the Service `reviews`.
fn tcp_route(weight: u32) -> String {
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: r}}\nspec:\n  parentRefs: [{{group: '', kind: Service, name: reviews}}]\n  rules:\n  - backendRefs:\n    - {{name: reviews, port: 9080, weight: 1}}\n    - {{name: ext, port: 9080, weight: {weight}}}\n"
    )
}

#[test]
fn a_route_of_the_gateway_api_is_wrong_only_if_it_has_weight_for_it() {
    let (document, _) = UNSTEERED[0];
    let text = format!("{document}\n---\n{}", reviews());
    let found = lines(&resolve(&[&text, &tcp_route(1)]).problems);
    let expected = "1:9: spec.rules[0].backendRefs[1]: weir cannot steer to Service default/ext (0:1): weir resolves no names, such as that of an ExternalName";
    assert_eq!(found, [expected]);
    let resolved = good(&[&text, &tcp_route(0)]);
    assert_eq!(super::subsets(&resolved, "reviews.default")[1], "ext 0");
}

const GATEWAY: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gw}
spec:
  selector: {istio: ingress}
  servers:
  - {port: {number: 443, name: https, protocol: HTTPS}, hosts: [\"*\"], tls: {mode: SIMPLE}}
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}
  - {port: {number: 80, name: more, protocol: HTTP}, hosts: [b.example.com]}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: [\"*\"]}
---
";

#[test]
fn servers_of_an_istio_gateway_that_need_a_proxy_are_left_to_it() {
    let ingress = "apiVersion: v1\nkind: Service\nmetadata: {name: ingress}\nspec: {clusterIP: 10.96.0.50, selector: {istio: ingress}, ports: [{name: tcp, port: 9000}]}\n---\n";
    let text = format!("{}{ingress}{GATEWAY}", reviews());
    let notes = lines(&good(&[&text]).notes).join("\n");
    for said in [
        "spec.servers[0].port.protocol: no effect: layer 4 can neither end TLS",
        "spec.servers[1].hosts[0]: no effect: layer 4 cannot tell hosts apart, such as \"a.example.com\"",
        "spec.servers[2].hosts[0]: no effect: layer 4 cannot tell hosts apart, such as \"b.example.com\"",
    ] {
        assert!(notes.contains(said), "{said}: {notes}");
    }
    let routes = |kind: &str, port: u16| {
        format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: in}}\nspec: {{hosts: [\"*\"], gateways: [gw], {kind}: [{{match: [{{port: {port}}}], route: [{{destination: {{host: reviews}}}}]}}]}}\n"
        )
    };
    let served = good(&[&text, &routes("tcp", 9000)]);
    assert!(served.desired.get("9000.gw.default").is_some(), "{:?}", splits(&served));
    for (kind, port, why) in [("tcp", 443, "end TLS"), ("http", 80, "tell hosts apart")] {
        let found = lines(&resolve(&[&text, &routes(kind, port)]).problems);
        assert_eq!(found.len(), 1, "{found:?}");
        let expected =
            format!("1:4: spec.gateways: weir cannot steer port {port} of Istio Gateway");
        assert!(found[0].starts_with(&expected) && found[0].contains(why), "{found:?}");
    }
}

#[test]
fn hosts_and_subsets_that_there_are_not_are_named_with_those_that_there_are() {
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r}\nspec: {host: reviwes}\n";
    let notes = lines(&good(&[&reviews(), rule]).notes);
    let expected = "1:4: spec.host: no effect: no Service or ServiceEntry has host reviwes.default.svc.cluster.local; did you mean \"reviews.default.svc.cluster.local\"?";
    assert!(notes.contains(&expected.to_owned()), "{notes:?}");
    let everyone =
        rule.replace("reviwes", "\"*.local\", trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}");
    let notes = lines(&good(&[&reviews(), &everyone]).notes);
    let many =
        "1:4: spec.host: no effect: *.local is for many hosts, and weir goes by rules for one";
    assert!(notes.contains(&many.to_owned()), "{notes:?}");

    let shifted = routes("reviews", "tcp", &[("v1", 9), ("v22", 1)]);
    let found = lines(&resolve(&[&reviews(), &shifted]).problems).join("\n");
    let subset = "spec.tcp[0].route[1].destination.subset: VirtualService default/reviews needs subset \"v22\" of host reviews.default.svc.cluster.local, which DestinationRule default/reviews (0:";
    assert!(
        found.contains(subset) && found.ends_with("does not have; did you mean \"v2\"?"),
        "{found}"
    );
    let away = shifted.replace("host: reviews, subset: v22", "host: revews");
    let found = lines(&resolve(&[&reviews(), &away]).problems).join("\n");
    assert!(found.ends_with("did you mean \"reviews.default.svc.cluster.local\"?"), "{found}");
    // The hint goes when it is not true any more, and comes when it is.
    let others = service("ratings", "10.96.0.11", PORT);
    let found = lines(&resolve(&[&others, rule]).notes).join("\n");
    assert!(found.contains("; there is ratings.default.svc.cluster.local"), "{found}");
}
