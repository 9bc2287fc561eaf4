//! Shares and movement of the subset choice, in user space: the code that the
//! kernel programs run too.

use probe_common::address::{Tuple, V4};
use probe_common::map::{MAX_SUBSETS, Subset};
use probe_common::{choose, hash};
use weir_tests::stats::assert_shares;

const FLOWS: u64 = 10_000_000;

fn subsets(weights: &[u32]) -> [Subset; MAX_SUBSETS] {
    let mut subsets = [Subset { seed: 0, weight: 0, len: 0, table: 0, id: 0 }; MAX_SUBSETS];
    for (at, &weight) in weights.iter().enumerate() {
        subsets[at].seed = hash::identity(1, &[b'v', at as u8]);
        subsets[at].weight = weight;
    }
    subsets
}

/// Flow number `n`: sequential ports of sequential addresses, or all bits mixed.
fn flow(n: u64, sequential: bool) -> Tuple<V4> {
    let draw = if sequential { n } else { hash::mix(n ^ 0xf10f) };
    Tuple {
        src: V4((0xc633_6400 + (draw / 60_000) as u32).to_be()),
        dst: V4(0xc000_020au32.to_be()),
        sport: (1024 + (draw % 60_000) as u16).to_be(),
        dport: 9080u16.to_be(),
        protocol: 6,
        zero: [0; 3],
    }
}

fn observe(weights: &[u32], sequential: bool) -> Vec<u64> {
    let subsets = subsets(weights);
    let mut observed = vec![0; weights.len()];
    for n in 0..FLOWS {
        let hash = hash::flow(0x5eed, &flow(n, sequential));
        observed[choose::subset(hash, &subsets, weights.len() as u32).unwrap()] += 1;
    }
    observed
}

/// Hypothesis: each subset's flows are binomial with p = weight / sum.
fn shares_hold(weights: &[u32]) {
    let expected: Vec<u64> = weights.iter().map(|&w| u64::from(w)).collect();
    let sum: u64 = expected.iter().sum();
    for sequential in [true, false] {
        let observed = observe(weights, sequential);
        let wanted: Vec<u64> = expected
            .iter()
            .map(|w| (u128::from(FLOWS) * u128::from(*w) / u128::from(sum)) as u64)
            .collect();
        println!("{weights:?} sequential={sequential}: observed {observed:?}, expected {wanted:?}");
        assert_shares(&observed, &expected, &format!("{weights:?}, sequential={sequential}"));
    }
}

#[test]
fn shares_follow_small_weights() {
    for weights in [&[1, 1][..], &[90, 10], &[99, 1], &[1, 1, 1], &[70, 30, 0]] {
        shares_hold(weights);
    }
}

#[test]
fn shares_follow_extreme_weights() {
    let sixteen: Vec<u32> = (1..=16).collect();
    for weights in [&[999_999, 1][..], &[u32::MAX, 1000], &[u32::MAX; 16], &sixteen] {
        shares_hold(weights);
    }
}

/// Hypothesis: the flows that change subset are binomial with p = half the sum
/// of the absolute changes of share, the least possible; and none goes from or
/// to where the share moved the other way.
#[test]
fn a_change_of_weights_moves_the_minimum() {
    for change in 0..20u64 {
        let draw = |at: u64| (hash::mix(change * 64 + at) % 1000 + 1) as u32;
        let count = 2 + (change % 7) as usize;
        let before: Vec<u32> = (0..count as u64).map(draw).collect();
        let raised = change as usize % count;
        let mut after = before.clone();
        after[raised] += draw(40);
        let (old, new) = (subsets(&before), subsets(&after));
        let sum = |w: &[u32]| w.iter().map(|&w| u64::from(w)).sum::<u64>();
        let (mut moved, flows) = (0u64, 1_000_000);
        for n in 0..flows {
            let hash = hash::flow(0x5eed, &flow(n, true));
            let from = choose::subset(hash, &old, count as u32).unwrap();
            let to = choose::subset(hash, &new, count as u32).unwrap();
            if from != to {
                assert_eq!(to, raised, "{before:?} to {after:?}: flow {n} moved from {from}");
                moved += 1;
            }
        }
        // The raised share grows by a/b - c/d = (ad - cb) / bd; nothing else may move.
        let (a, b) = (u64::from(after[raised]), sum(&after));
        let (c, d) = (u64::from(before[raised]), sum(&before));
        let weights = [a * d - c * b, b * d - (a * d - c * b)];
        assert_shares(&[moved, flows - moved], &weights, &format!("{before:?} to {after:?}"));
    }
}
