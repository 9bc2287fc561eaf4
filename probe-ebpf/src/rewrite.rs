//! The rewrite of a packet's tuple, the same in every direction.

use probe_common::address::Tuple;
use probe_common::checksum::update;
use probe_common::flow::{Entry, FORWARD, REPLY};
use probe_common::parse::{Headers, Parse, UDP};

use crate::frame::{ChecksumChange, Frame};

/// Puts what the entry makes of the tuple on the wire. None if the packet
/// cannot be changed.
#[inline(always)]
pub fn rewrite<A: Parse, F: Frame>(
    frame: &F,
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
