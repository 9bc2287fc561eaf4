//! The bitmap that turns away packets which are no business of weir.
//!
//! Most packets on an interface are addressed to no split. One word of an
//! array, chosen by the address, has a bit for the port; a clear bit is the
//! answer for the price of an array lookup. A set bit proves nothing.
//!
//! Ports that agree in their low six bits share a bit: the port that a hairpin
//! flow is given (see [`same_bit`]) is found by its service's bit.

use crate::address::Address;
use crate::hash::mix;

/// Words (u64) in the bitmap; a power of two.
pub const WORDS: u32 = 16384;

/// The word of an address, and the bit of the port in it.
#[inline(always)]
pub fn position<A: Address>(address: A, port: u16) -> (u32, u64) {
    let hash = mix(address.fold() as u64);
    let bit = ((hash >> 40) ^ u16::from_be(port) as u64) & 63;
    (hash as u32 & (WORDS - 1), 1 << bit)
}

/// `port` changed, in the low six bits, to share a filter bit with `service`.
/// Both and the result in wire order; `attempt` gives other candidates.
#[inline(always)]
pub fn same_bit(port: u16, service: u16, attempt: u16) -> u16 {
    let (port, service) = (u16::from_be(port), u16::from_be(service));
    let high = (port >> 6).wrapping_add(attempt.wrapping_mul(37)) | 16;
    ((high << 6) | (service & 63)).to_be()
}
