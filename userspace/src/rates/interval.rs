//! How far an observed share may be from the true one.

/// The 97.5th percentile of the normal distribution: 2.5 % beyond it on either side.
const Z: f64 = 1.959_963_984_540_054;

/// Wilson's score interval at 95 %: the shares that are compatible with `hits`
/// of `all` independent draws. None without draws.
///
/// It is never outside of 0 to 1 and useful for few draws and shares near 0 and
/// 1, where the usual approximation is not. (Wilson 1927; Newcombe, "Two-sided
/// confidence intervals for the single proportion", Statistics in Medicine 1998.)
pub fn wilson(hits: u64, all: u64) -> Option<[f64; 2]> {
    if all == 0 || hits > all {
        return None;
    }
    let n = all as f64;
    let share = hits as f64 / n;
    let z2 = Z * Z / n;
    let centre = (share + z2 / 2.0) / (1.0 + z2);
    let reach = Z / (1.0 + z2) * (share * (1.0 - share) / n + z2 / (4.0 * n)).sqrt();
    // Exactly so at the ends, whatever the rounding.
    let low = if hits == 0 { 0.0 } else { (centre - reach).max(0.0) };
    let high = if hits == all { 1.0 } else { (centre + reach).min(1.0) };
    Some([low, high])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interval_is_that_of_the_literature() {
        // Newcombe 1998, table I, method 3.
        for (hits, all, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ] {
            let [found_low, found_high] = wilson(hits, all).unwrap();
            assert!((found_low - low).abs() < 5e-5, "{hits} of {all}: {found_low}");
            assert!((found_high - high).abs() < 5e-5, "{hits} of {all}: {found_high}");
        }
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn interval_covers_the_true_share_about_as_often_as_it_says() {
        // Exact, over the binomial distribution.
        for (share, draws) in [(0.5, 40), (0.1, 100), (0.02, 300)] {
            let mut probability = f64::powi(1.0 - share, draws);
            let mut covered = 0.0;
            for hits in 0..=draws {
                let [low, high] = wilson(hits as u64, draws as u64).unwrap();
                if low <= share && share <= high {
                    covered += probability;
                }
                probability *=
                    f64::from(draws - hits) / f64::from(hits + 1) * share / (1.0 - share);
            }
            assert!((0.92..0.98).contains(&covered), "{share} of {draws}: {covered}");
        }
    }
}
