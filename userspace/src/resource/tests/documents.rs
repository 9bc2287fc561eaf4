//! Documents, good and bad, each bad one with its exact message.

use std::collections::BTreeSet;

use super::{lines, resolve};
use crate::resource::read;

/// One good document of each kind.
pub(crate) const GOOD: &[(&str, &str)] = &[
    (
        "VirtualService",
        "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata:
  name: reviews
spec:
  hosts: [reviews]
  http:
  - match:
    - port: 9080
    route:
    - destination:
        host: reviews
        port: {number: 9080}
        subset: v1
      weight: 90
    - destination: {host: reviews, subset: v2}
      weight: 10
",
    ),
    (
        "DestinationRule",
        "\
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata:
  name: reviews
spec:
  host: reviews
  trafficPolicy:
    loadBalancer:
      simple: ROUND_ROBIN
  subsets:
  - name: v1
    labels: {version: v1}
  - name: v2
    labels: {version: v2}
    trafficPolicy:
      loadBalancer:
        consistentHash: {useSourceIp: true}
",
    ),
    (
        "ServiceEntry",
        "\
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: ratings
spec:
  hosts: [ratings]
  addresses: [10.96.0.11]
  ports:
  - number: 9080
    name: http
    protocol: HTTP
    targetPort: 8080
  resolution: STATIC
  endpoints:
  - address: 10.0.4.1
    ports: {http: 8081}
    labels: {version: v1}
",
    ),
    (
        "WorkloadEntry",
        "\
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata:
  name: reviews-9
spec:
  address: 10.0.1.9
  ports: {http: 8080}
  labels: {app: reviews, version: v1}
",
    ),
    (
        "Istio Gateway",
        "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: ingress
spec:
  selector: {istio: ingressgateway}
  servers:
  - port:
      number: 31400
      name: tcp
      protocol: TCP
    hosts: [\"*\"]
",
    ),
    (
        "Gateway",
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata:
  name: front
spec:
  gatewayClassName: any
  addresses:
  - value: 192.0.2.1
  listeners:
  - name: tcp
    protocol: TCP
    port: 5000
    allowedRoutes:
      namespaces: {from: Same}
  - name: dns
    protocol: UDP
    port: 5000
",
    ),
    (
        "TCPRoute",
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata:
  name: tcp
spec:
  parentRefs:
  - name: front
    sectionName: tcp
  rules:
  - backendRefs:
    - name: reviews
      port: 9080
      weight: 3
    - name: nobody
      port: 9080
",
    ),
    (
        "UDPRoute",
        "\
apiVersion: gateway.networking.k8s.io/v1alpha2
kind: UDPRoute
metadata:
  name: dns
spec:
  parentRefs:
  - name: front
    port: 5000
  rules:
  - backendRefs:
    - name: dns
      namespace: other
      port: 53
",
    ),
    (
        "ReferenceGrant",
        "\
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata:
  name: dns
  namespace: other
spec:
  from:
  - group: gateway.networking.k8s.io
    kind: UDPRoute
    namespace: default
  to:
  - group: \"\"
    kind: Service
    name: dns
",
    ),
    (
        "Service",
        "\
apiVersion: v1
kind: Service
metadata:
  name: reviews
spec:
  clusterIPs: [10.96.0.10, \"2001:db8::10\"]
  sessionAffinity: None
  selector: {app: reviews}
  ports:
  - name: http
    port: 9080
    protocol: TCP
    targetPort: http
  - name: tcp-admin
    port: 9090
",
    ),
    (
        "EndpointSlice",
        "\
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: reviews-v2
  labels: {kubernetes.io/service-name: reviews, version: v2}
addressType: IPv4
ports:
- name: http
  port: 9080
  protocol: TCP
endpoints:
- addresses: [10.0.2.1]
  conditions: {ready: true}
",
    ),
    (
        "TrafficSplit",
        "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata:
  name: mine
spec:
  address: 192.0.2.9
  port: 80
  subsets:
  - name: v1
    weight: 1
    endpoints: [10.0.0.1:80]
",
    ),
];

fn base(kind: &str) -> &'static str {
    GOOD.iter().find(|(name, _)| *name == kind).unwrap_or_else(|| panic!("{kind}")).1
}

/// Edits of the good documents that leave them good.
#[rustfmt::skip] // a line for each
const FINE: &[(&str, &str, &str)] = &[
    ("VirtualService", "weight: 90", "weight: 80.0"),
    ("TCPRoute", "weight: 3", "weight: 80.0"),
    ("TrafficSplit", "weight: 1", "weight: 80.0"),
    ("VirtualService", "weight: 90", "weight: 8e1"),
    ("TCPRoute", "weight: 3", "weight: 8e1"),
    ("TrafficSplit", "weight: 1", "weight: 8e1"),
    ("VirtualService", "weight: 90", "weight: 8.0e+1"),
    ("TCPRoute", "weight: 3", "weight: 8.0e+1"),
    ("TrafficSplit", "weight: 1", "weight: 8.0e+1"),
    ("Service", "port: 9090", "port: 9090.0"),
    ("EndpointSlice", "  port: 9080", "  port: 9.08e3"),
    ("VirtualService", "weight: 90", "weight: 0"),
    ("EndpointSlice", "addresses: [10.0.2.1]", "addresses: [10.0.2.9, x]"),
    ("VirtualService", "networking.istio.io/v1", "networking.istio.io/v1beta1"),
    ("VirtualService", "networking.istio.io/v1", "networking.istio.io/v1alpha3"),
    ("DestinationRule", "networking.istio.io/v1", "networking.istio.io/v1alpha3"),
    ("ServiceEntry", "networking.istio.io/v1", "networking.istio.io/v1beta1"),
    ("WorkloadEntry", "networking.istio.io/v1", "networking.istio.io/v1beta1"),
    ("Istio Gateway", "networking.istio.io/v1", "networking.istio.io/v1alpha3"),
    ("Gateway", "k8s.io/v1", "k8s.io/v1beta1"),
    ("TCPRoute", "k8s.io/v1", "k8s.io/v1alpha2"),
    ("UDPRoute", "k8s.io/v1alpha2", "k8s.io/v1"),
    ("ReferenceGrant", "k8s.io/v1beta1", "k8s.io/v1alpha2"),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*.local\"]\n  gateways: [mesh]"),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*\"]\n  gateways: [ingress, other/ingress]"),
    ("VirtualService", "  http:", "  exportTo: [\".\"]\n  http:"),
    ("VirtualService", "    - port: 9080\n", "    - {}\n"),
    ("VirtualService", "    route:\n", "    timeout: null\n    name: primary\n    route:\n"),
    ("DestinationRule", "simple: ROUND_ROBIN", "simple: LEAST_REQUEST"),
    ("DestinationRule", "  trafficPolicy:\n    loadB", "  trafficPolicy:\n    tls: {mode: DISABLE}\n    loadB"),
    ("DestinationRule", "  trafficPolicy:\n    loadB", "  trafficPolicy:\n    outlierDetection: {interval: 1s}\n    connectionPool: {tcp: {maxConnections: 1}}\n    loadB"),
    ("ServiceEntry", "addresses: [10.96.0.11]", "addresses: [10.96.0.11/32, \"2001:db8::11/128\"]"),
    ("ServiceEntry", "  addresses: [10.96.0.11]\n", ""),
    ("Istio Gateway", "hosts: [\"*\"]", "hosts: [default/*]"),
    ("TCPRoute", "weight: 3", "weight: 1000000"),
    ("Service", "clusterIPs: [10.96.0.10, \"2001:db8::10\"]", "clusterIP: None"),
    ("Service", "port: 9090", "port: 9080\n    protocol: UDP"),
    ("Service", "port: 9090", "port: 9090\n    nodePort: 30000"),
    ("Service", "spec:\n", "status: {loadBalancer: {}}\nspec:\n"),
    ("EndpointSlice", "addressType: IPv4", "addressType: FQDN"),
    ("EndpointSlice", "  port: 9080\n", ""),
    ("DestinationRule", "  - name: v2", "  - name: canaryV2"),
    ("VirtualService", "subset: v1", "subset: Blue"),
    ("ServiceEntry", "protocol: HTTP", "protocol: http"),
    ("ServiceEntry", "protocol: HTTP", "protocol: MySQL"),
    ("ServiceEntry", "protocol: HTTP", "protocol: GRPC-Web"),
    ("ServiceEntry", "protocol: HTTP", "protocol: UDP"),
    ("ServiceEntry", "protocol: HTTP", "protocol: \"\""),
    ("Istio Gateway", "protocol: TCP", "protocol: Redis"),
    ("Istio Gateway", "protocol: TCP", "protocol: udp"),
    ("TCPRoute", "  parentRefs:\n", "  useDefaultGateways: None\n  parentRefs:\n"),
    ("Gateway", "- value: 192.0.2.1", "- type: Hostname\n    value: a.example.com"),
];

/// Edits of the good documents, and what is then said about them.
#[rustfmt::skip] // a line for each
const BAD: &[(&str, &str, &str, &[&str])] = &[
    ("VirtualService", "networking.istio.io/v1", "networking.istio.io/v2", &["1: apiVersion: unknown apiVersion \"networking.istio.io/v2\", expected one of \"networking.istio.io/v1\", \"networking.istio.io/v1alpha3\", \"networking.istio.io/v1beta1\""]),
    ("Service", "apiVersion: v1", "apiVersion: v2", &["1: apiVersion: unknown apiVersion \"v2\", expected \"v1\""]),
    ("VirtualService", "VirtualService", "VirtualServices", &["2: kind: unknown kind \"VirtualServices\", expected one of \"VirtualService\", \"DestinationRule\", \"ServiceEntry\", \"WorkloadEntry\", \"Gateway\""]),
    ("VirtualService", "apiVersion: networking.istio.io/v1\n", "", &["1: apiVersion: missing required field, expected one of \"networking.istio.io/v1\", \"networking.istio.io/v1alpha3\", \"networking.istio.io/v1beta1\""]),
    ("VirtualService", "kind: VirtualService", "kind: [a]", &["2: kind: not a string, expected one of \"VirtualService\", \"DestinationRule\", \"ServiceEntry\", \"WorkloadEntry\", \"Gateway\""]),
    ("Gateway", "gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1alpha2", &["1: apiVersion: unknown apiVersion \"gateway.networking.k8s.io/v1alpha2\", expected one of \"gateway.networking.k8s.io/v1\", \"gateway.networking.k8s.io/v1beta1\", \"networking.istio.io/v1\", \"networking.istio.io/v1alpha3\", \"networking.istio.io/v1beta1\""]),
    ("TCPRoute", "kind: TCPRoute", "kind: TCPRoutes", &["2: kind: unknown kind \"TCPRoutes\", expected one of \"Gateway\", \"TCPRoute\", \"UDPRoute\", \"ReferenceGrant\""]),
    ("Service", "kind: Service", "kind: Endpoint", &["2: kind: unknown kind \"Endpoint\", expected one of \"Service\", \"Pod\", \"Namespace\""]),
    ("EndpointSlice", "kind: EndpointSlice", "kind: EndpointSlices", &["2: kind: unknown kind \"EndpointSlices\", expected \"EndpointSlice\""]),
    ("VirtualService", "  name: reviews\n", "  namespace: a\n", &["3: metadata.name: missing required field"]),
    ("VirtualService", "  name: reviews\n", "  name: Reviews\n", &["4: metadata.name: \"Reviews\" is not a valid name: expected at most 253 characters: lower-case letters, digits or '-', starting and ending with a letter or digit, in parts separated by '.'"]),
    ("VirtualService", "  name: reviews\n", "  name: reviews\n  namespace: a.b\n", &["5: metadata.namespace: \"a.b\" is not a valid namespace: expected 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit"]),
    ("VirtualService", "metadata:\n  name: reviews\n", "", &["1: metadata: missing required field"]),
    ("VirtualService", "  name: reviews\n", "  name: reviews\n  lables: {}\n", &["5: metadata.lables: unknown field `lables`, expected one of `annotations`, `creationTimestamp`, `deletionGracePeriodSeconds`, `deletionTimestamp`, `finalizers`, `generateName`, `generation`, `labels`, `managedFields`, `name`, `namespace`, `ownerReferences`, `resourceVersion`, `selfLink`, `uid`"]),
    ("Service", "  name: reviews\n", "  name: reviews.v1\n", &["4: metadata.name: \"reviews.v1\" is not a valid name of a Service: expected 1 to 63 lower-case letters, digits or '-', and no '.'"]),
    ("VirtualService", "hosts: [reviews]", "host: reviews", &["5: spec.hosts: missing required field", "6: spec.host: unknown field `host`, expected one of `exportTo`, `gateways`, `hosts`, `http`, `tcp`, `tls`"]),
    ("VirtualService", "hosts: [reviews]", "hosts: []", &["6: spec.hosts: empty, expected at least one host"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*\"]", &["6: spec.hosts[0]: a wildcard host \"*\" cannot be in \"mesh\" (the default of spec.gateways), as Istio has it; expected the names of services, or gateways alone"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*\"]\n  gateways: [a, mesh]", &["6: spec.hosts[0]: a wildcard host \"*\" cannot be in \"mesh\" (the default of spec.gateways), as Istio has it; expected the names of services, or gateways alone"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [reviews, Reviews.default.svc.cluster.local]", &["6: spec.hosts[1]: \"Reviews.default.svc.cluster.local\" and \"reviews\" are for the same hosts, expected each host once"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*.foo.com\", reviews, \"*.com\"]", &["6: spec.hosts[2]: \"*.com\" and \"*.foo.com\" are for the same hosts, expected each host once"]),
    ("VirtualService", "hosts: [reviews]", "hosts: reviews", &["6: spec.hosts: invalid type: string \"reviews\", expected a list"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [\"*reviews\"]", &["6: spec.hosts[0]: \"*reviews\" is not a host, expected a DNS name, \"*.NAME\" or \"*\""]),
    ("VirtualService", "hosts: [reviews]", "hosts: [reviews]\n  gateways: [a/b/c]", &["7: spec.gateways[0]: \"a/b/c\" is no gateway, expected \"mesh\", NAME or NAMESPACE/NAME"]),
    ("VirtualService", "hosts: [reviews]", "hosts: [reviews]\n  gateways: [ingress]", &["6: spec.hosts[0]: rejected: layer 4 cannot match the host of an HTTP request at a gateway; expected \"*\""]),
    ("VirtualService", "hosts: [reviews]", "hosts: [reviews]\n  tls: [{match: [{sniHosts: [a]}], route: []}]", &["7: spec.tls: rejected: layer 4 cannot match the server name of a TLS handshake"]),
    ("VirtualService", "    - port: 9080\n", "    - port: 9080\n      headers: {end-user: {exact: jason}}\n", &["10: spec.http[0].match[0].headers: rejected: layer 4 cannot match HTTP requests; the only condition that it can is `port`"]),
    ("VirtualService", "    - port: 9080\n", "    - uri: {prefix: /a}\n      method: {exact: GET}\n", &["9: spec.http[0].match[0].uri: rejected: layer 4 cannot match HTTP requests; the only condition that it can is `port`", "10: spec.http[0].match[0].method: rejected: layer 4 cannot match HTTP requests; the only condition that it can is `port`"]),
    ("VirtualService", "    - port: 9080\n", "    - sourceLabels: {app: a}\n", &["9: spec.http[0].match[0].sourceLabels: rejected: weir does not know which workload a client is; the only condition that it can match is `port`"]),
    ("VirtualService", "    - port: 9080\n", "    - gateways: [a]\n", &["9: spec.http[0].match[0].gateways: rejected: gateways are named by `spec.gateways`; the only condition that weir can match is `port`"]),
    ("VirtualService", "    - port: 9080\n", "    - port: 0\n", &["9: spec.http[0].match[0].port: 0 is out of range, expected an integer from 1 to 65535"]),
    ("VirtualService", "    - port: 9080\n", "    - {port: http, name: x}\n", &["9: spec.http[0].match[0].port: invalid type: string \"http\", expected an integer from 1 to 65535"]),
    ("VirtualService", "    route:\n", "    rewrite: {uri: /}\n    route:\n", &["10: spec.http[0].rewrite: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request"]),
    ("VirtualService", "    route:\n", "    timeout: 1s\n    retries: {attempts: 3}\n    route:\n", &["10: spec.http[0].timeout: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request", "11: spec.http[0].retries: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request"]),
    ("VirtualService", "    route:\n", "    fault: {delay: {}}\n    mirror: {host: a}\n    route:\n", &["10: spec.http[0].fault: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request", "11: spec.http[0].mirror: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request"]),
    ("VirtualService", "    route:\n", "    corsPolicy: {maxAge: 1h}\n    headers: {request: {set: {a: b}}}\n    redirect: {uri: /x}\n    route:\n", &["10: spec.http[0].corsPolicy: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request", "11: spec.http[0].headers: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request", "12: spec.http[0].redirect: rejected: layer 4 cannot do this: it steers connections and sees no HTTP request"]),
    ("VirtualService", "    route:\n", "    delegate: {name: a}\n    route:\n", &["10: spec.http[0].delegate: rejected: weir does not merge routes of other documents"]),
    ("VirtualService", "weight: 90", "weight: -1", &["15: spec.http[0].route[0].weight: -1 is out of range, expected an integer from 0 to 2147483647"]),
    ("VirtualService", "weight: 90", "weight: 2147483648", &["15: spec.http[0].route[0].weight: 2147483648 is out of range, expected an integer from 0 to 2147483647"]),
    ("VirtualService", "weight: 90", "weight: ninety", &["15: spec.http[0].route[0].weight: invalid type: string \"ninety\", expected an integer from 0 to 2147483647"]),
    ("VirtualService", "subset: v1", "subset: v_1", &["14: spec.http[0].route[0].destination.subset: \"v_1\" is not a valid name of a subset: expected 1 to 63 letters, digits or '-', starting and ending with a letter or digit"]),
    ("VirtualService", "        host: reviews\n", "        host: \"*.reviews\"\n", &["12: spec.http[0].route[0].destination.host: \"*.reviews\" has a wildcard, expected the name of one service"]),
    ("VirtualService", "        host: reviews\n", "", &["11: spec.http[0].route[0].destination.host: missing required field"]),
    ("VirtualService", "  http:", "  tcp:\n  - match: [{destinationSubnets: [10.0.0.0/8]}, {sourceSubnet: 10.0.0.0/8}]\n    route: []\n  http:", &["8: spec.tcp[0].match[0].destinationSubnets: rejected: weir does not divide the clients or addresses of a service; the only condition that it can match is `port`", "8: spec.tcp[0].match[1].sourceSubnet: rejected: weir does not divide the clients or addresses of a service; the only condition that it can match is `port`", "9: spec.tcp[0].route: empty, expected at least one destination"]),
    ("VirtualService", "weight: 90", "weight: 4294967296", &["15: spec.http[0].route[0].weight: 4294967296 is out of range, expected an integer from 0 to 2147483647"]),
    ("VirtualService", "weight: 90", "weight: \"80\"", &["15: spec.http[0].route[0].weight: invalid type: string \"80\", expected an integer from 0 to 2147483647"]),
    ("VirtualService", "weight: 90", "weight: 80.5", &["15: spec.http[0].route[0].weight: invalid type: floating point `80.5`, expected an integer from 0 to 2147483647"]),
    ("TCPRoute", "weight: 3", "weight: 4294967296", &["13: spec.rules[0].backendRefs[0].weight: 4294967296 is out of range, expected an integer from 0 to 1000000"]),
    ("TCPRoute", "weight: 3", "weight: \"80\"", &["13: spec.rules[0].backendRefs[0].weight: invalid type: string \"80\", expected an integer from 0 to 1000000"]),
    ("TCPRoute", "weight: 3", "weight: 80.5", &["13: spec.rules[0].backendRefs[0].weight: invalid type: floating point `80.5`, expected an integer from 0 to 1000000"]),
    ("TrafficSplit", "weight: 1", "weight: 4294967296", &["10: spec.subsets[0].weight: 4294967296 is out of range, expected an integer from 0 to 4294967295"]),
    ("TrafficSplit", "weight: 1", "weight: -1", &["10: spec.subsets[0].weight: -1 is out of range, expected an integer from 0 to 4294967295"]),
    ("TrafficSplit", "weight: 1", "weight: \"80\"", &["10: spec.subsets[0].weight: invalid type: string \"80\", expected an integer from 0 to 4294967295"]),
    ("TrafficSplit", "weight: 1", "weight: 80.5", &["10: spec.subsets[0].weight: invalid type: floating point `80.5`, expected an integer from 0 to 4294967295"]),
    ("TCPRoute", "weight: 3", "weight: 4294967295", &["13: spec.rules[0].backendRefs[0].weight: 4294967295 is out of range, expected an integer from 0 to 1000000"]),
    ("Service", "port: 9090", "port: 4294967295", &["15: spec.ports[1].port: 4294967295 is out of range, expected an integer from 1 to 65535"]),
    ("DestinationRule", "  host: reviews\n", "", &["5: spec.host: missing required field"]),
    ("DestinationRule", "simple: ROUND_ROBIN", "simple: PASSTHROUGH", &["9: spec.trafficPolicy.loadBalancer.simple: rejected: with \"PASSTHROUGH\" there is nothing to steer"]),
    ("DestinationRule", "simple: ROUND_ROBIN", "simple: FASTEST", &["9: spec.trafficPolicy.loadBalancer.simple: \"FASTEST\" is unknown, expected one of \"ROUND_ROBIN\", \"RANDOM\", \"LEAST_REQUEST\", \"LEAST_CONN\", \"UNSPECIFIED\""]),
    ("DestinationRule", "simple: ROUND_ROBIN", "consistentHash: {httpHeaderName: a}", &["9: spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName: rejected: layer 4 cannot hash what an HTTP request says; expected `useSourceIp`"]),
    ("DestinationRule", "useSourceIp: true", "httpCookie: {name: a, ttl: 0s}", &["17: spec.subsets[1].trafficPolicy.loadBalancer.consistentHash.httpCookie: rejected: layer 4 cannot hash what an HTTP request says; expected `useSourceIp`"]),
    ("DestinationRule", "useSourceIp: true", "useSourceIp: 1", &["17: spec.subsets[1].trafficPolicy.loadBalancer.consistentHash.useSourceIp: invalid type: integer `1`, expected a boolean"]),
    ("DestinationRule", "  trafficPolicy:\n    loadB", "  trafficPolicy:\n    tls: {mode: ISTIO_MUTUAL}\n    loadB", &["8: spec.trafficPolicy.tls.mode: rejected: layer 4 cannot originate TLS, so not \"ISTIO_MUTUAL\"; expected \"DISABLE\""]),
    ("DestinationRule", "  trafficPolicy:\n    loadB", "  trafficPolicy:\n    portLevelSettings: [{}]\n    tunnel: {protocol: CONNECT}\n    loadB", &["8: spec.trafficPolicy.portLevelSettings: rejected: weir has one policy for all ports of a host; expected it in `trafficPolicy`", "9: spec.trafficPolicy.tunnel: rejected: layer 4 cannot do this: it does not originate connections"]),
    ("DestinationRule", "  - name: v2", "  - name: v1", &["13: spec.subsets[1].name: subset \"v1\" is defined twice"]),
    ("DestinationRule", "  - name: v2", "  - name: v2.a", &["13: spec.subsets[1].name: \"v2.a\" is not a valid name of a subset: expected 1 to 63 letters, digits or '-', starting and ending with a letter or digit"]),
    ("DestinationRule", "{version: v1}", "{version: 1}", &["12: spec.subsets[0].labels.version: invalid type: integer `1`, expected a string"]),
    ("DestinationRule", "labels: {version: v1}", "lables: {version: v1}", &["12: spec.subsets[0].lables: unknown field `lables`, expected one of `labels`, `name`, `trafficPolicy`"]),
    ("DestinationRule", "spec:\n", "spec:\n  workloadSelector: {matchLabels: {}}\n", &["6: spec.workloadSelector: rejected: weir does not know which workload a client is, so a policy is for all clients"]),
    ("ServiceEntry", "addresses: [10.96.0.11]", "addresses: [ratings]", &["7: spec.addresses[0]: \"ratings\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("ServiceEntry", "addresses: [10.96.0.11]", "addresses: [10.96.0.11, 10.96.0.11/32]", &["7: spec.addresses[1]: 10.96.0.11 is listed twice"]),
    ("ServiceEntry", "  resolution: STATIC\n", "", &["5: spec.resolution: NONE (the default) has no endpoints, expected \"STATIC\""]),
    ("ServiceEntry", "resolution: STATIC", "resolution: STATICALLY", &["13: spec.resolution: \"STATICALLY\" is unknown, expected \"STATIC\", \"NONE\", \"DNS\", \"DNS_ROUND_ROBIN\" or \"DYNAMIC_DNS\""]),
    ("ServiceEntry", "hosts: [ratings]", "hosts: [\"*\"]", &["6: spec.hosts[0]: \"*\" is every host, expected a DNS name or \"*.NAME\""]),
    ("ServiceEntry", "addresses: [10.96.0.11]", "addresses: [10.96.0.0/33]", &["7: spec.addresses[0]: \"10.96.0.0/33\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("ServiceEntry", "resolution: STATIC", "resolution: STATIC\n  location: MESH_INSIDE", &["14: spec.location: \"MESH_INSIDE\" is unknown, expected \"MESH_EXTERNAL\" or \"MESH_INTERNAL\""]),
    ("ServiceEntry", "resolution: STATIC", "resolution: STATIC\n  location: 1", &["14: spec.location: not a string, expected \"MESH_EXTERNAL\" or \"MESH_INTERNAL\""]),
    ("ServiceEntry", "protocol: HTTP", "protocol: SCTP", &["11: spec.ports[0].protocol: \"SCTP\" is unknown, expected one of \"HTTP\", \"HTTP2\", \"HTTP_PROXY\", \"GRPC\", \"GRPC-WEB\", \"TCP\", \"HTTPS\", \"TLS\", \"MONGO\", \"MYSQL\", \"REDIS\", \"UDP\""]),
    ("ServiceEntry", "number: 9080", "number: 90800", &["9: spec.ports[0].number: 90800 is out of range, expected an integer from 1 to 65535"]),
    ("ServiceEntry", "  - number: 9080\n", "  - number: 9080\n    name: http\n  - number: 9080\n", &["11: spec.ports[1].number: port 9080 is defined twice"]),
    ("ServiceEntry", "address: 10.0.4.1", "address: db.example.com", &["15: spec.endpoints[0].address: \"db.example.com\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("ServiceEntry", "  - address: 10.0.4.1\n    ports", "  - ports", &["15: spec.endpoints[0].address: missing required field"]),
    ("ServiceEntry", "ports: {http: 8081}", "ports: {http: 0}", &["16: spec.endpoints[0].ports.http: 0 is out of range, expected an integer from 1 to 65535"]),
    ("ServiceEntry", "  endpoints:", "  workloadSelector: {labels: {a: b}}\n  endpoints:", &["14: spec.workloadSelector: expected either endpoints or a workloadSelector, found both"]),
    ("WorkloadEntry", "address: 10.0.1.9", "address: 10.0.1", &["6: spec.address: \"10.0.1\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("WorkloadEntry", "address: 10.0.1.9", "adress: 10.0.1.9", &["5: spec.address: missing required field", "6: spec.adress: unknown field `adress`, expected one of `address`, `labels`, `locality`, `network`, `ports`, `serviceAccount`, `weight`"]),
    ("WorkloadEntry", "ports: {http: 8080}", "ports: {http: eight}", &["7: spec.ports.http: invalid type: string \"eight\", expected an integer from 1 to 65535"]),
    ("Istio Gateway", "selector: {istio: ingressgateway}", "selector: {}", &["6: spec.selector: empty, expected labels that Services select by: those of the whole mesh would have the ports"]),
    ("Istio Gateway", "protocol: TCP", "protocol: QUIC", &["11: spec.servers[0].port.protocol: \"QUIC\" is unknown, expected one of \"HTTP\", \"HTTP2\", \"HTTP_PROXY\", \"GRPC\", \"GRPC-WEB\", \"TCP\", \"HTTPS\", \"TLS\", \"MONGO\", \"MYSQL\", \"REDIS\", \"UDP\""]),
    ("Istio Gateway", "    hosts: [\"*\"]", "    hosts: [\"*\"]\n  - {port: {number: 31400, protocol: TCP}}", &["13: spec.servers[1].port.number: port 31400 is defined twice"]),
    ("Gateway", "value: 192.0.2.1", "value: gateway.example.com", &["8: spec.addresses[0].value: \"gateway.example.com\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("Gateway", "name: dns", "name: tcp", &["15: spec.listeners[1].name: listener \"tcp\" is defined twice"]),
    ("Gateway", "protocol: UDP", "protocol: TCP", &["17: spec.listeners[1].port: listener \"tcp\" has the same port and protocol"]),
    ("Gateway", "    port: 5000\n    allowed", "    port: 0\n    allowed", &["12: spec.listeners[0].port: 0 is out of range, expected an integer from 1 to 65535"]),
    ("Gateway", "    port: 5000\n    allowed", "    allowed", &["10: spec.listeners[0].port: missing required field"]),
    ("Gateway", "from: Same", "from: Some", &["14: spec.listeners[0].allowedRoutes.namespaces.from: unknown value `Some`, expected one of `All`, `Selector`, `Same`"]),
    ("Gateway", "from: Same", "from: Selector", &["14: spec.listeners[0].allowedRoutes.namespaces.selector: missing required field"]),
    ("Gateway", "from: Same", "from: Selector, selector: {matchExpressions: [{key: a, operator: Is, values: []}]}", &["14: spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].operator: \"Is\" is unknown, expected \"In\", \"NotIn\", \"Exists\" or \"DoesNotExist\""]),
    ("Gateway", "from: Same", "from: Selector, selector: {matchExpressions: [{key: a, operator: In}]}", &["14: spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].values: values do not fit the operator \"In\""]),
    ("Gateway", "spec:\n", "spec:\n  tls: {frontend: {default: {}}}\n", &["6: spec.tls: rejected: layer 4 cannot end TLS"]),
    ("TCPRoute", "weight: 3", "weight: 1000001", &["13: spec.rules[0].backendRefs[0].weight: 1000001 is out of range, expected an integer from 0 to 1000000"]),
    ("TCPRoute", "weight: 3", "weight: -1", &["13: spec.rules[0].backendRefs[0].weight: -1 is out of range, expected an integer from 0 to 1000000"]),
    ("TCPRoute", "      port: 9080\n      weight: 3", "      weight: 3", &["11: spec.rules[0].backendRefs[0].port: missing required field: a Service has no default port"]),
    ("TCPRoute", "      port: 9080\n      weight: 3", "      port: 65536\n      weight: 3", &["12: spec.rules[0].backendRefs[0].port: 65536 is out of range, expected an integer from 1 to 65535"]),
    ("TCPRoute", "    - name: nobody\n", "    - nam: nobody\n", &["14: spec.rules[0].backendRefs[1].nam: unknown field `nam`, expected one of `group`, `kind`, `name`, `namespace`, `port`, `weight`", "14: spec.rules[0].backendRefs[1].name: missing required field"]),
    ("TCPRoute", "    - name: nobody\n", "    - name: No_body\n", &["14: spec.rules[0].backendRefs[1].name: \"No_body\" is not a valid name: expected at most 253 characters: lower-case letters, digits or '-', starting and ending with a letter or digit, in parts separated by '.'"]),
    ("TCPRoute", "    - name: nobody\n      port: 9080\n", "    - name: nobody\n      port: 9080\n  - backendRefs: [{name: a, port: 1}]\n", &["16: spec.rules[1]: more than one rule: a route without conditions can have only one"]),
    ("TCPRoute", "  rules:\n", "  rules: []\n  rulez:\n", &["9: spec.rules: empty, expected one rule", "10: spec.rulez: unknown field `rulez`, expected one of `parentRefs`, `rules`, `useDefaultGateways`"]),
    ("TCPRoute", "  parentRefs:\n", "  useDefaultGateways: All\n  parentRefs:\n", &["6: spec.useDefaultGateways: rejected: weir has no default Gateways; expected `parentRefs`"]),
    ("TCPRoute", "sectionName: tcp", "port: 70000", &["8: spec.parentRefs[0].port: 70000 is out of range, expected an integer from 1 to 65535"]),
    ("UDPRoute", "  - backendRefs:\n    - name: dns\n      namespace: other\n      port: 53\n", "  - backendRefs: []\n", &["10: spec.rules[0].backendRefs: empty, expected at least one reference"]),
    ("UDPRoute", "    - name: dns\n", "    - filters: []\n      name: dns\n", &["11: spec.rules[0].backendRefs[0].filters: unknown field `filters`, expected one of `group`, `kind`, `name`, `namespace`, `port`, `weight`"]),
    ("ReferenceGrant", "kind: UDPRoute\n    namespace: default", "kind: UDPRoute", &["8: spec.from[0].namespace: missing required field"]),
    ("ReferenceGrant", "  to:\n  - group: \"\"\n    kind: Service\n    name: dns\n", "  to: []\n", &["11: spec.to: empty, expected at least one"]),
    ("Service", "clusterIPs: [10.96.0.10,", "clusterIPs: [0.0.0.0,", &["6: spec.clusterIPs[0]: 0.0.0.0 is unspecified, expected a unicast IPv4 or IPv6 address"]),
    ("Service", "clusterIPs: [10.96.0.10,", "clusterIP: 10.96.0.9\n  clusterIPs: [10.96.0.10,", &["6: spec.clusterIP: \"10.96.0.9\" is not the first of clusterIPs, expected \"10.96.0.10\""]),
    ("Service", "clusterIPs: [10.96.0.10, \"2001:db8::10\"]", "clusterIPs: [10.96.0.10, 10.96.0.10]", &["6: spec.clusterIPs[1]: 10.96.0.10 is listed twice"]),
    ("Service", "sessionAffinity: None", "sessionAffinity: Cookie", &["7: spec.sessionAffinity: \"Cookie\" is unknown, expected \"None\" or \"ClientIP\""]),
    ("Service", "sessionAffinity: None", "type: NodePorts", &["7: spec.type: \"NodePorts\" is unknown, expected \"ClusterIP\", \"NodePort\", \"LoadBalancer\" or \"ExternalName\""]),
    ("Service", "sessionAffinity: None", "externalTrafficPolicy: local", &["7: spec.externalTrafficPolicy: \"local\" is unknown, expected \"Cluster\" or \"Local\""]),
    ("Service", "sessionAffinity: None", "internalTrafficPolicy: Node", &["7: spec.internalTrafficPolicy: \"Node\" is unknown, expected \"Cluster\" or \"Local\""]),
    ("Service", "sessionAffinity: None", "ipFamilyPolicy: DualStack", &["7: spec.ipFamilyPolicy: \"DualStack\" is unknown, expected \"SingleStack\", \"PreferDualStack\" or \"RequireDualStack\""]),
    ("Service", "sessionAffinity: None", "ipFamilies: [IPv4, IPv5]", &["7: spec.ipFamilies[1]: \"IPv5\" is unknown, expected \"IPv4\" or \"IPv6\""]),
    ("Service", "port: 9090", "port: 9080", &["9: spec.ports: port 9080/TCP is defined twice"]),
    ("Service", "name: tcp-admin\n    port", "port", &["9: spec.ports: ports of a Service that has several need names"]),
    ("Service", "name: tcp-admin", "name: http", &["9: spec.ports: port name \"http\" is defined twice"]),
    ("Service", "protocol: TCP", "protocol: QUIC", &["12: spec.ports[0].protocol: \"QUIC\" is unknown, expected \"TCP\", \"UDP\" or \"SCTP\""]),
    ("Service", "targetPort: http", "targetPort: 70000", &["13: spec.ports[0].targetPort: 70000 is out of range, expected an integer from 1 to 65535"]),
    ("Service", "port: 9090", "port: \"9090\"", &["15: spec.ports[1].port: invalid type: string \"9090\", expected an integer from 1 to 65535"]),
    ("Service", "port: 9090", "prot: 9090", &["14: spec.ports[1].port: missing required field", "15: spec.ports[1].prot: unknown field `prot`, expected one of `appProtocol`, `name`, `nodePort`, `port`, `protocol`, `targetPort`"]),
    ("EndpointSlice", "addressType: IPv4", "addressType: DNS", &["6: addressType: \"DNS\" is unknown, expected \"IPv4\", \"IPv6\" or \"FQDN\""]),
    ("EndpointSlice", "addressType: IPv4\n", "", &["1: addressType: missing required field"]),
    ("EndpointSlice", "addressType: IPv4", "addressType: IPv6", &["12: endpoints[0].addresses[0]: 10.0.2.1 is not of the slice's addressType IPv6"]),
    ("EndpointSlice", "addresses: [10.0.2.1]", "addresses: []", &["12: endpoints[0].addresses: empty, expected an address"]),
    ("EndpointSlice", "addresses: [10.0.2.1]", "addresses: [10.0.2]", &["12: endpoints[0].addresses[0]: \"10.0.2\" is not an IP address, expected a unicast IPv4 or IPv6 address"]),
    ("EndpointSlice", "  port: 9080", "  port: -1", &["9: ports[0].port: -1 is out of range, expected an integer from 1 to 65535"]),
    ("EndpointSlice", "protocol: TCP", "protocol: ICMP", &["10: ports[0].protocol: \"ICMP\" is unknown, expected \"TCP\", \"UDP\" or \"SCTP\""]),
    ("EndpointSlice", "ready: true", "ready: \"yes\"", &["13: endpoints[0].conditions.ready: invalid type: string \"yes\", expected a boolean"]),
    ("EndpointSlice", "ready: true", "ready: true, alive: true", &["13: endpoints[0].conditions.alive: unknown field `alive`, expected one of `ready`, `serving`, `terminating`"]),
    ("TrafficSplit", "weight: 1", "weight: 0", &["8: spec.subsets: the weights of a split must not all be 0"]),
    ("TrafficSplit", "kind: TrafficSplit", "kind: TrafficSplits", &["2: kind: unknown kind \"TrafficSplits\", expected \"TrafficSplit\""]),
];

fn edited(kind: &str, from: &str, to: &str) -> String {
    let text = base(kind);
    assert!(text.contains(from), "{kind}: {from}");
    text.replacen(from, to, 1)
}

#[test]
fn good_documents() {
    for (kind, text) in GOOD {
        assert_eq!(lines(&read("0", text).problems), Vec::<String>::new(), "{kind}");
        assert_eq!(read("0", text).documents.len(), 1, "{kind}");
    }
    for (kind, from, to) in FINE {
        let read = read("0", &edited(kind, from, to));
        assert_eq!(lines(&read.problems), Vec::<String>::new(), "{kind}: {from} -> {to}");
        assert_eq!(read.documents.len(), 1, "{kind}: {from} -> {to}");
    }
}

#[test]
fn bad_documents() {
    let mut kinds = BTreeSet::new();
    for (kind, from, to, expected) in BAD {
        kinds.insert(*kind);
        let text = edited(kind, from, to);
        let found = read("0", &text);
        let expected: Vec<String> = expected.iter().map(|line| format!("0:{line}")).collect();
        assert_eq!(lines(&found.problems), expected, "{kind}: {from} -> {to}");
        assert!(found.documents.is_empty(), "{kind}: {from} -> {to}");
    }
    assert_eq!(kinds.len(), GOOD.len(), "each kind has bad documents");
}

#[test]
fn what_has_no_effect_is_noted() {
    let weights = "0:10: spec.http[0].route: the weights apply to connections, not to requests: all requests of a connection go the same way";
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("VirtualService", "", "", &[weights]),
        (
            "VirtualService",
            "      weight: 90\n",
            "",
            &[
                "0:11: spec.http[0].route[0]: no weight, which counts as 0: it gets no connections",
                weights,
            ],
        ),
        (
            "DestinationRule",
            "  trafficPolicy:\n    loadB",
            "  trafficPolicy:\n    outlierDetection: {interval: 1s}\n    connectionPool: {tcp: {}}\n    loadB",
            &[
                "0:8: spec.trafficPolicy.outlierDetection: no effect yet: weir does not eject endpoints",
                "0:9: spec.trafficPolicy.connectionPool: no effect yet: weir does not limit connections",
            ],
        ),
        (
            "DestinationRule",
            "ROUND_ROBIN",
            "LEAST_REQUEST",
            &[
                "0:9: spec.trafficPolicy.loadBalancer.simple: no effect: the endpoints of a subset share evenly",
            ],
        ),
        (
            "ServiceEntry",
            "  resolution",
            "  location: MESH_INTERNAL\n  resolution",
            &["0:13: spec.location: no effect: weir steers to endpoints wherever they are"],
        ),
        (
            "Gateway",
            "protocol: UDP",
            "protocol: HTTP",
            &[
                "0:16: spec.listeners[1].protocol: no effect: layer 4 has routes for listeners of TCP and UDP only",
            ],
        ),
        (
            "Service",
            "port: 9090",
            "port: 9090\n    protocol: SCTP",
            &["0:16: spec.ports[1].protocol: no effect: weir steers TCP and UDP only"],
        ),
        (
            "EndpointSlice",
            "kubernetes.io/service-name: reviews, ",
            "",
            &[
                "0:5: metadata.labels: no effect: without the label kubernetes.io/service-name it is of no Service",
            ],
        ),
    ];
    for (kind, from, to, expected) in cases {
        let found = read("0", &edited(kind, from, to));
        let mut notes = lines(&found.documents[0].notes);
        notes.sort();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        assert_eq!(notes, expected, "{kind}: {from} -> {to}");
    }
}

#[test]
fn bad_as_a_whole() {
    let zero = base("VirtualService")
        .replace("weight: 90", "weight: 0")
        .replace("weight: 10", "weight: 0");
    let message = "0:10: spec.http[0].route: the weights of a route must not all be 0";
    assert_eq!(lines(&read("0", &zero).problems), [message]);
    let none = base("VirtualService").split("  http:").next().unwrap();
    let message = "0:5: spec: no routes, expected at least one in http or tcp";
    assert_eq!(lines(&read("0", none).problems), [message]);
    let many = "    - {name: reviews, port: 9080}\n".repeat(17);
    let many = base("TCPRoute").split("    - name: reviews").next().unwrap().to_owned() + &many;
    let message = "0:10: spec.rules[0].backendRefs: at most 16 references, found 17";
    assert_eq!(lines(&read("0", &many).problems), [message]);
    let own = base("ServiceEntry").replace("10.0.4.1", "10.96.0.11").replace("8081", "9080");
    let message = "0:8: spec.ports: split \"ratings.default\": endpoint 10.96.0.11:9080 is the service address itself";
    assert_eq!(lines(&resolve(&[&own]).problems), [message]);
}
