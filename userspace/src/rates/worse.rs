//! Versions that fail more often than the others of their split did in the last minute.

use super::{LEVEL, Tried, worse};
use crate::api::types::{PeriodView, SplitStatsView};
use crate::model::{Affinity, counted};

/// A subset that is worse than the others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worse {
    /// Which.
    pub subset: String,
    /// In what, and by how much.
    pub text: String,
}

/// How many of the new connections of a time failed in one way.
type Failed = fn(&PeriodView) -> u64;

/// What may go wrong with new connections.
const KINDS: [(&str, Failed); 3] = [
    ("refused", |period| period.refused),
    ("left without an answer", PeriodView::unanswered),
    // Of a flow that began before, too.
    ("reset by the endpoint after the handshake", |period| {
        period.signals.early_resets.min(period.new_flows)
    }),
];

/// The subsets that are worse than the others in the last minute, beyond chance ([`LEVEL`]), and in
/// what. None with client affinity: what one client does is no independent draw.
pub fn worse_than_others(split: &SplitStatsView) -> Vec<Worse> {
    if split.settings.affinity != Affinity::None {
        return Vec::new();
    }
    let minutes: Vec<PeriodView> =
        split.subsets.iter().map(|subset| subset.last_minute.unwrap_or_default()).collect();
    KINDS.iter().flat_map(|&(kind, failed)| of_kind(split, &minutes, kind, failed)).collect()
}

fn of_kind(
    split: &SplitStatsView,
    minutes: &[PeriodView],
    kind: &str,
    failed: Failed,
) -> Vec<Worse> {
    let of = |minute: &PeriodView| Tried { all: minute.new_flows, failed: failed(minute) };
    let tried: Vec<Tried> = minutes.iter().map(of).collect();
    let found = worse(&tried).into_iter().enumerate().filter(|(_, is)| *is);
    let describe = |(at, _): (usize, bool)| {
        let others = tried.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Tried = others.map(|(_, tried)| *tried).sum();
        let [own, others] = [tried[at], others]
            .map(|tried| format!("{:.2}%", tried.share().unwrap_or_default() * 100.0));
        let subset = split.subsets[at].name.clone();
        let all = counted(tried[at].all as usize, "new connection");
        let seconds = minutes[at].seconds.max(1);
        let text = format!(
            "{own} of the {all} to {subset} in the last {seconds} s were {kind}, and {others} of \
             those to the others: more than chance explains (p < {LEVEL})"
        );
        Worse { subset, text }
    };
    found.map(describe).collect()
}
