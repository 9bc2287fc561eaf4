//! What the programs have counted, for the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use imbl::OrdMap;
use nix::time::{ClockId, clock_gettime};
use probe_common::map::SubsetCounters;
use probe_common::times::SubsetTimes;

use super::state::{LastChange, State};
use crate::api::Failure;
use crate::api::types::{
    ChangeView, EndpointSignalsView, EndpointStatsView, HistogramsView, PeriodView, SignalsView,
    SplitStatsView, StatsQuery, StatsView, SubsetStatsView, TimesView,
};
use crate::desired::{Time, version_of};
use crate::metrics::{EndpointSample, SubsetSample};
use crate::model::Name;
use crate::plan::Ledger;
use crate::rates::slower;

/// Copied under the agent's lock, to be worked on without it.
struct Picture {
    ledger: Ledger,
    changes: OrdMap<Name, LastChange>,
    /// The last changes of weights, and their versions.
    versions: HashMap<Name, (u64, Option<ChangeView>)>,
}

fn picture(state: &State, only: Option<&str>) -> Picture {
    let inner = state.lock();
    let ledger = inner.steering.ledger().clone();
    let names = ledger.names().filter(|name| only.is_none_or(|only| only == name.as_str()));
    let persisted = inner.store.persisted();
    let version = |name: &Name| {
        let last = persisted.changes(name.as_str()).next_back();
        (version_of(last), last.map(ChangeView::from))
    };
    let versions = names.map(|name| (name.clone(), version(name))).collect();
    Picture { versions, changes: inner.last_changes.clone(), ledger }
}

/// Counters of all splits, or of one.
pub(super) fn stats(state: &State, query: &StatsQuery) -> Result<StatsView, Failure> {
    let only = query.split.as_deref();
    let internal = |error: crate::datapath::DatapathError| Failure::Internal(error.to_string());
    let Picture { ledger, changes, versions } = picture(state, only);
    if let (Some(name), true) = (only, versions.is_empty()) {
        return Err(Failure::NotFound(state.lock().desired.no_split(name)));
    }
    let count = state.census.latest();
    let (time, uptime_nanos) = (Time::from(SystemTime::now()).to_string(), uptime_nanos());
    let endpoints = state.endpoints(&ledger, count.as_deref(), only).map_err(internal)?;
    let subsets = state.subsets(&ledger, count.as_deref(), only).map_err(internal)?;
    let recent = state.recent.before(Instant::now());
    let mut endpoints = by_subset(endpoints);
    let mut of_split = HashMap::<Name, Vec<Measured>>::new();
    for subset in subsets {
        let change = changes.get(&subset.split);
        let before = change.and_then(|change| change.counters.get(&subset.subset)).cloned();
        let since = change.map_or(Duration::ZERO, |change| change.at.elapsed());
        let counted = Counted { counters: subset.counters, times: subset.times.clone() };
        let since_change = Period::of(&counted, &before.unwrap_or_default(), since);
        let id = ledger.subset_id(&subset.split, &subset.subset);
        let last_minute = recent.as_ref().zip(id);
        let last_minute =
            last_minute.map(|(recent, id)| Period::of(&counted, &recent.of(id), recent.age));
        let own = endpoints.remove(&(subset.split.clone(), subset.subset.clone()));
        let split = subset.split.clone();
        let histograms = subset.times.as_deref().filter(|_| query.histograms);
        let histograms = histograms.map(HistogramsView::from);
        let view = self::subset(subset, own.unwrap_or_default());
        let view = SubsetStatsView { histograms, ..view };
        of_split.entry(split).or_default().push(Measured { view, since_change, last_minute });
    }
    let splits = versions.into_iter().filter_map(|(name, (version, last))| {
        let changed = changes.get(&name).map_or(0, |change| change.at.elapsed().as_secs());
        let subsets = compared(of_split.remove(&name).unwrap_or_default());
        let split = SplitStatsView::of(ledger.split(&name)?, version, changed, subsets);
        Some(SplitStatsView { last_change: last, ..split })
    });
    let mut splits: Vec<_> = splits.collect();
    splits.sort_by(|one, other| one.name.cmp(&other.name));
    let age = count.map(|count| count.at.elapsed().unwrap_or_default().as_secs());
    Ok(StatsView { time, uptime_nanos, open_flows_age: age, splits })
}

/// All that the programs counted of a subset, and measured if they do.
#[derive(Debug, Clone, Default)]
pub(super) struct Counted {
    pub counters: SubsetCounters,
    pub times: Option<Arc<SubsetTimes>>,
}

/// A subset, and what was counted in two times.
struct Measured {
    view: SubsetStatsView,
    since_change: Period,
    last_minute: Option<Period>,
}

/// What was counted in a time.
struct Period {
    view: PeriodView,
    times: Option<SubsetTimes>,
}

impl Period {
    /// Since it was `before`. Who has begun anew counts from zero.
    fn of(now: &Counted, before: &Counted, age: Duration) -> Self {
        let anew = before.counters.stats.flows > now.counters.stats.flows;
        let before = if anew { Counted::default() } else { before.clone() };
        let times = now.times.as_deref().map(|now| match before.times.as_deref() {
            Some(before) => now.since(before),
            None => *now,
        });
        let (now, before) = (&now.counters, &before.counters);
        let [after, earlier] = [&now.stats, &before.stats];
        let view = PeriodView {
            seconds: age.as_secs(),
            new_flows: after.flows.saturating_sub(earlier.flows),
            completed: after.completed.saturating_sub(earlier.completed),
            refused: after.refused.saturating_sub(earlier.refused),
            rejected: after.rejected.saturating_sub(earlier.rejected),
            signals: SignalsView::since(now, before),
            times: times.as_ref().map(TimesView::from),
        };
        Self { view, times }
    }
}

/// The subsets of a split, with what says which of them are slower than the others.
fn compared(mut all: Vec<Measured>) -> Vec<SubsetStatsView> {
    mark(all.iter_mut().map(|one| Some(&mut one.since_change)).collect());
    mark(all.iter_mut().map(|one| one.last_minute.as_mut()).collect());
    let view = |Measured { view, since_change, last_minute }: Measured| SubsetStatsView {
        new_flows_since_change: since_change.view.new_flows,
        since_change: since_change.view,
        last_minute: last_minute.map(|period| period.view),
        ..view
    };
    all.into_iter().map(view).collect()
}

/// Says in the same time of each subset whether it is slower.
fn mark(periods: Vec<Option<&mut Period>>) {
    use probe_common::times::Measured::{Handshake, Reply};
    let times: Vec<Option<SubsetTimes>> =
        periods.iter().map(|period| period.as_ref()?.times).collect();
    let [handshakes, replies] = [Handshake, Reply].map(|measured| slower(&times, measured));
    for (period, (handshake, reply)) in periods.into_iter().zip(handshakes.into_iter().zip(replies))
    {
        let Some(view) = period.and_then(|period| period.view.times.as_mut()) else { continue };
        for (view, slower) in [(&mut view.handshake, handshake), (&mut view.reply, reply)] {
            if let Some(view) = view {
                view.slower = slower;
            }
        }
    }
}

fn uptime_nanos() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from);
    now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX))
}

/// Endpoints by split and subset.
fn by_subset(all: Vec<EndpointSample>) -> HashMap<(Name, Name), Vec<EndpointStatsView>> {
    let mut map = HashMap::<_, Vec<_>>::new();
    for one in all {
        let view = EndpointStatsView {
            address: one.endpoint,
            phase: one.phase.to_owned(),
            new_flows: one.counters.stats.flows,
            open_flows: one.open_flows,
            packets_forward: one.counters.stats.forward_packets,
            bytes_forward: one.counters.stats.forward_bytes,
            packets_reply: one.counters.stats.reply_packets,
            bytes_reply: one.counters.stats.reply_bytes,
            signals: EndpointSignalsView::from(&one.counters.signals),
        };
        map.entry((one.split, one.subset)).or_default().push(view);
    }
    map
}

fn subset(
    SubsetSample { subset, weight, wanted_share, counters, times, open_flows, .. }: SubsetSample,
    endpoints: Vec<EndpointStatsView>,
) -> SubsetStatsView {
    let stats = counters.stats;
    SubsetStatsView {
        name: subset.to_string(),
        weight,
        wanted_share,
        new_flows: stats.flows,
        rejected: stats.rejected,
        completed: stats.completed,
        refused: stats.refused,
        ended: stats.ended,
        signals: SignalsView::from(&counters),
        times: times.as_deref().map(TimesView::from),
        open_flows,
        endpoints,
        ..SubsetStatsView::default()
    }
}
