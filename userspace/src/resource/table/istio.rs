//! The fields of `networking.istio.io`.

use super::{Field, honoured, noted, rejected, silent};

const HTTP_MATCH: &str =
    "layer 4 cannot match HTTP requests; the only condition that it can is `port`";
const SOURCE_MATCH: &str =
    "weir does not know which workload a client is; the only condition that it can match is `port`";
const SOURCE_MATCH_OF_RULE: &str =
    "weir does not know which workload a client is, so a policy is for all clients";
const SUBNET_MATCH: &str = "weir does not divide the clients or addresses of a service; the only condition that it can match is `port`";
const GATEWAYS_MATCH: &str =
    "gateways are named by `spec.gateways`; the only condition that weir can match is `port`";
const HTTP_ACTION: &str = "layer 4 cannot do this: it steers connections and sees no HTTP request";
const EXPORT_TO: &str = "no effect: weir does not know the namespaces of clients";
const HOST: &str = "a short name is of the document's namespace; else the full name, such as `reviews.default.svc.cluster.local`";
const DESTINATION_PORT: &str = "the service's port; if there is none, its only port or the one with the number that the client connects to";
const WEIGHT: &str = "share = weight / sum; 0 if there is none; a single destination gets everything whatever its weight";
const NO_EJECTION: &str = "no effect yet: weir does not eject endpoints";
const NO_POOL: &str = "no effect yet: weir does not limit connections";
const LOCALITY: &str = "no effect: the endpoints of a subset share evenly";
const HTTP_HASH: &str = "layer 4 cannot hash what an HTTP request says; expected `useSourceIp`";
const RING: &str = "no effect: weir has its own consistent hash";
const PORT_LEVEL: &str =
    "weir has one policy for all ports of a host; expected it in `trafficPolicy`";
const PROXY: &str = "layer 4 cannot do this: it does not originate connections";
const RETRY_BUDGET: &str = "layer 4 cannot retry requests";
const WARMUP: &str = "no effect: the endpoints of a subset share evenly from the start";

pub(super) const VIRTUAL_SERVICE: &[Field] = &[
    honoured(
        "spec.hosts[]",
        "the services whose connections are routed; names as for destinations, or with a leading `*.`, each once; `*` for gateways alone; \
         of a route for gateways, only `*` fits `http`, and `tcp` fits any",
    ),
    honoured(
        "spec.gateways[]",
        "`mesh` (the default): the service addresses of the hosts; NAME or NAMESPACE/NAME: the ports of that Istio Gateway",
    ),
    noted("spec.exportTo", EXPORT_TO).but(&[r#"["*"]"#]),
    rejected("spec.tls", "layer 4 cannot match the server name of a TLS handshake"),
    honoured("spec.http[].match[].port", "the port that the client connects to"),
    silent("spec.http[].match[].name", ""),
    silent("spec.http[].match[].statPrefix", ""),
    rejected("spec.http[].match[].uri", HTTP_MATCH),
    rejected("spec.http[].match[].scheme", HTTP_MATCH),
    rejected("spec.http[].match[].method", HTTP_MATCH),
    rejected("spec.http[].match[].authority", HTTP_MATCH),
    rejected("spec.http[].match[].headers", HTTP_MATCH),
    rejected("spec.http[].match[].queryParams", HTTP_MATCH),
    rejected("spec.http[].match[].ignoreUriCase", HTTP_MATCH),
    rejected("spec.http[].match[].withoutHeaders", HTTP_MATCH),
    rejected("spec.http[].match[].sourceLabels", SOURCE_MATCH),
    rejected("spec.http[].match[].sourceNamespace", SOURCE_MATCH),
    rejected("spec.http[].match[].gateways", GATEWAYS_MATCH),
    silent("spec.http[].name", ""),
    honoured("spec.http[].route[].destination.host", HOST),
    honoured("spec.http[].route[].destination.subset", "a subset of the host's DestinationRule"),
    honoured("spec.http[].route[].destination.port.number", DESTINATION_PORT),
    honoured("spec.http[].route[].weight", WEIGHT),
    rejected("spec.http[].route[].headers", HTTP_ACTION),
    rejected("spec.http[].redirect", HTTP_ACTION),
    rejected("spec.http[].directResponse", HTTP_ACTION),
    rejected("spec.http[].delegate", "weir does not merge routes of other documents"),
    rejected("spec.http[].rewrite", HTTP_ACTION),
    rejected("spec.http[].timeout", HTTP_ACTION),
    rejected("spec.http[].retries", HTTP_ACTION),
    rejected("spec.http[].fault", HTTP_ACTION),
    rejected("spec.http[].mirror", HTTP_ACTION),
    rejected("spec.http[].mirrors", HTTP_ACTION),
    rejected("spec.http[].mirrorPercent", HTTP_ACTION),
    rejected("spec.http[].mirror_percent", HTTP_ACTION),
    rejected("spec.http[].mirrorPercentage", HTTP_ACTION),
    rejected("spec.http[].corsPolicy", HTTP_ACTION),
    rejected("spec.http[].headers", HTTP_ACTION),
    honoured("spec.tcp[].match[].port", "the port that the client connects to"),
    rejected("spec.tcp[].match[].destinationSubnets", SUBNET_MATCH),
    rejected("spec.tcp[].match[].sourceSubnet", SUBNET_MATCH),
    rejected("spec.tcp[].match[].sourceLabels", SOURCE_MATCH),
    rejected("spec.tcp[].match[].sourceNamespace", SOURCE_MATCH),
    rejected("spec.tcp[].match[].gateways", GATEWAYS_MATCH),
    honoured("spec.tcp[].route[].destination.host", HOST),
    honoured("spec.tcp[].route[].destination.subset", "a subset of the host's DestinationRule"),
    honoured("spec.tcp[].route[].destination.port.number", DESTINATION_PORT),
    honoured("spec.tcp[].route[].weight", WEIGHT),
    silent("status", ""),
];

pub(super) const DESTINATION_RULE: &[Field] = &[
    honoured(
        "spec.host",
        "the service, named as destinations are; one document for each; one with a wildcard is left alone",
    ),
    honoured("spec.subsets[].name", "what destinations name"),
    honoured("spec.subsets[].labels", "its endpoints are those of the host with all these labels"),
    honoured(
        "spec.subsets[].trafficPolicy.loadBalancer.consistentHash.useSourceIp",
        "as below `spec.trafficPolicy`, which it takes the place of",
    ),
    noted("spec.subsets[].trafficPolicy.loadBalancer.consistentHash.minimumRingSize", RING),
    noted("spec.subsets[].trafficPolicy.loadBalancer.consistentHash.ringHash", RING),
    noted("spec.subsets[].trafficPolicy.loadBalancer.consistentHash.maglev", RING),
    rejected("spec.subsets[].trafficPolicy.loadBalancer.consistentHash.httpHeaderName", HTTP_HASH),
    rejected("spec.subsets[].trafficPolicy.loadBalancer.consistentHash.httpCookie", HTTP_HASH),
    rejected(
        "spec.subsets[].trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName",
        HTTP_HASH,
    ),
    honoured("spec.subsets[].trafficPolicy.loadBalancer.simple", "as below `spec.trafficPolicy`"),
    noted("spec.subsets[].trafficPolicy.loadBalancer.localityLbSetting", LOCALITY),
    noted("spec.subsets[].trafficPolicy.loadBalancer.warmup", WARMUP),
    noted("spec.subsets[].trafficPolicy.loadBalancer.warmupDurationSecs", WARMUP),
    noted("spec.subsets[].trafficPolicy.connectionPool", NO_POOL),
    noted("spec.subsets[].trafficPolicy.outlierDetection", NO_EJECTION),
    rejected("spec.subsets[].trafficPolicy.portLevelSettings", PORT_LEVEL),
    honoured("spec.subsets[].trafficPolicy.tls.mode", "as below `spec.trafficPolicy`"),
    rejected("spec.subsets[].trafficPolicy.tunnel", PROXY),
    rejected("spec.subsets[].trafficPolicy.proxyProtocol", PROXY),
    rejected("spec.subsets[].trafficPolicy.retryBudget", RETRY_BUDGET),
    honoured(
        "spec.trafficPolicy.loadBalancer.consistentHash.useSourceIp",
        "client affinity of the splits that have the host as a destination, for all their subsets",
    ),
    noted("spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize", RING),
    noted("spec.trafficPolicy.loadBalancer.consistentHash.ringHash", RING),
    noted("spec.trafficPolicy.loadBalancer.consistentHash.maglev", RING),
    rejected("spec.trafficPolicy.loadBalancer.consistentHash.httpHeaderName", HTTP_HASH),
    rejected("spec.trafficPolicy.loadBalancer.consistentHash.httpCookie", HTTP_HASH),
    rejected("spec.trafficPolicy.loadBalancer.consistentHash.httpQueryParameterName", HTTP_HASH),
    honoured(
        "spec.trafficPolicy.loadBalancer.simple",
        "any but `PASSTHROUGH`, which is rejected: the endpoints of a subset share evenly; a note says so of others than `ROUND_ROBIN`, `RANDOM` and `UNSPECIFIED`",
    ),
    noted("spec.trafficPolicy.loadBalancer.localityLbSetting", LOCALITY),
    noted("spec.trafficPolicy.loadBalancer.warmup", WARMUP),
    noted("spec.trafficPolicy.loadBalancer.warmupDurationSecs", WARMUP),
    noted("spec.trafficPolicy.connectionPool", NO_POOL),
    noted("spec.trafficPolicy.outlierDetection", NO_EJECTION),
    rejected("spec.trafficPolicy.portLevelSettings", PORT_LEVEL),
    honoured(
        "spec.trafficPolicy.tls.mode",
        "`DISABLE`; others are rejected, since layer 4 cannot originate TLS",
    ),
    rejected("spec.trafficPolicy.tunnel", PROXY),
    rejected("spec.trafficPolicy.proxyProtocol", PROXY),
    rejected("spec.trafficPolicy.retryBudget", RETRY_BUDGET),
    noted("spec.exportTo", EXPORT_TO).but(&[r#"["*"]"#]),
    rejected("spec.workloadSelector", SOURCE_MATCH_OF_RULE),
    silent("status", ""),
];

pub(super) const SERVICE_ENTRY: &[Field] = &[
    honoured(
        "spec.hosts[]",
        "one, without wildcard: the name that destinations use; an entry with others is left alone",
    ),
    honoured(
        "spec.addresses[]",
        "the service addresses, as single IP addresses; without any, the host can be a destination only; an entry with a range is left alone",
    ),
    honoured("spec.ports[].number", "the port that clients connect to"),
    honoured("spec.ports[].name", "unique; what the `ports` of endpoints name"),
    honoured(
        "spec.ports[].protocol",
        "in any case: `HTTP`, `HTTP2`, `HTTP_PROXY`, `GRPC`, `GRPC-WEB` (`http` routes apply), `TCP`, `HTTPS`, `TLS`, `MONGO`, `MYSQL`, `REDIS` (`tcp` routes apply), `UDP`; without it, as the name says",
    ),
    honoured("spec.ports[].targetPort", "the port of endpoints whose `ports` do not name it"),
    noted("spec.location", "no effect: weir steers to endpoints wherever they are")
        .but(&[r#""MESH_EXTERNAL""#])
        .one_of(&["MESH_EXTERNAL", "MESH_INTERNAL"]),
    honoured(
        "spec.resolution",
        "`STATIC`; with others the entry is left alone, since weir resolves no names",
    ),
    honoured("spec.endpoints[].address", "an IP address"),
    honoured("spec.endpoints[].ports", "the endpoint's port, by name of the service's port"),
    honoured("spec.endpoints[].labels", "what subsets select by"),
    noted("spec.endpoints[].network", "no effect: weir steers to the address"),
    noted("spec.endpoints[].locality", LOCALITY),
    noted("spec.endpoints[].weight", LOCALITY),
    silent("spec.endpoints[].serviceAccount", ""),
    honoured(
        "spec.workloadSelector.labels",
        "WorkloadEntries of the namespace, and its Pods that are ready, in place of `endpoints`",
    ),
    noted("spec.exportTo", EXPORT_TO).but(&[r#"["*"]"#]),
    noted("spec.subjectAltNames", "no effect: weir does not look into TLS"),
    silent("status", ""),
];

pub(super) const WORKLOAD_ENTRY: &[Field] = &[
    honoured("spec.address", "an IP address"),
    honoured(
        "spec.ports",
        "the endpoint's port, by name of the service's port, or of a Service's named `targetPort`",
    ),
    honoured(
        "spec.labels",
        "with `metadata.labels`: what subsets, Services and ServiceEntries select by",
    ),
    noted("spec.network", "no effect: weir steers to the address"),
    noted("spec.locality", LOCALITY),
    noted("spec.weight", LOCALITY),
    silent("spec.serviceAccount", ""),
    silent("status", ""),
];

pub(super) const GATEWAY: &[Field] = &[
    honoured(
        "spec.selector",
        "its addresses are those of the Services whose `selector` has all these labels and that have the server's port",
    ),
    honoured("spec.servers[].port.number", "the port that clients connect to"),
    honoured(
        "spec.servers[].port.protocol",
        "in any case: `HTTP`, `HTTP2`, `HTTP_PROXY`, `GRPC`, `GRPC-WEB` (`http` routes apply), `TCP`, `MONGO`, `MYSQL`, `REDIS` (`tcp` routes apply); a server of `HTTPS` or `TLS` is left alone: layer 4 can neither end TLS nor match its server names; `UDP` is noted and has no routes",
    ),
    silent("spec.servers[].port.name", ""),
    rejected("spec.servers[].port.targetPort", "weir listens at the port that clients connect to"),
    honoured(
        "spec.servers[].hosts[]",
        "`*`; a server with others is left alone, since layer 4 cannot tell hosts apart",
    ),
    silent("spec.servers[].name", ""),
    rejected("spec.servers[].bind", "the addresses are those of the Services that are selected"),
    honoured(
        "spec.servers[].tls",
        "a server with it is left alone: layer 4 can neither end TLS nor match its server names",
    ),
    rejected("spec.servers[].defaultEndpoint", "expected a VirtualService that names the gateway"),
    silent("status", ""),
];
