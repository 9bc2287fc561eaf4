//! The fields of `gateway.networking.k8s.io`.

use super::{Field, honoured, noted, rejected, silent};

const TLS: &str = "layer 4 cannot end TLS";

pub(super) const GATEWAY: &[Field] = &[
    silent("spec.gatewayClassName", "weir takes the routes of Gateways of every class"),
    honoured(
        "spec.addresses[].type",
        "`IPAddress`, the default; others are noted and have no effect",
    ),
    honoured(
        "spec.addresses[].value",
        "the service addresses of the listeners; without any, those of `status.addresses`, and else of \
         the Services of the namespace with the label `gateway.networking.k8s.io/gateway-name` that have the listener's port",
    ),
    honoured("spec.listeners[].name", "what `sectionName` names"),
    honoured("spec.listeners[].port", "the port that clients connect to"),
    honoured(
        "spec.listeners[].protocol",
        "`TCP` and `UDP`, in any case; others are noted and have no routes",
    ),
    noted("spec.listeners[].hostname", "no effect: layer 4 cannot match host names"),
    noted("spec.listeners[].tls", TLS),
    honoured("spec.listeners[].allowedRoutes.namespaces.from", "`Same` is the default"),
    honoured(
        "spec.listeners[].allowedRoutes.namespaces.selector.matchLabels",
        "labels of Namespace documents; `kubernetes.io/metadata.name` is known without one",
    ),
    honoured(
        "spec.listeners[].allowedRoutes.namespaces.selector.matchExpressions",
        "as `matchLabels`",
    ),
    honoured("spec.listeners[].allowedRoutes.kinds[].group", ""),
    honoured("spec.listeners[].allowedRoutes.kinds[].kind", "of TCPRoute and UDPRoute"),
    noted("spec.infrastructure", "no effect: weir creates no infrastructure"),
    rejected("spec.tls", TLS),
    noted("spec.allowedListeners", "no effect: weir reads no ListenerSets")
        .but(&[r#"{"namespaces":{"from":"None"}}"#]),
    noted("spec.defaultScope", "no effect: weir has no default Gateways").but(&[r#""None""#]),
    honoured("status.addresses[]", "`IPAddress`: see `spec.addresses`"),
    silent("status.attachedListenerSets", ""),
    silent("status.conditions", ""),
    silent("status.listeners", ""),
];

pub(super) const ROUTE: &[Field] = &[
    honoured(
        "spec.parentRefs[].group",
        "`gateway.networking.k8s.io`, the default; empty for a Service",
    ),
    honoured("spec.parentRefs[].kind", "`Gateway`, the default, or `Service`"),
    honoured("spec.parentRefs[].name", ""),
    honoured(
        "spec.parentRefs[].namespace",
        "of a Service only the route's own: weir does not know the namespaces of clients",
    ),
    honoured("spec.parentRefs[].sectionName", "a listener, or the name of a Service's port"),
    honoured("spec.parentRefs[].port", "a listener's port, or a Service's"),
    silent("spec.rules[].name", ""),
    honoured("spec.rules[].backendRefs[].group", "the core group, which is empty"),
    honoured("spec.rules[].backendRefs[].kind", "`Service`; the share of others is rejected"),
    honoured("spec.rules[].backendRefs[].name", "the share of one that does not exist is rejected"),
    honoured(
        "spec.rules[].backendRefs[].namespace",
        "another than the route's needs a ReferenceGrant, else its share is rejected",
    ),
    honoured("spec.rules[].backendRefs[].port", "the Service's port"),
    honoured(
        "spec.rules[].backendRefs[].weight",
        "0 to 1,000,000; share = weight / sum; 1 if there is none; all 0 rejects everything",
    ),
    rejected("spec.useDefaultGateways", "weir has no default Gateways; expected `parentRefs`")
        .but(&[r#""None""#]),
    silent("status", ""),
];

pub(super) const REFERENCE_GRANT: &[Field] = &[
    honoured("spec.from[].group", ""),
    honoured("spec.from[].kind", "of TCPRoute and UDPRoute"),
    honoured("spec.from[].namespace", ""),
    honoured("spec.to[].group", ""),
    honoured("spec.to[].kind", "of Service"),
    honoured("spec.to[].name", "every one if there is none"),
];
