//! What a global function is told of a packet.

use probe_common::address::Tuple;
use probe_common::parse::Headers;

use crate::family::Family;
use crate::frame::{Frame, Verdict};

const DONE: u64 = 1 << 63;
const LIVE: u64 = 1 << 62;
const OTHER: u64 = 1 << 61;
const FRAGMENT: u64 = 1 << 60;

/// Where in a packet its headers are, in a number that global functions take
/// and return; or that it is dealt with.
#[derive(Clone, Copy)]
pub struct Place(pub u64);

impl Place {
    /// For a packet that is dealt with.
    pub const fn done(verdict: Verdict) -> Self {
        Self(DONE | verdict as u64)
    }

    /// For a packet of another protocol than TCP and UDP.
    pub const fn other() -> Self {
        Self(OTHER)
    }

    /// For a fragment other than the first.
    pub const fn fragment() -> Self {
        Self(FRAGMENT)
    }

    /// The place of these headers; whether the packet's flow is in FLOWS.
    #[inline(always)]
    pub fn of(headers: &Headers, live: bool) -> Self {
        let live = if live { LIVE } else { 0 };
        let plain = (headers.plain as u64) << 48 | (headers.first as u64) << 49;
        let flags = (headers.flags as u64) << 40;
        let protocol = (headers.protocol as u64) << 32;
        Self(live | plain | flags | protocol | (headers.l3 as u64) << 16 | headers.l4 as u64)
    }

    /// What became of the packet, if it is dealt with.
    #[inline(always)]
    pub fn verdict(self) -> Option<Verdict> {
        (self.0 & DONE != 0).then(|| Verdict::of(self.0 as u32))
    }

    /// Whether it is a packet of another protocol.
    #[inline(always)]
    pub fn is_other(self) -> bool {
        self.0 & OTHER != 0
    }

    /// Whether it is a fragment other than the first.
    #[inline(always)]
    pub fn is_fragment(self) -> bool {
        self.0 & FRAGMENT != 0
    }

    /// Whether the packet's flow is in FLOWS.
    #[inline(always)]
    pub fn is_live(self) -> bool {
        self.0 & LIVE != 0
    }

    /// The headers at this place; fills their tuple. None for what has none.
    #[inline(always)]
    pub fn load<A: Family>(self, frame: &impl Frame, tuple: &mut Tuple<A>) -> Option<Headers> {
        let Self(place) = self;
        if place & (OTHER | FRAGMENT) != 0 {
            return None;
        }
        let headers = Headers {
            // Bounds for the verifier.
            l3: (place >> 16) as usize & 0x3f,
            l4: place as usize & 0x3fff,
            protocol: (place >> 32) as u8,
            flags: (place >> 40) as u8,
            plain: place >> 48 & 1 != 0,
            first: place >> 49 & 1 != 0,
        };
        tuple.load(frame, &headers)?;
        Some(headers)
    }
}
