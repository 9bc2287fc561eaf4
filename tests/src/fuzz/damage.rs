//! Frames that are damaged, layer by layer.

use std::net::SocketAddr;

use crate::packet::{self, Parsed, TCP, UDP, make_partial, mutate};
use crate::rng::Rng;

/// The longest frame: what `BPF_PROG_TEST_RUN` takes, and then some.
const LONGEST: usize = 1900;

/// Damages a frame in one to three ways. `others` are addresses that may come to stand in it.
pub fn damage(frame: &mut Vec<u8>, others: &[SocketAddr], rng: &mut Rng) {
    for _ in 0..1 + rng.below(6) / 2 {
        match packet::parse(frame) {
            Some(parsed) if rng.below(8) > 0 => at_a_layer(frame, &parsed, others, rng),
            _ => mutate(frame, rng),
        }
    }
    frame.truncate(LONGEST);
    // What is taken anywhere.
    if frame.len() < 15 {
        frame.resize(15, 0);
    }
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    if let Some(field) = frame.get_mut(at..at + 2) {
        field.copy_from_slice(&value.to_be_bytes());
    }
}

fn flip(frame: &mut [u8], from: usize, length: usize, rng: &mut Rng) {
    let at = from + rng.below(length as u64) as usize;
    if let Some(byte) = frame.get_mut(at) {
        *byte ^= 1 << rng.below(8);
    }
}

/// A number near another one, or any.
fn near(value: usize, rng: &mut Rng) -> u16 {
    match rng.below(4) {
        0 => rng.next_u64() as u16,
        1 => 0,
        _ => (value as u16).wrapping_add(rng.below(64) as u16).wrapping_sub(32),
    }
}

fn at_a_layer(frame: &mut Vec<u8>, parsed: &Parsed, others: &[SocketAddr], rng: &mut Rng) {
    let (l3, l4) = (parsed.l3, parsed.l4);
    let v4 = parsed.source.is_ipv4();
    let transport = matches!(parsed.protocol, TCP | UDP) && parsed.first;
    match rng.below(16) {
        0 => {
            let (at, header) = if v4 { (l3 + 2, 0) } else { (l3 + 4, 40) };
            put16(frame, at, near(parsed.end - l3 - header, rng));
        }
        1 => frame.truncate(rng.below(frame.len() as u64) as usize),
        2 => frame.truncate((l4 + rng.below(24) as usize).min(frame.len())),
        3 => frame.extend((0..=rng.below(64)).map(|n| n as u8)),
        4 if parsed.protocol == UDP => put16(frame, l4 + 4, near(parsed.end - l4, rng)),
        4 | 5 if transport => checksum(frame, parsed, rng),
        6 if v4 => put16(frame, l3 + 10, rng.next_u64() as u16),
        7 => flip(frame, l3, l4 - l3, rng),
        8 => flip(frame, l4, 20, rng),
        9 if v4 => {
            put16(frame, l3 + 6, [0x2000, 0x0001, 0x2001, 0x8000, 0x4000][rng.below(5) as usize])
        }
        10 | 11 => foreign(frame, parsed, others, rng),
        12 => {
            const PROTOCOLS: [u8; 14] = [0, 1, 2, 6, 17, 43, 44, 47, 50, 51, 58, 59, 60, 132];
            let at = l3 + if v4 { 9 } else { 6 };
            frame[at] = PROTOCOLS[rng.below(14) as usize];
        }
        13 => flip(frame, 0, l3, rng),
        14 => frame[l3] = rng.next_u64() as u8,
        _ => {
            let length = frame.len() - l3;
            flip(frame, l3, length, rng);
        }
    }
}

/// A transport checksum that is partial, wrong, none, or the other zero.
fn checksum(frame: &mut [u8], parsed: &Parsed, rng: &mut Rng) {
    let field = parsed.l4 + if parsed.protocol == TCP { 16 } else { 6 };
    match rng.below(5) {
        0 => put16(frame, field, 0),
        1 => put16(frame, field, 0xffff),
        2 => put16(frame, field, rng.next_u64() as u16),
        _ if frame.len() >= field + 2 => make_partial(frame),
        _ => {}
    }
}

/// Another address or port, with the checksums as they were.
fn foreign(frame: &mut [u8], parsed: &Parsed, others: &[SocketAddr], rng: &mut Rng) {
    let other = others[rng.below(others.len() as u64) as usize];
    let destination = rng.below(2) as usize;
    if rng.below(2) == 0 {
        return put16(frame, parsed.l4 + 2 * destination, other.port());
    }
    match (other, parsed.source.is_ipv4()) {
        (SocketAddr::V4(other), true) => {
            let at = parsed.l3 + 12 + 4 * destination;
            frame[at..at + 4].copy_from_slice(&other.ip().octets());
        }
        (SocketAddr::V6(other), false) => {
            let at = parsed.l3 + 8 + 16 * destination;
            frame[at..at + 16].copy_from_slice(&other.ip().octets());
        }
        _ => {}
    }
}
