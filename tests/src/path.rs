//! A long way from client to endpoint, one link of which is narrow.
//!
//! ```text
//! client -0- near -1- next -2- node -3- far -4- last -5- endpoint
//! ```
//!
//! Link n is 10.2.n.0/24 and `2001:db8:3:n::/64`; its end towards the client has number 1 and
//! the interface `right`, the other one number 2 and the interface `left`. Service addresses are
//! routed as far as the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;

use crate::netns::Netns;

/// The node's client-facing interface, and that of each host towards the client.
pub const LEFT: &str = "left";
/// The interface of each host towards the endpoint.
pub const RIGHT: &str = "right";
const NODE: usize = 3;
const HOSTS: usize = 7;

/// Seven namespaces in a row; dropping it takes them down.
#[derive(Debug)]
pub struct Path {
    hosts: Vec<Netns>,
}

/// An address on a link, in the family of `like`.
#[must_use]
pub fn address(link: usize, number: u8, like: IpAddr) -> IpAddr {
    if like.is_ipv4() {
        Ipv4Addr::new(10, 2, link as u8, number).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 3, link as u16, 0, 0, 0, number.into()).into()
    }
}

/// The client's address.
#[must_use]
pub fn client_ip(like: IpAddr) -> IpAddr {
    address(0, 1, like)
}

/// The endpoint's address.
#[must_use]
pub fn endpoint_ip(like: IpAddr) -> IpAddr {
    address(HOSTS - 2, 2, like)
}

const FAMILIES: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)];

impl Path {
    /// Builds everything; packets of more than `mtu` bytes do not fit through that link, and up
    /// to 1500 through the others.
    ///
    /// # Errors
    ///
    /// Needs root and the `ip` program.
    pub fn new(narrow: usize, mtu: u32) -> Result<Self> {
        let hosts = (0..HOSTS).map(|_| Netns::new()).collect::<Result<Vec<_>>>()?;
        for (link, ends) in hosts.windows(2).enumerate() {
            let mtu = if link == narrow { mtu } else { 1500 };
            ends[0].ip(&[format!(
                "link add {RIGHT} mtu {mtu} type veth peer name {LEFT} mtu {mtu} netns {}",
                ends[1].name()
            )])?;
            for (ns, ifname, number) in [(&ends[0], RIGHT, 1), (&ends[1], LEFT, 2)] {
                let [v4, v6] = FAMILIES.map(|family| address(link, number, family));
                ns.ip(&[
                    format!("address add {v4}/24 dev {ifname}"),
                    format!("address add {v6}/64 dev {ifname} nodad"),
                    format!("link set {ifname} up"),
                ])?;
                ns.sysctl(&format!("net/ipv4/conf/{ifname}/rp_filter"), "0")?;
            }
        }
        for (at, host) in hosts.iter().enumerate() {
            if at != 0 && at != HOSTS - 1 {
                host.sysctl("net/ipv4/ip_forward", "1")?;
                host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
            }
            host.ip(&routes(at))?;
        }
        Ok(Self { hosts })
    }

    /// The client's namespace.
    #[must_use]
    pub fn client(&self) -> &Netns {
        &self.hosts[0]
    }

    /// The namespace of the router before the node.
    #[must_use]
    pub fn router(&self) -> &Netns {
        &self.hosts[NODE - 1]
    }

    /// The node's namespace.
    #[must_use]
    pub fn node(&self) -> &Netns {
        &self.hosts[NODE]
    }

    /// The endpoint's namespace.
    #[must_use]
    pub fn endpoint(&self) -> &Netns {
        &self.hosts[HOSTS - 1]
    }
}

/// The `ip` commands that make a host know all links, and where service addresses are.
fn routes(at: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for family in FAMILIES {
        let length = if family.is_ipv4() { 24 } else { 64 };
        for link in 0..HOSTS - 1 {
            let via = match at {
                // Its own links.
                at if link == at || link + 1 == at => continue,
                at if link < at => address(at - 1, 1, family),
                at => address(at, 2, family),
            };
            lines.push(format!("route add {}/{length} via {via}", address(link, 0, family)));
        }
        if at < NODE {
            let services = if family.is_ipv4() { "203.0.113.0/24" } else { "2001:db8:f::/64" };
            lines.push(format!("route add {services} via {}", address(at, 2, family)));
        }
    }
    lines
}
