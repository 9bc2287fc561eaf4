//! Destination NAT by nftables, which follows connections (conntrack).

use anyhow::Result;
use weir_tests::topology::Topology;

use super::{Installed, WEIGHTS, endpoints, service};

/// Each connection by a random number.
pub fn numgen(topology: &Topology) -> Result<Installed> {
    install(topology, "numgen random")
}

/// Each connection by a hash of the client's address and port.
pub fn jhash(topology: &Topology) -> Result<Installed> {
    install(topology, "jhash ip saddr . tcp sport")
}

fn install(topology: &Topology, number: &str) -> Result<Installed> {
    let endpoints = endpoints(topology);
    let [v1, v3] = [endpoints[0], endpoints[1]];
    let (first, all) = (WEIGHTS[0], WEIGHTS[0] + WEIGHTS[1]);
    let (ip, port) = (service().ip(), service().port());
    let map = format!("{{ 0-{} : {v1}, {first}-{} : {v3} }}", first - 1, all - 1);
    let rules = format!(
        "table ip bench {{\n\
         chain prerouting {{\n\
         type nat hook prerouting priority dstnat\n\
         ip daddr {ip} tcp dport {port} dnat to {number} mod {all} map {map}\n\
         }}\n\
         }}"
    );
    topology.node.output("nft", &[&rules])?;
    Ok(Installed::service(()))
}
