//! What happens in a second, computed from two samples of the agent's counters.
//!
//! `weir watch` and `weir top` show the same, by this code.

mod comparison;
mod failing;
mod interval;
mod sampler;
mod slow;
#[cfg(test)]
mod tests;
mod text;
mod worse;

pub use comparison::{LEVEL, Tried, chance, is_worse, worse};
pub use failing::mostly_failing;
pub use interval::wilson;
pub use sampler::Sampler;
pub use slow::slower;
pub use text::{COLUMNS, cells, percent, short, times};
pub use worse::{Worse, worse_than_others};

use std::collections::HashMap;

use serde::Serialize;

use crate::api::types::{
    ChangeView, EndpointStatsView, PeriodView, SplitStatsView, StatsView, SubsetStatsView, TimeView,
};
use crate::model::Affinity;

/// The splits at one time, and what happened in each second since the sample before.
#[derive(Debug, Clone, PartialEq)]
pub struct Sample {
    /// The time, as in RFC 3339.
    pub time: String,
    /// How many seconds before that open flows were counted; None if they were not.
    pub open_flows_age: Option<u64>,
    /// By name.
    pub splits: Vec<SplitRates>,
}

/// A split.
#[derive(Debug, Clone, PartialEq)]
pub struct SplitRates {
    /// Its name.
    pub name: String,
    /// Its address, port and protocol.
    pub service: String,
    /// The version of the last change of its weights.
    pub version: u64,
    /// That change, if it is remembered.
    pub last_change: Option<ChangeView>,
    /// Seconds since its last change, or since the agent started.
    pub changed: u64,
    /// Its subsets, in the order in which they were written.
    pub subsets: Vec<SubsetRates>,
}

/// A subset.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubsetRates {
    /// Its name.
    pub subset: String,
    /// Its weight.
    pub weight: u32,
    /// The share of new flows that it is to get, 0 to 1.
    pub wanted_share: f64,
    /// The share of new flows that it got since the split's last change; None
    /// if there were none.
    pub observed_share: Option<f64>,
    /// The shares that are compatible with what was observed ([`wilson`]); None
    /// without flows, and with client affinity: there, flows of one client are
    /// no independent draws.
    pub interval: Option<[f64; 2]>,
    /// New flows since the split's last change.
    pub new_flows_since_change: u64,
    /// Flows that are open; None if they were not counted yet.
    pub open_flows: Option<u64>,
    /// What went wrong with new flows since the split's last change.
    pub failures: Failures,
    /// How long handshakes took since then; None if none was measured.
    pub handshake: Option<TimeView>,
    /// How long it took until the endpoint began to answer what its client asked.
    pub reply: Option<TimeView>,
    /// Its endpoints, those that drain included.
    #[serde(skip)]
    pub endpoints: Vec<EndpointRates>,
    /// What happened in each second; None in the first sample.
    #[serde(flatten)]
    pub rates: Option<Rates>,
}

/// What went wrong with new flows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Failures {
    /// Refused by the endpoint.
    pub refused: Failing,
    /// Neither completed nor refused: not answered, or under way.
    pub unanswered: Failing,
    /// Reset by the endpoint after the handshake, those that began before among them.
    pub reset: Failing,
    /// Packets that were rejected for want of an endpoint.
    pub rejected: u64,
}

/// One way to fail.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Failing {
    /// The part of new flows, 0 to 1; None without any.
    pub share: Option<f64>,
    /// Whether it is larger than that of the other subsets together, beyond chance ([`LEVEL`]).
    pub is_worse: bool,
}

/// An endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointRates {
    /// Where it listens.
    pub address: std::net::SocketAddr,
    /// "live", "draining" or "gone".
    pub phase: String,
    /// New flows.
    pub new_flows: u64,
    /// New flows in each second; None in the first sample.
    pub new_flows_per_second: Option<f64>,
    /// Flows that are open; None if they were not counted yet.
    pub open_flows: Option<u64>,
    /// Flows that it refused.
    pub refused: u64,
    /// Flows that were neither completed nor refused: not answered, or under way.
    pub unanswered: u64,
    /// Flows that it reset after their handshake.
    pub reset: u64,
}

impl SubsetRates {
    /// Whether the wanted share is compatible with what was observed; None if
    /// that cannot be said.
    pub fn is_as_wanted(&self) -> Option<bool> {
        self.interval.map(|[low, high]| low <= self.wanted_share && self.wanted_share <= high)
    }
}

/// How often something happened, in each second between two samples.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Rates {
    /// New flows.
    pub new_flows_per_second: f64,
    /// Packets of both directions.
    pub packets_per_second: f64,
    /// Bits of these, link layer included.
    pub bits_per_second: f64,
    /// Packets of new flows that were rejected for want of an endpoint.
    pub rejected_per_second: f64,
    /// New flows that the endpoint refused with a RST.
    pub refused_per_second: f64,
    /// New flows that were neither answered nor refused. A handshake that takes
    /// its time counts until it is answered.
    pub unanswered_per_second: f64,
}

/// What `now` and the sample before it say.
pub fn rates(before: Option<&StatsView>, now: &StatsView) -> Sample {
    let seconds = before.map(|before| {
        now.uptime_nanos.saturating_sub(before.uptime_nanos) as f64 / 1_000_000_000.0
    });
    // In no time nothing can be measured.
    let seconds = seconds.filter(|&seconds| seconds > 0.0);
    let old: HashMap<(&str, &str), &SubsetStatsView> = before
        .into_iter()
        .flat_map(|before| &before.splits)
        .flat_map(|split| split.subsets.iter().map(|s| ((&*split.name, &*s.name), s)))
        .collect();
    let none = SubsetStatsView::default();
    let split = |split: &SplitStatsView| {
        let sum = split.subsets.iter().map(|subset| subset.new_flows_since_change).sum();
        let failures = failures(split);
        let subsets = split.subsets.iter().zip(failures).map(|(subset, failures)| {
            let old = old.get(&(&*split.name, &*subset.name)).copied().unwrap_or(&none);
            let independent = split.settings.affinity == Affinity::None;
            SubsetRates {
                failures,
                endpoints: endpoints(old, subset, seconds),
                ..subset_rates(subset, sum, independent, seconds.map(|s| between(old, subset, s)))
            }
        });
        SplitRates {
            name: split.name.clone(),
            service: format!(
                "{} {}",
                std::net::SocketAddr::new(split.address, split.port),
                split.protocol
            ),
            version: split.version,
            last_change: split.last_change.clone(),
            changed: split.changed,
            subsets: subsets.collect(),
        }
    };
    let splits = now.splits.iter().map(split).collect();
    Sample { time: now.time.clone(), open_flows_age: now.open_flows_age, splits }
}

fn subset_rates(
    subset: &SubsetStatsView,
    sum: u64,
    independent: bool,
    rates: Option<Rates>,
) -> SubsetRates {
    let flows = subset.new_flows_since_change;
    SubsetRates {
        subset: subset.name.clone(),
        weight: subset.weight,
        wanted_share: subset.wanted_share,
        observed_share: (sum > 0).then(|| flows as f64 / sum as f64),
        interval: wilson(flows, sum).filter(|_| independent),
        new_flows_since_change: flows,
        open_flows: subset.open_flows,
        failures: Failures::default(),
        handshake: subset.since_change.times.and_then(|times| times.handshake),
        reply: subset.since_change.times.and_then(|times| times.reply),
        endpoints: Vec::new(),
        rates,
    }
}

/// What went wrong with the new flows of each subset since the split's last change.
fn failures(split: &SplitStatsView) -> Vec<Failures> {
    let independent = split.settings.affinity == Affinity::None;
    let of = |failed: fn(&PeriodView) -> u64| -> Vec<Failing> {
        let periods = split.subsets.iter().map(|subset| &subset.since_change);
        let tried: Vec<Tried> =
            periods.map(|p| Tried { all: p.new_flows, failed: failed(p) }).collect();
        let worse = worse(&tried).into_iter().map(|is_worse| is_worse && independent);
        let pairs = tried.iter().zip(worse);
        pairs.map(|(tried, is_worse)| Failing { share: tried.share(), is_worse }).collect()
    };
    let (refused, unanswered) = (of(|period| period.refused), of(PeriodView::unanswered));
    let reset = of(|period| period.signals.reset_by_endpoint().min(period.new_flows));
    let all = refused.into_iter().zip(unanswered).zip(reset).zip(&split.subsets);
    all.map(|(((refused, unanswered), reset), subset)| Failures {
        refused,
        unanswered,
        reset,
        rejected: subset.since_change.rejected,
    })
    .collect()
}

fn endpoints(
    before: &SubsetStatsView,
    now: &SubsetStatsView,
    seconds: Option<f64>,
) -> Vec<EndpointRates> {
    let old: HashMap<_, _> = before.endpoints.iter().map(|e| (e.address, e.new_flows)).collect();
    let rates = |now: &EndpointStatsView| {
        let old = old.get(&now.address).copied().unwrap_or_default();
        EndpointRates {
            address: now.address,
            phase: now.phase.clone(),
            new_flows: now.new_flows,
            new_flows_per_second: seconds.map(|s| grown(old, now.new_flows) as f64 / s),
            open_flows: now.open_flows,
            refused: now.signals.refused,
            unanswered: now.unanswered(),
            reset: now.signals.reset_before_reply + now.signals.reset_after_reply,
        }
    };
    now.endpoints.iter().map(rates).collect()
}

/// By how much a counter grew; one that fell has begun anew.
fn grown(before: u64, now: u64) -> u64 {
    now.checked_sub(before).unwrap_or(now)
}

fn between(before: &SubsetStatsView, now: &SubsetStatsView, seconds: f64) -> Rates {
    let old: HashMap<_, _> = before.endpoints.iter().map(|e| (e.address, e)).collect();
    let traffic = |of: [fn(&EndpointStatsView) -> u64; 2]| -> u64 {
        let grown = |now: &EndpointStatsView| {
            let old = old.get(&now.address);
            of.map(|of| grown(old.map_or(0, |old| of(old)), of(now))).iter().sum::<u64>()
        };
        now.endpoints.iter().map(grown).sum()
    };
    let per_second = |count: u64| count as f64 / seconds;
    let unanswered =
        |of: &SubsetStatsView| of.new_flows.saturating_sub(of.completed).saturating_sub(of.refused);
    Rates {
        new_flows_per_second: per_second(grown(before.new_flows, now.new_flows)),
        packets_per_second: per_second(traffic([|e| e.packets_forward, |e| e.packets_reply])),
        bits_per_second: per_second(traffic([|e| e.bytes_forward, |e| e.bytes_reply]) * 8),
        rejected_per_second: per_second(grown(before.rejected, now.rejected)),
        refused_per_second: per_second(grown(before.refused, now.refused)),
        // It falls when what was open is answered.
        unanswered_per_second: per_second(unanswered(now).saturating_sub(unanswered(before))),
    }
}
