//! ICMP errors about steered packets, made errors about the packets as they were
//! before that.

use crate::checksum::{fold, update};
use crate::frame::Frame;
use crate::icmp::{Errors, Quote};
use crate::parse::UDP;

/// What the quoted packet was before it was steered. Ports are 0 if it is a
/// fragment other than the first.
#[derive(Debug, Clone, Copy)]
pub struct Original<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, wire order.
    pub sport: u16,
    /// Destination port, wire order.
    pub dport: u16,
    /// Folded sum of the original addresses and complements of the quoted ones.
    pub address_delta: u16,
    /// The same of ports.
    pub port_delta: u16,
}

/// Source and destination of the error itself; None past the end.
#[inline(always)]
pub fn ends<A: Errors>(frame: &impl Frame, quote: &Quote) -> Option<[A; 2]> {
    let addresses = quote.l3 + A::ADDRESSES;
    Some([frame.load(addresses)?, frame.load(addresses + size_of::<A>())?])
}

/// Makes an error that went between `old` ends one about the original packet, to who
/// sent that; if `hidden`, in the name of whom that was sent to. None past the end.
#[inline(always)]
pub fn translate<A: Errors>(
    frame: &impl Frame,
    quote: &Quote,
    old: [A; 2],
    hidden: bool,
    original: &Original<A>,
) -> Option<()> {
    let new = [old[0].or(original.dst, hidden), original.src];
    let addresses = quote.l3 + A::ADDRESSES;
    let checksum: u16 = frame.load(quote.icmp + 2)?;
    let mut change = inner(frame, quote, original)?;
    let outer = old[0].sum_not() + old[1].sum_not() + new[0].sum() + new[1].sum();
    frame.store(addresses, new[0])?;
    frame.store(addresses + size_of::<A>(), new[1])?;
    if A::PSEUDO {
        change += outer;
    } else {
        refresh(frame, quote.l3 + 10, fold(outer), false)?;
    }
    frame.store(quote.icmp + 2, update(checksum, fold(change)))
}

/// Rewrites the quoted packet; the change of the sum of its bytes.
#[inline(always)]
fn inner<A: Errors>(frame: &impl Frame, quote: &Quote, original: &Original<A>) -> Option<u64> {
    let headers = &quote.inner;
    let addresses = headers.l3 + A::ADDRESSES;
    let mut change = original.address_delta as u64;
    frame.store(addresses, original.src)?;
    frame.store(addresses + size_of::<A>(), original.dst)?;
    if !A::PSEUDO {
        change += refresh(frame, headers.l3 + 10, original.address_delta, false)?;
    }
    if quote.later {
        return Some(change);
    }
    change += original.port_delta as u64;
    frame.store(headers.l4, [original.sport, original.dport])?;
    if let Some(offset) = quote.checksum()
        && let Some(field) = frame.load::<u16>(offset)
        && (headers.protocol != UDP || field != 0)
    {
        let both = original.address_delta as u64 + original.port_delta as u64;
        change += refresh(frame, offset, fold(both), headers.protocol == UDP)?;
    }
    Some(change)
}

/// Updates a checksum field for a change of what it covers; the change of the
/// sum of bytes that this is. That of UDP is never 0, which would mean none.
#[inline(always)]
pub fn refresh(frame: &impl Frame, offset: usize, delta: u16, udp: bool) -> Option<u64> {
    let old: u16 = frame.load(offset)?;
    let new = match update(old, delta) {
        0 if udp => 0xffff,
        new => new,
    };
    frame.store(offset, new)?;
    Some(!old as u64 + new as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::{Tuple, V4, V6};
    use crate::flow::deltas;
    use crate::memory::Memory;
    use crate::memory::packet::{Family, Packet, ethernet, icmp};
    use crate::parse::TCP;

    /// An error about a steered packet becomes the error about the original one.
    fn check<A: Family + Errors>([client, vip, endpoint, router]: [A; 4], kind: [u8; 6]) {
        for protocol in [TCP, UDP] {
            let sent = Tuple {
                src: client,
                dst: vip,
                sport: 40_000u16.to_be(),
                dport: 80u16.to_be(),
                protocol,
                zero: [0; 3],
            };
            let steered = Tuple { dst: endpoint, dport: 9080u16.to_be(), ..sent };
            let [address_delta, port_delta] = deltas(&steered, &sent);
            let original = Original {
                src: client,
                dst: vip,
                sport: sent.sport,
                dport: sent.dport,
                address_delta,
                port_delta,
            };
            for (from, hidden, named) in [(router, false, router), (endpoint, true, vip)] {
                // All of it, and as little as a router must quote.
                for kept in [usize::MAX, 28 + 20 * usize::from(A::PSEUDO)] {
                    let quoted = |tuple| {
                        let mut bytes = Packet::of(tuple, b"abc").bytes();
                        bytes.truncate(kept);
                        bytes
                    };
                    let error = icmp([from, client], 9, kind, &quoted(steered));
                    let mut wanted = icmp([named, client], 9, kind, &quoted(sent));
                    let memory = Memory::new(&ethernet::<A>(error));
                    let quote = Quote::find::<A>(&memory, 14).expect("an error");
                    let old = ends::<A>(&memory, &quote).expect("its addresses");
                    assert_eq!(old, [from, client]);
                    translate(&memory, &quote, old, hidden, &original).expect("a whole packet");
                    wanted = ethernet::<A>(wanted);
                    assert_eq!(memory.into_frame(), wanted, "protocol {protocol}, {kept} quoted");
                }
            }
        }
    }

    #[test]
    fn an_error_is_about_the_packet_that_its_receiver_has_sent() {
        let v4 = [0x0100_000a, 0x0a00_02c0, 0x0200_000a, 0x0300_000a].map(V4);
        check(v4, [3, 4, 0, 0, 5, 0xdc]);
        check([V6([1, 2]), V6([3, 4]), V6([5, 6]), V6([7, 8])], [2, 0, 0, 0, 5, 0]);
    }
}
