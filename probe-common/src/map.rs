//! Keys and values of the BPF maps.
//!
//! All of these are plain old data of fixed layout; a change of any of them,
//! or of what the numbers mean, is a new [`ABI_VERSION`].

use bytemuck::{Pod, Zeroable};

/// The version of the layout of all maps.
///
/// 8: flows carry the subset that they were steered to, so entries of FLOWS are
/// longer and ENDPOINTS has no subset; subset ids have a generation, which SUBSET_IDS
/// holds; IDENTITIES has fields by name, and an endpoint is known by its service
/// address and its own; ENDPOINTS says which endpoints drain; ADDRESSES is new, and so
/// are FOREIGN, TAKEOVER, the reasons `answer_other` and `pass_foreign`, and [`Meta::network`].
pub const ABI_VERSION: u32 = 8;

/// The most subsets that a split may have.
pub const MAX_SUBSETS: usize = 16;

/// The bits of a subset id that are an index: into SUBSET_STATS and SUBSET_IDS.
/// Those above are its generation. An index is given to another subset while flows
/// of the one before may live on; their ends must not count for the new one.
pub const SUBSET_INDEX: u32 = (1 << 24) - 1;

/// The index of a subset id.
#[inline(always)]
pub const fn subset_index(id: u32) -> u32 {
    id & SUBSET_INDEX
}

/// Endpoint ids in a chunk of the map TABLES.
pub const CHUNK: usize = 128;

/// Key of SERVICES.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct ServiceKey {
    /// VIP; see [`crate::address::Address::words`].
    pub address: [u32; 4],
    /// Port, wire order.
    pub port: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// 4 or 6: keeps an IPv4 address apart from an IPv6 one with the same first word.
    pub family: u8,
}

/// A subset of a split, in SPLITS.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Subset {
    /// From the names of split and subset.
    pub seed: u64,
    /// Share of new flows, relative to the others.
    pub weight: u32,
    /// Slots of its Maglev table: 0 without endpoints, 1 for a single one.
    pub len: u32,
    /// First chunk in TABLES if `len` > 1; the endpoint's id if `len` is 1.
    pub table: u32,
    /// Its id: index of its counters, and generation; see [`SUBSET_INDEX`].
    pub id: u32,
}

/// A version of a split, in SPLITS; two for each split id (see ACTIVE).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Split {
    /// Subsets in use.
    pub count: u32,
    /// 1 for `affinity: ClientIP`.
    pub client_affinity: u32,
    /// The first `count` are valid.
    pub subsets: [Subset; MAX_SUBSETS],
}

/// [`Endpoint::state`]: flows go to it.
pub const ENDPOINT_LIVE: u16 = 0;
/// [`Endpoint::state`]: removed, and its drain time is over. Packets of flows
/// that still carry its id are rejected, until their entries are deleted.
pub const ENDPOINT_GONE: u16 = 1;
/// [`Endpoint::state`]: removed, and its drain time runs. Its flows go on; a SYN on
/// one of them may be the first packet of a flow beside it (see [`crate::flow::CONTESTED`]).
pub const ENDPOINT_DRAINING: u16 = 2;

/// An endpoint of a service address, in ENDPOINTS.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// See [`crate::address::Address::words`].
    pub address: [u32; 4],
    /// Port, wire order.
    pub port: u16,
    /// [`ENDPOINT_LIVE`], [`ENDPOINT_DRAINING`] or [`ENDPOINT_GONE`].
    pub state: u16,
}

macro_rules! counters {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])* $field:ident,)* }) => {
        $(#[$of])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
        pub struct $name { $($(#[$doc])* pub $field: u64,)* }

        impl core::ops::AddAssign<&$name> for $name {
            fn add_assign(&mut self, other: &$name) {
                $(self.$field = self.$field.wrapping_add(other.$field);)*
            }
        }
    };
}

counters! {
    /// Per-CPU counters of an endpoint, in ENDPOINT_STATS.
    EndpointStats {
        /// New flows.
        flows,
        /// Packets from clients.
        forward_packets,
        /// Bytes of these, link layer included.
        forward_bytes,
        /// Packets to clients.
        reply_packets,
        /// Bytes of these, link layer included.
        reply_bytes,
    }
}

counters! {
    /// Per-CPU counters of a subset, in SUBSET_STATS. They change when the
    /// state of a flow does, not with each packet. A flow that is not yet in
    /// `completed` or `refused` was not answered: `flows - completed - refused`.
    SubsetStats {
        /// New flows that were steered to an endpoint of it.
        flows,
        /// Packets of new flows that were rejected, since it has no endpoint.
        rejected,
        /// Flows whose handshake was completed; of UDP, that were answered.
        completed,
        /// Flows whose handshake the endpoint refused with a RST.
        refused,
        /// Completed flows that ended, by a FIN from both sides or by a RST.
        ended,
        /// Sum of the durations of these, in ticks.
        ended_ticks,
    }
}

counters! {
    /// Per-CPU counters of what became of a subset's TCP flows, in SUBSET_SIGNALS, by the index of
    /// a subset id. Each is by a packet that the programs saw; see [`Signal`].
    SubsetSignals {
        /// SYNs of clients that were sent again, before the handshake was complete.
        syn_retransmits,
        /// Flows whose client sent its SYN again, three ticks or more after the first one, and had
        /// no answer by then: once for each flow.
        unanswered,
        /// SYNs of endpoints that were sent again, before the handshake was complete.
        syn_ack_retransmits,
        /// Flows whose client has sent data.
        asked,
        /// Flows whose endpoint has sent data.
        replied,
        /// Completed flows that both sides ended by a FIN.
        ended_by_fin,
        /// Completed flows that the client reset.
        reset_by_client,
        /// Completed flows that the endpoint reset before it had sent any data.
        reset_before_reply,
        /// Completed flows that the endpoint reset after it had sent data, and adopted ones, of
        /// which nobody knows.
        reset_after_reply,
        /// Completed flows that the endpoint reset before any FIN, within ten ticks of their
        /// first packet; these are in one of the two before, too.
        early_resets,
    }
}

counters! {
    /// Per-CPU counters of what ICMP said of a subset's flows, in SUBSET_ERRORS, by the index of
    /// a subset id.
    SubsetErrors {
        /// Flows of whose first packet an ICMP error said that it cannot reach the endpoint, or is
        /// on its way for too long, before anybody had answered: once for each flow.
        unreachable,
    }
}

counters! {
    /// Per-CPU counters of what became of an endpoint's flows, in ENDPOINT_SIGNALS. Each is as the
    /// one of that name in [`SubsetStats`], [`SubsetSignals`] or [`SubsetErrors`].
    EndpointSignals {
        /// Handshakes that were completed; of UDP, flows that were answered.
        completed,
        /// Handshakes that the endpoint refused with a RST.
        refused,
        /// SYNs without an answer for three ticks or more.
        unanswered,
        /// First packets that did not get there.
        unreachable,
        /// Ends by a FIN from both sides.
        ended_by_fin,
        /// Resets by the client.
        reset_by_client,
        /// Resets by the endpoint before it had sent any data.
        reset_before_reply,
        /// Those after that, and of adopted flows.
        reset_after_reply,
    }
}

/// What is counted of a flow: a counter of [`SubsetSignals`], by its place there, or one of
/// another map.
#[repr(u32)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the counters of these names say it")]
pub enum Signal {
    SynRetransmits,
    Unanswered,
    SynAckRetransmits,
    Asked,
    Replied,
    EndedByFin,
    ResetByClient,
    ResetBeforeReply,
    ResetAfterReply,
    EarlyResets,
    /// Of [`SubsetStats`].
    Completed = 16,
    /// Of [`SubsetStats`].
    Refused = 17,
    /// Of [`SubsetErrors`].
    Unreachable = 18,
    /// Of [`SubsetStats`].
    Ended = 19,
}

impl Signal {
    /// How many there are in [`SubsetSignals`].
    pub const COUNT: usize = size_of::<SubsetSignals>() / size_of::<u64>();
}

/// All that is counted of a subset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubsetCounters {
    /// Of its flows.
    pub stats: SubsetStats,
    /// Of what became of them.
    pub signals: SubsetSignals,
    /// Of what ICMP said of them.
    pub errors: SubsetErrors,
}

/// All that is counted of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EndpointCounters {
    /// Of its flows and packets.
    pub stats: EndpointStats,
    /// Of what became of its flows.
    pub signals: EndpointSignals,
}

/// Key of IDENTITIES.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct IdentityKey {
    /// What `id` numbers: [`IDENTITY_SPLIT`] and the like.
    pub kind: u32,
    /// The number: an index into ACTIVE, SUBSET_IDS or ENDPOINTS.
    pub id: u32,
}

/// [`IdentityKey::kind`].
pub const IDENTITY_SPLIT: u32 = 0;
/// [`IdentityKey::kind`].
pub const IDENTITY_SUBSET: u32 = 1;
/// [`IdentityKey::kind`].
pub const IDENTITY_ENDPOINT: u32 = 2;

/// Value of IDENTITIES: what the number stands for, as UTF-8 text, padded with
/// zeros. Written and read by user space alone, so that an agent which finds
/// the maps of another one knows what their numbers mean.
pub type Identity = [u8; 512];

/// In the word of FAST_PATH, which is a time: flows that began in the node's stack stay there, since
/// something in it keeps account of flows (connection tracking).
pub const FAST_PATH_TRACKED: u64 = 1;
/// Words of PEERS, of 64 bits each: bit n is the interface with index n.
/// Interfaces with a higher index have none.
pub const PEER_WORDS: u32 = 1024;

/// Words of DEVICES, one for each interface, by its index. Of interfaces with a
/// higher index, nothing is known, and packets of XDP to or from them are the stack's.
///
/// A word is the interface's MAC address, see [`device_mac`], and flags.
pub const DEVICES: u32 = 1 << 16;
/// The bits of a MAC address.
pub const DEVICE_MAC: u64 = (1 << 48) - 1;
/// Packets that come in here can go on from XDP.
pub const DEVICE_XDP_RX: u64 = 1 << 48;
/// Packets that came in here can leave here.
pub const DEVICE_XDP_TX: u64 = 1 << 49;
/// Packets that came in elsewhere can leave here.
pub const DEVICE_NDO_XMIT: u64 = 1 << 50;
/// Those in several buffers, too.
pub const DEVICE_NDO_XMIT_SG: u64 = 1 << 51;

/// A MAC address as the bits of a word that it has in a frame.
pub const fn device_mac(mac: [u8; 6]) -> u64 {
    let [a, b, c, d, e, f] = mac;
    u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) & DEVICE_MAC
}

/// Values of INTERFACES, one for each interface, by its index. Of interfaces with a
/// higher index, nothing is known.
pub const INTERFACES: u32 = 1 << 16;
/// The most MAC addresses that an interface may have, its own included.
pub const MAX_MACS: usize = 4;

/// What programs know of an interface, in INTERFACES; all zeros if nothing is.
/// It stays as it is without an agent.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Interface {
    /// The MAC addresses, see [`device_mac`], to which a frame is the node's if it comes in
    /// here: the interface's own, that of the bridge or bond which it is a port of, those of
    /// virtual interfaces on top of it. The last one is repeated.
    pub macs: [u64; MAX_MACS],
    /// [`LEAVES_UNSEEN`], [`HAS_UNSEEN_EXIT`], [`TAKES_REPLIES`].
    pub flags: u32,
    /// The least MTU of a route that leads out here and has one of its own; 0 if none has.
    pub route_mtu: u32,
}

/// [`Interface::flags`]: routes may lead out here, and no program at its egress sees replies leave.
pub const LEAVES_UNSEEN: u32 = 1;
/// [`Interface::flags`]: another interface has [`LEAVES_UNSEEN`], so that replies which come in here
/// may leave there.
pub const HAS_UNSEEN_EXIT: u32 = 2;
/// [`Interface::flags`]: a program at its TC ingress deals with replies that come in there.
pub const TAKES_REPLIES: u32 = 4;

/// The most tuples in FOREIGN_V4, and in FOREIGN_V6.
pub const FOREIGN: u32 = 1 << 16;

/// The only value of TAKEOVER: which packets of no known flow may be of connections that
/// something else on the node translates since before weir steered them. All zeros where
/// nothing was ever taken over.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct Takeover {
    /// Until when, in jiffies, all TCP segments of no known flow but SYNs may be. Should nobody
    /// say that it is over, it ends by itself.
    pub until: u64,
    /// Whether there may be tuples in FOREIGN.
    pub tuples: u32,
    /// Zero.
    pub pad: u32,
}

/// [`STAGE_OWN`] and the like are values of STAGE: which generation has the say
/// while two are there. All packets are dealt with by the programs that read it.
pub const STAGE_OWN: u32 = 0;
/// All packets are the other generation's.
pub const STAGE_OTHER: u32 = 1;
/// What is of no flow in the own tables is the other generation's, unless it
/// begins a flow: that begins in the own tables.
pub const STAGE_BEGINS_HERE: u32 = 2;
/// What is of no flow in the own tables is the other generation's.
pub const STAGE_BEGINS_THERE: u32 = 3;

/// What [`Transfer`] asks for: adds numbers to the counters of an endpoint.
pub const TRANSFER_ENDPOINT: u32 = 0;
/// Of a subset.
pub const TRANSFER_SUBSET: u32 = 1;
/// Of a reason.
pub const TRANSFER_REASON: u32 = 2;
/// What became of a subset's flows.
pub const TRANSFER_SIGNALS: u32 = 3;
/// What ICMP said of a subset's flows.
pub const TRANSFER_ERRORS: u32 = 4;
/// What became of an endpoint's flows.
pub const TRANSFER_ENDPOINT_SIGNALS: u32 = 5;

/// What the program `weir_transfer` is given, in place of a packet's payload:
/// numbers to be added to counters which other programs add to at the same time.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Transfer {
    /// [`TRANSFER_ENDPOINT`] and the like.
    pub kind: u32,
    /// Index of the counters.
    pub id: u32,
    /// What is added to each, in order.
    pub numbers: [u64; Signal::COUNT],
}

/// The only value of META: what an agent must know of maps that it finds.
/// Written and read by user space alone.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Meta {
    /// [`ABI_VERSION`] of who made the maps; 0 until they are ready. First, in
    /// every version.
    pub abi_version: u32,
    /// A tick, the unit of time in flow entries, is 2^this jiffies.
    pub tick_shift: u32,
    /// Seed of the flow hash.
    pub hash_seed: u64,
    /// Live flows of each family for which the tables were made.
    pub flows: u32,
    /// New flows of each family.
    pub new_flows: u32,
    /// Splits.
    pub splits: u32,
    /// Endpoints of all splits.
    pub endpoints: u32,
    /// Chunks of Maglev tables.
    pub chunks: u32,
    /// Zero.
    pub pad: u32,
    /// Seed of the sets of new flows.
    pub new_flow_seed: u64,
    /// A sum of the names of all reasons, in order: which of REASONS counts what.
    pub reasons: u32,
    /// Zero, for what later versions add.
    pub zero: u32,
    /// The network namespace that the attachments are in; 0 if it is not known,
    /// as of versions that did not write it.
    pub network: u64,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);
const _: () = assert!(size_of::<Subset>() == 24);
const _: () = assert!(size_of::<Split>() == 8 + 24 * MAX_SUBSETS);
const _: () = assert!(size_of::<Endpoint>() == 20);
const _: () = assert!(size_of::<EndpointStats>() == 40);
const _: () = assert!(size_of::<SubsetStats>() == 48);
const _: () = assert!(size_of::<IdentityKey>() == 8);
const _: () = assert!(size_of::<Transfer>() == 8 + 8 * Signal::COUNT);
const _: () = assert!(size_of::<Meta>() == 64);
const _: () = assert!(size_of::<Interface>() == 8 * MAX_MACS + 8);
const _: () = assert!(size_of::<Takeover>() == 16);

#[cfg(feature = "user")]
mod user {
    use super::*;
    use crate::address::{Tuple, V4, V6};
    use crate::flow::Entry;
    use crate::fragment::{Fragment, FragmentKey};
    use crate::new_flow::{NewFlow, Set};
    use crate::times::SubsetTimes;

    // SAFETY: each of these is bytemuck::Pod, which asks for the same.
    unsafe impl aya::Pod for ServiceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Split {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for IdentityKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Meta {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Interface {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Takeover {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndpointStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SubsetStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SubsetSignals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SubsetErrors {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndpointSignals {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SubsetTimes {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Entry<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Entry<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Set {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NewFlow<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NewFlow<V6> {}
    // SAFETY: repr(C), integers alone, and the asserts of their module exclude padding.
    unsafe impl aya::Pod for FragmentKey<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentKey<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Fragment<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Fragment<V6> {}
}
