//! Versions that take longer than the others of their split.

use probe_common::times::{Measured, SubsetTimes};

use super::{Tried, is_worse};

/// What the times of a subset are held against: what most of the others' do not exceed.
const MOST: f64 = 0.9;
/// How many times longer than that is slow.
const FACTOR: f64 = 1.5;

/// Of each subset of a split, whether more of its times than chance explains ([`super::LEVEL`])
/// are one and a half times as long as nine tenths of those of the other subsets together. Not of one whose
/// times are not known, or of which there is no other.
pub fn slower(all: &[Option<SubsetTimes>], measured: Measured) -> Vec<bool> {
    let is_slow = |at: usize| {
        let own = all[at].as_ref()?;
        let mut others = SubsetTimes::ZERO;
        let known = all.iter().enumerate().filter(|(other, _)| *other != at);
        known.filter_map(|(_, times)| times.as_ref()).for_each(|times| others.add(times));
        let usual = others.quantile(measured, MOST)?;
        let limit = (usual as f64 * FACTOR) as u64;
        Some(is_worse(above(own, measured, limit), above(&others, measured, limit)))
    };
    (0..all.len()).map(|at| is_slow(at).unwrap_or_default()).collect()
}

/// How many are in buckets that begin above a limit.
fn above(times: &SubsetTimes, measured: Measured, limit: u64) -> Tried {
    let buckets = times.buckets(measured).iter().enumerate();
    let above = buckets.filter(|(at, _)| measured.least(*at) >= limit).map(|(_, count)| count);
    Tried { all: times.count(measured), failed: above.sum() }
}

#[cfg(test)]
mod tests {
    use probe_common::times::NUMBERS;

    use super::*;

    /// So many times of so many units each.
    fn times(each: &[(u64, u64)]) -> SubsetTimes {
        let mut times = SubsetTimes::ZERO;
        let numbers: &mut [u64; NUMBERS] = bytemuck::cast_mut(&mut times);
        for &(units, count) in each {
            numbers[Measured::Handshake.number(units)] += count;
        }
        times
    }

    #[test]
    fn a_version_is_slower_if_more_than_chance_of_its_times_are_long() {
        let usual = times(&[(100, 900), (200, 100)]);
        let cases = [
            ("the same", times(&[(100, 90), (200, 10)]), false),
            ("by a fifth", times(&[(120, 90), (240, 10)]), false),
            ("twice as long", times(&[(400, 100)]), true),
            ("a tenth hangs", times(&[(100, 90), (100_000, 10)]), true),
            ("three did: chance", times(&[(400, 1), (100, 2)]), false),
            ("nothing is known", times(&[]), false),
        ];
        for (what, own, expected) in cases {
            let found = slower(&[Some(usual), Some(own)], Measured::Handshake);
            assert_eq!(found, [false, expected], "{what}");
            assert_eq!(slower(&[Some(own)], Measured::Handshake), [false], "{what}, alone");
        }
        let unknown = slower(&[None, Some(usual)], Measured::Handshake);
        assert_eq!(unknown, [false, false]);
    }
}
