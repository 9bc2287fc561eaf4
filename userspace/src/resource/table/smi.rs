//! The fields of `split.smi-spec.io`.

use super::{Field, honoured, rejected};

pub(super) const TRAFFIC_SPLIT: &[Field] = &[
    honoured("spec.service", "the Service whose TCP connections are divided, on all of its ports"),
    honoured("spec.backends[].service", "a Service of the same namespace: a subset of that name"),
    honoured("spec.backends[].weight", "0 to 4294967295; only the proportions count"),
    rejected(
        "spec.matches",
        "layer 4 cannot match HTTP requests, which is what an HTTPRouteGroup does",
    ),
];
