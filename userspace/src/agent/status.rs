//! How the agent is, for the API.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use probe_common::map::ABI_VERSION;

use super::cluster::Cluster;
use super::observe::limits;
use super::state::State;
use super::stats::stats;
use crate::api::Failure;
use crate::api::types::{
    DrainedEndpointView, FeatureView, FlowTableView, HealthView, MapView, StatsQuery, StatusView,
    ThisNodeView,
};
use crate::datapath;
use crate::desired::{PersistedState, Time};
use crate::metrics::TableName;
use crate::model::{Split, Subset, nowhere, total_weight};
use crate::rates::{Worse, mostly_failing, worse_than_others};

/// Everything about the agent that is not about a split.
pub(super) fn status(state: &State) -> Result<StatusView, Failure> {
    let reasons = state.counters.reasons().map_err(|e| Failure::Internal(e.to_string()))?;
    let count = state.census.latest();
    let full = |name: &TableName| count.as_ref().and_then(|count| count.full.get(name).copied());
    let table = |(&name, &limit): (&TableName, &u64)| {
        let found = count.as_ref().and_then(|count| count.tables.get(&name));
        FlowTableView {
            family: name.0.to_owned(),
            table: name.1.to_owned(),
            open_flows: found.map(|&[open, _]| open),
            expired: found.map(|&[_, expired]| expired),
            limit,
            full_since: full(&name).map(|at| Time::from(at).to_string()),
        }
    };
    let features = state.features.iter().map(|feature| FeatureView {
        name: feature.name.to_owned(),
        found: feature.found,
        note: feature.note.to_owned(),
    });
    let kernel = nix::sys::utsname::uname();
    let inner = state.lock();
    let maps = limits(inner.steering.ledger()).into_iter().map(|limit| MapView {
        kind: limit.kind.to_owned(),
        used: limit.used,
        limit: limit.limit,
    });
    let mut view = StatusView {
        health: HealthView::default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        map_layout: ABI_VERSION,
        kernel: kernel.map(|k| k.release().to_string_lossy().into_owned()).unwrap_or_default(),
        started: Time::from(state.started).to_string(),
        config: state.config.clone(),
        network_namespace: datapath::own_network(),
        reloaded: inner.reloaded.map(|at| Time::from(at).to_string()),
        interfaces: inner.interfaces.views(),
        fast_path: inner.fast_path_view(),
        takeover: inner.steering.takeover().view(),
        features: features.collect(),
        maps: maps.collect(),
        flow_tables: state.census.room.iter().map(table).collect(),
        flows_counted: count.as_ref().map(|count| Time::from(count.at).to_string()),
        reasons,
        last_error: inner.last_error.clone(),
        rejected: inner.desired_state.rejected().map(|(_, problem)| problem.to_string()).collect(),
        troubles: state.troubles.views(),
        kubernetes: state.cluster.as_ref().map(Cluster::view),
        detours: Vec::new(),
        drained: drained(inner.store.persisted()),
        this_node: ThisNodeView::all(&inner.desired_state, inner.store.persisted()),
        unloaded: None,
    };
    if let Some(cluster) = &mut view.kubernetes {
        cluster.rejected = inner.rejected.iter().cloned().collect();
        let observed = inner.desired_state.observed();
        cluster.observed = observed.iter().map(|split| split.name().to_string()).collect();
    }
    let mut also = inner.interfaces.lately_detached();
    also.extend(inner.desired.splits().flat_map(rejecting));
    also.extend(inner.desired.splits().flat_map(lost));
    let desired = Arc::clone(&inner.desired);
    // The kernel is asked for each endpoint: without the lock.
    drop(inner);
    also.extend(failing(state));
    view.health = HealthView::of(&view, also);
    let carriers = view.interfaces.iter().filter(|interface| !interface.mode.is_empty());
    let carriers = carriers.map(|interface| interface.index).collect();
    let detours = state.detours.of(&desired, carriers);
    view.detours = detours.map_err(|e| Failure::Internal(e.to_string()))?;
    Ok(view)
}

/// Versions that fail more often than the others did in the last minute, or most of whose
/// connections failed.
fn failing(state: &State) -> Vec<String> {
    // Counters that cannot be read are told by who asks for them.
    let splits = stats(state, &StatsQuery::default()).map(|stats| stats.splits).unwrap_or_default();
    let lines = splits.iter().flat_map(|split| {
        let say = |worse: Worse| format!("split {}: {}", split.name, worse.text);
        let worse = worse_than_others(split).into_iter().map(say);
        let mostly = mostly_failing(split).into_iter().map(say);
        worse.chain(mostly.map(|text| text + " (`weir doctor` looks for why)")).collect::<Vec<_>>()
    });
    lines.collect()
}

/// Endpoints that somebody took out.
fn drained(persisted: &PersistedState) -> Vec<DrainedEndpointView> {
    let all = persisted.drains().flat_map(|(name, drains)| {
        let split = name.to_string();
        drains.iter().map(move |drained| DrainedEndpointView {
            split: split.clone(),
            endpoint: drained.into(),
        })
    });
    all.collect()
}

/// Shares that are rejected, since nobody is there to take them.
fn rejecting(split: &Split) -> Vec<String> {
    let sum = total_weight(split.subsets()) as f64;
    let empty = split.subsets().iter().filter(|s| s.weight > 0 && s.endpoints.is_empty());
    let say = |subset: &Subset| {
        let percent = f64::from(subset.weight) / sum * 100.0;
        format!(
            "split {}: subset {} has no endpoint: {percent:.2}% of new connections are rejected",
            split.name(),
            subset.name
        )
    };
    empty.map(say).collect()
}

/// Endpoints at addresses at which there can be none.
fn lost(split: &Split) -> Vec<String> {
    let of = |subset: &Subset| subset.endpoints.iter().copied().collect::<Vec<_>>();
    let all: BTreeSet<SocketAddr> = split.subsets().iter().flat_map(of).collect();
    let lost = all.into_iter().filter_map(|endpoint| Some((endpoint, nowhere(endpoint.ip())?)));
    lost.map(|(endpoint, why)| format!("split {}: endpoint {endpoint} is {why}", split.name()))
        .collect()
}
