//! The rewrite of a packet's tuple, the same in every direction.

use crate::address::Tuple;
use crate::checksum::update;
use crate::flow::{Entry, FORWARD, REPLY};
use crate::frame::{ChecksumChange, Frame};
use crate::parse::{Headers, Parse, UDP};

/// Puts what the entry makes of the tuple on the wire. None if the packet
/// cannot be changed.
#[inline(always)]
pub fn rewrite<A: Parse>(
    frame: &impl Frame,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Option<()> {
    let v6 = size_of::<A>() == 16;
    let (l3, l4) = (headers.l3, headers.l4);
    addresses(frame, l3, tuple.dst, entry.direction, entry.address, entry.address_delta)?;
    frame.store(l4, [entry.sport, entry.dport])?;
    let udp = headers.protocol == UDP;
    frame.update_l4(&ChecksumChange {
        offset: l4 + if udp { 6 } else { 16 },
        address_delta: entry.address_delta,
        port_delta: entry.port_delta,
        udp,
        v6,
    })
}

/// The same of the addresses alone; `dst` is where the packet was going to.
#[inline(always)]
pub fn addresses<A: Parse>(
    frame: &impl Frame,
    l3: usize,
    dst: A,
    direction: u8,
    address: A,
    delta: u16,
) -> Option<()> {
    if size_of::<A>() == 4 {
        let checksum: u16 = frame.load(l3 + 10)?;
        frame.store(l3 + 10, update(checksum, delta))?;
    }
    let addresses = l3 + A::ADDRESSES;
    if direction == REPLY {
        return frame.store(addresses, address);
    }
    frame.store(addresses + size_of::<A>(), address)?;
    if direction != FORWARD {
        // Hairpin: from the VIP.
        frame.store(addresses, dst)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::vec::Vec;

    use super::*;
    use crate::address::{V4, V6};
    use crate::flow::{FORWARD_HAIRPIN, Facts, REPLY_HAIRPIN};
    use crate::memory::Memory;
    use crate::memory::packet::{Family, Packet};
    use crate::parse::TCP;

    fn entry<A: Family>(key: &Tuple<A>, to: &Tuple<A>, direction: u8) -> Entry<A> {
        let facts =
            Facts { endpoint: 1, subset: 2, state: 0, direction, seen: 0, created: 0, sequence: 0 };
        Entry::new(key, to, &facts)
    }

    /// The packet with one tuple becomes the packet with another one, byte by byte.
    fn check<A: Family>([client, vip, endpoint]: [A; 3]) {
        for protocol in [TCP, UDP] {
            let tuple = |src, dst, sport: u16, dport: u16| Tuple {
                src,
                dst,
                sport: sport.to_be(),
                dport: dport.to_be(),
                protocol,
                zero: [0; 3],
            };
            let cases = [
                (FORWARD, tuple(client, vip, 40_000, 80), tuple(client, endpoint, 40_000, 9080)),
                (FORWARD, tuple(client, vip, 40_000, 80), tuple(client, endpoint, 1025, 9080)),
                (REPLY, tuple(endpoint, client, 9080, 1025), tuple(vip, client, 80, 40_000)),
                (FORWARD_HAIRPIN, tuple(client, vip, 5, 80), tuple(vip, client, 1104, 9080)),
                (REPLY_HAIRPIN, tuple(client, vip, 9080, 1104), tuple(vip, client, 80, 5)),
            ];
            for (direction, from, to) in cases {
                let came = Packet::of(from, b"some data.").frame();
                let wanted = Packet::of(to, b"some data.").frame();
                for partial in [false, true] {
                    let memory = Memory::of(&came, partial);
                    let headers = A::parse(&memory, 14).expect("a packet");
                    let entry = entry(&from, &to, direction);
                    rewrite(&memory, &headers, &from, &entry).expect("a whole packet");
                    assert_eq!(memory.sent(), wanted, "direction {direction}, partial {partial}");
                }
            }
        }
    }

    #[test]
    fn a_rewritten_packet_is_the_one_with_the_other_tuple() {
        check([V4(0x0100_000a), V4(0x0a00_02c0), V4(0x0200_000a)]);
        check([V6([1, 2]), V6([3, 0x0400_0000_0000_0000]), V6([5, 6])]);
    }

    #[test]
    fn a_datagram_without_a_checksum_stays_without() {
        let from =
            Tuple::<V4> { src: V4(1), dst: V4(2), sport: 3, dport: 4, protocol: UDP, zero: [0; 3] };
        let to = Tuple { dst: V4(5), ..from };
        let mut came: Vec<u8> = Packet::of(from, b"").frame();
        came[40..42].fill(0);
        let memory = Memory::of(&came, false);
        let headers = V4::parse(&memory, 14).expect("a packet");
        rewrite(&memory, &headers, &from, &entry(&from, &to, FORWARD)).expect("a whole packet");
        let sent = memory.sent();
        assert_eq!(sent[40..42], [0, 0]);
        assert_eq!(sent[30..34], 5u32.to_ne_bytes());
    }

    #[test]
    fn a_packet_that_ends_too_early_is_left_to_the_caller_to_drop() {
        let from =
            Tuple::<V4> { src: V4(1), dst: V4(2), sport: 3, dport: 4, protocol: TCP, zero: [0; 3] };
        let came = Packet::of(from, b"").frame();
        let headers = V4::parse(&came[..], 14).expect("a packet");
        let cut = Memory::of(&came[..50], false);
        assert_eq!(rewrite(&cut, &headers, &from, &entry(&from, &from, FORWARD)), None);
    }
}
