//! A network namespace that is plugged into a node as container networks do it.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::Netns;
use crate::topology::ETH;

/// The gateway of all pods, at each interface of a node.
const GATEWAY_V6: &str = "fe80::1";

/// A namespace with addresses of a node's pods; dropping it unplugs it.
///
/// As with kindnet, the node has a route of full length to each, and its own end of the pair
/// bears the gateway's address.
#[derive(Debug)]
pub struct Sandbox {
    /// The namespace.
    pub ns: Netns,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
    /// The node's interface towards it.
    pub node_ifname: String,
}

impl Sandbox {
    /// Makes it.
    pub(super) fn new(
        node: &Netns,
        node_ifname: String,
        (v4, v6): (Ipv4Addr, Ipv6Addr),
        gateway: Ipv4Addr,
    ) -> Result<Self> {
        let ns = Netns::new()?;
        let name = &node_ifname;
        node.ip(&[
            format!("link add {name} type veth peer name {ETH} netns {}", ns.name()),
            format!("address add {gateway}/32 dev {name}"),
            format!("address add {GATEWAY_V6}/64 dev {name} nodad"),
            format!("link set {name} up"),
            format!("route add {v4}/32 dev {name}"),
            format!("route add {v6}/128 dev {name}"),
        ])?;
        ns.ip(&[
            format!("address add {v4}/32 dev {ETH}"),
            format!("address add {v6}/128 dev {ETH} nodad"),
            format!("link set {ETH} up"),
            format!("route add {gateway}/32 dev {ETH} scope link"),
            format!("route add default via {gateway}"),
            format!("route add default via {GATEWAY_V6} dev {ETH}"),
        ])?;
        Ok(Self { ns, v4, v6, node_ifname })
    }
}
