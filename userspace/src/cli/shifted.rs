//! A change of weights, as it is shown to who made it.

use std::collections::BTreeMap;

use anyhow::bail;

use super::amounts::Amount;
use super::args::Expected;
use super::render::{self, share};
use crate::api::types::{SplitView, SubsetView};
use crate::model::SplitError;

/// A split before a change of weights and after it.
pub(super) struct Shifted {
    pub before: SplitView,
    pub after: SplitView,
    /// What was typed, if that were weights.
    pub typed: Vec<(String, Amount)>,
    /// Whether nothing has happened yet.
    pub dry_run: bool,
    /// What a command for the same split has to have beside its arguments, with a space before.
    pub flags: String,
}

/// A split with other weights, of those that are named.
pub(super) fn proposed(
    split: &SplitView,
    weights: &BTreeMap<String, u32>,
) -> anyhow::Result<SplitView> {
    let mut after = split.clone();
    for subset in &mut after.subsets {
        subset.weight = weights.get(&subset.name).copied().unwrap_or(subset.weight);
    }
    let sum: u64 = after.subsets.iter().map(|subset| u64::from(subset.weight)).sum();
    if sum == 0 {
        bail!("split \"{}\": {}", split.name, SplitError::AllWeightsZero);
    }
    for subset in &mut after.subsets {
        subset.wanted_share = f64::from(subset.weight) / sum as f64;
    }
    Ok(after)
}

/// Rejects a split that is not as expected, as the agent would.
pub(super) fn expected(split: &SplitView, expected: &Expected) -> anyhow::Result<()> {
    let weight = |name: &str| split.subsets.iter().find(|s| s.name == name).map(|s| s.weight);
    let pairs = expected.expect.iter();
    let wrong = pairs.filter(|(name, wanted)| weight(name) != Some(*wanted));
    let mut wrong: Vec<String> = wrong.map(|(name, wanted)| format!("{name}={wanted}")).collect();
    let version = split.origin.version;
    let other = expected.expect_version.filter(|&wanted| wanted != version);
    wrong.extend(other.map(|wanted| format!("version {wanted}")));
    if wrong.is_empty() {
        return Ok(());
    }
    let is: Vec<String> =
        split.subsets.iter().map(|s| format!("{}={}", s.name, s.weight)).collect();
    let (name, is, wrong) = (&split.name, is.join(" "), wrong.join(" and "));
    bail!("split \"{name}\" has {is} (version {version}), expected {wrong}")
}

impl Shifted {
    /// A change that was made. Who may change a split may look at it: what it was is
    /// missing only if the agent failed to say.
    pub fn of<E>(
        before: Result<SplitView, E>,
        after: SplitView,
        typed: Vec<(String, Amount)>,
    ) -> Self {
        let before = before.unwrap_or_else(|_| after.clone());
        Self { before, after, typed, dry_run: false, flags: String::new() }
    }

    /// The split, what moves, what may not be meant, and how to undo it.
    pub fn text(&self) -> String {
        let table = if self.dry_run { String::new() } else { render::split(&self.after) + "\n" };
        self.text_with(&table, self.undo().into_iter().collect())
    }

    /// The same with another table, and these lines at the end.
    pub fn text_with(&self, table: &str, end: Vec<String>) -> String {
        let mut lines = vec![self.moves()];
        lines.extend(self.surprise());
        lines.extend(end);
        format!("{table}{}\n", lines.join("\n"))
    }

    fn pairs(&self) -> impl Iterator<Item = (&SubsetView, &SubsetView)> {
        let before = |name: &str| self.before.subsets.iter().find(|subset| subset.name == name);
        self.after.subsets.iter().filter_map(move |after| Some((before(&after.name)?, after)))
    }

    fn moves(&self) -> String {
        let name = &self.after.name;
        let moved = |&(before, after): &(&SubsetView, &SubsetView)| {
            // The share of one whose weight stays moves with those of the others.
            (before.weight, before.wanted_share) != (after.weight, after.wanted_share)
        };
        let parts: Vec<String> = self
            .pairs()
            .filter(moved)
            .map(|(before, after)| {
                let [old, new] = [before, after].map(|subset| share(Some(subset.wanted_share)));
                format!("{} {old} -> {new}", after.name)
            })
            .collect();
        match (parts.is_empty(), self.dry_run) {
            (true, _) => format!("{name}: these weights are in force already"),
            (false, false) => format!("{name}: {} of new connections", parts.join(", ")),
            (false, true) => format!("{name} would get: {} of new connections", parts.join(", ")),
        }
    }

    /// Weights that were percentages as long as they added up to a hundred.
    fn surprise(&self) -> Option<String> {
        let sum =
            |split: &SplitView| split.subsets.iter().map(|s| u64::from(s.weight)).sum::<u64>();
        let now = sum(&self.after);
        if sum(&self.before) != 100 || now == 100 {
            return None;
        }
        let typed = |subset: &&SubsetView| {
            self.typed.iter().any(|(name, amount)| {
                *name == subset.name && matches!(amount, Amount::Weight(1..=100))
            })
        };
        let subset = self.after.subsets.iter().find(typed)?;
        let (name, weight, own) = (&subset.name, subset.weight, share(Some(subset.wanted_share)));
        Some(format!(
            "warning: {name} gets {own}, not {weight}%, since the weights add up to {now}; \
             for {weight}%: weir weights {} {name}={weight}%{}",
            self.after.name, self.flags
        ))
    }

    fn undo(&self) -> Option<String> {
        let (name, version) = (&self.after.name, self.after.origin.version);
        let changed = !self.dry_run && version != self.before.origin.version;
        let here = if self.after.origin.cluster.is_empty() { "" } else { " --this-node" };
        changed.then(|| format!("undo: weir rollback {name}{here} --expect-version {version}"))
    }
}
