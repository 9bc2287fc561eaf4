//! Rejects: TCP RST (RFC 9293, 3.5.2), ICMP port unreachable (RFC 792), ICMPv6
//! port unreachable (RFC 4443), made of the packet itself and sent back.

use probe_common::address::{Address, Tuple};
use probe_common::checksum::fold;
use probe_common::flow::Entry;
use probe_common::parse::{ACK, FIN, Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::family::Family;
use crate::frame::{Frame, Verdict};
use crate::log::report;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
/// Hops of what is sent anew.
pub const HOPS: u8 = 64;

/// Turns the packet into its rejection. A RST is not answered, nor is a packet
/// with IP options or extension headers, or from an address that is no host's:
/// these are dropped.
#[inline(always)]
pub fn reject<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    reason: Reason,
) -> Verdict {
    let tcp = headers.protocol == TCP;
    let may_be = headers.plain && tuple.src.is_host();
    let answer = if !may_be || (tcp && headers.flags & RST != 0) {
        None
    } else if tcp {
        reset_sender(frame, headers, tuple)
    } else {
        unreachable(frame, headers, tuple)
    };
    if answer.and_then(|()| swap_link(frame)).is_some() {
        report(reason, tuple);
        Verdict::Answer
    } else {
        report(Reason::RejectSilent, tuple);
        Verdict::Drop
    }
}

/// A packet of a flow whose endpoint is gone.
#[inline(always)]
pub fn refuse<A: Family, F: Frame, const INGRESS: bool>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Verdict {
    if !INGRESS {
        return reset_client(frame, headers, tuple, entry);
    }
    if !F::ANSWERS {
        return Verdict::Pass;
    }
    reject(frame, headers, tuple, Reason::RejectEndpointGone)
}

/// Sends the frame back to who sent it on the link.
#[inline(always)]
pub fn swap_link<F: Frame>(frame: &F) -> Option<()> {
    let (dst, src): ([u8; 6], [u8; 6]) = (frame.load(0)?, frame.load(6)?);
    frame.store(0, src)?;
    frame.store(6, dst)
}

/// Writes the IP header of a packet with `len` bytes after that header.
#[inline(always)]
fn network<A: Address, F: Frame>(
    frame: &F,
    l3: usize,
    [src, dst]: [A; 2],
    protocol: u8,
    len: u16,
) -> Option<()> {
    if size_of::<A>() == 16 {
        frame.store(l3 + 4, len.to_be())?;
        frame.store(l3 + 6, [protocol, HOPS])?;
        frame.store(l3 + 8, src)?;
        frame.store(l3 + 24, dst)
    } else {
        frame.store(l3 + 2, (20 + len).to_be())?;
        // Identification 0 is right with DF (RFC 6864).
        frame.store(l3 + 4, [0u8, 0, 0x40, 0])?;
        frame.store(l3 + 8, [HOPS, protocol, 0, 0])?;
        frame.store(l3 + 12, src)?;
        frame.store(l3 + 16, dst)?;
        let first: [u16; 6] = frame.load(l3)?;
        let mut sum = src.sum() + dst.sum();
        for word in first {
            sum += word as u64;
        }
        frame.store(l3 + 10, !fold(sum))
    }
}

#[inline(always)]
fn pseudo<A: Address>([src, dst]: [A; 2], protocol: u8, len: u16) -> u64 {
    src.sum() + dst.sum() + (protocol as u16).to_be() as u64 + len.to_be() as u64
}

/// The RST that answers a segment (RFC 9293, 3.5.2).
#[inline(always)]
fn reset_sender<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
) -> Option<()> {
    let (l3, l4) = (headers.l3, headers.l4);
    let sequence: u32 = frame.load(l4 + 4)?;
    let acknowledged: u32 = frame.load(l4 + 8)?;
    // Two bytes: of a load of one at a variable offset, the verifier learns nothing.
    let [offset, _]: [u8; 2] = frame.load(l4 + 12)?;
    let flags = headers.flags;
    let segment = if size_of::<A>() == 16 {
        u16::from_be(frame.load(l3 + 4)?)
    } else {
        u16::from_be(frame.load::<u16>(l3 + 2)?).wrapping_sub(20)
    };
    let data = segment.wrapping_sub((offset >> 4) as u16 * 4) as u32;
    let marks = (flags & SYN != 0) as u32 + (flags & FIN != 0) as u32;
    let (numbers, answer) = if flags & ACK != 0 {
        ([acknowledged, 0], RST)
    } else {
        let ack = u32::from_be(sequence).wrapping_add(data).wrapping_add(marks);
        ([0, ack.to_be()], RST | ACK)
    };
    reset(frame, headers, &tuple.reversed(), numbers, answer)
}

/// Turns the segment into a RST from and to where `tuple` says.
#[inline(always)]
fn reset<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    [seq, ack]: [u32; 2],
    flags: u8,
) -> Option<()> {
    let l4 = headers.l4;
    let partial = frame.is_partial(l4 + 16)?;
    frame.resize(l4 + 20)?;
    let addresses = [tuple.src, tuple.dst];
    network(frame, headers.l3, addresses, TCP, 20)?;
    let control = u16::from_ne_bytes([5 << 4, flags]);
    frame.store(l4, [tuple.sport, tuple.dport])?;
    frame.store(l4 + 4, [seq, ack])?;
    frame.store(l4 + 12, [control, 0u16])?;
    let header = pseudo(addresses, TCP, 20);
    let ports = tuple.sport as u64 + tuple.dport as u64;
    let words = ports + seq as u64 + ack as u64 + control as u64;
    let checksum = if partial { fold(header) } else { !fold(header + words) };
    frame.store(l4 + 16, [checksum, 0u16])
}

/// A packet of an endpoint that is gone, to a client that may be waiting for
/// more: becomes a RST in the endpoint's place, in sequence. UDP has nothing
/// that a client would take as the end, and is dropped.
#[inline(always)]
fn reset_client<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Verdict {
    report(Reason::RejectEndpointGone, tuple);
    let flags = headers.flags;
    if headers.protocol != TCP || flags & RST != 0 || !headers.plain {
        return Verdict::Drop;
    }
    let numbers: Option<[u32; 2]> = frame.load(headers.l4 + 4);
    let to = entry.to(tuple);
    match numbers.and_then(|n| reset(frame, headers, &to, n, RST | flags & ACK)) {
        Some(()) => Verdict::Steered,
        None => Verdict::Drop,
    }
}

/// The answer to a UDP datagram: 8 bytes of ICMP, its IP header, its UDP header.
#[inline(always)]
fn unreachable<A: Address, F: Frame>(frame: &F, headers: &Headers, tuple: &Tuple<A>) -> Option<()> {
    let l4 = headers.l4;
    let v6 = size_of::<A>() == 16;
    let addresses = [tuple.dst, tuple.src];
    let partial = frame.is_partial(l4 + 6)?;
    // A partial checksum would be filled in where UDP has it: in the unused
    // word of the ICMP header. Over a message that already sums to zero, that
    // adds 0xffff, which is zero too.
    if v6 {
        let quote: [u32; 12] = frame.load(headers.l3)?;
        frame.resize(l4 + 8 + 48)?;
        network(frame, headers.l3, addresses, ICMPV6, 56)?;
        let kind = u16::from_ne_bytes([1, 4]);
        let header = pseudo(addresses, ICMPV6, 56);
        icmp(frame, l4, kind, &quote, header, if partial { fold(header) } else { 0 })
    } else {
        let quote: [u32; 7] = frame.load(headers.l3)?;
        frame.resize(l4 + 8 + 28)?;
        network(frame, headers.l3, addresses, ICMP, 36)?;
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
