//! The choice of a subset, and of an endpoint in it, by the hash of a flow alone:
//! [`choose`].
//!
//! A subset is chosen by weighted rendezvous hashing by the logarithm method
//! (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005).
//!
//! Subset i draws u_i uniformly from hash(flow, seed of i); the smallest
//! -log(u_i)/w_i wins. Shares are then exactly w_i/sum(w) for any weights, the
//! order of subsets does not matter, and a change of weights moves the least
//! number of flows. Here in fixed point: -log2(u) in Q24 ([`cost`]) from the
//! count of leading zeros and a table of 256 segments, compared by cross
//! multiplication; no division, no float.

use core::hint::black_box;

use crate::hash::mix;
use crate::map::{CHUNK, MAX_SUBSETS, ServiceKey, Split, Subset};

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
    for at in 0..count as usize {
        // Of an index that it sees through, the compiler makes a pointer that begins before the
        // array, which verifiers since Linux 7 refuse.
        let Some(candidate) = subsets.get(black_box(at)) else {
            break;
        };
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

/// The splits of a node: where the choice of an endpoint looks.
pub trait Splits {
    /// The id of the split at a service address.
    fn split(&self, service: &ServiceKey) -> Option<u32>;
    /// The version of a split that is in force.
    fn version(&self, split: u32) -> Option<u32>;
    /// What is in a version.
    fn contents(&self, version: u32) -> Option<&Split>;
    /// Endpoint ids in a chunk of Maglev tables.
    fn chunk(&self, at: u32) -> Option<&[u32; CHUNK]>;

    /// [`subset`]. Kernel programs do that apart from the rest: the verifier would follow
    /// it once for each way to it.
    #[inline(always)]
    fn subset(&self, hash: u64, _version: u32, contents: &Split) -> Option<usize> {
        subset(hash, &contents.subsets, contents.count)
    }
}

/// Where a new flow goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chosen {
    /// The id of its subset.
    pub subset: u32,
    /// The id of its endpoint; None if the subset has none.
    pub endpoint: Option<u32>,
}

/// The choice for a new flow to a split; None if that has no subset with a weight. `hash` is
/// asked for the hash of the flow: of its client alone if that is what the split goes by.
#[inline(always)]
pub fn choose(splits: &impl Splits, split: u32, hash: impl FnOnce(bool) -> u64) -> Option<Chosen> {
    let version = splits.version(split)?;
    let contents = splits.contents(version)?;
    let hash = hash(contents.client_affinity != 0);
    let at = splits.subset(hash, version, contents)?;
    let subset = contents.subsets.get(at)?;
    Some(Chosen { subset: subset.id, endpoint: endpoint(splits, subset, hash) })
}

/// The endpoint of a flow in a subset, if it has one.
#[inline(always)]
fn endpoint(splits: &impl Splits, subset: &Subset, hash: u64) -> Option<u32> {
    match subset.len {
        0 => None,
        1 => Some(subset.table),
        len => {
            let slot = slot(hash, subset.seed, len);
            let chunk = splits.chunk(subset.table + slot / CHUNK as u32)?;
            Some(chunk[slot as usize % CHUNK])
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::collections::{BTreeMap, BTreeSet};
    use std::vec::Vec;

    use bytemuck::Zeroable as _;

    use super::*;

    const SERVICE: ServiceKey =
        ServiceKey { address: [1, 0, 0, 0], port: 80, protocol: 6, family: 4 };

    /// A split, with id 7, whose version 15 is in force: two subsets, of one endpoint and of
    /// 200, a third one without, and a fourth one without a weight.
    struct Node {
        contents: Split,
        chunks: Vec<[u32; CHUNK]>,
    }

    impl Node {
        fn new(weights: [u32; 4]) -> Self {
            let mut contents = Split { count: 4, ..Split::zeroed() };
            let [one, many, none, idle] = weights;
            let subset = |n: u64, weight, len, table| Subset {
                seed: mix(n),
                weight,
                len,
                table,
                id: 100 + n as u32,
            };
            contents.subsets[0] = subset(0, one, 1, 42);
            contents.subsets[1] = subset(1, many, 200, 3);
            contents.subsets[2] = subset(2, none, 0, 0);
            contents.subsets[3] = subset(3, idle, 1, 43);
            // Behind the table is what belongs to another one.
            let ids = |first: u32| core::array::from_fn(|at| first + at as u32);
            let mut chunks: Vec<[u32; CHUNK]> = (0..5).map(|_| [u32::MAX; CHUNK]).collect();
            chunks[3] = ids(1000);
            chunks[4] = ids(1000 + CHUNK as u32);
            Self { contents, chunks }
        }
    }

    impl Splits for Node {
        fn split(&self, service: &ServiceKey) -> Option<u32> {
            (*service == SERVICE).then_some(7)
        }

        fn version(&self, split: u32) -> Option<u32> {
            (split == 7).then_some(15)
        }

        fn contents(&self, version: u32) -> Option<&Split> {
            (version == 15).then_some(&self.contents)
        }

        fn chunk(&self, at: u32) -> Option<&[u32; CHUNK]> {
            self.chunks.get(at as usize)
        }
    }

    #[test]
    fn a_hash_of_a_new_flow_is_all_that_the_choice_takes() {
        let node = Node::new([2, 5, 3, 0]);
        assert_eq!(node.split(&ServiceKey { port: 81, ..SERVICE }), None);
        let split = node.split(&SERVICE).expect("the split");
        let mut flows = BTreeMap::<u32, u32>::new();
        let mut endpoints = BTreeSet::new();
        for n in 0..20_000 {
            let hash = mix(n);
            let chosen = choose(&node, split, |_| hash).expect("a subset");
            assert_eq!(choose(&node, split, |_| hash), Some(chosen), "the same hash");
            *flows.entry(chosen.subset).or_default() += 1;
            match (chosen.subset, chosen.endpoint) {
                (100, Some(42)) | (102, None) => {}
                (101, Some(id)) => {
                    endpoints.insert(id);
                }
                (subset, endpoint) => panic!("{endpoint:?} of {subset}"),
            }
        }
        assert_eq!(endpoints, (1000..1200).collect(), "each endpoint, and no other one");
        // 4,000, 10,000 and 6,000 expected; standard deviations of 57, 71 and 65.
        let expected = [(100, 4_000), (101, 10_000), (102, 6_000)];
        for (subset, wanted) in expected {
            assert!(flows[&subset].abs_diff(wanted) < 600, "{subset}: {flows:?}");
        }
    }

    #[test]
    fn a_split_says_what_its_hash_is_of() {
        let mut node = Node::new([1, 0, 0, 0]);
        for affinity in [0, 1] {
            node.contents.client_affinity = affinity;
            let mut asked = None;
            let chosen = choose(&node, 7, |by_client| {
                asked = Some(by_client);
                0
            });
            assert_eq!(chosen, Some(Chosen { subset: 100, endpoint: Some(42) }));
            assert_eq!(asked, Some(affinity == 1));
        }
    }

    #[test]
    fn without_a_weight_there_is_nothing_to_choose() {
        assert_eq!(choose(&Node::new([0; 4]), 7, |_| 1), None);
        assert_eq!(choose(&Node::new([1; 4]), 8, |_| 1), None, "no such split");
    }
}
