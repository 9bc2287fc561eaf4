//! What comes out.

use std::net::IpAddr;

use super::fate::{About, Fate, Rejection};
use super::flows::Key;
use super::quote::Quote;
use super::sight::{ICMP, ICMPV6, Packet, TCP, UDP, be16, be32};
use super::tcp::{ACK, FIN, RST, SYN};

/// What becomes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It goes on.
    Pass,
    /// It goes back where it came from.
    Answer,
    /// It does not go anywhere.
    Drop,
}

/// The sum of 16-bit words, modulo 65,535: ones' complement arithmetic, with one zero.
fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum::<u64>() % 0xffff
}

fn octets(ip: IpAddr, buffer: &mut [u8; 16]) -> &[u8] {
    match ip {
        IpAddr::V4(v4) => {
            buffer[..4].copy_from_slice(&v4.octets());
            &buffer[..4]
        }
        IpAddr::V6(v6) => {
            *buffer = v6.octets();
            buffer
        }
    }
}

fn address_sum(ip: IpAddr) -> u64 {
    sum(octets(ip, &mut [0; 16]))
}

/// A checksum as it is written: that of UDP is never 0, which would mean none (RFC 768).
fn written(checksum: u64, protocol: u8) -> u16 {
    match (checksum % 0xffff) as u16 {
        0 if protocol == UDP => 0xffff,
        checksum => checksum,
    }
}

fn put16(frame: &mut [u8], at: usize, value: u16) {
    frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Replaces bytes; by how much the sum of words has grown.
fn replace(frame: &mut [u8], at: usize, bytes: &[u8]) -> u64 {
    let old = sum(&frame[at..at + bytes.len()]);
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    sum(bytes) + 0xffff - old
}

/// What was covered has grown by so much; by how much the checksum itself has grown.
fn correct(frame: &mut [u8], at: usize, growth: u64, protocol: u8) -> u64 {
    let old = u64::from(be16(frame, at).expect("looked at"));
    let new = written(old + 0xffff * 4 - growth % 0xffff, protocol);
    put16(frame, at, new);
    u64::from(new) + 0xffff - old
}

/// Replaces the addresses; by how much their sum has grown, and all of the IP header.
fn addresses(frame: &mut [u8], packet: &Packet, ends: [IpAddr; 2]) -> (u64, u64) {
    let at = packet.l3 + if packet.v4() { 12 } else { 8 };
    let mut growth = 0;
    let mut next = at;
    for ip in ends {
        let mut buffer = [0; 16];
        let bytes = octets(ip, &mut buffer);
        growth += replace(frame, next, bytes);
        next += bytes.len();
    }
    let own = if packet.v4() { correct(frame, packet.l3 + 10, growth, 0) } else { 0 };
    (growth, growth + own)
}

/// The offset of the transport checksum.
fn field(packet: &Packet) -> usize {
    packet.l4
        + match packet.protocol {
            TCP => 16,
            UDP => 6,
            _ => 2,
        }
}

/// The sum of the pseudo-header.
fn pseudo(ends: [IpAddr; 2], protocol: u8, length: usize) -> u64 {
    ends.map(address_sum).iter().sum::<u64>()
        + u64::from(protocol)
        + (length >> 16) as u64
        + (length & 0xffff) as u64
}

/// What a sum is folded to: never 0, unless all was.
fn folded(sum: u64) -> u16 {
    match sum % 0xffff {
        0 if sum > 0 => 0xffff,
        rest => rest as u16,
    }
}

/// Bytes of the transport header and what follows, as the packet says: of 16 bits.
fn transport_length(packet: &Packet) -> u16 {
    let header = packet.l4 - packet.l3 - if packet.v4() { 0 } else { 40 };
    packet.says.wrapping_sub(header as u16)
}

/// Whether the transport checksum is what a sender writes that leaves it to hardware: the folded
/// sum of the pseudo-header.
#[must_use]
pub fn looks_partial(frame: &[u8], packet: &Packet) -> bool {
    let ends = [packet.source, packet.destination];
    let pseudo = pseudo(ends, packet.protocol, transport_length(packet).into());
    be16(frame, field(packet)) == Some(folded(pseudo))
}

/// Replaces addresses and ports; by how much the sum of all that changed has grown.
fn rewrite(frame: &mut [u8], packet: &Packet, to: Key) -> u64 {
    let ends = [to.source.ip(), to.destination.ip()];
    let (of_addresses, of_header) = addresses(frame, packet, ends);
    let of_ports = replace(frame, packet.l4, &to.source.port().to_be_bytes())
        + replace(frame, packet.l4 + 2, &to.destination.port().to_be_bytes());
    let at = field(packet);
    let Some(checksum) = be16(frame, at) else { return of_header + of_ports };
    if packet.protocol == UDP && checksum == 0 {
        return of_header + of_ports;
    }
    of_header + of_ports + correct(frame, at, of_addresses + of_ports, packet.protocol)
}

/// Translates an ICMP error.
fn translate(frame: &mut [u8], packet: &Packet, quote: &Quote, ends: [IpAddr; 2], about: About) {
    let end = packet.end.min(frame.len());
    let inner = match about {
        About::Packet(key) => rewrite(&mut frame[..end], &quote.packet, key),
        About::Fragment(ends) => addresses(frame, &quote.packet, ends).1,
    };
    let (outer, _) = addresses(frame, packet, ends);
    // The pseudo-header is covered by ICMPv6 alone.
    let covered = if packet.protocol == ICMP { inner } else { inner + outer };
    correct(frame, field(packet), covered, packet.protocol);
}

impl Fate {
    /// What comes out, and into `out` with which bytes.
    pub fn render(&self, frame: &[u8], out: &mut Vec<u8>) -> Outcome {
        out.clear();
        out.extend_from_slice(frame);
        match self {
            Self::Untouched => {}
            Self::Rewritten(packet, to) => {
                rewrite(out, packet, *to);
            }
            Self::Following(packet, ends) => {
                addresses(out, packet, *ends);
            }
            Self::Translated(packet, quote, ends, about) => {
                translate(out, packet, quote, *ends, *about);
            }
            Self::Echoed(packet) => {
                echo(out, packet);
                return Outcome::Answer;
            }
            Self::Rejected(packet, Rejection::Sender) => {
                reject(frame, packet, out);
                return Outcome::Answer;
            }
            Self::Rejected(packet, Rejection::Receiver(to)) => {
                reset_receiver(frame, packet, *to, out);
            }
            Self::Dropped => {
                out.clear();
                return Outcome::Drop;
            }
        }
        Outcome::Pass
    }
}

/// An echo request becomes its reply, which begins its way here.
fn echo(out: &mut [u8], packet: &Packet) {
    // Link-layer addresses change places.
    let (to, from) = out[..12].split_at_mut(6);
    to.swap_with_slice(from);
    addresses(out, packet, [packet.destination, packet.source]);
    if packet.v4() {
        let growth = replace(out, packet.l3 + 8, &[64]);
        correct(out, packet.l3 + 10, growth, 0);
    } else {
        out[packet.l3 + 7] = 64;
    }
    let growth = replace(out, packet.l4, &[if packet.v4() { 0 } else { 129 }]);
    correct(out, packet.l4 + 2, growth, packet.protocol);
}

/// Back to the sender: RST, or port unreachable.
fn reject(frame: &[u8], packet: &Packet, out: &mut Vec<u8>) {
    let ports = [packet.l4 + 2, packet.l4].map(|at| be16(frame, at).expect("ports"));
    let ends = [packet.destination, packet.source];
    out.clear();
    // Link-layer addresses change places, tags stay.
    out.extend_from_slice(&frame[6..12]);
    out.extend_from_slice(&frame[..6]);
    out.extend_from_slice(&frame[12..packet.l3]);
    if packet.protocol == TCP {
        let [seq, ack] = [4, 8].map(|at| be32(frame, packet.l4 + at).expect("a header"));
        let flags = frame[packet.l4 + 13];
        // RFC 9293, section 3.10.7.1.
        let (seq, ack, flags) = if flags & ACK != 0 {
            (ack, 0, RST)
        } else {
            let header = usize::from(frame[packet.l4 + 12] >> 4) * 4;
            let data = u32::from(transport_length(packet).wrapping_sub(header as u16));
            let counted = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
            (0, seq.wrapping_add(data).wrapping_add(counted), RST | ACK)
        };
        reset(first(frame, packet), ends, ports, [seq, ack], flags, out);
    } else {
        unreachable(frame, packet, ends, out);
    }
}

/// Instead of a packet of an endpoint that is gone.
fn reset_receiver(frame: &[u8], packet: &Packet, to: Key, out: &mut Vec<u8>) {
    let numbers = [4, 8].map(|at| be32(frame, packet.l4 + at).expect("a header"));
    out.truncate(packet.l3);
    let ends = [to.source.ip(), to.destination.ip()];
    let flags = RST | frame[packet.l4 + 13] & ACK;
    let ports = [to.source.port(), to.destination.port()];
    reset(first(frame, packet), ends, ports, numbers, flags, out);
}

/// An IP header without options, with the traffic class and flow label of the packet that it
/// takes the place of.
fn header(first: [u8; 4], ends: [IpAddr; 2], protocol: u8, payload: usize, out: &mut Vec<u8>) {
    let l3 = out.len();
    if ends[0].is_ipv4() {
        out.extend_from_slice(&first[..2]);
        out.extend_from_slice(&((payload + 20) as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    } else {
        out.extend_from_slice(&first);
        out.extend_from_slice(&(payload as u16).to_be_bytes());
        out.extend_from_slice(&[protocol, 64]);
    }
    for ip in ends {
        let mut buffer = [0; 16];
        out.extend_from_slice(octets(ip, &mut buffer));
    }
    if ends[0].is_ipv4() {
        let checksum = written(0xffff - sum(&out[l3..]), 0);
        put16(out, l3 + 10, checksum);
    }
}

fn reset(
    first: [u8; 4],
    ends: [IpAddr; 2],
    ports: [u16; 2],
    numbers: [u32; 2],
    flags: u8,
    out: &mut Vec<u8>,
) {
    header(first, ends, TCP, 20, out);
    let l4 = out.len();
    ports.iter().for_each(|port| out.extend_from_slice(&port.to_be_bytes()));
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_be_bytes()));
    out.extend_from_slice(&[0x50, flags, 0, 0, 0, 0, 0, 0]);
    let checksum = 0xffff - (sum(&out[l4..]) + pseudo(ends, TCP, 20)) % 0xffff;
    put16(out, l4 + 16, written(checksum, TCP));
}

/// The first word of an IP header.
fn first(frame: &[u8], packet: &Packet) -> [u8; 4] {
    frame[packet.l3..packet.l3 + 4].try_into().expect("a header")
}

/// Port unreachable, with the IP header and 8 bytes (RFC 792; RFC 4443 would have more).
fn unreachable(frame: &[u8], packet: &Packet, ends: [IpAddr; 2], out: &mut Vec<u8>) {
    let (protocol, kind, code) = if packet.v4() { (ICMP, 3, 3) } else { (ICMPV6, 1, 4) };
    let quoted = &frame[packet.l3..packet.l4 + 8];
    header(first(frame, packet), ends, protocol, 8 + quoted.len(), out);
    let l4 = out.len();
    out.extend_from_slice(&[kind, code, 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(quoted);
    let pseudo = if packet.v4() { 0 } else { pseudo(ends, protocol, out.len() - l4) };
    let checksum = 0xffff - (sum(&out[l4..]) + pseudo) % 0xffff;
    put16(out, l4 + 2, written(checksum, protocol));
}
