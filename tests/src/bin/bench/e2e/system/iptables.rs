//! Destination NAT by iptables, a random number for each connection. The program is
//! `iptables-nft`, Debian's default: its rules are translated for the kernel's nftables, with
//! matches and targets of xtables.

use anyhow::{Context as _, Result};
use weir_tests::topology::Topology;

use super::{Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

pub fn statistic(topology: &Topology) -> Result<Installed> {
    let endpoints = endpoints(topology);
    let probability = f64::from(WEIGHTS[0]) / f64::from(WEIGHTS[0] + WEIGHTS[1]);
    let random = format!("-m statistic --mode random --probability {probability}");
    // What the first does not take is the second's.
    for (endpoint, which) in endpoints.iter().zip([random.as_str(), ""]) {
        let (ip, port) = (service().ip(), service().port());
        let line = format!(
            "-t nat -A PREROUTING -d {ip} -p tcp --dport {port} {which} \
             -j DNAT --to-destination {endpoint}:{PORT}"
        );
        let arguments: Vec<&str> = line.split_whitespace().collect();
        topology
            .node
            .output("iptables-nft", &arguments)
            .context("is Debian's package `iptables` installed?")?;
    }
    Ok(Installed::service(()))
}
