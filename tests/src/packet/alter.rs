//! Frames that are altered in place, rightly or not.

use std::net::{IpAddr, SocketAddr};

use super::parsed::be16;
use super::{TCP, fold, parse, pseudo_header, sum16};
use crate::rng::Rng;

/// Puts a partial checksum into a TCP or UDP frame, as a stack does that leaves the rest to
/// hardware: the folded sum of the pseudo-header.
///
/// # Panics
///
/// If it is no such frame.
pub fn make_partial(frame: &mut [u8]) {
    let parsed = parse(frame).expect("a whole frame");
    let length = parsed.end - parsed.l4;
    let pseudo = pseudo_header(parsed.source, parsed.destination, parsed.protocol, length);
    let field = parsed.l4 + if parsed.protocol == TCP { 16 } else { 6 };
    frame[field..field + 2].copy_from_slice(&fold(sum16(&pseudo)).to_be_bytes());
}

/// Gives a whole TCP or UDP frame another source, and brings its checksums up to date
/// (RFC 1624); without any allocation, for tests that send millions.
///
/// # Panics
///
/// If it is no such frame, or of the other family.
pub fn set_source(frame: &mut [u8], source: SocketAddr) {
    let parsed = parse(frame).expect("a whole frame");
    let field = parsed.l4 + if parsed.protocol == TCP { 16 } else { 6 };
    match (source.ip(), parsed.source) {
        (IpAddr::V4(ip), IpAddr::V4(_)) => {
            let fields = [parsed.l3 + 10, field];
            replace(frame, parsed.l3 + 12, &ip.octets(), &fields);
        }
        (IpAddr::V6(ip), IpAddr::V6(_)) => replace(frame, parsed.l3 + 8, &ip.octets(), &[field]),
        _ => panic!("{source} in a frame of the other family"),
    }
    replace(frame, parsed.l4, &source.port().to_be_bytes(), &[field]);
}

/// Replaces bytes, at an even offset into what is summed, and updates these checksums.
fn replace(frame: &mut [u8], at: usize, bytes: &[u8], fields: &[usize]) {
    let old = &mut frame[at..at + bytes.len()];
    let change = sum16(bytes) + old.chunks(2).map(|w| 0xffff - sum16(w)).sum::<u64>();
    old.copy_from_slice(bytes);
    for &field in fields {
        let sum = u64::from(!be16(frame, field).expect("a checksum"));
        frame[field..field + 2].copy_from_slice(&(!fold(sum + change)).to_be_bytes());
    }
}

/// Damages a frame at one to four places, mostly in the headers; it may get shorter or longer.
pub fn mutate(frame: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let length = frame.len() as u64;
        if length == 0 {
            frame.push(rng.next_u64() as u8);
            continue;
        }
        let reach = if rng.below(4) == 0 { length } else { length.min(96) };
        let at = rng.below(reach) as usize;
        match rng.below(8) {
            0 | 1 => frame[at] ^= 1 << rng.below(8),
            2 => frame[at] = rng.next_u64() as u8,
            3 => {
                frame[at] =
                    [0, 1, 0x0f, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff][rng.below(10) as usize]
            }
            4 => frame.truncate(at),
            5 => frame.extend((0..=rng.below(64)).map(|i| i as u8)),
            6 => drop(frame.splice(at..at, [rng.next_u64() as u8; 4])),
            _ => drop(frame.drain(at..(at + 1 + rng.below(8) as usize).min(length as usize))),
        }
    }
}
