//! Versions most of whose new connections failed in the last minute, whatever the others did.

use super::{Worse, worse_than_others};
use crate::api::types::{PeriodView, SplitStatsView, SubsetStatsView};
use crate::model::counted;

/// So few new connections say nothing.
const LEAST: u64 = 5;
/// From this part on, it is most of them.
const MOST: f64 = 0.5;

/// The subsets most of whose new TCP connections were refused or left without an answer in the
/// last minute; not those that are worse than the others ([`worse_than_others`]), which says more.
///
/// A connection is without an answer if its client has asked again in vain: one that has only
/// just begun is not.
pub fn mostly_failing(split: &SplitStatsView) -> Vec<Worse> {
    let worse: Vec<Worse> = worse_than_others(split);
    let is_known = |subset: &&SubsetStatsView| worse.iter().all(|one| one.subset != subset.name);
    split.subsets.iter().filter(is_known).filter_map(of).collect()
}

fn of(subset: &SubsetStatsView) -> Option<Worse> {
    let minute = subset.last_minute.filter(|minute| minute.new_flows >= LEAST)?;
    let PeriodView { new_flows, refused, .. } = minute;
    let seconds = minute.seconds.max(1);
    let all = counted(new_flows as usize, "new connection");
    let name = subset.name.clone();
    [(refused, "refused"), (minute.signals.unanswered, "left without an answer")]
        .into_iter()
        // Of those that began before, too.
        .map(|(count, how)| (count.min(new_flows) as f64 / new_flows as f64, how))
        .find(|(share, _)| *share >= MOST)
        .map(|(share, how)| Worse {
            text: format!(
                "{:.2}% of the {all} to {name} in the last {seconds} s were {how}",
                share * 100.0
            ),
            subset: name,
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{Protocol, SignalsView};
    use crate::model::{Affinity, SplitSettings};

    fn split(minutes: &[[u64; 3]]) -> SplitStatsView {
        let subset = |(at, &[new_flows, refused, unanswered]): (usize, &[u64; 3])| {
            let signals = SignalsView { unanswered, ..SignalsView::default() };
            let minute =
                PeriodView { seconds: 60, new_flows, refused, signals, ..PeriodView::default() };
            let minute = PeriodView { completed: new_flows - refused, ..minute };
            SubsetStatsView {
                name: format!("v{}", at + 1),
                last_minute: Some(minute),
                ..SubsetStatsView::default()
            }
        };
        SplitStatsView {
            name: "reviews".into(),
            address: "192.0.2.10".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
            settings: SplitSettings::from(Affinity::None),
            version: 1,
            changed: 100,
            last_change: None,
            subsets: minutes.iter().enumerate().map(subset).collect(),
        }
    }

    #[test]
    fn a_version_most_of_whose_connections_fail_is_named_also_if_all_do() {
        let said = |minutes: &[[u64; 3]]| -> Vec<String> {
            mostly_failing(&split(minutes)).into_iter().map(|one| one.text).collect()
        };
        let all = "100.00% of the 9 new connections to v1 in the last 60 s were refused";
        assert_eq!(said(&[[9, 9, 0]]), [all]);
        let half = "50.00% of the 10 new connections to v1 in the last 60 s were left without an \
                    answer";
        assert_eq!(said(&[[10, 4, 5]]), [half]);
        assert_eq!(said(&[[90, 90, 0], [90, 90, 0]]).len(), 2, "all alike");
        // Too few, not most, and what is said to be worse already.
        for minutes in [&[[4, 4, 0]][..], &[[100, 49, 49]], &[[900, 0, 0], [100, 100, 0]]] {
            assert_eq!(said(minutes), [""; 0], "{minutes:?}");
        }
        // Of a minute in which few began, more that began before it.
        assert!(said(&[[5, 0, 80]])[0].starts_with("100.00% of the 5 "));
    }
}
