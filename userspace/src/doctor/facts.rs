//! What is known of a node.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use crate::access::Access;
use crate::api::types::{StatsView, StatusView};

/// All that the checks go by. None is what cannot be known.
#[derive(Debug, Clone)]
pub struct Facts {
    /// The agent's configuration: what is wrong with it, if anything is.
    pub config: Result<(), String>,
    /// Its file, also if it is wrong; None for the default one where that is not there.
    pub file: Option<String>,
    /// The network namespace that is looked at: a number of the kernel's, 0 if it is not known.
    pub network_namespace: u64,
    /// Who may use the API, by the configuration.
    pub access: Option<Access>,
    /// Whether the permissions of the API's socket say the same.
    pub access_in_force: Option<bool>,
    /// The agent.
    pub agent: Agent,
    /// The release of the kernel.
    pub release: String,
    /// Where maps are pinned, and whether that is on a bpffs.
    pub bpffs: (String, bool),
    /// `net.core.bpf_jit_enable`; the machine's first network namespace alone has it.
    pub jit: Option<u32>,
    /// `net.ipv4.ip_forward`.
    pub forward_v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub forward_v6: Option<bool>,
    /// Whether the agent answers what comes to a service address and is for no split.
    pub answers: Option<bool>,
    /// The interfaces that match the configuration, or that the agent has.
    pub interfaces: Vec<Interface>,
    /// The names of the links that clients share with other hosts.
    pub links: BTreeSet<String>,
    /// The splits in force, or those of the files if no agent runs.
    pub splits: Vec<Split>,
    /// What the agent has counted; None without one.
    pub stats: Option<StatsView>,
    /// Handshakes that wait for an answer.
    pub waiting: Vec<Waiting>,
    /// What is known of hosts on links of the node.
    pub neighbours: BTreeMap<IpAddr, Neighbour>,
    /// Addresses for which the node answers on links, in place of others.
    pub proxied: BTreeSet<IpAddr>,
    /// Of splits that counted no new flow, how many connections to their addresses are known
    /// otherwise.
    pub elsewhere: BTreeMap<String, u64>,
    /// Rules of a firewall on the node that have dropped packets.
    pub drops: Vec<String>,
    /// The interfaces with programs, by the agent.
    pub carriers: BTreeSet<String>,
    /// Entries of `interfaces` that match none, and whether they are names of interfaces.
    pub unmatched: Vec<(String, bool)>,
}

/// What is known of a host on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Neighbour {
    /// It answers ARP or NDP, or did.
    Answers,
    /// It is asked and does not answer.
    Silent,
}

/// A handshake that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its split.
    pub split: String,
    /// Its subset.
    pub subset: String,
    /// Who waits.
    pub client: SocketAddr,
    /// For whom.
    pub endpoint: SocketAddr,
    /// Where the node would send the answer.
    pub back: NextHop,
}

/// The agent.
#[derive(Debug, Clone)]
pub enum Agent {
    /// It answers.
    Runs(Box<StatusView>),
    /// It does not, and why.
    Silent(String),
    /// Who asks may not know, and why.
    Denied(String),
}

impl Agent {
    /// What it says of itself.
    pub fn status(&self) -> Option<&StatusView> {
        match self {
            Self::Runs(status) => Some(status),
            Self::Silent(_) | Self::Denied(_) => None,
        }
    }
}

/// A client-facing interface.
#[derive(Debug, Clone, Default)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// What made it: "veth", "bridge" ... None for a physical one.
    pub kind: Option<String>,
    /// Whether the forward direction is to be at XDP.
    pub xdp: bool,
    /// How reverse paths are filtered: 0 not, 1 strictly, 2 loosely. The larger
    /// of the interface's own value and that of all.
    pub rp_filter: Option<u32>,
    /// Whether it answers ARP requests for addresses of other links, or NDP for those that are
    /// listed.
    pub proxy_arp: Option<bool>,
    /// Whether it forwards IPv4, of its own.
    pub forwards: Option<bool>,
    /// Programs and filters on it that are not weir's.
    pub others: Vec<Filter>,
    /// What its driver does for the stack.
    pub offloads: Option<Offloads>,
}

/// A program or filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// "XDP", "TC ingress" or "TC egress".
    pub hook: &'static str,
    /// Its name, or its kind.
    pub name: String,
}

/// What a driver does for the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offloads {
    /// Received segments are put together (GRO).
    pub gro: bool,
    /// Segments to be sent are cut by the device (TSO).
    pub tso: bool,
    /// Checksums are made by the device.
    pub checksums: bool,
    /// VLAN tags are taken off before XDP sees a frame.
    pub vlans: bool,
}

/// A split.
#[derive(Debug, Clone)]
pub struct Split {
    /// Its name.
    pub name: String,
    /// Its virtual IP address.
    pub address: IpAddr,
    /// Where the node would send a packet to that.
    pub route: NextHop,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// An endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    /// Its subset.
    pub subset: String,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where the node would send a packet to that.
    pub route: NextHop,
}

/// Where the node would send a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// To itself.
    Local,
    /// Out of this interface.
    Via {
        /// Its name.
        interface: String,
        /// To a router there, not to a neighbour.
        gateway: bool,
    },
    /// Nowhere, for this reason.
    None(String),
    /// That cannot be known.
    Unknown,
}
