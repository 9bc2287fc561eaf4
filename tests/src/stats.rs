//! Does this sample follow these weights?
//!
//! The bound is Chernoff's in its relative-entropy form: of n independent draws that hit a cell
//! with probability p, the probability that the observed share is q or further from p on the same
//! side is at most exp(-n KL(q || p)). It holds for every n and p, small counts included; no
//! normal approximation is involved.

/// The probability with which a right sample may fail a whole call of [`assert_shares`].
pub const FALSE_ALARM: f64 = 1e-6;

/// KL(q || p) of two coins, in nats.
fn relative_entropy(q: f64, p: f64) -> f64 {
    let term = |q: f64, p: f64| if q == 0.0 { 0.0 } else { q * (q / p).ln() };
    term(q, p) + term(1.0 - q, 1.0 - p)
}

/// What n KL(q || p) must stay below in each of the cells that have a weight.
fn limit(weights: &[u64]) -> f64 {
    let cells = weights.iter().filter(|&&weight| weight != 0).count();
    (2.0 * cells as f64 / FALSE_ALARM).ln()
}

/// The lowest and the highest share of `n` draws that [`check_shares`] accepts in each cell; none
/// if there were no draws or all weights are 0.
#[must_use]
pub fn accepted_shares(n: u64, weights: &[u64]) -> Vec<(f64, f64)> {
    let (limit, total) = (limit(weights), weights.iter().map(|&w| w as f64).sum::<f64>());
    if n == 0 || total == 0.0 {
        return Vec::new();
    }
    // The entropy grows with the distance from p: bisection.
    let furthest = |p: f64, end: f64| {
        let (mut inside, mut outside) = (p, end);
        for _ in 0..60 {
            let q = f64::midpoint(inside, outside);
            let good = n as f64 * relative_entropy(q, p) < limit;
            *(if good { &mut inside } else { &mut outside }) = q;
        }
        inside
    };
    let shares = weights.iter().map(|&weight| weight as f64 / total);
    shares
        .map(|p| if p == 0.0 || p == 1.0 { (p, p) } else { (furthest(p, 0.0), furthest(p, 1.0)) })
        .collect()
}

/// Tests the hypothesis of [`assert_shares`]; `Err` says which cell contradicts it and how.
///
/// # Errors
///
/// Names the first cell that is out of bounds, or what makes the question meaningless.
pub fn check_shares(observed: &[u64], weights: &[u64]) -> Result<(), String> {
    if observed.len() != weights.len() {
        return Err(format!("{} cells, {} weights", observed.len(), weights.len()));
    }
    let n: u64 = observed.iter().sum();
    let total: u128 = weights.iter().map(|&w| u128::from(w)).sum();
    if n == 0 || total == 0 {
        return Err("nothing was observed, or all weights are 0".to_owned());
    }
    let limit = limit(weights);
    for (i, (&seen, &weight)) in observed.iter().zip(weights).enumerate() {
        if weight == 0 {
            if seen != 0 {
                return Err(format!("cell {i} has weight 0 but was hit {seen} times of {n}"));
            }
            continue;
        }
        let (q, p) = (seen as f64 / n as f64, weight as f64 / total as f64);
        // A weight that takes (all but) everything: its complement is tested by the other cells.
        if u128::from(weight) == total {
            continue;
        }
        let evidence = n as f64 * relative_entropy(q, p);
        if evidence.is_nan() || evidence >= limit {
            return Err(format!(
                "cell {i}: {seen} of {n} is a share of {q:.6}, expected {p:.6} \
                 (n*KL = {evidence:.1}, limit {limit:.1}; observed {observed:?}, weights {weights:?})"
            ));
        }
    }
    Ok(())
}

/// Asserts that a sample follows the weights.
///
/// Hypothesis: `observed` counts independent draws, each of which falls on cell i with probability
/// `weights[i] / sum(weights)`. A cell with weight 0 must never have been hit; every other cell
/// must satisfy n KL(q || p) < ln(2 k / 1e-6) for k cells with a weight, which a true hypothesis
/// violates with probability below [`FALSE_ALARM`] (Chernoff, and the union bound over k cells
/// and two sides).
///
/// # Panics
///
/// With `what` and the offending cell if the hypothesis is rejected, and if there is nothing to
/// test: no observations, no weights, or not as many of one as of the other.
#[track_caller]
pub fn assert_shares(observed: &[u64], weights: &[u64], what: &str) {
    if let Err(why) = check_shares(observed, weights) {
        panic!("{what}: {why}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn exact_shares_pass() {
        assert_shares(&[800_000, 200_000], &[80, 20], "80/20");
        assert_shares(&[1_000], &[7], "one cell");
        assert_shares(&[0, 10, 0], &[0, 1, 0], "only one has a weight");
        assert_shares(&[999_999_999, 1], &[u64::MAX, 1 << 34], "extreme weights");
    }

    #[test]
    fn one_percent_off_fails() {
        assert!(check_shares(&[810_000, 190_000], &[80, 20]).is_err());
        assert!(check_shares(&[790_000, 210_000], &[80, 20]).is_err());
        assert!(check_shares(&[505_000, 495_000], &[1, 1]).is_err());
        // What weighing endpoints instead of subsets would give.
        assert!(check_shares(&[923, 77], &[80, 20]).is_err());
    }

    #[test]
    fn small_counts() {
        assert_shares(&[10, 0], &[1, 1], "probability 1/1024");
        assert!(check_shares(&[40, 0], &[1, 1]).is_err());
        assert_shares(&[999_998, 2], &[999_999, 1], "a rare cell");
        assert!(check_shares(&[999_970, 30], &[999_999, 1]).is_err());
    }

    #[test]
    fn accepted_shares_are_those_that_pass() {
        let (n, weights) = (20_000, [70, 30, 0]);
        let accepted = accepted_shares(n, &weights);
        assert_eq!(accepted[2], (0.0, 0.0));
        let check = |share: f64| {
            let first = (share * n as f64).round() as u64;
            check_shares(&[first, n - first, 0], &weights).is_ok()
        };
        let (low, high) = accepted[0];
        assert!((0.67..0.69).contains(&low) && (0.71..0.73).contains(&high), "{accepted:?}");
        assert!(check(low + 1e-4) && check(high - 1e-4), "{accepted:?}");
        assert!(!check(low - 1e-4) && !check(high + 1e-4), "{accepted:?}");
        assert_eq!(accepted_shares(5, &[0, 3]), [(0.0, 0.0), (1.0, 1.0)]);
        assert_eq!(accepted_shares(0, &[1]), []);
    }

    #[test]
    fn weight_zero_is_exact() {
        assert!(check_shares(&[1_000_000, 1], &[1, 0]).is_err());
    }

    #[test]
    fn meaningless_questions() {
        assert!(check_shares(&[0, 0], &[1, 1]).is_err());
        assert!(check_shares(&[1, 1], &[0, 0]).is_err());
        assert!(check_shares(&[1], &[1, 1]).is_err());
        assert!(check_shares(&[], &[]).is_err());
    }

    #[test]
    fn true_samples_pass() {
        let weights = [1, 2, 3, 0, 94];
        for seed in 0..200 {
            let (mut rng, mut seen) = (Rng::new(seed), [0; 5]);
            for _ in 0..2_000 {
                let mut x = rng.below(100);
                let cell = weights.iter().position(|&w| {
                    x < w || {
                        x -= w;
                        false
                    }
                });
                seen[cell.unwrap()] += 1;
            }
            assert_shares(&seen, &weights, "sampled");
        }
    }
}
