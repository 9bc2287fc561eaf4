//! Weights as they are typed: numbers, or parts of a hundred of new connections.

use std::collections::BTreeMap;
use std::str::FromStr;

use anyhow::{Result, anyhow, bail};

use crate::api::types::{SplitView, SubsetView};
use crate::model::hint;

/// What a subset is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amount {
    /// A weight, beside those of the others.
    Weight(u32),
    /// A part of all new connections, in millionths.
    Part(u32),
}

/// All of them, in millionths.
const WHOLE: u32 = 1_000_000;

impl FromStr for Amount {
    type Err = String;

    /// `90`, or `12.5%` with at most four digits after the point.
    fn from_str(text: &str) -> Result<Self, String> {
        let Some(percent) = text.strip_suffix('%') else {
            let weight = text.parse().map(Self::Weight);
            return weight
                .map_err(|_| format!("\"{text}\" is not a weight: expected 0 to {}", u32::MAX));
        };
        let no = || format!("\"{text}\" is not a percentage: expected 0% to 100%, such as 12.5%");
        let (whole, fraction) = percent.split_once('.').unwrap_or((percent, ""));
        let is_number = |text: &str| text.chars().all(|c| c.is_ascii_digit());
        if whole.is_empty() || !is_number(whole) || !is_number(fraction) {
            return Err(no());
        }
        if fraction.len() > 4 {
            return Err(format!(
                "\"{text}\" is too fine: expected at most four digits after the point"
            ));
        }
        let digits = format!("{whole}{fraction:0<4}");
        let part: u32 = digits.parse().map_err(|_| no())?;
        if part > WHOLE { Err(no()) } else { Ok(Self::Part(part)) }
    }
}

/// Whether amounts can stand together, whatever the split.
pub(super) fn fit(typed: &[(String, Amount)]) -> Result<(), String> {
    let part = |&(_, amount): &(String, Amount)| match amount {
        Amount::Part(part) => Some(u64::from(part)),
        Amount::Weight(_) => None,
    };
    let parts: Vec<u64> = typed.iter().filter_map(part).collect();
    if !parts.is_empty() && parts.len() < typed.len() {
        let message = "weights and percentages in one command, expected one of the two";
        return Err(message.to_owned());
    }
    let sum: u64 = parts.iter().sum();
    if sum > u64::from(WHOLE) {
        let percent = sum as f64 / 10_000.0;
        return Err(format!("the percentages add up to {percent}%, expected at most 100%"));
    }
    Ok(())
}

/// The weights, if no percentage is among what was typed.
pub(super) fn plain(typed: &[(String, Amount)]) -> Option<BTreeMap<String, u32>> {
    let weight = |(name, amount): &(String, Amount)| match *amount {
        Amount::Weight(weight) => Some((name.clone(), weight)),
        Amount::Part(_) => None,
    };
    typed.iter().map(weight).collect()
}

/// The weights that a split gets, of the subsets that change.
///
/// Percentages are exact: the others keep their proportions among each other, in
/// the least weights by which that can be written.
pub(super) fn resolve(
    typed: &[(String, Amount)],
    split: &SplitView,
) -> Result<BTreeMap<String, u32>> {
    let weight = |name: &str| split.subsets.iter().find(|subset| subset.name == *name);
    for (name, _) in typed {
        if weight(name).is_none() {
            let known = split.subsets.iter().map(|subset| subset.name.as_str());
            let hint = hint(name, known);
            bail!("split \"{}\": there is no subset \"{name}\"{hint}", split.name);
        }
    }
    let mut weights = BTreeMap::new();
    let mut parts = BTreeMap::new();
    for (name, amount) in typed {
        match *amount {
            Amount::Weight(weight) => _ = weights.insert(name.clone(), weight),
            Amount::Part(part) => _ = parts.insert(name.as_str(), part),
        }
    }
    fit(typed).map_err(anyhow::Error::msg)?;
    if parts.is_empty() { Ok(weights) } else { divide(&parts, &split.subsets) }
}

fn divide(parts: &BTreeMap<&str, u32>, subsets: &[SubsetView]) -> Result<BTreeMap<String, u32>> {
    let named: u64 = parts.values().map(|&part| u64::from(part)).sum();
    let percent = |millionths: u64| millionths as f64 / 10_000.0;
    let whole = u64::from(WHOLE);
    let others = subsets.iter().filter(|subset| !parts.contains_key(subset.name.as_str()));
    let (rest, sum) = (whole - named, others.map(|subset| u64::from(subset.weight)).sum::<u64>());
    if rest > 0 && sum == 0 {
        bail!(
            "the percentages add up to {}%, and the other subsets have weight 0: expected 100%",
            percent(named)
        );
    }
    // With weights of others times `rest`, a part is worth `sum` of them.
    let (each, own) = if rest == 0 { (0, 1) } else { (rest, sum) };
    let exact = |subset: &SubsetView| match parts.get(subset.name.as_str()) {
        Some(&part) => u64::from(part) * own,
        None => u64::from(subset.weight) * each,
    };
    let exact: Vec<u64> = subsets.iter().map(exact).collect();
    let divisor = exact.iter().copied().fold(0, greatest_common_divisor).max(1);
    let scale = hundred(&exact, divisor);
    let weights = subsets.iter().zip(&exact).map(|(subset, exact)| {
        let weight = u32::try_from(exact / divisor * scale).map_err(|_| {
            anyhow!(
                "these percentages need weights above {}: use rounder ones, or weights",
                u32::MAX
            )
        })?;
        Ok((subset.name.clone(), weight))
    });
    weights.collect()
}

/// What makes weights of that sum to a hundred, if a whole number does: then they
/// read as percentages.
fn hundred(exact: &[u64], divisor: u64) -> u64 {
    let sum: u64 = exact.iter().map(|weight| weight / divisor).sum();
    if sum > 0 && 100u64.is_multiple_of(sum) { 100 / sum } else { 1 }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(weights: &[(&str, u32)]) -> SplitView {
        let subset = |&(name, weight): &(&str, u32)| SubsetView {
            name: name.into(),
            weight,
            target_share: 0.0,
            observed_share: None,
            flows: 0,
            total_flows: 0,
            rejected: 0,
            endpoints: Vec::new(),
        };
        SplitView {
            name: "reviews".into(),
            address: "192.0.2.1".parse().unwrap(),
            port: 80,
            protocol: crate::api::types::Protocol::Tcp,
            affinity: "None".into(),
            changed: 0,
            origin: Default::default(),
            subsets: weights.iter().map(subset).collect(),
            draining: Vec::new(),
        }
    }

    fn typed(text: &str) -> Vec<(String, Amount)> {
        let pair = |pair: &str| {
            let (name, amount) = pair.split_once('=').unwrap();
            (name.to_owned(), amount.parse().unwrap())
        };
        text.split(' ').map(pair).collect()
    }

    #[test]
    fn a_percentage_is_exact_and_the_others_keep_their_proportions() {
        let three: &[(&str, u32)] = &[("v1", 60), ("v2", 30), ("v3", 10)];
        for (before, text, expected) in [
            (three, "v1=50", "v1=50"),
            (three, "v3=10%", "v1=60 v2=30 v3=10"),
            (three, "v3=25%", "v1=50 v2=25 v3=25"),
            (three, "v3=0%", "v1=2 v2=1 v3=0"),
            (three, "v3=100%", "v1=0 v2=0 v3=100"),
            (three, "v1=90% v3=10%", "v1=90 v2=0 v3=10"),
            (three, "v1=0.5%", "v1=4 v2=597 v3=199"),
            (&[("v1", 1), ("v3", 0)], "v3=10%", "v1=90 v3=10"),
            (&[("v1", 7), ("v2", 4), ("v3", 0)], "v3=12.5%", "v1=49 v2=28 v3=11"),
            (&[("v1", 1), ("v3", 1)], "v3=0.0001%", "v1=999999 v3=1"),
        ] {
            let found = resolve(&typed(text), &split(before)).unwrap();
            let parts: Vec<String> = found.iter().map(|(n, w)| format!("{n}={w}")).collect();
            assert_eq!(parts.join(" "), expected, "{before:?} {text}");
        }
    }

    #[test]
    fn what_cannot_be_divided_is_rejected() {
        for (before, text, expected) in [
            (&[("v1", 1), ("v3", 0)][..], "v1=90%", "the percentages add up to 90%, and the other"),
            (&[("v1", 1), ("v3", 1)], "v1=90% v3=20%", "the percentages add up to 110%, expected"),
            (&[("v1", 1), ("v3", 1)], "v1=90% v3=10", "weights and percentages in one command"),
            (
                &[("v1", 1), ("v3", 1)],
                "V3=10%",
                "split \"reviews\": there is no subset \"V3\"; did",
            ),
            (
                &[("v1", 4_294_967_295), ("v2", 4_294_967_294), ("v3", 1)],
                "v3=0.0001%",
                "these percentages need weights",
            ),
        ] {
            let error = resolve(&typed(text), &split(before)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text}: {error}");
        }
        for text in ["101%", "%", "-1%", "1e2%", ".5%"] {
            let error = text.parse::<Amount>().unwrap_err();
            assert!(error.contains("is not a percentage"), "{text}: {error}");
        }
    }
}
