//! What sees forwarded packets in the node's stack, or might.

use std::fmt;

/// A family of netfilter's, by its number (`NFPROTO_IPV4` ...).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
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
    fn sees_forwarded(self, point: u32) -> bool {
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

/// Something that was found on the node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Obstacle {
    /// A function at a hook, as the kernel's list of hooks has it.
    Hook {
        /// Its family.
        family: Family,
        /// Where: `NF_INET_PRE_ROUTING` and so on.
        point: u32,
        /// The function's name.
        function: String,
    },
    /// A chain of nftables with a hook.
    Chain {
        /// Its family.
        family: Family,
        /// Where, as above.
        point: u32,
        /// Its table and its name.
        name: String,
    },
    /// A table of the older iptables or ip6tables.
    LegacyTable {
        /// [`Family::IPV4`] or [`Family::IPV6`].
        family: Family,
        /// Its name.
        name: String,
    },
    /// BPF programs at netfilter's hooks; in which namespace, the kernel does not say.
    NetfilterPrograms(usize),
    /// Virtual services of IPVS.
    Ipvs,
    /// Policies of IPsec.
    IpsecPolicies(u32),
    /// A TC program behind weir's, which a redirected packet would not meet.
    TcProgram {
        /// The interface's name.
        interface: String,
        /// The program's.
        program: String,
    },
}

impl Obstacle {
    /// Whether forwarded packets would meet it.
    pub fn bars(&self) -> bool {
        match self {
            Self::Hook { family, point, .. } | Self::Chain { family, point, .. } => {
                family.sees_forwarded(*point)
            }
            Self::NetfilterPrograms(count) => *count > 0,
            Self::IpsecPolicies(count) => *count > 0,
            Self::LegacyTable { .. } | Self::Ipvs | Self::TcProgram { .. } => true,
        }
    }
}

fn point_name(family: Family, point: u32) -> String {
    const INET: [&str; 6] = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    const NETDEV: [&str; 2] = ["ingress", "egress"];
    let names: &[&str] = if family == Family::NETDEV { &NETDEV } else { &INET };
    let name = names.get(point as usize);
    name.map_or_else(|| format!("hook {point}"), |&name| name.to_owned())
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook { family, point, function } => {
                write!(f, "netfilter has {function} at {family} {}", point_name(*family, *point))
            }
            Self::Chain { family, point, name } => {
                write!(f, "nftables has chain {name} at {family} {}", point_name(*family, *point))
            }
            Self::LegacyTable { family: Family::IPV6, name } => {
                write!(f, "ip6tables (legacy) has table {name}")
            }
            Self::LegacyTable { name, .. } => write!(f, "iptables (legacy) has table {name}"),
            Self::NetfilterPrograms(count) => {
                write!(f, "{count} BPF programs at netfilter's hooks")
            }
            Self::Ipvs => f.write_str("IPVS has virtual services"),
            Self::IpsecPolicies(count) => write!(f, "{count} IPsec policies"),
            Self::TcProgram { interface, program } => {
                write!(f, "{program} is behind weir on {interface}")
            }
        }
    }
}
