//! Shapes of documents as public suites and samples have them, and what weir
//! does with each: the table in `docs/resources.md`.

use super::lines;
use crate::resource::read;

/// What becomes of a shape.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Honoured,
    /// Read, with a note that says this.
    Noted(&'static str),
    Rejected(&'static str),
    PassedOver,
}

use Outcome::{Honoured, Noted, PassedOver, Rejected};

const ISTIO: &str = "networking.istio.io/v1";
const OLD: &str = "networking.istio.io/v1alpha3";
const GATEWAY: &str = "gateway.networking.k8s.io/v1";

/// Version, kind, what the shape is, the document but for its head, what becomes of it.
#[rustfmt::skip] // a line for each
const SHAPES: &[(&str, &str, &str, &str, Outcome)] = &[
    (ISTIO, "VirtualService", "weights of subsets below `tcp`", "spec: {hosts: [echo], tcp: [{match: [{port: 9000}], route: [{destination: {host: echo, port: {number: 9000}, subset: v1}, weight: 80}, {destination: {host: echo, port: {number: 9000}, subset: v2}, weight: 20}]}]}", Honoured),
    (OLD, "VirtualService", "weights of subsets below `http`, without conditions", "spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}, weight: 50}, {destination: {host: reviews, subset: v3}, weight: 50}]}]}", Noted("the weights apply to connections")),
    (ISTIO, "VirtualService", "one subset, without a weight", "spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}", Honoured),
    (ISTIO, "VirtualService", "for a gateway and the mesh", "spec: {hosts: [echo], gateways: [mesh, infra/echo], tcp: [{match: [{port: 31400}], route: [{destination: {host: echo.shop.svc.cluster.local, port: {number: 9000}}}]}]}", Honoured),
    (ISTIO, "VirtualService", "a condition on headers, paths or methods", "spec: {hosts: [reviews], http: [{match: [{headers: {end-user: {exact: jo}}}], route: [{destination: {host: reviews}}]}]}", Rejected("layer 4 cannot match HTTP requests")),
    (ISTIO, "VirtualService", "faults, mirrors, retries, rewrites or time-outs", "spec: {hosts: [ratings], http: [{fault: {delay: {fixedDelay: 7s, percentage: {value: 100}}}, route: [{destination: {host: ratings}}]}]}", Rejected("layer 4 cannot do this")),
    (ISTIO, "VirtualService", "`tls` routes by server name", "spec: {hosts: [a.example.com], tls: [{match: [{port: 443, sniHosts: [a.example.com]}], route: [{destination: {host: a.example.com}}]}]}", Rejected("server name of a TLS handshake")),
    (ISTIO, "VirtualService", "`*` in the mesh", "spec: {hosts: [\"*\"], tcp: [{route: [{destination: {host: echo}}]}]}", Rejected("cannot be in")),
    (ISTIO, "VirtualService", "a host twice, also by a wildcard", "spec: {hosts: [\"*.example.com\", a.example.com], tcp: [{route: [{destination: {host: echo}}]}]}", Rejected("each host once")),
    (ISTIO, "VirtualService", "an address as host", "spec: {hosts: [\"2001:db8::1\"], tcp: [{route: [{destination: {host: echo}}]}]}", Noted("is an address")),
    (ISTIO, "VirtualService", "a delegate", "spec: {hosts: [shop], http: [{delegate: {name: a, namespace: b}}]}", Rejected("does not merge routes")),
    (ISTIO, "VirtualService", "`exportTo` of everyone", "spec: {hosts: [shop], exportTo: [\"*\"], tcp: [{route: [{destination: {host: shop}}]}]}", Honoured),
    (ISTIO, "DestinationRule", "subsets by labels", "spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: canaryV2, labels: {version: v2}}]}", Honoured),
    (OLD, "DestinationRule", "a subset without labels", "spec: {host: reviews, subsets: [{name: all}]}", Honoured),
    (ISTIO, "DestinationRule", "client affinity by source address", "spec: {host: shop, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true}}}}", Honoured),
    (ISTIO, "DestinationRule", "connection pools and outlier detection", "spec: {host: shop, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}, outlierDetection: {consecutive5xxErrors: 1}}}", Noted("no effect yet")),
    (ISTIO, "DestinationRule", "mutual TLS by Istio", "spec: {host: shop, trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}}", Rejected("cannot originate TLS")),
    (ISTIO, "DestinationRule", "settings of single ports", "spec: {host: shop, trafficPolicy: {portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}}]}}", Rejected("one policy for all ports")),
    (ISTIO, "DestinationRule", "a host with a wildcard", "spec: {host: \"*.example.com\"}", Noted("is for many hosts")),
    (OLD, "ServiceEntry", "addresses and static endpoints", "spec: {hosts: [db.example.com], addresses: [192.0.2.31/32], location: MESH_EXTERNAL, resolution: STATIC, ports: [{number: 27017, name: mongo, protocol: Mongo}], endpoints: [{address: 198.51.100.1, labels: {version: v1}}]}", Honoured),
    (ISTIO, "ServiceEntry", "workloads by a selector", "spec: {hosts: [db.example.com], addresses: [192.0.2.31], resolution: STATIC, ports: [{number: 80, name: http, protocol: http}], workloadSelector: {labels: {app: db}}}", Honoured),
    (ISTIO, "ServiceEntry", "`MESH_INTERNAL`", "spec: {hosts: [db.example.com], addresses: [192.0.2.31], location: MESH_INTERNAL, resolution: STATIC, ports: [{number: 80, name: tcp}], endpoints: [{address: 198.51.100.1}]}", Noted("wherever they are")),
    (ISTIO, "ServiceEntry", "names that are resolved by DNS", "spec: {hosts: [www.example.com], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS}", Noted("resolves no names")),
    (ISTIO, "ServiceEntry", "no resolution, for hosts by a wildcard", "spec: {hosts: [\"*.example.com\"], ports: [{number: 443, name: tls, protocol: TLS}]}", Noted("go where they are addressed to")),
    (ISTIO, "ServiceEntry", "a range of addresses", "spec: {hosts: [a.example.com], addresses: [192.0.2.0/24], resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 198.51.100.1}]}", Noted("is a range")),
    (ISTIO, "ServiceEntry", "several hosts", "spec: {hosts: [a.example.com, b.example.com], addresses: [192.0.2.1], resolution: STATIC, ports: [{number: 80, name: tcp, protocol: TCP}], endpoints: [{address: 198.51.100.1}]}", Noted("cannot tell apart hosts")),
    (ISTIO, "WorkloadEntry", "an address, labels and a service account", "spec: {serviceAccount: shop, address: 198.51.100.7, labels: {app: shop, version: v1}}", Honoured),
    (ISTIO, "WorkloadEntry", "network, locality and weight", "spec: {address: 198.51.100.7, network: vm, locality: r/z, weight: 2}", Noted("no effect")),
    (ISTIO, "WorkloadEntry", "a DNS name", "spec: {address: vm.example.com}", Noted("resolves no names")),
    (ISTIO, "Gateway", "a server of TCP for all hosts", "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 31400, name: tcp, protocol: TCP}, hosts: [\"*\"]}]}", Honoured),
    (ISTIO, "Gateway", "a server of HTTPS", "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [\"*\"]}]}", Noted("neither end TLS")),
    (ISTIO, "Gateway", "servers of one port for several hosts", "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 443, name: a, protocol: HTTPS}, hosts: [a.example.com], tls: {mode: SIMPLE, credentialName: a}}, {port: {number: 443, name: b, protocol: HTTPS}, hosts: [b.example.com], tls: {mode: SIMPLE, credentialName: b}}]}", Noted("cannot tell hosts apart")),
    (ISTIO, "Gateway", "a server for one host", "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [a.example.com]}]}", Noted("cannot tell hosts apart")),
    (ISTIO, "Sidecar", "Sidecar, EnvoyFilter, WorkloadGroup, ProxyConfig", "spec: {egress: [{hosts: [\"./*\"]}]}", PassedOver),
    ("security.istio.io/v1", "PeerAuthentication", "PeerAuthentication, AuthorizationPolicy, RequestAuthentication", "spec: {mtls: {mode: STRICT}}", PassedOver),
    (GATEWAY, "Gateway", "listeners of TCP and UDP at one port", "spec: {gatewayClassName: any, listeners: [{name: tcp, protocol: TCP, port: 53, allowedRoutes: {kinds: [{kind: TCPRoute}]}}, {name: udp, protocol: UDP, port: 53, allowedRoutes: {namespaces: {from: All}}}]}", Honoured),
    (GATEWAY, "Gateway", "an address of no value, which is the controller's to choose", "spec: {gatewayClassName: any, addresses: [{type: IPAddress}], listeners: [{name: tcp, protocol: TCP, port: 80}]}", Honoured),
    (GATEWAY, "Gateway", "a listener of HTTP with a host name", "spec: {gatewayClassName: any, listeners: [{name: http, protocol: HTTP, port: 80, hostname: \"*.example.com\"}]}", Noted("listeners of TCP and UDP only")),
    (GATEWAY, "Gateway", "a listener of HTTPS with certificates", "spec: {gatewayClassName: any, listeners: [{name: https, protocol: HTTPS, port: 443, tls: {certificateRefs: [{name: cert}]}}]}", Noted("cannot end TLS")),
    (GATEWAY, "Gateway", "a listener of a vendor's protocol", "spec: {gatewayClassName: any, listeners: [{name: own, protocol: example.com/own, port: 80}]}", Noted("listeners of TCP and UDP only")),
    (GATEWAY, "Gateway", "an address by host name", "spec: {gatewayClassName: any, addresses: [{type: Hostname, value: a.example.com}], listeners: [{name: tcp, protocol: TCP, port: 80}]}", Noted("addressed to an IPAddress")),
    ("gateway.networking.k8s.io/v1beta1", "Gateway", "routes of namespaces by labels", "spec: {gatewayClassName: any, listeners: [{name: tcp, protocol: tcp, port: 80, allowedRoutes: {namespaces: {from: Selector, selector: {matchLabels: {team: a}}}}}]}", Honoured),
    ("gateway.networking.k8s.io/v1alpha2", "TCPRoute", "weighted Services, at a listener by name", "spec: {parentRefs: [{name: gw, sectionName: tcp}], rules: [{backendRefs: [{name: v1, port: 9000, weight: 80}, {name: v2, port: 9000, weight: 20}]}]}", Honoured),
    (GATEWAY, "TCPRoute", "a Service as parent", "spec: {parentRefs: [{group: \"\", kind: Service, name: echo, port: 80}], rules: [{backendRefs: [{name: echo-v1, port: 80}]}]}", Honoured),
    (GATEWAY, "TCPRoute", "a backend of another kind, whose share is rejected", "spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{group: example.com, kind: Bucket, name: b}]}]}", Honoured),
    (GATEWAY, "TCPRoute", "several rules", "spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: a, port: 1}]}, {backendRefs: [{name: b, port: 1}]}]}", Rejected("more than one rule")),
    ("gateway.networking.k8s.io/v1alpha2", "UDPRoute", "a Service of another namespace", "spec: {parentRefs: [{name: udp, namespace: infra, sectionName: dns}], rules: [{backendRefs: [{name: coredns, namespace: dns, port: 53}]}]}", Honoured),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "Services for routes of a namespace", "spec: {from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: a}], to: [{group: \"\", kind: Service}]}", Honoured),
    ("gateway.networking.k8s.io/v1beta1", "ReferenceGrant", "Secrets for Gateways", "spec: {from: [{group: gateway.networking.k8s.io, kind: Gateway, namespace: a}], to: [{group: \"\", kind: Secret}]}", Honoured),
    (GATEWAY, "HTTPRoute", "HTTPRoute, GRPCRoute, TLSRoute, GatewayClass, policies", "spec: {parentRefs: [{name: gw}], rules: [{backendRefs: [{name: a, port: 80}]}]}", PassedOver),
    ("v1", "Service", "without a selector, with `appProtocol`", "spec: {clusterIP: 192.0.2.1, ports: [{name: db, port: 3306, appProtocol: mysql}]}", Honoured),
    ("v1", "Service", "headless", "spec: {clusterIP: None, selector: {app: a}, ports: [{name: grpc-web, port: 80}]}", Honoured),
    ("v1", "Service", "`ClusterIP` of both families", "spec: {clusterIP: 192.0.2.1, clusterIPs: [192.0.2.1, \"2001:db8::1\"], ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}", Honoured),
    ("v1", "Service", "`NodePort` or `LoadBalancer`", "spec: {type: LoadBalancer, clusterIP: 192.0.2.1, externalTrafficPolicy: Cluster, ports: [{port: 80, nodePort: 30080}]}", Noted("addressed to `clusterIPs`")),
    ("v1", "Service", "`ExternalName`", "spec: {type: ExternalName, externalName: a.example.com}", Noted("resolves no names")),
];

#[test]
fn each_shape_becomes_what_the_table_says() {
    for (version, kind, what, body, expected) in SHAPES {
        let text = format!("apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x}}\n{body}\n");
        let found = read("0", &text);
        let problems = lines(&found.problems).join("\n");
        let notes: Vec<String> = found.documents.iter().flat_map(|d| lines(d.notes())).collect();
        let notes = notes.join("\n");
        let right = match expected {
            Honoured => found.documents.len() == 1 && notes.is_empty(),
            Noted(why) => found.documents.len() == 1 && notes.contains(why),
            Rejected(why) => problems.contains(why),
            PassedOver => problems.is_empty() && lines(&found.notes)[0].contains("passed over"),
        };
        let rejected = matches!(expected, Rejected(_));
        assert!(right && rejected != problems.is_empty(), "{kind}, {what}: {problems}\n{notes}");
    }
}

#[test]
fn the_document_has_every_shape_as_it_is() {
    let text = include_str!("../../../../docs/resources.md");
    let row = |(_, kind, what, _, outcome): &(&str, &str, &str, &str, Outcome)| {
        let outcome = match outcome {
            Honoured => "honoured",
            Noted(_) => "noted",
            Rejected(_) => "rejected",
            PassedOver => "passed over with a note",
        };
        format!("| {kind} | {what} | {outcome} |\n")
    };
    let rows: String = SHAPES.iter().map(row).collect();
    assert!(text.contains(&rows), "docs/resources.md needs these rows:\n{rows}");
}
