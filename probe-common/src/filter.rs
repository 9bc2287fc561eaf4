//! The bitmap that turns away packets which are no business of weir.
//!
//! Most packets on an interface are addressed to no split. One word of an
//! array, chosen by the address, has a bit of the address and one of the port; a
//! clear one is the answer for the price of an array lookup. Two set ones prove
//! nothing. It is a Bloom filter in blocks of one word (Putze, Sanders, Singler:
//! Cache-, hash- and space-efficient Bloom filters, 2007).
//!
//! Ports that agree in their low six bits share a bit: the port that a hairpin
//! flow is given (see [`same_bit`]) is found by its service's bits.

use crate::address::Address;
use crate::hash::mix;

/// Words (u64) in the bitmap; a power of two.
pub const WORDS: u32 = 16384;

/// The word of an address, and the bits of it and of the port there.
#[inline(always)]
pub fn position<A: Address>(address: A, port: u16) -> (u32, u64) {
    let (hash, word, of_address) = place(address);
    let bit = ((hash >> 40) ^ u16::from_be(port) as u64) & 63;
    (word, of_address | 1 << bit)
}

/// The word of an address, and its bit there, whatever the port.
#[inline(always)]
pub fn position_of<A: Address>(address: A) -> (u32, u64) {
    let (_, word, of_address) = place(address);
    (word, of_address)
}

#[inline(always)]
fn place<A: Address>(address: A) -> (u64, u32, u64) {
    let hash = mix(address.fold() as u64);
    (hash, hash as u32 & (WORDS - 1), 1 << ((hash >> 48) & 63))
}

/// A port from 1024 on that shares its filter bit with `service`: one of 1008,
/// drawn by `port` and `attempt`, so that neighbouring ports draw different
/// ones. All in wire order.
#[inline(always)]
pub fn same_bit(port: u16, service: u16, attempt: u16) -> u16 {
    let draw = mix((port as u64) << 16 | attempt as u64) as u32;
    let high = 16 + ((draw as u64 * 1008) >> 32) as u16;
    ((high << 6) | (u16::from_be(service) & 63)).to_be()
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use crate::address::V4;

    #[test]
    fn a_drawn_port_shares_the_bit_of_the_service() {
        let address = V4::from_words([1, 0, 0, 0]);
        for service in [1_u16, 80, 9080, 65535].map(u16::to_be) {
            for port in 0..=u16::MAX {
                let drawn = same_bit(port, service, 3);
                assert!(u16::from_be(drawn) >= 1024, "{port}");
                assert_eq!(position(address, drawn), position(address, service), "{port}");
            }
        }
    }

    #[test]
    fn attempts_of_neighbouring_ports_do_not_run_out() {
        // A third of the ports, each the first free one of eight draws.
        let mut taken = std::collections::BTreeSet::new();
        for port in 10_000_u16..10_336 {
            let free = (0..8).any(|n| taken.insert(same_bit(port.to_be(), 9080_u16.to_be(), n)));
            assert!(free, "port {port}, {} taken", taken.len());
        }
    }
}
