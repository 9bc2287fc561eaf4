//! The keyed flow hash.
//!
//! Words of the input are absorbed one by one through a bijective mixer with
//! full avalanche, so structured input (sequential ports, sequential
//! addresses) gives uniform output. The mixer is the "moremur" variant of
//! MurmurHash3's 64-bit finalizer (Pelle Evensen, 2019).

use crate::address::{Address, Tuple};

/// Full-avalanche bijection on 64 bits.
#[inline(always)]
pub const fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 27)).wrapping_mul(0x3c79_ac49_2ba7_b653);
    let x = (x ^ (x >> 33)).wrapping_mul(0x1c69_b3f7_4ac4_ae35);
    x ^ (x >> 27)
}

/// Hash of a flow of a split without affinity: the 5-tuple.
#[inline(always)]
pub fn flow<A: Address>(seed: u64, tuple: &Tuple<A>) -> u64 {
    let ports = (tuple.sport as u64) << 32 | (tuple.dport as u64) << 16 | tuple.protocol as u64;
    let hash = mix(seed ^ 0x9e37_79b9_7f4a_7c15);
    mix(tuple.dst.absorb(tuple.src.absorb(hash)) ^ ports)
}

/// Hash of all flows of a client in a split with `affinity: ClientIP`.
#[inline(always)]
pub fn client<A: Address>(seed: u64, tuple: &Tuple<A>) -> u64 {
    tuple.src.absorb(mix(seed ^ 0x9e37_79b9_7f4a_7c15))
}

/// A stable seed from the bytes of an identity ("split name, subset name" or
/// an endpoint's address): never from an index, so that all nodes agree.
pub const fn identity(domain: u64, bytes: &[u8]) -> u64 {
    let mut hash = mix(domain ^ bytes.len() as u64);
    let mut at = 0;
    while at < bytes.len() {
        hash = mix(hash ^ bytes[at] as u64);
        at += 1;
    }
    hash
}
