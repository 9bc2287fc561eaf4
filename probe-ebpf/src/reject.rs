//! Rejects: TCP RST (RFC 9293, 3.5.2), ICMP port unreachable (RFC 792), ICMPv6
//! port unreachable (RFC 4443), made of the packet itself and sent back.

use probe_common::address::Address;
use probe_common::checksum::fold;
use probe_common::parse::{ACK, FIN, Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::frame::{Frame, Verdict};
use crate::maps::count;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const HOPS: u8 = 64;

/// Turns the packet into its rejection. A RST is not answered, nor is a packet
/// with IP options or extension headers: these are dropped.
#[inline(always)]
pub fn reject<A: Address, F: Frame>(frame: &F, headers: &Headers<A>, reason: Reason) -> Verdict {
    let tcp = headers.tuple.protocol == TCP;
    let answer = if !headers.plain || (tcp && headers.flags & RST != 0) {
        None
    } else if tcp {
        reset(frame, headers)
    } else {
        unreachable(frame, headers)
    };
    if answer.and_then(|()| swap_link(frame)).is_some() {
        count(reason);
        Verdict::Answer
    } else {
        count(Reason::RejectSilent);
        Verdict::Drop
    }
}

#[inline(always)]
fn swap_link<F: Frame>(frame: &F) -> Option<()> {
    let (dst, src): ([u8; 6], [u8; 6]) = (frame.load(0)?, frame.load(6)?);
    frame.store(0, src)?;
    frame.store(6, dst)
}

/// Writes the IP header of an answer of `len` bytes after that header.
#[inline(always)]
fn network<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers<A>,
    protocol: u8,
    len: u16,
) -> Option<()> {
    let l3 = headers.l3;
    if size_of::<A>() == 16 {
        frame.store(l3 + 4, len.to_be())?;
        frame.store(l3 + 6, [protocol, HOPS])?;
        frame.store(l3 + 8, headers.tuple.dst)?;
        frame.store(l3 + 24, headers.tuple.src)
    } else {
        frame.store(l3 + 2, (20 + len).to_be())?;
        // Identification 0 is right with DF (RFC 6864).
        frame.store(l3 + 4, [0u8, 0, 0x40, 0])?;
        frame.store(l3 + 8, [HOPS, protocol, 0, 0])?;
        frame.store(l3 + 12, headers.tuple.dst)?;
        frame.store(l3 + 16, headers.tuple.src)?;
        let first: [u16; 6] = frame.load(l3)?;
        let mut sum = headers.tuple.src.sum() + headers.tuple.dst.sum();
        for word in first {
            sum += word as u64;
        }
        frame.store(l3 + 10, !fold(sum))
    }
}

#[inline(always)]
fn pseudo<A: Address>(headers: &Headers<A>, protocol: u8, len: u16) -> u64 {
    headers.tuple.src.sum()
        + headers.tuple.dst.sum()
        + (protocol as u16).to_be() as u64
        + len.to_be() as u64
}

#[inline(always)]
fn reset<A: Address, F: Frame>(frame: &F, headers: &Headers<A>) -> Option<()> {
    let (l3, l4) = (headers.l3, headers.l4);
    let sequence: u32 = frame.load(l4 + 4)?;
    let acknowledged: u32 = frame.load(l4 + 8)?;
    let offset: u8 = frame.load(l4 + 12)?;
    let flags = headers.flags;
    let segment = if size_of::<A>() == 16 {
        u16::from_be(frame.load(l3 + 4)?)
    } else {
        u16::from_be(frame.load::<u16>(l3 + 2)?).wrapping_sub(20)
    };
    let data = segment.wrapping_sub((offset >> 4) as u16 * 4) as u32;
    let marks = (flags & SYN != 0) as u32 + (flags & FIN != 0) as u32;
    let (seq, ack, answer) = if flags & ACK != 0 {
        (acknowledged, 0, RST)
    } else {
        (0, u32::from_be(sequence).wrapping_add(data).wrapping_add(marks).to_be(), RST | ACK)
    };
    let partial = frame.is_partial(l4 + 16)?;
    frame.resize(l4 + 20)?;
    network(frame, headers, TCP, 20)?;
    let control = u16::from_ne_bytes([5 << 4, answer]);
    let (sport, dport) = (headers.tuple.dport, headers.tuple.sport);
    frame.store(l4, [sport, dport])?;
    frame.store(l4 + 4, [seq, ack])?;
    frame.store(l4 + 12, [control, 0u16])?;
    let header = pseudo(headers, TCP, 20);
    let words = sport as u64 + dport as u64 + seq as u64 + ack as u64 + control as u64;
    let checksum = if partial { fold(header) } else { !fold(header + words) };
    frame.store(l4 + 16, [checksum, 0u16])
}

/// The answer to a UDP datagram: 8 bytes of ICMP, its IP header, its UDP header.
#[inline(always)]
fn unreachable<A: Address, F: Frame>(frame: &F, headers: &Headers<A>) -> Option<()> {
    let l4 = headers.l4;
    let v6 = size_of::<A>() == 16;
    let partial = frame.is_partial(l4 + 6)?;
    // A partial checksum would be filled in where UDP has it: in the unused
    // word of the ICMP header. Over a message that already sums to zero, that
    // adds 0xffff, which is zero too.
    if v6 {
        let quote: [u32; 12] = frame.load(headers.l3)?;
        frame.resize(l4 + 8 + 48)?;
        network(frame, headers, ICMPV6, 56)?;
        let kind = u16::from_ne_bytes([1, 4]);
        let header = pseudo(headers, ICMPV6, 56);
        icmp(frame, l4, kind, &quote, header, if partial { fold(header) } else { 0 })
    } else {
        let quote: [u32; 7] = frame.load(headers.l3)?;
        frame.resize(l4 + 8 + 28)?;
        network(frame, headers, ICMP, 36)?;
        icmp(frame, l4, u16::from_ne_bytes([3, 3]), &quote, 0, 0)
    }
}

#[inline(always)]
fn icmp<F: Frame, const N: usize>(
    frame: &F,
    l4: usize,
    kind: u16,
    quote: &[u32; N],
    pseudo: u64,
    fill: u16,
) -> Option<()>
where
    [u32; N]: bytemuck::Pod,
{
    let mut sum = kind as u64 + pseudo;
    for word in quote {
        sum += *word as u64;
    }
    frame.store(l4, [kind, !fold(sum), 0, fill])?;
    frame.store(l4 + 8, *quote)
}
