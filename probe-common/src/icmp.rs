//! ICMP and ICMPv6 errors (RFC 792, RFC 4443): what they quote.
//!
//! An error carries the head of the packet that it is about: of IPv4 at least
//! the IP header and eight bytes, of IPv6 as much as fits. Both addresses and
//! both ports are always in it, the checksum of TCP not always.

use crate::address::{V4, V6};
use crate::parse::{Bytes, Headers, Parse, TCP, UDP, V4Header, V6Header};

/// ICMP, as protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6, as protocol number.
pub const ICMPV6: u8 = 58;
/// Bytes of an ICMP header; the quoted packet is behind it.
const HEADER: usize = 8;
/// Bytes of the TCP or UDP header that are quoted at least.
const LEAST: usize = 8;

/// Where things are in an error about a TCP or UDP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the ICMP header.
    pub icmp: usize,
    /// Where the IP packet ends; the frame may go on with padding.
    pub end: usize,
    /// The headers of the quoted packet. Only the first eight bytes of its TCP
    /// or UDP header are known to be there, and its flags are not.
    pub inner: Headers,
}

/// A family whose errors can be parsed.
pub trait Errors: Parse {
    /// Whether the addresses of the IP header are in the checksum of the error.
    const PSEUDO: bool;

    /// Where an IP packet has its ICMP header, and where it ends; None if it is
    /// no error.
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)>;

    /// Where the quoted IP packet at `l3` has its TCP or UDP header, and which;
    /// None if it has none, or is a fragment other than the first.
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, u8)>;
}

impl Quote {
    /// What the IP packet at `l3` quotes; None if it is no error about a TCP or
    /// UDP packet.
    #[inline(always)]
    pub fn find<A: Errors>(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<Self> {
        let (icmp, end) = A::error(frame, l3)?;
        let inner = icmp + HEADER;
        let (l4, protocol) = A::quoted(frame, inner)?;
        if (protocol != TCP && protocol != UDP) || l4 + LEAST > end {
            return None;
        }
        let inner = Headers { l3: inner, l4, protocol, flags: 0, plain: false, first: false };
        Some(Self { l3, icmp, end, inner })
    }

    /// Offset of the checksum of the quoted TCP or UDP header, if it was quoted.
    #[inline(always)]
    pub fn checksum(&self) -> Option<usize> {
        let offset = self.inner.l4 + if self.inner.protocol == UDP { 6 } else { 16 };
        (offset + 2 <= self.end).then_some(offset)
    }
}

impl Errors for V4 {
    const PSEUDO: bool = false;

    #[inline(always)]
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let (icmp, protocol, total) = v4(frame, l3)?;
        let [kind, _]: [u8; 2] = frame.load(icmp)?;
        // Unreachable, time exceeded, parameter problem. Not source quench (RFC 6633), and not
        // redirect, which is for the next hop alone.
        let is_error = protocol == ICMP && matches!(kind, 3 | 11 | 12);
        is_error.then_some((icmp, l3 + total))
    }

    #[inline(always)]
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, u8)> {
        let (l4, protocol, _) = v4(frame, l3)?;
        Some((l4, protocol))
    }
}

/// Where the payload of an IPv4 packet is, its protocol, and the length of the packet.
#[inline(always)]
fn v4(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, u8, usize)> {
    let ip: V4Header = frame.load(l3)?;
    let header = (ip.version as usize & 15) * 4;
    if ip.version >> 4 != 4 || header < 20 || u16::from_be(ip.fragment) & 0x1fff != 0 {
        return None;
    }
    Some((l3 + header, ip.protocol, u16::from_be(ip.total) as usize))
}

impl Errors for V6 {
    const PSEUDO: bool = true;

    /// An error behind extension headers is not looked at: nobody sends those.
    #[inline(always)]
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let ip: V6Header = frame.load(l3)?;
        let icmp = l3 + 40;
        let [kind, _]: [u8; 2] = frame.load(icmp)?;
        // Unreachable, too big, time exceeded, parameter problem.
        let is_error = ip.version >> 4 == 6 && ip.next == ICMPV6 && matches!(kind, 1..=4);
        is_error.then_some((icmp, icmp + u16::from_be(ip.payload) as usize))
    }

    #[inline(always)]
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, u8)> {
        let ip: V6Header = frame.load(l3)?;
        if ip.version >> 4 != 6 {
            return None;
        }
        let l4 = l3 + 40;
        if ip.next == TCP || ip.next == UDP {
            return Some((l4, ip.next));
        }
        let walked = frame.extensions(l4, ip.next).ok()?;
        Some((walked.l4, walked.protocol))
    }
}
