//! Keys and values of the BPF maps.
//!
//! All of these are plain old data of fixed layout; a change of any of them,
//! or of what the numbers mean, is a new [`ABI_VERSION`].

use bytemuck::{Pod, Zeroable};

/// The version of the layout of all maps.
pub const ABI_VERSION: u32 = 1;

/// The most subsets that a split may have.
pub const MAX_SUBSETS: usize = 16;

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
    /// Index of its counters in SUBSET_STATS.
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

/// An endpoint, in ENDPOINTS.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Pod, Zeroable)]
pub struct Endpoint {
    /// See [`crate::address::Address::words`].
    pub address: [u32; 4],
    /// Port, wire order.
    pub port: u16,
    /// Zero.
    pub zero: u16,
}

/// Per-CPU counters of an endpoint, in ENDPOINT_STATS.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct EndpointStats {
    /// New flows.
    pub flows: u64,
    /// Packets from clients.
    pub forward_packets: u64,
    /// Bytes of these, link layer included.
    pub forward_bytes: u64,
    /// Packets to clients.
    pub reply_packets: u64,
    /// Bytes of these, link layer included.
    pub reply_bytes: u64,
}

/// Per-CPU counters of a subset, in SUBSET_STATS.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Pod, Zeroable)]
pub struct SubsetStats {
    /// New flows that were steered to an endpoint of it.
    pub flows: u64,
    /// Packets of new flows that were rejected, since it has no endpoint.
    pub rejected: u64,
}

const _: () = assert!(size_of::<ServiceKey>() == 20);
const _: () = assert!(size_of::<Subset>() == 24);
const _: () = assert!(size_of::<Split>() == 8 + 24 * MAX_SUBSETS);
const _: () = assert!(size_of::<Endpoint>() == 20);

#[cfg(feature = "user")]
mod user {
    use super::*;
    use crate::address::{Tuple, V4, V6};
    use crate::flow::Entry;

    // SAFETY: each of these is bytemuck::Pod, which asks for the same.
    unsafe impl aya::Pod for ServiceKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Split {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Endpoint {}
    // SAFETY: as above.
    unsafe impl aya::Pod for EndpointStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SubsetStats {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<V6> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Entry<V4> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Entry<V6> {}
}
