//! Look-ups in the filters of addresses and ports; see [`probe_common::filter`].

use aya_ebpf::maps::Array;
use probe_common::address::Address;
use probe_common::filter;

/// Whether the bits of an address and port are set.
#[inline(always)]
pub fn listed<A: Address>(map: &Array<u64>, address: A, port: u16) -> bool {
    let (word, bits) = filter::position(address, port);
    map.get(word).is_some_and(|set| *set & bits == bits)
}

/// Whether the bit of an address is set, whatever the port.
#[inline(always)]
pub fn listed_at_all<A: Address>(map: &Array<u64>, address: A) -> bool {
    let (word, bit) = filter::position_of(address);
    map.get(word).is_some_and(|set| *set & bit != 0)
}
