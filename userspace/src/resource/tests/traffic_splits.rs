//! weir's own TrafficSplits of Services, and with Services behind them.

use super::authority::{names, resolved};
use super::{lines, resolve, routes, rule, service, slice, splits, subsets};

const PORT: &str = "{name: tcp, port: 80}, {name: tcp-b, port: 81}";

/// A Service of two versions, and one behind it.
fn web() -> String {
    [
        service("web", "10.96.0.20", PORT),
        slice("web", "v1", "tcp", 8080, &["10.0.1.1"]),
        slice("web", "v2", "tcp", 8080, &["10.0.2.1"]),
        service("new", "10.96.0.21", PORT),
        slice("new", "v3", "tcp", 8080, &["10.0.3.1"]),
    ]
    .concat()
}

fn split(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n---\n"
    )
}

/// Of a Service, with a subset of each kind.
fn own(name: &str) -> String {
    split(
        name,
        "{serviceRef: {name: web, port: 80}, drainSeconds: 7, affinity: ClientIP, subsets: [\
         {name: a, weight: 5, selector: {matchLabels: {version: v2}}}, \
         {name: b, weight: 3, service: {name: new, port: 80}}, \
         {name: c, weight: 2, endpoints: ['10.0.4.1:80', '[2001:db8::4]:80']}]}",
    )
}

#[test]
fn a_services_port_is_divided_among_labels_services_and_endpoints() {
    let found = resolve(&[&web(), &own("mine")]);
    assert_eq!(lines(&found.problems), [""; 0]);
    // It is named as by any other route, and the other port is as it was.
    let expected = ["a 5 10.0.2.1:8080", "b 3 10.0.3.1:8080", "c 2 10.0.4.1:80"];
    assert_eq!(subsets(&found, "web.default"), expected);
    assert!(splits(&found).contains(&"web.default.81-tcp 10.96.0.20:81/TCP".to_owned()));
    let settings = found.desired.get("web.default").unwrap().settings();
    assert_eq!((settings.drain_seconds, settings.affinity.to_string()), (7, "ClientIP".into()));
    let made_of: Vec<String> =
        found.provenance["web.default"].iter().map(|of| of.id.to_string()).collect();
    assert!(made_of.contains(&"TrafficSplit mine".to_owned()), "{made_of:?}");
    assert!(made_of.contains(&"Service default/new".to_owned()), "{made_of:?}");
}

#[test]
fn an_address_is_divided_among_services() {
    let text = split(
        "mine",
        "{address: 198.51.100.9, port: 9, subsets: [{name: a, weight: 1, service: {name: web, port: 80}}, \
         {name: b, weight: 1, endpoints: []}]}",
    );
    let found = resolve(&[&web(), &text]);
    assert_eq!(lines(&found.problems), [""; 0]);
    assert_eq!(subsets(&found, "mine"), ["a 1 10.0.1.1:8080 10.0.2.1:8080", "b 1"]);
}

#[test]
fn what_is_in_the_way_is_said_where_it_is() {
    let service_of = |name: &str, port: u16| {
        own("mine").replace(
            "serviceRef: {name: web, port: 80}",
            &format!("serviceRef: {{name: {name}, port: {port}}}"),
        )
    };
    let behind = |service: &str| own("mine").replace("{name: new, port: 80}", service);
    let istio = rule("web", &["v1", "v2"]) + &routes("web", "tcp", &[("v1", 1)]);
    for (text, says) in [
        (
            service_of("web", 82),
            "1:4: spec.serviceRef.port: Service default/web (0:3) has no port 82",
        ),
        (
            behind("{name: old, port: 80}"),
            "1:4: spec.subsets[1].service.name: there is no Service default/old",
        ),
        (behind("{name: new, port: 8}"), "1:4: spec.subsets[1].service.port: Service default/new"),
        (
            own("mine") + &istio,
            "1:4: spec.serviceRef: Service default/web (0:3) is already routed by VirtualService",
        ),
        (
            own("mine") + &own("other"),
            "1:9: spec.serviceRef: port 80 of Service default/web (0:3) is already divided by TrafficSplit mine (1:3)",
        ),
    ] {
        let found = lines(&resolve(&[&web(), &text]).problems);
        assert!(found.len() == 1 && found[0].starts_with(says), "{says}: {found:?}");
    }
    // A Service that is not there yet is no mistake.
    let early = resolve(&[&service_of("later", 80)]);
    assert_eq!(lines(&early.problems), [""; 0]);
    let says = "0:4: spec.serviceRef.name: there is no Service default/later";
    assert_eq!(lines(&early.notes), [says]);
}

#[test]
fn in_a_cluster_it_is_of_its_own_namespace() {
    let in_shop = web()
        .replace("metadata: {name: web", "metadata: {namespace: shop, name: web")
        .replace("metadata: {name: new", "metadata: {namespace: shop, name: new")
        .replace("metadata:\n", "metadata:\n  namespace: shop\n");
    let metadata = |text: String, namespace: &str| {
        text.replace("metadata: {", &format!("metadata: {{namespace: {namespace}, "))
    };
    let labelled = split(
        "mine",
        "{serviceRef: {name: web, port: 80}, subsets: [{name: a, weight: 1, selector: {matchLabels: {version: v1}}}, \
         {name: b, weight: 1, service: {name: new, port: 80}}]}",
    );
    let found = resolved(&(in_shop.clone() + &metadata(labelled.clone(), "shop")));
    assert_eq!(lines(&found.problems), [""; 0]);
    assert_eq!(names(&found), ["web.shop"], "only what is divided");
    let elsewhere = resolved(&(in_shop.clone() + &metadata(labelled, "mallory")));
    assert_eq!(names(&elsewhere), [""; 0]);
    // Endpoints are named by who may: not by an editor.
    let found = resolved(&(in_shop + &metadata(own("mine"), "shop")));
    let denied = lines(&found.problems);
    assert!(denied.iter().all(|line| line.contains("spec.subsets[2].endpoints: ")), "{denied:?}");
    assert!(denied[0].contains("is in no network of `kubernetes.addresses`"), "{denied:?}");
    assert_eq!(names(&found), [""; 0]);
}
