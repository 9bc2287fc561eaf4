//! Entries of the flow tables.
//!
//! A flow has two: one for each direction, keyed by the tuple as it stands on
//! the wire before weir rewrites it. The value says what the tuple becomes.
//! The key of the other entry is always `to.reversed()`.

use bytemuck::{Pod, Zeroable};

use crate::address::{Address, Tuple, V4, V6};
use crate::checksum::fold;

/// A packet other than the SYN was seen from the client.
pub const ESTABLISHED: u8 = 1;
/// A FIN was seen from the client.
pub const FIN_CLIENT: u8 = 2;
/// A FIN was seen from the endpoint.
pub const FIN_ENDPOINT: u8 = 4;
/// A RST was seen.
pub const RESET: u8 = 8;
/// Any of these and a SYN starts a new flow.
pub const CLOSING: u8 = FIN_CLIENT | FIN_ENDPOINT | RESET;

/// From client to endpoint; found at ingress.
pub const FORWARD: u8 = 0;
/// From endpoint to client; found at egress.
pub const REPLY: u8 = 1;
/// As REPLY, of a flow whose client is the endpoint itself; found at ingress.
pub const REPLY_HAIRPIN: u8 = 2;

/// Value of a flow table.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<A> {
    /// [`Tuple::tag`] of the key. A preallocated table reuses an entry at once,
    /// also under a reader's hands; a reader that finds the wrong tag after it
    /// copied the value knows that. First field, since the kernel fills values
    /// from the front.
    pub tag: u32,
    /// Tick of the last packet (see `ticks` in user space).
    pub seen: u32,
    /// Which endpoint it counts for.
    pub endpoint: u32,
    /// [`ESTABLISHED`] and the like.
    pub state: u8,
    /// [`FORWARD`], [`REPLY`] or [`REPLY_HAIRPIN`].
    pub direction: u8,
    /// Checksum delta of the addresses (IPv4 header; TCP and UDP pseudo-header).
    pub address_delta: u16,
    /// Checksum delta of the ports.
    pub port_delta: u16,
    /// Zero.
    pub zero: u16,
    /// What the tuple becomes.
    pub to: Tuple<A>,
}

const _: () = assert!(size_of::<Entry<V4>>() == 36);
const _: () = assert!(size_of::<Entry<V6>>() == 60);

impl<A: Address> Entry<A> {
    /// An entry for `key`, with the deltas that its rewrite makes.
    #[inline(always)]
    pub fn new(
        key: &Tuple<A>,
        to: Tuple<A>,
        endpoint: u32,
        direction: u8,
        state: u8,
        now: u32,
    ) -> Self {
        let addresses = to.src.sum() + to.dst.sum() + key.src.sum_not() + key.dst.sum_not();
        let ports = to.sport as u64 + to.dport as u64 + !key.sport as u64 + !key.dport as u64;
        Self {
            tag: key.tag(),
            seen: now,
            endpoint,
            state,
            direction,
            address_delta: fold(addresses),
            port_delta: fold(ports),
            zero: 0,
            to,
        }
    }
}

// SAFETY: repr(C), every field is Pod, and the asserts above exclude padding.
unsafe impl Zeroable for Entry<V4> {}
// SAFETY: as above.
unsafe impl Zeroable for Entry<V6> {}
// SAFETY: as above.
unsafe impl Pod for Entry<V4> {}
// SAFETY: as above.
unsafe impl Pod for Entry<V6> {}
