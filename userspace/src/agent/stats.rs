//! What the programs have counted, for the API.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime};

use imbl::OrdMap;
use nix::time::{ClockId, clock_gettime};
use probe_common::map::SubsetCounters;

use super::state::{LastChange, State};
use crate::api::Failure;
use crate::api::types::{
    ChangeView, EndpointStatsView, PeriodView, SignalsView, SplitStatsView, StatsView,
    SubsetStatsView,
};
use crate::desired::{Time, version_of};
use crate::metrics::{EndpointSample, SubsetSample};
use crate::model::Name;
use crate::plan::Ledger;

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
pub(super) fn stats(state: &State, only: Option<&str>) -> Result<StatsView, Failure> {
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
    let mut of_split = HashMap::<Name, Vec<SubsetStatsView>>::new();
    for subset in subsets {
        let change = changes.get(&subset.split);
        let before = change.and_then(|change| change.counters.get(&subset.subset)).copied();
        let since = change.map_or(Duration::ZERO, |change| change.at.elapsed());
        let since_change = period(&subset.counters, &before.unwrap_or_default(), since);
        let id = ledger.subset_id(&subset.split, &subset.subset);
        let last_minute = recent.as_ref().zip(id);
        let last_minute =
            last_minute.map(|(recent, id)| period(&subset.counters, &recent.of(id), recent.age));
        let own = endpoints.remove(&(subset.split.clone(), subset.subset.clone()));
        let split = subset.split.clone();
        let view = self::subset(subset, since_change, last_minute, own.unwrap_or_default());
        of_split.entry(split).or_default().push(view);
    }
    let splits = versions.into_iter().filter_map(|(name, (version, last))| {
        let changed = changes.get(&name).map_or(0, |change| change.at.elapsed().as_secs());
        let subsets = of_split.remove(&name).unwrap_or_default();
        let split = SplitStatsView::of(ledger.split(&name)?, version, changed, subsets);
        Some(SplitStatsView { last_change: last, ..split })
    });
    let mut splits: Vec<_> = splits.collect();
    splits.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(StatsView { time, uptime_nanos, splits })
}

/// What was counted since it was `before`. Who has begun anew counts from zero.
fn period(now: &SubsetCounters, before: &SubsetCounters, age: Duration) -> PeriodView {
    let anew = before.stats.flows > now.stats.flows;
    let before = if anew { SubsetCounters::default() } else { *before };
    let [after, earlier] = [&now.stats, &before.stats];
    PeriodView {
        seconds: age.as_secs(),
        new_flows: after.flows.saturating_sub(earlier.flows),
        completed: after.completed.saturating_sub(earlier.completed),
        refused: after.refused.saturating_sub(earlier.refused),
        rejected: after.rejected.saturating_sub(earlier.rejected),
        signals: SignalsView::since(&now.signals, &before.signals),
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
            new_flows: one.stats.flows,
            open_flows: one.open_flows,
            packets_forward: one.stats.forward_packets,
            bytes_forward: one.stats.forward_bytes,
            packets_reply: one.stats.reply_packets,
            bytes_reply: one.stats.reply_bytes,
        };
        map.entry((one.split, one.subset)).or_default().push(view);
    }
    map
}

fn subset(
    SubsetSample { subset, weight, wanted_share, counters, open_flows, .. }: SubsetSample,
    since_change: PeriodView,
    last_minute: Option<PeriodView>,
    endpoints: Vec<EndpointStatsView>,
) -> SubsetStatsView {
    let SubsetCounters { stats, signals } = counters;
    SubsetStatsView {
        name: subset.to_string(),
        weight,
        wanted_share,
        new_flows_since_change: since_change.new_flows,
        since_change,
        last_minute,
        new_flows: stats.flows,
        rejected: stats.rejected,
        completed: stats.completed,
        refused: stats.refused,
        ended: stats.ended,
        signals: SignalsView::from(&signals),
        open_flows,
        endpoints,
    }
}
