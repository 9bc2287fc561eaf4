//! Versions that fail more often, or take longer, than the others of their split did in the last
//! minute.

use super::{LEVEL, Tried, times, worse};
use crate::api::types::{PeriodView, SplitStatsView, TimeView, TimesView};
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

/// What may take longer.
type Took = fn(&TimesView) -> Option<TimeView>;

/// What is measured of connections.
const TIMES: [(&str, Took); 2] =
    [("handshakes", |times| times.handshake), ("first replies", |times| times.reply)];

/// The subsets that are worse than the others in the last minute, beyond chance ([`LEVEL`]), and in
/// what. None with client affinity: what one client does is no independent draw.
pub fn worse_than_others(split: &SplitStatsView) -> Vec<Worse> {
    if split.settings.affinity != Affinity::None {
        return Vec::new();
    }
    let minutes: Vec<PeriodView> =
        split.subsets.iter().map(|subset| subset.last_minute.unwrap_or_default()).collect();
    let failing = KINDS.iter().flat_map(|&(kind, failed)| of_kind(split, &minutes, kind, failed));
    failing
        .chain(TIMES.iter().flat_map(|&(what, took)| slow(split, &minutes, what, took)))
        .collect()
}

/// The subsets of which something takes longer than of the others.
fn slow(split: &SplitStatsView, minutes: &[PeriodView], what: &str, took: Took) -> Vec<Worse> {
    let took: Vec<Option<TimeView>> =
        minutes.iter().map(|minute| minute.times.as_ref().and_then(took)).collect();
    let found = took.iter().enumerate().filter_map(|(at, time)| Some((at, (*time)?)));
    let describe = |(at, own): (usize, TimeView)| {
        let others = took.iter().enumerate().filter(|(other, _)| *other != at);
        let others: Vec<String> = others
            .filter_map(|(other, time)| {
                Some(format!("{} of {}", times(&(*time)?), split.subsets[other].name))
            })
            .collect();
        let subset = split.subsets[at].name.clone();
        let text = format!(
            "{} {what} of {subset} in the last {} s took {} (half of them, and 99 %), against {}: \
             slower than chance explains (p < {LEVEL})",
            own.count,
            minutes[at].seconds,
            times(&own),
            others.join(", "),
        );
        Worse { subset, text }
    };
    found.filter(|(_, time)| time.slower).map(describe).collect()
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
