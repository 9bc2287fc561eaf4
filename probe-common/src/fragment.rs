//! Fragments of IP packets: which of them belong together.
//!
//! Only the first has ports. What was made of its addresses is remembered for a
//! moment, under what all fragments of a packet have in common.

use crate::address::{Address, V4, V6};
use crate::parse::{Bytes, Headers, Parse, V4Header, V6Header};

/// Ticks after which what was remembered no longer counts. The fragments of a
/// packet are sent at once, and the numbers of packets come back: with 16 bits
/// of IPv4, after 65,536 packets between two hosts (RFC 4963).
pub const LIFETIME: u32 = 4;

/// IPv6 fragment header, as protocol number.
const FRAGMENT: u8 = 44;

/// What the fragments of a packet have in common: RFC 791 (section 2.3), RFC
/// 8200 (section 4.5).
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentKey<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Identification, as on the wire.
    pub id: u32,
    /// Protocol number of IPv4; 0 of IPv6, where it does not count.
    pub protocol: u32,
}

/// What was made of the first fragment of a packet.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment<A> {
    /// [`FragmentKey::tag`] of the key; see [`crate::flow::Entry::tag`].
    pub tag: u32,
    /// Tick of the first fragment.
    pub seen: u32,
    /// Which endpoint it counts for.
    pub endpoint: u32,
    /// See [`crate::flow::Entry::direction`].
    pub direction: u8,
    /// Zero.
    pub zero: u8,
    /// See [`crate::flow::Entry::address_delta`].
    pub address_delta: u16,
    /// See [`crate::flow::Entry::address`].
    pub address: A,
}

const _: () = assert!(size_of::<FragmentKey<V4>>() == 16);
const _: () = assert!(size_of::<FragmentKey<V6>>() == 40);
const _: () = assert!(size_of::<Fragment<V4>>() == 20);
const _: () = assert!(size_of::<Fragment<V6>>() == 32);

impl<A: Address> FragmentKey<A> {
    /// Tells torn or foreign values from the one looked for.
    #[inline(always)]
    pub fn tag(&self) -> u32 {
        self.src.fold() ^ self.dst.fold().rotate_left(13) ^ self.id ^ self.protocol << 16
    }
}

/// A family whose fragments can be told.
pub trait Fragments: Parse {
    /// The key of a packet of which this is the first fragment.
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        ends: [Self; 2],
    ) -> Option<FragmentKey<Self>>;

    /// The key of a packet of which this, with its IP header at `l3`, is another
    /// fragment.
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>>;
}

impl Fragments for V4 {
    #[inline(always)]
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        [src, dst]: [Self; 2],
    ) -> Option<FragmentKey<Self>> {
        let id: u16 = frame.load(headers.l3 + 4)?;
        Some(FragmentKey { src, dst, id: id as u32, protocol: headers.protocol as u32 })
    }

    #[inline(always)]
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>> {
        let ip: V4Header = frame.load(l3)?;
        let [src, dst] = ip.addresses.map(Self);
        Some(FragmentKey { src, dst, id: ip.id as u32, protocol: ip.protocol as u32 })
    }
}

impl Fragments for V6 {
    /// The fragment header is the last one before the TCP or UDP header: see
    /// [`Headers::first`].
    #[inline(always)]
    fn first(
        frame: &(impl Bytes + ?Sized),
        headers: &Headers,
        [src, dst]: [Self; 2],
    ) -> Option<FragmentKey<Self>> {
        // The bound is for the verifier.
        let id: u32 = frame.load(headers.l4.wrapping_sub(4) & 0x3fff)?;
        Some(FragmentKey { src, dst, id, protocol: 0 })
    }

    /// Only where the fragment header is the first extension header.
    #[inline(always)]
    fn later(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<FragmentKey<Self>> {
        let ip: V6Header = frame.load(l3)?;
        if ip.next != FRAGMENT {
            return None;
        }
        let [a, b, c, d] = ip.addresses;
        let id: u32 = frame.load(l3 + 44)?;
        Some(FragmentKey { src: Self([a, b]), dst: Self([c, d]), id, protocol: 0 })
    }
}
