//! The TrafficSplit of the Service Mesh Interface
//! (<https://github.com/servicemeshinterface/smi-spec>, `traffic-split`): the connections to a
//! root Service are divided among backend Services, by weights of which only the proportions count.
//!
//! It is read as the one route of a VirtualService, which takes every TCP connection to the
//! Service, whatever is spoken on its ports.

use serde::Deserialize;

use super::host::{Host, Pattern};
use super::istio::{Destination, Parent, RouteRule, VirtualService};
use super::validator::DocumentValidator;
use crate::source::FieldPath;
use crate::source::ranged::Ranged;

#[derive(Deserialize)]
struct RawTrafficSplit {
    spec: Raw,
}

#[derive(Deserialize)]
struct Raw {
    service: String,
    backends: Vec<RawBackend>,
}

#[derive(Deserialize)]
struct RawBackend {
    service: String,
    weight: Ranged<0, 4_294_967_295>,
}

/// What it does with the connections to its root Service.
pub(super) fn read(check: &mut DocumentValidator<'_>) -> Option<VirtualService> {
    let RawTrafficSplit { spec: raw } = check.typed()?;
    let spec = FieldPath::of("spec");
    let at = spec.key("backends");
    let root = check.keep(&spec.key("service"), Host::parse(&raw.service, check.namespace));
    if raw.backends.is_empty() {
        check.problem(&at, "empty, expected at least one backend");
    }
    let mut destinations: Vec<Destination> = Vec::new();
    for (index, backend) in raw.backends.iter().enumerate() {
        let at = at.index(index);
        let here = at.key("service");
        let host = check.keep(&here, Host::parse(&backend.service, check.namespace));
        let weight = check.keep(&at.key("weight"), backend.weight.get());
        let (Some(host), Some(weight)) = (host, weight) else { continue };
        if let Some(first) = destinations.iter().position(|known| known.host == host) {
            let message = format!("{host} is listed twice (first as backends[{first}])");
            check.problem(&here, message);
            continue;
        }
        // In range, as the type says.
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let (subset, port, port_at, weight_at) = (None, None, here.clone(), at.key("weight"));
        destinations.push(Destination {
            host,
            subset,
            port,
            weight,
            at,
            host_at: here,
            port_at,
            weight_at,
        });
    }
    if destinations.len() == raw.backends.len() && destinations.iter().all(|d| d.weight == 0) {
        check.problem(&at, "the weights must not all be 0");
    }
    let route = RouteRule { ports: None, destinations, at };
    Some(VirtualService {
        hosts: vec![Pattern::Exact(root?)],
        parents: vec![Parent::Mesh],
        http: Vec::new(),
        tcp: Vec::new(),
        any: Some(route),
    })
}
