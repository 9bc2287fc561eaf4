//! What a global function is told of a packet.

use probe_common::address::Tuple;
use probe_common::parse::{self, Headers, RST, SYN, TCP};

use super::family::Family;
use super::hook::Hook;
use super::verdict::Verdict;

const DONE: u64 = 1 << 63;
const LIVE: u64 = 1 << 62;
const JUDGED: u64 = 1 << 61;

/// Where in a packet its headers are, in a number that global functions take
/// and return; or that it is dealt with.
#[derive(Clone, Copy)]
pub struct HeaderOffsets(pub u64);

impl HeaderOffsets {
    /// For a packet that is dealt with.
    pub const fn done(verdict: Verdict) -> Self {
        Self(DONE | verdict as u64)
    }

    /// The place of these headers.
    #[inline(always)]
    pub fn of(headers: &Headers) -> Self {
        let plain = (headers.plain as u64) << 48 | (headers.first as u64) << 49;
        let flags = (headers.flags as u64) << 40;
        let protocol = (headers.protocol as u64) << 32;
        Self(plain | flags | protocol | (headers.l3 as u64) << 16 | headers.l4 as u64)
    }

    /// The same place, of a packet whose flow is in FLOWS.
    #[inline(always)]
    pub fn live(self) -> Self {
        Self(self.0 | LIVE)
    }

    /// What became of the packet, if it is dealt with.
    #[inline(always)]
    pub fn verdict(self) -> Option<Verdict> {
        (self.0 & DONE != 0).then(|| Verdict::of(self.0 as u32))
    }

    /// Whether the packet's flow is in FLOWS.
    #[inline(always)]
    pub fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// Whether a packet of no known flow begins one, rather than being of one
    /// whose beginning was not seen.
    #[inline(always)]
    pub fn begins(self) -> bool {
        let (protocol, flags) = ((self.0 >> 32) as u8, (self.0 >> 40) as u8);
        protocol != TCP || flags & (SYN | RST) == SYN
    }

    /// The same place, of a packet that is of the live flow with its tuple and of no
    /// other one.
    #[inline(always)]
    pub fn judged(self) -> Self {
        Self(self.0 | JUDGED)
    }

    /// See [`HeaderOffsets::judged`].
    #[inline(always)]
    pub fn is_judged(self) -> bool {
        self.0 & JUDGED != 0
    }

    /// Offset of the IP header; with a bound for the verifier, as the next one.
    #[inline(always)]
    fn l3(self) -> usize {
        (self.0 >> 16) as usize & 0x3f
    }

    /// Offset of the TCP or UDP header.
    #[inline(always)]
    fn l4(self) -> usize {
        self.0 as usize & 0x3fff
    }

    /// Source address and port.
    #[inline(always)]
    pub fn source<A: Family>(self, frame: &impl Hook) -> Option<(A, u16)> {
        parse::source(frame, self.l3(), self.l4())
    }

    /// The transport protocol.
    #[inline(always)]
    pub const fn protocol(self) -> u8 {
        (self.0 >> 32) as u8
    }

    /// Destination address and port.
    #[inline(always)]
    pub fn destination<A: Family>(self, frame: &impl Hook) -> Option<(A, u16)> {
        parse::destination(frame, self.l3(), self.l4())
    }

    /// The headers at this place; fills their tuple. None past the end.
    #[inline(always)]
    pub fn load<A: Family>(self, frame: &impl Hook, tuple: &mut Tuple<A>) -> Option<Headers> {
        let Self(place) = self;
        let headers = Headers {
            l3: self.l3(),
            l4: self.l4(),
            protocol: (place >> 32) as u8,
            flags: (place >> 40) as u8,
            plain: place >> 48 & 1 != 0,
            first: place >> 49 & 1 != 0,
        };
        tuple.load(frame, &headers)?;
        Some(headers)
    }
}
