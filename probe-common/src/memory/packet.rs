//! Packets byte by byte, as a sender makes them: shares no code with what reads
//! and changes them.

extern crate std;

use std::vec;
use std::vec::Vec;

use super::sum;
use crate::address::{Address, Tuple, V4, V6};
use crate::checksum::fold;
use crate::icmp::{ICMP, ICMPV6};
use crate::parse::{ACK, Parse, TCP};

/// Hops that packets have left.
const HOPS: u8 = 61;

/// A family whose headers can be written.
pub trait Family: Parse + core::fmt::Debug {
    /// ICMP's protocol number.
    const ICMP: u8;
    /// An IP header before `payload` bytes of a protocol.
    fn header(self, dst: Self, protocol: u8, hops: u8, payload: usize) -> Vec<u8>;
}

impl Family for V4 {
    const ICMP: u8 = ICMP;

    fn header(self, dst: Self, protocol: u8, hops: u8, payload: usize) -> Vec<u8> {
        let mut header = vec![0x45, 0];
        header.extend(((20 + payload) as u16).to_be_bytes());
        header.extend([0, 0, 0x40, 0, hops, protocol, 0, 0]);
        header.extend(self.0.to_ne_bytes());
        header.extend(dst.0.to_ne_bytes());
        let checksum = !fold(sum(&header));
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header
    }
}

impl Family for V6 {
    const ICMP: u8 = ICMPV6;

    fn header(self, dst: Self, protocol: u8, hops: u8, payload: usize) -> Vec<u8> {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend((payload as u16).to_be_bytes());
        header.extend([protocol, hops]);
        header.extend(bytemuck::bytes_of(&self));
        header.extend(bytemuck::bytes_of(&dst));
        header
    }
}

/// A TCP or UDP packet.
#[derive(Debug, Clone)]
pub struct Packet<A> {
    /// Between whom, and by which protocol.
    pub tuple: Tuple<A>,
    /// Of TCP.
    pub flags: u8,
    /// Sequence and acknowledgement number of TCP.
    pub numbers: [u32; 2],
    /// What it carries.
    pub data: Vec<u8>,
    /// TTL or hop limit.
    pub hops: u8,
}

impl<A: Family> Packet<A> {
    /// A packet that is no special one.
    #[must_use]
    pub fn of(tuple: Tuple<A>, data: &[u8]) -> Self {
        let numbers = [0x0102_0304, 0x0506_0708];
        Self { tuple, flags: ACK, numbers, data: data.to_vec(), hops: HOPS }
    }

    /// From its IP header on.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let tuple = &self.tuple;
        let [src, dst] = [tuple.src, tuple.dst];
        let mut segment = Vec::new();
        segment.extend(tuple.sport.to_ne_bytes());
        segment.extend(tuple.dport.to_ne_bytes());
        let field = if tuple.protocol == TCP {
            segment.extend(self.numbers.map(u32::to_be_bytes).concat());
            let window = if self.flags & crate::parse::RST == 0 { 512u16 } else { 0 };
            segment.extend([5 << 4, self.flags]);
            segment.extend(window.to_be_bytes());
            segment.extend([0; 4]);
            16
        } else {
            segment.extend(((8 + self.data.len()) as u16).to_be_bytes());
            segment.extend([0; 2]);
            6
        };
        segment.extend(&self.data);
        let checksum = transport(&[src, dst], tuple.protocol, &segment);
        segment[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
        let mut bytes = src.header(dst, tuple.protocol, self.hops, segment.len());
        bytes.extend(segment);
        bytes
    }

    /// The whole frame.
    #[must_use]
    pub fn frame(&self) -> Vec<u8> {
        ethernet::<A>(self.bytes())
    }
}

/// An ICMP or ICMPv6 message between two ends: type, code, four bytes, and what is
/// behind them; from its IP header on.
#[must_use]
pub fn icmp<A: Family>([src, dst]: [A; 2], hops: u8, head: [u8; 6], rest: &[u8]) -> Vec<u8> {
    let mut message = vec![head[0], head[1], 0, 0, head[2], head[3], head[4], head[5]];
    message.extend(rest);
    let checksum = match A::ICMP {
        ICMPV6 => transport(&[src, dst], ICMPV6, &message),
        _ => !fold(sum(&message)),
    };
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut bytes = src.header(dst, A::ICMP, hops, message.len());
    bytes.extend(message);
    bytes
}

/// A frame, from one host on a link to another one, around an IP packet.
#[must_use]
pub fn ethernet<A: Address>(packet: Vec<u8>) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    frame.extend(A::ETHERTYPE.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The frame that goes back on the link.
#[must_use]
pub fn back(mut frame: Vec<u8>) -> Vec<u8> {
    frame[..12].rotate_left(6);
    frame
}

fn transport<A: Address>(ends: &[A; 2], protocol: u8, bytes: &[u8]) -> u16 {
    let addresses: u64 = ends.iter().map(|end| sum(bytemuck::bytes_of(end))).sum();
    !fold(addresses + u64::from(protocol) + bytes.len() as u64 + sum(bytes))
}
