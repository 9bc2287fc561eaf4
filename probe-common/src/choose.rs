//! The choice of a subset: weighted rendezvous hashing by the logarithm
//! method (Schindelhauer and Schomaker, "Weighted distributed hash tables",
//! SPAA 2005).
//!
//! Subset i draws u_i uniformly from hash(flow, seed of i); the smallest
//! -log(u_i)/w_i wins. Shares are then exactly w_i/sum(w) for any weights, the
//! order of subsets does not matter, and a change of weights moves the least
//! number of flows. Here in fixed point: -log2(u) in Q24 ([`cost`]) from the
//! count of leading zeros and a table of 256 segments, compared by cross
//! multiplication; no division, no float.

use crate::hash::mix;
use crate::map::{MAX_SUBSETS, Subset};

/// log2(1 + i/256) in Q24.
static LOG2: [u32; 257] = log2_table();

/// log2 by repeated squaring: each squaring of a mantissa yields a bit.
const fn log2_table() -> [u32; 257] {
    let mut table = [0; 257];
    let mut i = 0;
    while i < 256 {
        let mut mantissa: u128 = (256 + i as u128) << 54;
        let mut log = 0u32;
        let mut bit = 0;
        while bit < 25 {
            mantissa = (mantissa * mantissa) >> 62;
            log <<= 1;
            if mantissa >> 63 != 0 {
                log |= 1;
                mantissa >>= 1;
            }
            bit += 1;
        }
        table[i] = (log + 1) >> 1;
        i += 1;
    }
    table[256] = 1 << 24;
    table
}

/// -log2(u) in Q24, for u = `uniform` / 2^64. At most 64 in Q24, so that its
/// product with a u32 weight fits 64 bits.
#[inline(always)]
pub fn cost(uniform: u64) -> u64 {
    let uniform = uniform | 1;
    let zeros = uniform.leading_zeros() as u64;
    let mantissa = uniform << zeros;
    let segment = ((mantissa >> 55) & 0xff) as usize;
    let within = (mantissa >> 31) & 0xff_ffff;
    let (low, high) = (LOG2[segment] as u64, LOG2[segment + 1] as u64);
    let log = low + (((high - low) * within) >> 24);
    ((zeros + 1) << 24) - log
}

/// The draw of the subset with that seed, for the flow with that hash.
#[inline(always)]
pub fn draw(hash: u64, seed: u64) -> u64 {
    cost(mix(hash ^ seed))
}

/// The subset that the flow with that hash goes to, an index below `count`.
/// None only if all weights are 0.
#[inline(always)]
pub fn subset(hash: u64, subsets: &[Subset; MAX_SUBSETS], count: u32) -> Option<usize> {
    let (mut best, mut best_seed, mut best_cost, mut best_weight) = (0, 0, 0, 0);
    for (at, candidate) in subsets.iter().enumerate() {
        if at as u32 >= count {
            break;
        }
        let weight = candidate.weight as u64;
        let cost = draw(hash, candidate.seed);
        // cost/weight < best_cost/best_weight; a tie goes to the smaller seed, not to an index.
        let (mine, theirs) = (cost * best_weight, best_cost * weight);
        let wins = mine < theirs || (mine == theirs && candidate.seed < best_seed);
        // Not `continue` above: of a loop with two ways back, the compiler makes one that falls
        // into the loop's head, which verifiers before Linux 6.8 refuse.
        if weight != 0 && (best_weight == 0 || wins) {
            (best, best_seed, best_cost, best_weight) = (at, candidate.seed, cost, weight);
        }
    }
    (best_weight != 0).then_some(best)
}

/// The slot of a Maglev table of `len` slots.
#[inline(always)]
pub const fn slot(hash: u64, seed: u64, len: u32) -> u32 {
    let draw = mix(hash ^ seed.rotate_left(32) ^ 0x5851_f42d_4c95_7f2d);
    (((draw >> 32) * len as u64) >> 32) as u32
}
