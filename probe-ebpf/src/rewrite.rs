//! The rewrite of a packet's tuple, the same in every direction.

use probe_common::address::Address;
use probe_common::checksum::update;
use probe_common::flow::Entry;
use probe_common::parse::{Headers, UDP};

use crate::frame::{ChecksumChange, Frame};

/// Puts `entry.to` on the wire. None if the packet cannot be changed.
#[inline(always)]
pub fn rewrite<A: Address, F: Frame>(
    frame: &F,
    headers: &Headers<A>,
    entry: &Entry<A>,
) -> Option<()> {
    let v6 = size_of::<A>() == 16;
    let (l3, l4) = (headers.l3, headers.l4);
    let length: u16;
    if v6 {
        length = u16::from_be(frame.load(l3 + 4)?).wrapping_sub((l4 - l3 - 40) as u16);
        frame.store(l3 + 8, entry.to.src)?;
        frame.store(l3 + 24, entry.to.dst)?;
    } else {
        length = u16::from_be(frame.load(l3 + 2)?).wrapping_sub((l4 - l3) as u16);
        let checksum: u16 = frame.load(l3 + 10)?;
        frame.store(l3 + 10, update(checksum, entry.address_delta))?;
        frame.store(l3 + 12, entry.to.src)?;
        frame.store(l3 + 16, entry.to.dst)?;
    }
    frame.store(l4, entry.to.sport)?;
    frame.store(l4 + 2, entry.to.dport)?;
    let tuple = &headers.tuple;
    let udp = tuple.protocol == UDP;
    frame.update_l4(&ChecksumChange {
        offset: l4 + if udp { 6 } else { 16 },
        address_delta: entry.address_delta,
        port_delta: entry.port_delta,
        udp,
        v6,
        pseudo: tuple.src.sum()
            + tuple.dst.sum()
            + u16::to_be(tuple.protocol as u16) as u64
            + length.to_be() as u64,
    })
}
