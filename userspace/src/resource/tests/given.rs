//! What people already have, as tools and API servers write it.

use super::{good, lines, resolve, service, slice, splits, subsets};
use crate::resource::{declarations, ids, read};

const LIST: &str = "\
apiVersion: v1
kind: List
metadata: {resourceVersion: \"\"}
items:
- apiVersion: v1
  kind: Service
  metadata: {name: shop, namespace: default}
  spec:
    clusterIP: 192.0.2.10
    ports:
    - {port: 9080, targetPort: 9080}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: shop-x, labels: {kubernetes.io/service-name: shop}}
  addressType: IPv4
  ports: [{name: \"\", port: 9080}]
  endpoints: [{addresses: [198.51.100.2]}]
";

#[test]
fn items_of_lists_are_documents_with_their_own_lines() {
    let resolved = good(&[LIST]);
    assert_eq!(splits(&resolved), ["shop.default 192.0.2.10:9080/TCP"]);
    let found = &resolved.provenance.values().next().unwrap();
    let places: Vec<String> = found.iter().map(ToString::to_string).collect();
    assert_eq!(places, ["Service default/shop (0:7)", "EndpointSlice default/shop-x (0:14)"]);
    let bad = LIST.replace("port: 9080, target", "port: 0, target").replace("IPv4", "IPv5");
    let expected = [
        "0:11: items[0].spec.ports[0].port: 0 is out of range, expected an integer from 1 to 65535",
        "0:15: items[1].addressType: \"IPv5\" is unknown, expected \"IPv4\", \"IPv6\" or \"FQDN\"",
    ];
    assert_eq!(lines(&resolve(&[&format!("# first\n---\n{bad}")]).problems).len(), 2);
    assert_eq!(lines(&resolve(&[&bad]).problems), expected);
    let twice = "1:7: items[0].metadata.name: Service default/shop is defined twice (first at 0:7)";
    assert!(lines(&resolve(&[LIST, LIST]).problems).contains(&twice.to_owned()));
    assert_eq!(ids(&[("0", LIST)]).unwrap().len(), 2);
    let declared = declarations(&[("0", LIST)]).unwrap().documents;
    assert!(declared[0].text.starts_with("{\"apiVersion\":\"v1\",\"kind\":\"Service\""));
}

#[test]
fn lists_of_one_kind_and_lists_in_lists_are_read() {
    let typed = "\
kind: ServiceList
apiVersion: v1
items:
- metadata: {name: shop}
  spec: {clusterIP: 192.0.2.10, ports: [{port: 80}]}
- {apiVersion: v1, kind: Service, metadata: {name: web}, spec: {clusterIP: 192.0.2.11, ports: [{port: 80}]}}
";
    let names = ["shop.default 192.0.2.10:80/TCP", "web.default 192.0.2.11:80/TCP"];
    assert_eq!(splits(&good(&[typed])), names);
    let inner: String = typed.lines().map(|line| format!("  {line}\n")).collect();
    let nested = format!("apiVersion: v1\nkind: List\nitems:\n- {}", &inner[2..]);
    assert_eq!(splits(&good(&[&nested])), names);
    let bad = nested.replace("clusterIP: 192.0.2.10", "clusterIP: x");
    let found = lines(&resolve(&[&bad]).problems);
    assert!(found[0].starts_with("0:8: items[0].items[0].spec.clusterIP: "), "{found:?}");
    for empty in ["", "items: []", "items: null", "items: [null]"] {
        let text = format!("apiVersion: v1\nkind: List\n{empty}\n");
        let found = read("0", &text);
        assert_eq!(found.problems.len(), usize::from(empty.contains("[null")), "{empty}");
    }
    let text = "apiVersion: v1\nkind: List\nitems: {a: b}\n";
    let expected = ["0:3: items: not a list, expected the documents"];
    assert_eq!(lines(&read("0", text).problems), expected);
    // A kind of somebody's that is named so.
    let text = "apiVersion: example.com/v1\nkind: AccessList\nspec: {}\n";
    assert_eq!(lines(&read("0", text).problems), Vec::<String>::new());
}

#[test]
fn what_a_bundle_carries_beside_is_passed_over_with_a_note() {
    for (version, kind, why) in [
        ("apps/v1", "Deployment", "it says nothing about steering"),
        ("v1", "ConfigMap", "it says nothing about steering"),
        ("v1", "Node", "it says nothing about steering"),
        ("v1", "Endpoints", "weir reads the EndpointSlices that say the same"),
        ("policy/v1", "PodDisruptionBudget", "it says nothing about steering"),
        ("autoscaling/v2", "HorizontalPodAutoscaler", "it says nothing about steering"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition", "it says nothing about steering"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole", "it says nothing about steering"),
        ("networking.k8s.io/v1", "NetworkPolicy", "it says nothing about steering"),
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "it says nothing about steering"),
        ("networking.istio.io/v1", "Sidecar", "it says nothing about steering"),
        ("gateway.networking.k8s.io/v1", "GatewayClass", "it says nothing about steering"),
        (
            "gateway.networking.k8s.io/v1",
            "HTTPRoute",
            "layer 4 cannot do what HTTPRoutes ask for, so weir does not steer by it; it reads TCPRoute and UDPRoute",
        ),
        (
            "serving.knative.dev/v1",
            "Service",
            "weir reads no Service of \"serving.knative.dev\", only of \"\"",
        ),
        (
            "example.com/v1",
            "Gateway",
            "weir reads no Gateway of \"example.com\", only of \"networking.istio.io\", \"gateway.networking.k8s.io\"",
        ),
    ] {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {{any: thing}}\n"
        );
        let found = read("0", &text);
        assert_eq!(lines(&found.notes), [format!("0:2: kind: passed over: {why}")]);
        assert_eq!((found.problems.len(), found.documents.len(), found.unnamed), (0, 0, false));
    }
    for (version, kind) in [
        ("v1", "Servcie"),
        ("discovery.k8s.io/v1", "Slice"),
        ("networking.istio.io/v1", "VirtualServices"),
        ("gateway.networking.k8s.io/v1", "TcpRoute"),
        ("weir.dev/v1alpha1", "Split"),
    ] {
        let found =
            read("0", &format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n"));
        assert_eq!(found.problems.len(), 1, "{kind}");
    }
}

#[test]
fn what_an_api_server_fills_in_is_read_without_a_note() {
    let metadata = |name: &str| {
        format!(
            "{{name: {name}, namespace: default, uid: u, resourceVersion: \"1\", generation: 1, creationTimestamp: \"2026-11-30T03:34:00Z\", managedFields: [{{manager: m, operation: Update}}]"
        )
    };
    let text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {}}}\nspec: {{clusterIP: 192.0.2.10, clusterIPs: [192.0.2.10], internalTrafficPolicy: Cluster, externalTrafficPolicy: Cluster, ipFamilies: [IPv4], ipFamilyPolicy: SingleStack, ports: [{{name: tcp, port: 80, protocol: TCP, targetPort: 80}}], selector: {{app: a}}, sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 10800}}}}, type: ClusterIP}}\nstatus: {{loadBalancer: {{}}}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {}, generateName: shop-, labels: {{kubernetes.io/service-name: shop}}, ownerReferences: [{{apiVersion: v1, kind: Service, name: shop, uid: u, controller: true, blockOwnerDeletion: true}}]}}\naddressType: IPv4\nports: [{{name: tcp, port: 80, protocol: TCP}}]\nendpoints: [{{addresses: [198.51.100.1], conditions: {{ready: true, serving: true, terminating: false}}, nodeName: n, zone: z}}]\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {}, labels: {{kubernetes.io/service-name: shop}}}}\naddressType: IPv4\nports: null\nendpoints: null\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {}}}\nspec: {{gatewayClassName: weir, addresses: [{{type: IPAddress, value: 192.0.2.20}}], allowedListeners: {{namespaces: {{from: None}}}}, listeners: [{{name: tcp, port: 80, protocol: TCP, allowedRoutes: {{namespaces: {{from: Same}}, kinds: [{{group: gateway.networking.k8s.io, kind: TCPRoute}}]}}}}]}}\nstatus: {{conditions: []}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {}}}\nspec: {{parentRefs: [{{group: gateway.networking.k8s.io, kind: Gateway, name: front}}], rules: [{{backendRefs: [{{group: \"\", kind: Service, name: shop, port: 80, weight: 1}}]}}]}}\nstatus: {{parents: []}}\n",
        metadata("shop"),
        metadata("shop-a"),
        metadata("shop-b"),
        metadata("front"),
        metadata("shop"),
    );
    let resolved = good(&[&text]);
    assert_eq!(lines(&resolved.notes), Vec::<String>::new());
    assert_eq!(resolved.desired.splits().len(), 2);
    for (from, to, field) in [
        (
            "internalTrafficPolicy: Cluster",
            "internalTrafficPolicy: Local",
            "spec.internalTrafficPolicy",
        ),
        (
            "externalTrafficPolicy: Cluster",
            "externalTrafficPolicy: Local",
            "spec.externalTrafficPolicy",
        ),
        ("timeoutSeconds: 10800", "timeoutSeconds: 60", "spec.sessionAffinityConfig"),
        ("type: ClusterIP", "type: NodePort", "spec.type"),
        ("from: None", "from: All", "spec.allowedListeners"),
    ] {
        let notes = lines(&good(&[&text.replace(from, to)]).notes);
        assert!(notes.len() == 1 && notes[0].contains(field), "{field}: {notes:?}");
    }
}

#[test]
fn names_as_long_as_kubernetes_has_them_make_splits() {
    let gateway = |name: &str, ip: &str| {
        format!(
            "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {{gatewayClassName: any, addresses: [{{value: {ip}}}], listeners: [{{name: tcp, port: 80, protocol: tcp}}]}}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: TCPRoute\nmetadata: {{name: {name}}}\nspec: {{parentRefs: [{{name: {name}}}], rules: [{{backendRefs: [{{name: shop, port: 80}}]}}]}}\n---\n"
        )
    };
    let long = "a".repeat(252);
    let text = [
        gateway(&format!("{long}a"), "192.0.2.41"),
        gateway(&format!("{long}b"), "192.0.2.42"),
        gateway(&"a".repeat(70), "192.0.2.43"),
        service("shop", "None", "{name: tcp, port: 80}"),
        slice("shop", "v1", "tcp", 80, &["198.51.100.1"]),
    ]
    .concat();
    let resolved = good(&[&text]);
    let names: Vec<String> = resolved.desired.splits().map(|s| s.name().to_string()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
    for name in &names {
        assert!(name.starts_with("tcp.aaaa") && name.ends_with(".default"), "{name}");
        assert!(name.split('.').all(|label| label.len() <= 63), "{name}");
    }
    let again = resolve(&[&super::super::translate(&resolved)]);
    assert_eq!(again.desired, resolved.desired);
}

#[test]
fn ports_are_for_what_their_names_say_in_any_case() {
    use crate::resource::core::{App, app_of_port};
    for (text, app) in [
        ("http", App::Http),
        ("HTTP2-web", App::Http),
        ("gRPC-Web", App::Http),
        ("grpc-web-x", App::Http),
        ("http_proxy", App::Http),
        ("Mongo-db", App::Tcp),
        ("MySQL", App::Tcp),
        ("redis", App::Tcp),
        ("TLS-x", App::Tcp),
        ("kubernetes.io/h2c", App::Http),
        ("udp-x", App::Unknown),
        ("httpx", App::Unknown),
        ("", App::Unknown),
    ] {
        assert_eq!(app_of_port(80, text), app, "{text}");
    }
    assert_eq!(app_of_port(3306, "db"), App::Tcp, "the server speaks first");
    assert_eq!(app_of_port(3306, "http-db"), App::Http);
}

#[test]
fn an_endpoint_that_is_the_address_of_another_split_is_told() {
    let split = |name: &str, address: &str, endpoint: &str| {
        format!(
            "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: {name}}}\nspec:\n  address: {address}\n  port: 80\n  subsets:\n  - {{name: v1, weight: 1, endpoints: [\"{endpoint}:80\"]}}\n---\n"
        )
    };
    let text = split("a", "192.0.2.1", "192.0.2.2") + &split("b", "192.0.2.2", "198.51.100.1");
    let resolved = good(&[&text]);
    let expected = "0:8: spec.subsets[0].endpoints: endpoint 192.0.2.2:80 of subset \"v1\" of split \"a\" is the service address of split \"b\": what is steered there is not steered again; expected the endpoints themselves";
    assert_eq!(lines(&resolved.notes), [expected]);
    let text = split("a", "192.0.2.1", "192.0.2.3") + &split("b", "192.0.2.2", "198.51.100.1");
    assert_eq!(lines(&good(&[&text]).notes), Vec::<String>::new());
}

#[test]
fn subsets_have_the_names_that_istio_allows() {
    let text = [
        service("shop", "192.0.2.10", "{name: tcp, port: 80}"),
        slice("shop", "Blue", "tcp", 80, &["198.51.100.1"]),
        slice("shop", "canaryV2", "tcp", 80, &["198.51.100.2"]),
        super::rule("shop", &["Blue", "canaryV2"]),
        super::routes("shop", "tcp", &[("Blue", 80), ("canaryV2", 20)]),
    ]
    .concat();
    let text = text.replace("shop-Blue-", "shop-blue-").replace("shop-canaryV2-", "shop-canary-");
    let resolved = good(&[&text]);
    let expected = ["Blue 80 198.51.100.1:80", "canaryV2 20 198.51.100.2:80"];
    assert_eq!(subsets(&resolved, "shop.default"), expected);
    assert_eq!(resolve(&[&super::super::translate(&resolved)]).desired, resolved.desired);
}
