//! What sees forwarded packets in the node's stack, or might.

use std::fmt;

use crate::nftables::Family;

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

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hook { family, point, function } => {
                write!(f, "netfilter has {function} at {family} {}", family.point_name(*point))
            }
            Self::Chain { family, point, name } => {
                write!(f, "nftables has chain {name} at {family} {}", family.point_name(*point))
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
