//! The fields of Kubernetes' own kinds.

use super::{Field, honoured, noted, silent};

const OUTSIDE: &str = "no effect: weir steers what is addressed to `clusterIPs`";
const EVENLY: &str = "no effect: all endpoints of a subset share evenly";

pub(super) const SERVICE: &[Field] = &[
    honoured(
        "spec.clusterIP",
        "the service address; with `None` or without any, the Service can be a destination only",
    ),
    honoured("spec.clusterIPs[]", "the service addresses of both families, a split for each"),
    silent("spec.ipFamilies[]", "").one_of(&["IPv4", "IPv6"]),
    silent("spec.ipFamilyPolicy", "").one_of(&[
        "SingleStack",
        "PreferDualStack",
        "RequireDualStack",
    ]),
    honoured("spec.ports[].port", "the port that clients connect to, a split for each"),
    honoured("spec.ports[].name", "what the ports of EndpointSlices are known by"),
    honoured(
        "spec.ports[].protocol",
        "`TCP`, the default, and `UDP`; ports of others are passed over with a note",
    ),
    honoured(
        "spec.ports[].appProtocol",
        "with the name: whether a VirtualService's `http` or `tcp` routes apply",
    ),
    honoured(
        "spec.ports[].targetPort",
        "of WorkloadEntries: a number, or the name of one of their ports; EndpointSlices have it resolved",
    ),
    silent("spec.ports[].nodePort", "see `spec.type`"),
    honoured(
        "spec.selector",
        "WorkloadEntries of the namespace with all these labels are endpoints, besides EndpointSlices; an Istio Gateway finds its Services by it",
    ),
    honoured("spec.sessionAffinity", "`ClientIP` is client affinity"),
    noted("spec.sessionAffinityConfig", "no effect: client affinity does not end")
        .but(&[r#"{"clientIP":{"timeoutSeconds":10800}}"#]),
    honoured(
        "spec.type",
        "a Service of `ExternalName` is left alone, since weir resolves no names; of `NodePort` and `LoadBalancer`, a note says that weir steers what is addressed to `clusterIPs`",
    )
    .one_of(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
    silent("spec.externalName", ""),
    noted("spec.externalIPs", OUTSIDE),
    noted("spec.loadBalancerIP", OUTSIDE),
    noted("spec.loadBalancerSourceRanges", OUTSIDE),
    silent("spec.loadBalancerClass", ""),
    silent("spec.allocateLoadBalancerNodePorts", ""),
    silent("spec.healthCheckNodePort", ""),
    noted("spec.externalTrafficPolicy", EVENLY)
        .but(&[r#""Cluster""#])
        .one_of(&["Cluster", "Local"]),
    noted("spec.internalTrafficPolicy", EVENLY)
        .but(&[r#""Cluster""#])
        .one_of(&["Cluster", "Local"]),
    noted("spec.trafficDistribution", EVENLY),
    silent("spec.publishNotReadyAddresses", "EndpointSlices say what is ready"),
    silent("status", ""),
];

pub(super) const ENDPOINT_SLICE: &[Field] = &[
    honoured("addressType", "`IPv4` and `IPv6`; a slice of type `FQDN` is passed over with a note"),
    honoured(
        "endpoints[].addresses[]",
        "the first one, as Kubernetes has it since the others are the same endpoint",
    ),
    honoured(
        "endpoints[].conditions.ready",
        "true if there is none: new connections are steered to it",
    ),
    honoured(
        "endpoints[].conditions.serving",
        "true if there is none; where no endpoint is ready, those that serve and terminate are used",
    ),
    honoured("endpoints[].conditions.terminating", "see `serving`"),
    honoured(
        "endpoints[].targetRef",
        "a Pod whose document is there gives its labels; else those of the slice are the endpoint's",
    ),
    silent("endpoints[].hostname", ""),
    silent("endpoints[].nodeName", ""),
    noted("endpoints[].hints", EVENLY),
    silent("endpoints[].zone", ""),
    silent("endpoints[].deprecatedTopology", ""),
    honoured("ports[].name", "the name of the Service's port"),
    honoured("ports[].port", "the endpoints' port"),
    honoured("ports[].protocol", "that of the Service's port; `TCP` is the default"),
    silent("ports[].appProtocol", ""),
];
