//! Client, node and endpoints, wired up and routed.
//!
//! ```text
//! client eth0 ---- veth-client  node  veth-ep1 ---- eth0 endpoint 1
//! 192.0.2.200      192.0.2.1          10.1.1.1      10.1.1.2
//! 2001:db8:2::200  2001:db8:2::1      2001:db8:1:1::1   2001:db8:1:1::2
//!                                     veth-ep2 ---- eth0 endpoint 2 ...
//! ```
//!
//! The client routes 203.0.113.0/24 and 2001:db8:f::/64, where the service addresses are, to the
//! node. Nobody owns a service address: without weir, packets to it are lost on the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};

use crate::netns::Netns;

/// The node's interface towards the client.
pub const CLIENT_FACING: &str = "veth-client";
/// The interface of the client, and of each endpoint, inside its own namespace.
pub const ETH: &str = "eth0";
/// The client's IPv4 address.
pub const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 200);
/// The client's IPv6 address.
pub const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200);
/// The node's IPv4 address towards the client.
pub const NODE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// The node's IPv6 address towards the client.
pub const NODE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 1);
/// The IPv4 service address.
pub const VIP_V4: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
/// The IPv6 service address.
pub const VIP_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, 0x10);

/// The service addresses of both families.
#[must_use]
pub fn vips() -> [IpAddr; 2] {
    [VIP_V4.into(), VIP_V6.into()]
}

/// The client's address in the family of `like`.
#[must_use]
pub fn client_ip(like: IpAddr) -> IpAddr {
    if like.is_ipv4() { CLIENT_V4.into() } else { CLIENT_V6.into() }
}

/// What to build an endpoint from.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Its name, e.g. `v1-a`: by convention the identity that its servers give.
    pub name: String,
}

impl EndpointSpec {
    /// An endpoint of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned() }
    }
}

/// An endpoint's namespace and addresses.
#[derive(Debug)]
pub struct Endpoint {
    /// The name from its [`EndpointSpec`].
    pub name: String,
    /// Where its servers run.
    pub ns: Netns,
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address.
    pub v6: Ipv6Addr,
    /// The node's interface towards it.
    pub node_ifname: String,
}

impl Endpoint {
    /// Its address in the family of `like`.
    #[must_use]
    pub fn ip(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4.into() } else { self.v6.into() }
    }
}

/// The namespaces of a test, wired up; dropping it takes all of them down.
#[derive(Debug)]
pub struct Topology {
    /// The client's namespace.
    pub client: Netns,
    /// The node's namespace, where weir runs.
    pub node: Netns,
    /// The endpoints, in the order of their specs.
    pub endpoints: Vec<Endpoint>,
}

impl Topology {
    /// Builds everything; addresses can be used as soon as this returns.
    ///
    /// # Errors
    ///
    /// Needs root and the `ip` program; takes at most 250 endpoints.
    pub fn new(endpoints: &[EndpointSpec]) -> Result<Self> {
        ensure!(endpoints.len() <= 250, "too many endpoints: {}", endpoints.len());
        let (client, node) = (Netns::new()?, Netns::new()?);
        node.sysctl("net/ipv4/ip_forward", "1")?;
        node.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        client.sysctl("net/ipv4/ip_local_port_range", "10000 65535")?;
        wire_client(&client, &node)?;
        let endpoints = (1_u8..)
            .zip(endpoints)
            .map(|(n, spec)| {
                let address = |host| {
                    let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, n.into(), 0, 0, 0, host);
                    (Ipv4Addr::new(10, 1, n, host as u8), v6)
                };
                let ((gw4, gw6), (v4, v6)) = (address(1), address(2));
                let node_ifname = format!("veth-ep{n}");
                let ns = Netns::new()?;
                let wiring = wire(&node_ifname, &ns, gw4, gw6);
                ns.ip(&host(v4, v6, &node_ifname, &node, &wiring)?)?;
                ns.ip(&[
                    format!("route add default via {gw4}"),
                    format!("route add default via {gw6}"),
                ])?;
                Ok(Endpoint { name: spec.name.clone(), ns, v4, v6, node_ifname })
            })
            .collect::<Result<_>>()?;
        Ok(Self { client, node, endpoints })
    }

    /// The endpoint of that name.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn endpoint(&self, name: &str) -> &Endpoint {
        let found = self.endpoints.iter().find(|endpoint| endpoint.name == name);
        found.unwrap_or_else(|| panic!("no endpoint {name}"))
    }

    /// The addresses of the endpoints of these names, in the family of `like`.
    ///
    /// # Panics
    ///
    /// If one of them does not exist.
    #[must_use]
    pub fn ips(&self, names: &[&str], like: IpAddr) -> Vec<IpAddr> {
        names.iter().map(|name| self.endpoint(name).ip(like)).collect()
    }

    /// Deletes the pair of interfaces between client and node, and makes another of the same names
    /// and addresses, as when a container is plugged in anew. Sockets live on.
    ///
    /// # Errors
    ///
    /// As [`Topology::new`].
    pub fn replace_client_link(&self) -> Result<()> {
        self.node.ip(&[format!("link del {CLIENT_FACING}")])?;
        wire_client(&self.client, &self.node)
    }

    /// All namespaces: client, node, endpoints.
    pub fn namespaces(&self) -> impl Iterator<Item = &Netns> {
        [&self.client, &self.node].into_iter().chain(self.endpoints.iter().map(|e| &e.ns))
    }
}

/// Wires up client and node.
fn wire_client(client: &Netns, node: &Netns) -> Result<()> {
    let wiring = wire(CLIENT_FACING, client, NODE_V4, NODE_V6);
    client.ip(&host(CLIENT_V4, CLIENT_V6, CLIENT_FACING, node, &wiring)?)?;
    client.ip(&[
        format!("route add 203.0.113.0/24 via {NODE_V4}"),
        format!("route add 10.1.0.0/16 via {NODE_V4}"),
        format!("route add 2001:db8:f::/64 via {NODE_V6}"),
        format!("route add 2001:db8:1::/48 via {NODE_V6}"),
    ])
}

/// The node's `ip` commands that make a veth pair to `peer` and set up the node's end.
fn wire(ifname: &str, peer: &Netns, v4: Ipv4Addr, v6: Ipv6Addr) -> [String; 4] {
    [
        format!("link add {ifname} type veth peer name {ETH} netns {}", peer.name()),
        format!("address add {v4}/24 dev {ifname}"),
        format!("address add {v6}/64 dev {ifname} nodad"),
        format!("link set {ifname} up"),
    ]
}

/// Wires up the node's end, then gives the `ip` commands for the host's end.
fn host(
    v4: Ipv4Addr,
    v6: Ipv6Addr,
    ifname: &str,
    node: &Netns,
    wiring: &[String; 4],
) -> Result<[String; 3]> {
    node.ip(wiring)?;
    node.sysctl(&format!("net/ipv4/conf/{ifname}/rp_filter"), "0")?;
    Ok([
        format!("address add {v4}/24 dev {ETH}"),
        format!("address add {v6}/64 dev {ETH} nodad"),
        format!("link set {ETH} up"),
    ])
}

/// Packets that an interface has received and sent. What is cut into segments later counts as one.
///
/// # Errors
///
/// Needs `ip`.
pub fn packets(ns: &Netns, ifname: &str) -> Result<[u64; 2]> {
    let text = ns.output("ip", &["-j", "-s", "link", "show", ifname])?;
    let found: serde_json::Value = serde_json::from_str(&text)?;
    let count =
        |way: &str| found[0]["stats64"][way]["packets"].as_u64().with_context(|| text.clone());
    Ok([count("rx")?, count("tx")?])
}

/// Turns an interface's offloads (checksums on transmit, TSO, GSO, GRO) on or off.
///
/// With them off, packets leave the interface with complete checksums and in wire-sized segments,
/// as they would through a network card that can do nothing.
///
/// # Errors
///
/// Needs `ethtool`; fails if the interface does not do as it was told.
pub fn set_tx_offload(ns: &Netns, ifname: &str, on: bool) -> Result<()> {
    let state = if on { "on" } else { "off" };
    let args = ["-K", ifname, "tx", state, "tso", state, "gso", state, "gro", state];
    ns.output("ethtool", &args)?;
    let features = ns.output("ethtool", &["-k", ifname])?;
    for feature in ["tx-checksumming", "generic-segmentation-offload"] {
        let line = format!("{feature}: {state}");
        ensure!(features.lines().any(|found| found == line), "{ifname}: not {line}:\n{features}");
    }
    Ok(())
}
