//! What kube-proxy does on a node, as far as it matters beside weir: netfilter's NAT from service
//! addresses to endpoints, drawn by lot.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};

use crate::netns::Netns;

/// How many seconds connections are remembered that have ended, or in which nothing is said.
const FORGET: [(&str, &str); 7] = [
    ("nf_conntrack_tcp_timeout_fin_wait", "1"),
    ("nf_conntrack_tcp_timeout_close_wait", "1"),
    ("nf_conntrack_tcp_timeout_last_ack", "1"),
    ("nf_conntrack_tcp_timeout_time_wait", "1"),
    ("nf_conntrack_tcp_timeout_close", "1"),
    ("nf_conntrack_udp_timeout", "3"),
    ("nf_conntrack_udp_timeout_stream", "3"),
];

/// Has netfilter on the node serve an address, of TCP and UDP, by these endpoints. Connections
/// that have ended are forgotten within seconds.
///
/// # Errors
///
/// Needs `nft`.
pub fn serve(node: &Netns, service: SocketAddr, endpoints: &[SocketAddr]) -> Result<()> {
    let family = if service.is_ipv4() { "ip" } else { "ip6" };
    let (count, mut chains, mut lots) = (endpoints.len(), String::new(), Vec::new());
    for (n, endpoint) in endpoints.iter().enumerate() {
        chains.push_str(&format!(
            "chain endpoint{n} {{ meta l4proto {{ tcp, udp }} dnat to {endpoint}; }}\n"
        ));
        lots.push(format!("{n} : goto endpoint{n}"));
    }
    let (ip, port, lots) = (service.ip(), service.port(), lots.join(", "));
    let rules = format!(
        "table {family} service{port} {{\n\
         {chains}\
         chain prerouting {{ type nat hook prerouting priority dstnat;\n\
         {family} daddr {ip} th dport {port} numgen random mod {count} vmap {{ {lots} }};\n\
         }}\n}}\n"
    );
    let file = tempfile::NamedTempFile::new()?;
    std::fs::write(file.path(), &rules)?;
    let path = file.path().to_str().context("a path in UTF-8")?;
    node.output("nft", &["-f", path]).with_context(|| rules.clone())?;
    for (key, value) in FORGET {
        node.sysctl(&format!("net/netfilter/{key}"), value)?;
    }
    Ok(())
}
