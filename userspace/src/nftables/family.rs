//! Families of netfilter's.

use std::fmt;

/// A family of netfilter's, by its number (`NFPROTO_IPV4` ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Family(pub u8);

impl Family {
    /// Both IPv4 and IPv6.
    pub const INET: Self = Self(1);
    /// IPv4.
    pub const IPV4: Self = Self(2);
    /// ARP.
    pub const ARP: Self = Self(3);
    /// Frames on devices.
    pub const NETDEV: Self = Self(5);
    /// Bridges.
    pub const BRIDGE: Self = Self(7);
    /// IPv6.
    pub const IPV6: Self = Self(10);

    /// Whether a hook at `point` of this family sees packets that the node
    /// forwards. Unknown families do, for all that is known.
    pub fn sees_forwarded(self, point: u32) -> bool {
        const LOCAL_IN: u32 = 1;
        const LOCAL_OUT: u32 = 3;
        match self {
            // Prerouting, forward, postrouting; and ingress, of inet.
            Self::INET | Self::IPV4 | Self::IPV6 => ![LOCAL_IN, LOCAL_OUT].contains(&point),
            // A packet that is sent to a bridge passes the bridge's hooks all the same.
            Self::ARP | Self::BRIDGE => false,
            _ => true,
        }
    }

    /// The name of a hook, as nft(8) has it.
    pub fn point_name(self, point: u32) -> String {
        const INET: [&str; 6] =
            ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
        const NETDEV: [&str; 2] = ["ingress", "egress"];
        let names: &[&str] = if self == Self::NETDEV { &NETDEV } else { &INET };
        let name = names.get(point as usize);
        name.map_or_else(|| format!("hook {point}"), |&name| name.to_owned())
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::INET => f.write_str("inet"),
            Self::IPV4 => f.write_str("ip"),
            Self::ARP => f.write_str("arp"),
            Self::NETDEV => f.write_str("netdev"),
            Self::BRIDGE => f.write_str("bridge"),
            Self::IPV6 => f.write_str("ip6"),
            Self(number) => write!(f, "family {number}"),
        }
    }
}
