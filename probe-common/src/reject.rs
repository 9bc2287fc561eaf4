//! Rejections, made of the packet itself and sent back: TCP RST (RFC 9293,
//! 3.5.2), ICMP port unreachable (RFC 792), ICMPv6 port unreachable (RFC 4443).

use crate::address::{Address, Tuple};
use crate::checksum::fold;
use crate::flow::Entry;
use crate::frame::Frame;
use crate::icmp::{ICMP, ICMPV6};
use crate::parse::{ACK, FIN, Headers, RST, SYN, TCP};

/// TTL or hop limit of what is sent anew.
pub const HOPS: u8 = 64;

/// Turns the packet into its rejection, to whom it came from. None if it must not
/// be answered, being a RST, a packet with IP options or extension headers, or
/// from an address that is no host's; or if it cannot be changed.
#[inline(always)]
pub fn reject<A: Address>(frame: &impl Frame, headers: &Headers, tuple: &Tuple<A>) -> Option<()> {
    let tcp = headers.protocol == TCP;
    let may_be = headers.plain && tuple.src.is_host();
    if !may_be || (tcp && headers.flags & RST != 0) {
        return None;
    }
    if tcp {
        reset_sender(frame, headers, tuple)?;
    } else {
        unreachable(frame, headers, tuple)?;
    }
    swap_link(frame)
}

/// Turns a packet of an endpoint, to a client that may be waiting for more, into
/// a RST in the endpoint's place, in sequence. None if it is to be dropped: UDP has
/// nothing that a client would take as the end.
#[inline(always)]
pub fn reset_client<A: Address>(
    frame: &impl Frame,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Option<()> {
    let flags = headers.flags;
    if headers.protocol != TCP || flags & RST != 0 || !headers.plain {
        return None;
    }
    let numbers: [u32; 2] = frame.load(headers.l4 + 4)?;
    reset(frame, headers, &entry.to(tuple), numbers, RST | flags & ACK)
}

/// Sends the frame back to who sent it on the link.
#[inline(always)]
pub fn swap_link(frame: &impl Frame) -> Option<()> {
    let (dst, src): ([u8; 6], [u8; 6]) = (frame.load(0)?, frame.load(6)?);
    frame.store(0, src)?;
    frame.store(6, dst)
}

/// Writes the IP header of a packet with `len` bytes after that header.
#[inline(always)]
fn network<A: Address>(
    frame: &impl Frame,
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
fn reset_sender<A: Address>(frame: &impl Frame, headers: &Headers, tuple: &Tuple<A>) -> Option<()> {
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
fn reset<A: Address>(
    frame: &impl Frame,
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

/// The answer to a UDP datagram: 8 bytes of ICMP, its IP header, its UDP header.
#[inline(always)]
fn unreachable<A: Address>(frame: &impl Frame, headers: &Headers, tuple: &Tuple<A>) -> Option<()> {
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
fn icmp<const N: usize>(
    frame: &impl Frame,
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

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::address::{V4, V6};
    use crate::flow::{Facts, REPLY};
    use crate::memory::Memory;
    use crate::memory::packet::{self, Family, Packet, back, ethernet};
    use crate::parse::{Parse as _, UDP};

    fn tuple<A>(src: A, dst: A, protocol: u8) -> Tuple<A> {
        let (sport, dport) = (40_000u16.to_be(), 80u16.to_be());
        Tuple { src, dst, sport, dport, protocol, zero: [0; 3] }
    }

    fn rejected<A: Family>(packet: &Packet<A>, partial: bool) -> Option<Vec<u8>> {
        let memory = Memory::of(&packet.frame(), partial);
        let headers = A::parse(&memory, 14).expect("a packet");
        reject(&memory, &headers, &packet.tuple)?;
        Some(memory.sent())
    }

    fn resets<A: Family>(client: A, vip: A) {
        let tuple = tuple(client, vip, TCP);
        // Flags, data; numbers and flags of the RST (RFC 9293, 3.10.7.1).
        let cases = [
            (SYN, &b""[..], [0, 1001], RST | ACK),
            (SYN, b"early", [0, 1006], RST | ACK),
            (SYN | ACK, b"", [2000, 0], RST),
            (ACK, b"data", [2000, 0], RST),
            (FIN | ACK, b"", [2000, 0], RST),
            (FIN, b"odd", [0, 1004], RST | ACK),
            (0, b"", [0, 1000], RST | ACK),
        ];
        for (flags, data, numbers, answer) in cases {
            let sent = Packet { flags, numbers: [1000, 2000], ..Packet::of(tuple, data) };
            let reset = Packet { flags: answer, numbers, ..Packet::of(tuple.reversed(), b"") };
            let reset = Packet { hops: HOPS, ..reset };
            for partial in [false, true] {
                let wanted = Some(back(reset.frame()));
                assert_eq!(rejected(&sent, partial), wanted, "flags {flags:#x}, partial {partial}");
            }
        }
        let sent = Packet { flags: RST, ..Packet::of(tuple, b"") };
        assert_eq!(rejected(&sent, false), None, "a RST for a RST");
    }

    fn unreachables<A: Family>(client: A, vip: A, kind: [u8; 6]) {
        let sent = Packet::of(tuple(client, vip, UDP), b"some longer datagram");
        let header = A::ADDRESSES + 2 * size_of::<A>();
        let icmp = 14 + header;
        for partial in [false, true] {
            // What is quoted is the packet as it is at the hook.
            let came = Memory::of(&sent.frame(), partial).into_frame();
            let quoted = &came[14..icmp + 8];
            let wanted = ethernet::<A>(packet::icmp([vip, client], HOPS, kind, quoted));
            let mut found = rejected(&sent, partial).expect("an answer");
            // The device puts a zero where nothing is, and one's complement has two.
            let unused = found[icmp + 6..icmp + 8].to_vec();
            assert!(matches!(unused[..], [0, 0] | [0xff, 0xff]), "{unused:?}, partial {partial}");
            found[icmp + 6..icmp + 8].fill(0);
            assert_eq!(found, back(wanted), "partial {partial}");
        }
    }

    #[test]
    fn segments_are_answered_by_resets() {
        resets(V4(0x0100_000a), V4(0x0a00_02c0));
        resets(V6([1, 2]), V6([3, 4]));
    }

    #[test]
    fn datagrams_are_answered_by_port_unreachable() {
        unreachables(V4(0x0100_000a), V4(0x0a00_02c0), [3, 3, 0, 0, 0, 0]);
        unreachables(V6([1, 2]), V6([3, 4]), [1, 4, 0, 0, 0, 0]);
    }

    #[test]
    fn nothing_from_a_group_is_answered() {
        let group = V4(u32::from_ne_bytes([224, 0, 0, 1]));
        for protocol in [TCP, UDP] {
            let sent = Packet::of(tuple(group, V4(0x0a00_02c0), protocol), b"");
            assert_eq!(rejected(&sent, false), None, "protocol {protocol}");
        }
    }

    #[test]
    fn a_client_gets_a_reset_in_sequence_from_whom_it_knows() {
        let (client, vip, endpoint) = (V4(0x0100_000a), V4(0x0a00_02c0), V4(0x0200_000a));
        let known = tuple(vip, client, TCP);
        let came = Tuple { src: endpoint, ..known };
        let facts = Facts {
            endpoint: 1,
            subset: 2,
            state: 0,
            direction: REPLY,
            seen: 0,
            created: 0,
            sequence: 0,
        };
        let entry = Entry::new(&came, &known, &facts);
        let reset = |flags| {
            let sent = Packet { flags, ..Packet::of(came, b"more") };
            let memory = Memory::of(&sent.frame(), false);
            let headers = V4::parse(&memory, 14).expect("a packet");
            reset_client(&memory, &headers, &came, &entry)?;
            Some(memory.sent())
        };
        let wanted = Packet { flags: RST | ACK, hops: HOPS, ..Packet::of(known, b"") };
        assert_eq!(reset(ACK), Some(wanted.frame()));
        assert_eq!(reset(RST), None, "what is over is over");
    }
}
