//! What sees forwarded packets in the node's stack, or might.

use std::fmt;

use crate::nftables::{Family, Objection};

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
    /// A chain of nftables with a hook, whose rules are judged by themselves.
    Chain {
        /// Its family.
        family: Family,
        /// Where, as above.
        point: u32,
        /// Its table and its name.
        name: String,
    },
    /// What of nftables' rules may matter to steered packets.
    Rule(Objection),
    /// A flowtable of nftables.
    Flowtable(String),
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
    /// Whether it matters to forwarded packets, or may.
    pub fn bars(&self) -> bool {
        match self {
            Self::Hook { family, point, function } => {
                family.sees_forwarded(*point) && !is_judged(function)
            }
            Self::Chain { .. } => false,
            Self::NetfilterPrograms(count) => *count > 0,
            Self::IpsecPolicies(count) => *count > 0,
            Self::Rule(_)
            | Self::Flowtable(_)
            | Self::LegacyTable { .. }
            | Self::Ipvs
            | Self::TcProgram { .. } => true,
        }
    }

    /// Whether the stack may keep account of the flows that it sees: connection tracking does so
    /// wherever somebody asks it, at whatever hook.
    pub fn tracks(&self) -> bool {
        match self {
            Self::Hook { .. }
            | Self::Chain { .. }
            | Self::Rule(_)
            | Self::Flowtable(_)
            | Self::LegacyTable { .. }
            | Self::Ipvs => true,
            Self::NetfilterPrograms(count) => *count > 0,
            Self::IpsecPolicies(_) | Self::TcProgram { .. } => false,
        }
    }
}

/// Whether a function at a hook changes no packet by itself: it calls chains of nftables, which are
/// judged, or keeps account of flows for them. Tables of the older iptables that translate are called by
/// the same functions as nftables' chains, and asked for apart.
fn is_judged(function: &str) -> bool {
    const FUNCTIONS: [&str; 14] = [
        "ipv4_confirm",
        "ipv4_conntrack_defrag",
        "ipv4_conntrack_in",
        "ipv6_confirm",
        "ipv6_conntrack_in",
        "ipv6_defrag",
        "nf_confirm",
        "nf_nat_ipv4_in",
        "nf_nat_ipv4_out",
        "nf_nat_ipv4_pre_routing",
        "nf_nat_ipv6_in",
        "nf_nat_ipv6_out",
        "nft_do_chain_inet",
        "nft_do_chain_ipv4",
    ];
    FUNCTIONS.contains(&function) || function == "nft_do_chain_ipv6"
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
            Self::Rule(objection) => write!(f, "nftables has {objection}"),
            Self::Flowtable(name) => write!(f, "nftables has flowtable {name}"),
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
