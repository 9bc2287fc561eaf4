//! ICMP and ICMPv6 errors (RFC 792, RFC 4443): what they quote.
//!
//! An error carries the head of the packet that it is about: of IPv4 at least
//! the IP header and eight bytes, of IPv6 as much as fits. Both addresses and
//! both ports are always in it, the checksum of TCP not always.

use crate::address::{V4, V6};
use crate::parse::{Bytes, Headers, Parse, TCP, UDP, V4Header, V6Header};
use crate::reason::Reason;

/// ICMP, as protocol number.
pub const ICMP: u8 = 1;
/// ICMPv6, as protocol number.
pub const ICMPV6: u8 = 58;
/// Bytes of an ICMP header; the quoted packet is behind it.
const HEADER: usize = 8;
/// Bytes of the TCP or UDP header that are quoted at least.
const LEAST: usize = 8;

/// The most options of a redirect before the one that quotes.
const MAX_NDP_OPTIONS: usize = 4;

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
    /// The quoted packet is a fragment other than the first: it has neither TCP
    /// nor UDP header, and of `inner` only the offset of its IP header counts.
    pub later: bool,
}

/// Where a quoted packet has its TCP or UDP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Offset of that header; of a fragment other than the first, of its data.
    pub l4: usize,
    /// Protocol number, of TCP and UDP or of others.
    pub protocol: u8,
    /// See [`Quote::later`].
    pub later: bool,
}

/// A family whose errors can be parsed.
pub trait Errors: Parse {
    /// Whether the addresses of the IP header are in the checksum of the error.
    const PSEUDO: bool;

    /// Where an IP packet has its ICMP header, and where it ends; None if it is
    /// no error.
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)>;

    /// Whether an error of that type and code says that the packet does not get where it was sent,
    /// of whatever size it is.
    fn is_unreachable(kind: u8, code: u8) -> bool;

    /// Whether an IP packet is a redirect: a shorter way for its receiver.
    fn is_redirect(frame: &(impl Bytes + ?Sized), l3: usize) -> bool;

    /// Where the packet begins that a redirect quotes.
    fn redirected(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<usize>;

    /// What an echo reply has where its request has another word: type and code.
    const ECHO_REPLY: u16;

    /// Where an IP packet has its ICMP header, and where it ends; None if it is
    /// no echo request, or has IP options, extension headers or is a fragment.
    fn echo(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)>;

    /// Where the quoted IP packet at `l3` has its TCP or UDP header; None if it
    /// cannot be parsed.
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<Quoted>;
}

impl Quote {
    /// What the IP packet at `l3` quotes; None if it is no error about a TCP or
    /// UDP packet.
    #[inline(always)]
    pub fn find<A: Errors>(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<Self> {
        let (icmp, end) = A::error(frame, l3)?;
        let inner = icmp + HEADER;
        let Quoted { l4, protocol, later } = A::quoted(frame, inner)?;
        let least = if later { 0 } else { LEAST };
        if (!later && protocol != TCP && protocol != UDP) || l4 + least > end {
            return None;
        }
        let inner = Headers { l3: inner, l4, protocol, flags: 0, plain: false, first: false };
        Some(Self { l3, icmp, end, inner, later })
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
    const ECHO_REPLY: u16 = word(0);

    #[inline(always)]
    fn echo(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let (icmp, ip) = v4(frame, l3)?;
        // All but "don't fragment".
        let fragment = u16::from_be(ip.fragment) & 0x3fff != 0;
        let plain = ip.protocol == ICMP && icmp == l3 + 20 && !fragment;
        let request = plain && frame.load::<u16>(icmp)? == word(8);
        request.then_some((icmp, l3 + u16::from_be(ip.total) as usize))
    }

    #[inline(always)]
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let (icmp, ip) = v4(frame, l3)?;
        let [kind, _]: [u8; 2] = frame.load(icmp)?;
        // Unreachable, time exceeded, parameter problem. Not source quench (RFC 6633), and not
        // redirect, which is for the next hop alone.
        let is_error = ip.protocol == ICMP && !is_later(&ip) && matches!(kind, 3 | 11 | 12);
        is_error.then_some((icmp, l3 + u16::from_be(ip.total) as usize))
    }

    #[inline(always)]
    fn is_unreachable(kind: u8, code: u8) -> bool {
        // Destination unreachable, but not "fragmentation needed"; time exceeded.
        (kind == 3 && code != 4) || kind == 11
    }

    #[inline(always)]
    fn is_redirect(frame: &(impl Bytes + ?Sized), l3: usize) -> bool {
        let Some((icmp, ip)) = v4(frame, l3) else { return false };
        let Some([kind, ..]) = frame.load::<[u8; HEADER]>(icmp) else { return false };
        let whole = icmp + HEADER <= l3 + u16::from_be(ip.total) as usize;
        ip.protocol == ICMP && !is_later(&ip) && whole && kind == 5
    }

    #[inline(always)]
    fn redirected(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<usize> {
        v4(frame, l3).map(|(icmp, _)| icmp + HEADER)
    }

    #[inline(always)]
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<Quoted> {
        let (l4, ip) = v4(frame, l3)?;
        Some(Quoted { l4, protocol: ip.protocol, later: is_later(&ip) })
    }
}

/// Type and code of an ICMP header, as a word of the packet.
const fn word(kind: u8) -> u16 {
    u16::from_ne_bytes([kind, 0])
}

/// The header of an IPv4 packet, and the offset of its payload.
#[inline(always)]
fn v4(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, V4Header)> {
    let ip: V4Header = frame.load(l3)?;
    let header = (ip.version as usize & 15) * 4;
    (ip.version >> 4 == 4 && header >= 20).then_some((l3 + header, ip))
}

/// Whether it is a fragment other than the first.
#[inline(always)]
fn is_later(ip: &V4Header) -> bool {
    u16::from_be(ip.fragment) & 0x1fff != 0
}

impl Errors for V6 {
    const PSEUDO: bool = true;
    const ECHO_REPLY: u16 = word(129);

    #[inline(always)]
    fn echo(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let (icmp, ip) = v6(frame, l3)?;
        let request = ip.next == ICMPV6 && frame.load::<u16>(icmp)? == word(128);
        request.then_some((icmp, l3 + 40 + u16::from_be(ip.payload) as usize))
    }

    #[inline(always)]
    fn error(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, usize)> {
        let (mut icmp, ip) = v6(frame, l3)?;
        let mut protocol = ip.next;
        if protocol != ICMPV6 {
            let walked = frame.extensions(icmp, ip.next).ok()?;
            (icmp, protocol) = (walked.l4, walked.protocol);
        }
        let [kind, _]: [u8; 2] = frame.load(icmp)?;
        // Unreachable, too big, time exceeded, parameter problem.
        let is_error = protocol == ICMPV6 && matches!(kind, 1..=4);
        is_error.then_some((icmp, l3 + 40 + u16::from_be(ip.payload) as usize))
    }

    /// Without extension headers, as nodes send them.
    #[inline(always)]
    fn is_unreachable(kind: u8, _code: u8) -> bool {
        // Destination unreachable; time exceeded. "Packet too big" is a type of its own.
        matches!(kind, 1 | 3)
    }

    #[inline(always)]
    fn is_redirect(frame: &(impl Bytes + ?Sized), l3: usize) -> bool {
        let Some((icmp, ip)) = v6(frame, l3) else { return false };
        let Some([kind, ..]) = frame.load::<[u8; HEADER]>(icmp) else { return false };
        let whole = u16::from_be(ip.payload) as usize >= HEADER;
        ip.next == ICMPV6 && whole && kind == 137
    }

    /// In an option (RFC 4861, section 4.6.3), behind other ones.
    #[inline(always)]
    fn redirected(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<usize> {
        const OPTIONS: usize = HEADER + 2 * 16;
        const REDIRECTED_HEADER: u8 = 4;
        let mut at = l3 + 40 + OPTIONS;
        for _ in 0..MAX_NDP_OPTIONS {
            let [kind, units]: [u8; 2] = frame.load(at)?;
            if kind == REDIRECTED_HEADER {
                return Some(at + 8);
            }
            if units == 0 {
                return None;
            }
            at += units as usize * 8;
        }
        None
    }

    #[inline(always)]
    fn quoted(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<Quoted> {
        let (l4, ip) = v6(frame, l3)?;
        if ip.next == TCP || ip.next == UDP {
            return Some(Quoted { l4, protocol: ip.next, later: false });
        }
        match frame.extensions(l4, ip.next) {
            Ok(walked) => Some(Quoted { l4: walked.l4, protocol: walked.protocol, later: false }),
            // A fragment header is one of eight bytes.
            Err(Reason::PassFragment) => Some(Quoted { l4: l4 + 8, protocol: 0, later: true }),
            Err(_) => None,
        }
    }
}

/// The header of an IPv6 packet, and the offset of what is behind it.
#[inline(always)]
fn v6(frame: &(impl Bytes + ?Sized), l3: usize) -> Option<(usize, V6Header)> {
    let ip: V6Header = frame.load(l3)?;
    (ip.version >> 4 == 6).then_some((l3 + 40, ip))
}
