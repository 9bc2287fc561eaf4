//! Whether one version fails more often than the others, beyond what chance explains.

/// How improbable what was counted must be, if all were alike, for a version to be called worse:
/// looked at once, so many versions that are no worse are called so. Who looks again at numbers
/// that have grown gives chance another try.
pub const LEVEL: f64 = 0.001;

/// How often something was tried, and how often it failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tried {
    /// All attempts.
    pub all: u64,
    /// Those that failed.
    pub failed: u64,
}

impl Tried {
    /// The part that failed, 0 to 1; None without attempts.
    pub fn share(self) -> Option<f64> {
        (self.all > 0).then(|| self.failed as f64 / self.all as f64)
    }

    fn of(all: u64, failed: u64) -> Self {
        Self { all, failed: failed.min(all) }
    }
}

impl std::iter::Sum for Tried {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |sum, one| {
            Self::of(sum.all.saturating_add(one.all), sum.failed.saturating_add(one.failed))
        })
    }
}

/// Fisher's exact test, one-sided: the probability of at least so many failures among `own`, given
/// how many there are in both together, if both fail alike.
///
/// Attempts are to be independent: with client affinity they are not.
pub fn chance(own: Tried, others: Tried) -> f64 {
    let (own, others) = (Tried::of(own.all, own.failed), Tried::of(others.all, others.failed));
    let (all, failed) =
        (own.all as f64 + others.all as f64, own.failed as f64 + others.failed as f64);
    if own.failed == 0 || own.all == 0 || others.all == 0 {
        return 1.0;
    }
    let drawn = own.all as f64;
    // No more than is to be expected.
    if own.failed as f64 <= drawn * failed / all {
        return 1.0;
    }
    let choose =
        |n: f64, k: f64| libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0);
    let mut hits = own.failed as f64;
    let first = choose(failed, hits) + choose(all - failed, drawn - hits) - choose(all, drawn);
    let (mut term, mut sum) = (1.0, 0.0);
    let last = drawn.min(failed);
    while hits <= last && term > sum * f64::EPSILON {
        sum += term;
        term *=
            (failed - hits) / (hits + 1.0) * (drawn - hits) / (all - failed - drawn + hits + 1.0);
        hits += 1.0;
    }
    (first.exp() * sum).min(1.0)
}

/// Whether the first fails more often than the others, beyond chance at [`LEVEL`].
pub fn is_worse(own: Tried, others: Tried) -> bool {
    chance(own, others) < LEVEL
}

/// Of each, whether it is worse than all others together.
pub fn worse(all: &[Tried]) -> Vec<bool> {
    let others = |at: usize| {
        let others = all.iter().enumerate().filter(|(other, _)| *other != at);
        others.map(|(_, tried)| *tried).sum()
    };
    all.iter().enumerate().map(|(at, &own)| is_worse(own, others(at))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(failed: u64, all: u64) -> Tried {
        Tried { all, failed }
    }

    #[test]
    fn the_chance_is_that_of_the_literature() {
        // Fisher's tea: of eight cups, the four with milk first, all or three of them found.
        for (own, others, expected) in [
            (tried(4, 4), tried(0, 4), 1.0 / 70.0),
            (tried(3, 4), tried(1, 4), 17.0 / 70.0),
            // Fisher 1935: convicts' twins, 10 of 13 and 2 of 17.
            (tried(10, 13), tried(2, 17), 0.000_465_180_8),
        ] {
            let found = chance(own, others);
            assert!((found - expected).abs() < 1e-9, "{own:?} {others:?}: {found}");
        }
    }

    #[test]
    fn no_worse_version_is_called_so_more_often_than_the_level_says() {
        // Exact, over both binomial distributions.
        let binomial = |n: u64, p: f64| -> Vec<f64> {
            let mut probability = (1.0 - p).powi(n as i32);
            (0..=n)
                .map(|k| {
                    let this = probability;
                    probability *= (n - k) as f64 / (k + 1) as f64 * p / (1.0 - p);
                    this
                })
                .collect()
        };
        for (own, others, p) in [(20, 180, 0.05), (50, 50, 0.5), (100, 900, 0.01), (3, 300, 0.2)] {
            let (first, second) = (binomial(own, p), binomial(others, p));
            let mut wrong = 0.0;
            for (k, a) in (0..).zip(&first) {
                for (l, b) in (0..).zip(&second) {
                    wrong += if is_worse(tried(k, own), tried(l, others)) { a * b } else { 0.0 };
                }
            }
            assert!(wrong < LEVEL, "{own} {others} {p}: {wrong}");
        }
    }

    #[test]
    fn a_version_is_worse_beyond_chance_or_not() {
        for (own, others, expected) in [
            // 20 % of 500 beside 0.2 % of 4,500.
            (tried(100, 500), tried(9, 4500), true),
            (tried(2, 10), tried(0, 90), false),
            (tried(4, 10), tried(0, 90), true),
            // Better, alike, and nothing to compare with.
            (tried(0, 500), tried(100, 4500), false),
            (tried(100, 500), tried(900, 4500), false),
            (tried(500, 500), tried(0, 0), false),
            (tried(0, 0), tried(0, 10), false),
            // So many that what is small counts, and that take no time.
            (tried(1_010_000, 1_000_000_000), tried(9_000_000, 9_000_000_000), true),
            (tried(1_001_000, 1_000_000_000), tried(9_000_000, 9_000_000_000), false),
        ] {
            assert_eq!(is_worse(own, others), expected, "{own:?} {others:?}");
        }
        assert_eq!(worse(&[tried(1, 4500), tried(100, 500), tried(0, 0)]), [false, true, false]);
    }
}
