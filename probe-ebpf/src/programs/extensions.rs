//! What is walked in a global function: IPv6 extension headers, IPv4 options. The
//! verifier would follow each chain of them through all that comes after it.

use probe_common::parse::{self, Walked};
use probe_common::reason::Reason;

/// The result of [`parse::extensions`] as a number: the offset, the protocol
/// above it, whether it is a first fragment, or what is wrong.
const FIRST: u64 = 1 << 24;
const FRAGMENT: u64 = 1 << 32;
const UNPARSED: u64 = 2 << 32;
const ROUTE_LEFT: u64 = 3 << 32;
/// Offsets of extension headers, and of what is behind them, are below that,
/// also of a packet that an ICMP error quotes. For the verifier.
const REACH: usize = 0x7fff;

/// Walks IPv6 extension headers, in a global function.
#[inline(always)]
pub fn walk_extensions<F: parse::Bytes>(frame: &F, offset: u64, protocol: u32) -> u64 {
    match parse::extensions(frame, offset as usize & REACH, protocol as u8) {
        Ok(Walked { l4, protocol, first }) => {
            let first = if first { FIRST } else { 0 };
            first | (protocol as u64) << 16 | l4 as u64
        }
        Err(Reason::PassFragment) => FRAGMENT,
        Err(Reason::PassRouteLeft) => ROUTE_LEFT,
        Err(_) => UNPARSED,
    }
}

/// Walks IPv4 options, in a global function.
#[inline(always)]
pub fn walk_options<F: parse::Bytes>(frame: &F, offset: u64, length: u32) -> u32 {
    parse::has_route_left(frame, offset as usize & REACH, length as usize & 0x3f) as u32
}

/// What [`walk_extensions`] found.
#[inline(always)]
pub fn extensions_found(found: u64) -> Result<Walked, Reason> {
    match found {
        FRAGMENT => Err(Reason::PassFragment),
        UNPARSED => Err(Reason::PassUnparsed),
        ROUTE_LEFT => Err(Reason::PassRouteLeft),
        found => Ok(Walked {
            l4: found as usize & REACH,
            protocol: (found >> 16) as u8,
            first: found & FIRST != 0,
        }),
    }
}
