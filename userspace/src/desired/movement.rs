//! How much of the space of flows goes elsewhere when a split changes.
//!
//! Exact, from the distributions which the choice is made of; shares are parts
//! of all new flows, 0 to 1.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::table::maglev;

/// The part of flows that moves from subset `from` to subset `to` when weights
/// change from `before` to `after` (one for each subset, 0 for one that is not there).
///
/// In weighted rendezvous hashing the subset with the least E_i/w_i wins, E_i
/// being exponentially distributed. That `from` wins with its draw at t under
/// the old weights, and `to` with its draw at v*t under the new ones, means
/// E_k > t*max(w_k, w'_k*v) for all others. Integrated over t that leaves
///
/// ```text
/// w_from * w'_to * integral of dv / B(v)^2,   B(v) = sum over k of max(w_k, w'_k*v)
/// ```
///
/// over v from w_to/w'_to to w_from/w'_from. B is linear between the quotients
/// w_k/w'_k, and the integral over such a piece is (b - a)/(B(a)*B(b)).
pub fn between_subsets(before: &[u32], after: &[u32], from: usize, to: usize) -> f64 {
    let (start, end) = (quotient(before, after, to), quotient(before, after, from));
    if from == to || before[from] == 0 || after[to] == 0 || start >= end {
        return 0.0;
    }
    let bound = |v: f64| -> f64 {
        let pairs = before.iter().zip(after);
        pairs.map(|(&w, &new)| f64::from(w).max(f64::from(new) * v)).sum()
    };
    let mut ends: Vec<f64> = (0..before.len())
        .map(|at| quotient(before, after, at))
        .filter(|v| *v > start && *v < end)
        .collect();
    ends.push(end);
    ends.sort_by(f64::total_cmp);
    let mut integral = 0.0;
    let mut at = start;
    for end in ends {
        integral += if end.is_finite() {
            (end - at) / (bound(at) * bound(end))
        } else {
            let slope: f64 = after.iter().copied().map(f64::from).sum();
            1.0 / (slope * bound(at))
        };
        at = end;
    }
    f64::from(before[from]) * f64::from(after[to]) * integral
}

/// Old weight over new weight; infinite for a subset that gets nothing any more.
fn quotient(before: &[u32], after: &[u32], at: usize) -> f64 {
    match (before[at], after[at]) {
        (_, 0) => f64::INFINITY,
        (old, new) => f64::from(old) / f64::from(new),
    }
}

/// The part of a subset's flows that go to another endpoint when its endpoints
/// change: that of the Maglev table which has another endpoint. All, if one of
/// both has no endpoint. None if one has more than a table can hold.
pub fn between_endpoints(
    before: &BTreeSet<SocketAddr>,
    after: &BTreeSet<SocketAddr>,
) -> Option<f64> {
    if before == after {
        return Some(0.0);
    }
    let (old, new) = (slots(before)?, slots(after)?);
    if old.is_empty() || new.is_empty() {
        return Some(1.0);
    }
    // A draw falls on a place in 0..1 of either table. Both are cut at the ends
    // of all slots of both, in units of 1 / (old length * new length).
    let (old_len, new_len) = (old.len() as u64, new.len() as u64);
    let (mut at, mut moved) = (0, 0);
    while at < old_len * new_len {
        let (i, j) = (at / new_len, at / old_len);
        let end = ((i + 1) * new_len).min((j + 1) * old_len);
        if old[i as usize] != new[j as usize] {
            moved += end - at;
        }
        at = end;
    }
    Some(moved as f64 / (old_len * new_len) as f64)
}

/// The part of a subset's flows that go to another endpoint when they are
/// drawn anew, independently of what they drew before.
pub fn redrawn_endpoints(before: &BTreeSet<SocketAddr>, after: &BTreeSet<SocketAddr>) -> f64 {
    let same = before.intersection(after).count() as f64;
    // Shares in a table differ by a slot at most: 1 over the number of endpoints.
    let pairs = before.len() as f64 * after.len() as f64;
    if pairs == 0.0 { 1.0 } else { 1.0 - same / pairs }
}

/// The endpoint of each slot of a subset's table.
fn slots(endpoints: &BTreeSet<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let size = maglev::size_for(endpoints.len())?;
    let endpoints: Vec<SocketAddr> = endpoints.iter().copied().collect();
    let seeds: Vec<u64> = endpoints.iter().map(|&endpoint| maglev::seed(endpoint)).collect();
    Some(maglev::populate(&seeds, size).into_iter().map(|at| endpoints[at as usize]).collect())
}

#[cfg(test)]
mod tests {
    use probe_common::map::{self, MAX_SUBSETS};
    use probe_common::{choose, hash};
    use proptest::prelude::*;

    use super::*;

    fn all(before: &[u32], after: &[u32]) -> Vec<Vec<f64>> {
        let count = before.len();
        let row = |from| (0..count).map(|to| between_subsets(before, after, from, to)).collect();
        (0..count).map(row).collect()
    }

    fn shares(weights: &[u32]) -> Vec<f64> {
        let sum: f64 = weights.iter().copied().map(f64::from).sum();
        weights.iter().map(|&weight| f64::from(weight) / sum).collect()
    }

    #[test]
    fn two_subsets_exchange_the_difference_of_their_shares() {
        for (before, after, share) in [
            ([90, 10], [50, 50], 0.4),
            ([90, 10], [50, 10], 0.9 - 5.0 / 6.0),
            ([1, 0], [0, 1], 1.0),
            ([100, 0], [99, 1], 0.01),
            ([90, 10], [9, 1], 0.0),
        ] {
            let moves = all(&before, &after);
            assert!((moves[0][1] - share).abs() < 1e-12, "{before:?} to {after:?}: {moves:?}");
            assert!(moves[1][0] == 0.0, "{before:?} to {after:?}: {moves:?}");
        }
    }

    fn subsets(weights: &[u32]) -> [map::Subset; MAX_SUBSETS] {
        let mut subsets =
            [map::Subset { seed: 0, weight: 0, len: 0, table: 0, id: 0 }; MAX_SUBSETS];
        for (at, &weight) in weights.iter().enumerate() {
            subsets[at].seed = hash::identity(1, &[b'v', at as u8]);
            subsets[at].weight = weight;
        }
        subsets
    }

    #[test]
    fn the_kernels_choice_moves_as_much() {
        const FLOWS: u64 = 400_000;
        for (before, after) in [
            (&[90u32, 10, 0][..], &[80u32, 15, 5][..]),
            (&[5, 4, 3, 2, 1], &[1, 2, 3, 4, 5]),
            (&[10, 10, 10], &[0, 10, 30]),
            (&[7, 3], &[3, 7]),
        ] {
            let (old, new) = (subsets(before), subsets(after));
            let count = before.len();
            let mut seen = vec![vec![0u64; count]; count];
            for n in 0..FLOWS {
                let hash = hash::mix(n ^ 0x5eed);
                let choose = |subsets| choose::subset(hash, subsets, count as u32).unwrap();
                seen[choose(&old)][choose(&new)] += 1;
            }
            let moves = all(before, after);
            for (from, to) in (0..count).flat_map(|i| (0..count).map(move |j| (i, j))) {
                if from == to {
                    continue;
                }
                let (share, seen) = (moves[from][to], seen[from][to] as f64);
                // The hypothesis: binomial with that share. Six standard deviations: the
                // flows are always the same ones, and 5.1 would do for one in 10^6.
                let mean = share * FLOWS as f64;
                let deviation = (mean * (1.0 - share)).sqrt();
                assert!(
                    (seen - mean).abs() <= 6.0 * deviation,
                    "{before:?} to {after:?}: {from} to {to}: {seen} flows, expected {mean}"
                );
            }
        }
    }

    fn weights() -> impl Strategy<Value = (Vec<u32>, Vec<u32>)> {
        let weight = || prop_oneof![Just(0), 1..100u32, any::<u32>()];
        (1..=MAX_SUBSETS)
            .prop_flat_map(move |n| {
                (prop::collection::vec(weight(), n), prop::collection::vec(weight(), n))
            })
            .prop_filter("not all 0", |(a, b)| [a, b].iter().all(|w| w.iter().any(|&w| w > 0)))
    }

    proptest! {
        #[test]
        fn moves_lead_from_the_old_shares_to_the_new((before, after) in weights()) {
            let moves = all(&before, &after);
            let (old, new) = (shares(&before), shares(&after));
            for at in 0..before.len() {
                let out: f64 = moves[at].iter().sum();
                let into: f64 = moves.iter().map(|row| row[at]).sum();
                prop_assert!((old[at] - out + into - new[at]).abs() < 1e-9, "subset {}", at);
                prop_assert!(out >= 0.0 && out <= old[at] + 1e-9);
            }
        }

        #[test]
        fn nothing_moves_to_a_subset_that_lost_relative_to_the_other(
            (before, after) in weights()
        ) {
            let moves = all(&before, &after);
            for (i, j) in (0..before.len()).flat_map(|i| (0..before.len()).map(move |j| (i, j))) {
                prop_assert!(moves[i][j] == 0.0 || moves[j][i] == 0.0, "{} and {}", i, j);
            }
        }
    }

    fn endpoints(range: std::ops::Range<u8>) -> BTreeSet<SocketAddr> {
        range.map(|n| SocketAddr::from(([10, 0, 0, n], 80))).collect()
    }

    #[test]
    fn endpoints_move_as_the_tables_slots_do() {
        let moved = |a, b| between_endpoints(&endpoints(a), &endpoints(b)).unwrap();
        assert_eq!(moved(0..5, 0..5), 0.0);
        assert_eq!(moved(0..5, 5..9), 1.0);
        assert_eq!(moved(0..0, 0..1), 1.0);
        assert_eq!(moved(0..0, 0..0), 0.0);
        // Tables of 509 and 2039 slots, and of one length.
        for (few, many) in [(4, 5), (6, 7), (1, 2), (64, 65)] {
            let share = moved(0..few, 0..many);
            assert_eq!(share, moved(0..many, 0..few), "{few} and {many}");
            let least = 1.0 / f64::from(many);
            assert!(share > least - 0.01, "{few} and {many}: {share}");
        }
        // The largest difference that Maglev makes beyond the least is small.
        assert!(moved(0..6, 0..7) < 1.0 / 7.0 + 0.2);
        let many = (0..1025u16).map(|n| SocketAddr::from(([10, 0, 0, 1], n + 1))).collect();
        assert_eq!(between_endpoints(&endpoints(0..1), &many), None);
    }
}
