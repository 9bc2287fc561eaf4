//! What weir does to a packet, as a specification: a model that is simple rather than fast, and
//! shares no code with the programs.
//!
//! Written from the project's documents and the RFCs (791, 793/9293, 768, 792, 4443, 8200, 1624);
//! addresses are those of `std`, tables are `HashMap`s, checksums are numbers modulo 65,535.
//! Only which endpoint a new flow gets is not computed anew: that is what `weir::explain` is for.
//!
//! * [`sight`]: what a frame is;
//! * [`tcp`]: the life of a TCP connection, as far as it matters who a SYN is for;
//! * [`flows`]: which flows there are;
//! * [`quote`]: what an ICMP error is about;
//! * [`fate`]: what can become of a packet;
//! * [`decide`]: what does become of it ([`Model::decide`]);
//! * [`render`]: what comes out ([`Fate::render`]).

pub mod decide;
pub mod fate;
pub mod flows;
pub mod quote;
pub mod render;
pub mod sight;
pub mod tcp;

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

pub use fate::{About, Fate, Rejection};
pub use flows::{Flow, Flows, Key};
pub use render::{Outcome, looks_partial};
use sight::Packet;
use weir::model::Split;

/// The reasons that the model counts.
pub const COUNTED: &[&str] = &[
    "pass_no_flow_reset",
    "reject_no_endpoint",
    "reject_endpoint_gone",
    "reject_silent",
    "reject_no_port",
    "flow_adopted",
    "icmp_translated",
    "drop_redirect",
    "answer_other",
];

/// Where a packet is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// On its way in, from a client.
    Ingress,
    /// On its way out, to a client.
    Egress,
}

/// All that is known of a node.
#[derive(Debug, Clone, Default)]
pub struct Model {
    hash_seed: u64,
    /// The MAC addresses of the node's interface.
    macs: [[u8; 6]; 2],
    splits: HashMap<(u8, SocketAddr), Split>,
    /// Endpoints that were removed, with their service's address.
    removed: HashMap<(u8, SocketAddr, SocketAddr), Removed>,
    /// Whether what comes to a service's address and is for no split is answered.
    answers: bool,
    flows: Flows,
    /// What connection tracking translated before the service was weir's.
    foreign: HashSet<Key>,
    fragments: HashMap<Siblings, Follow>,
    /// By what the fragments of a packet have in common when they left: what the way back is.
    turned: HashMap<Siblings, Follow>,
    counts: HashMap<&'static str, u64>,
}

/// How long ago an endpoint was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Removed {
    /// Its flows go on, new ones avoid it.
    Draining,
    /// Its drain time is over.
    Gone,
}

/// All endpoints of a split.
fn endpoints(split: Option<&Split>) -> impl Iterator<Item = SocketAddr> {
    let subsets = split.into_iter().flat_map(Split::subsets);
    subsets.flat_map(|subset| subset.endpoints.iter().copied())
}

/// What the fragments of a packet have in common.
type Siblings = (IpAddr, IpAddr, u32, u8);

/// What becomes of the fragments that come after their first one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Follow {
    side: Side,
    source: IpAddr,
    destination: IpAddr,
}

impl Model {
    /// A node without splits, whose interface has these MAC addresses.
    #[must_use]
    pub fn new(hash_seed: u64, macs: [[u8; 6]; 2]) -> Self {
        Self { hash_seed, macs, ..Self::default() }
    }

    /// From now on, what comes to a service's address and is for no split is answered.
    pub fn answer_others(&mut self) {
        self.answers = true;
    }

    /// Packets from that client to that service are of a connection that something else translates
    /// since before.
    pub fn know_foreign(&mut self, protocol: u8, client: SocketAddr, service: SocketAddr) {
        self.foreign.insert(Key { protocol, source: client, destination: service });
    }

    /// Puts a split in force. The endpoints that it had before drain.
    pub fn publish(&mut self, split: &Split) {
        let address = split.address();
        let key @ (protocol, service) = (address.protocol.number(), address.socket());
        let old = self.splits.insert(key, split.clone());
        for endpoint in endpoints(old.as_ref()) {
            self.removed.entry((protocol, service, endpoint)).or_insert(Removed::Draining);
        }
        for endpoint in endpoints(Some(split)) {
            self.removed.remove(&(protocol, service, endpoint));
        }
    }

    /// The drain time of an endpoint of a split is over, or begins anew.
    pub fn set_gone(&mut self, split: &Split, endpoint: SocketAddr, gone: bool) {
        let address = split.address();
        let key = (address.protocol.number(), address.socket(), endpoint);
        self.removed.insert(key, if gone { Removed::Gone } else { Removed::Draining });
    }

    /// Forgets all flows and fragments, and what was counted.
    pub fn forget(&mut self) {
        self.counts.clear();
        self.foreign.clear();
        self.flows = Flows::default();
        self.fragments.clear();
        self.turned.clear();
    }

    /// How often a reason was counted, by its name in the metrics; one of [`COUNTED`].
    #[must_use]
    pub fn counted(&self, reason: &str) -> u64 {
        self.counts.get(reason).copied().unwrap_or(0)
    }

    fn count(&mut self, reason: &'static str) {
        *self.counts.entry(reason).or_default() += 1;
    }

    fn remember(&mut self, packet: &Packet, follow: Follow) {
        let Some(key @ (source, destination, id, protocol)) = siblings(packet) else { return };
        // Both directions of a flow from an endpoint to itself come from outside.
        let hairpin = follow.destination == source;
        let back =
            if follow.side == Side::Ingress && !hairpin { Side::Egress } else { Side::Ingress };
        let left = (follow.source, follow.destination, id, protocol);
        self.turned.insert(left, Follow { side: back, source, destination });
        self.fragments.insert(key, follow);
    }
}

fn siblings(packet: &Packet) -> Option<Siblings> {
    // RFC 791 has the protocol among what fragments have in common, RFC 8200 not.
    let protocol = if packet.source.is_ipv4() { packet.protocol } else { 0 };
    Some((packet.source, packet.destination, packet.fragment?.id, protocol))
}
