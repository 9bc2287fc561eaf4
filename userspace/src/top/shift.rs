//! Weights after a shift by percentage points.

/// The sum of weights in which a hundredth of a percentage point is a whole weight.
const FINE: u64 = 10_000;
/// The same for splits whose weights say more than that.
const FINEST: u64 = 1_000_000_000;

/// The weights by which the subset at `at` gets `points` percentage points more
/// (or less) of the new flows than by `weights`, at most all and at least none,
/// and the others share the rest in the proportions that they have among each
/// other. If they have none, their weights being 0, they share it evenly.
///
/// The sum of weights stays if the shift can be written so, else the weights
/// become those of a larger sum.
pub fn shift(weights: &[u32], at: usize, points: i32) -> Vec<u32> {
    let total: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    if weights.len() < 2 || total == 0 || at >= weights.len() {
        return weights.to_vec();
    }
    let scale = scale(total, points);
    let target = target(u64::from(weights[at]), total, points, scale);
    let mut others: Vec<u64> = weights.iter().map(|&weight| u64::from(weight)).collect();
    others[at] = 0;
    if others.iter().all(|&weight| weight == 0) {
        others.fill(1);
        others[at] = 0;
    }
    let mut after = apportion(&others, scale - target);
    after[at] = target;
    // Infallible: no more than the scale, which is a weight.
    after.into_iter().map(|weight| u32::try_from(weight).unwrap_or(u32::MAX)).collect()
}

/// The sum of the weights after the shift.
fn scale(total: u64, points: i32) -> u64 {
    let exact = (total * u64::from(points.unsigned_abs())).is_multiple_of(100);
    if exact && total <= u64::from(u32::MAX) {
        total
    } else if total <= FINE {
        FINE
    } else {
        FINEST
    }
}

/// What `weight` of `total` and so many points are, of `scale`, to the nearest.
fn target(weight: u64, total: u64, points: i32, scale: u64) -> u64 {
    let (weight, total, scale) = (i128::from(weight), i128::from(total), i128::from(scale));
    let hundredths = (100 * weight + i128::from(points) * total).clamp(0, 100 * total);
    let whole = 100 * total;
    // Infallible: between 0 and the scale.
    u64::try_from((hundredths * scale + whole / 2) / whole).unwrap_or(0)
}

/// Divides `sum` in these proportions, by largest remainders.
fn apportion(proportions: &[u64], sum: u64) -> Vec<u64> {
    let whole: u128 = proportions.iter().map(|&part| u128::from(part)).sum();
    let exact = |part: u64| u128::from(part) * u128::from(sum);
    let mut parts: Vec<u64> =
        proportions.iter().map(|&part| (exact(part) / whole) as u64).collect();
    let mut by_remainder: Vec<usize> = (0..parts.len()).collect();
    by_remainder.sort_by_key(|&at| std::cmp::Reverse(exact(proportions[at]) % whole));
    let left = sum - parts.iter().sum::<u64>();
    for at in by_remainder.into_iter().take(left as usize) {
        parts[at] += 1;
    }
    parts
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn others_give_and_take_in_proportion() {
        for (weights, at, points, expected) in [
            (&[90, 10][..], 1, 5, &[85, 15][..]),
            (&[90, 10], 1, -5, &[95, 5]),
            (&[90, 10], 0, 15, &[100, 0]),
            (&[90, 10], 1, -50, &[100, 0]),
            (&[50, 30, 20], 2, 10, &[44, 26, 30]),
            (&[100, 0], 0, -5, &[95, 5]),
            (&[100, 0, 0], 0, -5, &[95, 3, 2]),
            (&[50, 0, 50], 0, 10, &[60, 0, 40]),
            (&[1, 2], 0, 5, &[3833, 6167]),
            (&[1, 1], 0, 0, &[1, 1]),
            (&[999_999, 1], 1, 1, &[989_999, 10_001]),
            (&[u32::MAX, 1000], 1, 1, &[989_999_767, 10_000_233]),
            (&[7], 0, 5, &[7]),
        ] {
            assert_eq!(shift(weights, at, points), expected, "{weights:?} {at} {points}");
        }
    }

    proptest! {
        #[test]
        fn shares_are_as_asked_and_sums_are_whole(
            weights in proptest::collection::vec(0..=u32::MAX, 2..=16),
            at in 0..2_usize,
            points in -100..=100_i32,
        ) {
            let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
            prop_assume!(total > 0.0);
            let after = shift(&weights, at, points);
            let sum: f64 = after.iter().map(|&w| f64::from(w)).sum();
            let share = f64::from(weights[at]) / total;
            let wanted = (share + f64::from(points) / 100.0).clamp(0.0, 1.0);
            prop_assert!((f64::from(after[at]) / sum - wanted).abs() < 1e-4);
            let others = total - f64::from(weights[at]);
            for (other, (&before, &after)) in weights.iter().zip(&after).enumerate() {
                if other != at && others > 0.0 {
                    let part = f64::from(before) / others * (1.0 - wanted);
                    prop_assert!((f64::from(after) / sum - part).abs() < 2e-4);
                    prop_assert!(before > 0 || after == 0, "who had none gets none");
                }
            }
        }
    }
}
