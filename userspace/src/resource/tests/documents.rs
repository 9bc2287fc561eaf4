//! Documents, good and bad, each bad one with its exact message.

use super::{lines, resolve};

/// One good document of each kind.
pub(super) const GOOD: &[(&str, &str)] = &[
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
