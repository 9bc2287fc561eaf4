//! How the agent is, for the API.

use probe_common::map::ABI_VERSION;

use super::observe::limits;
use super::state::State;
use crate::api::Failure;
use crate::api::types::{FeatureView, FlowTableView, MapView, StatusView};
use crate::metrics::TableName;
use crate::truth::Time;

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
            active: found.map(|&[active, _]| active),
            over: found.map(|&[_, over]| over),
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
    Ok(StatusView {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        map_layout: ABI_VERSION,
        kernel: kernel.map(|k| k.release().to_string_lossy().into_owned()).unwrap_or_default(),
        started: Time::from(state.started).to_string(),
        reloaded: inner.reloaded.map(|at| Time::from(at).to_string()),
        interfaces: inner.interfaces.views(),
        fast_path: inner.fast_path_view(),
        features: features.collect(),
        maps: maps.collect(),
        flow_tables: state.census.room.iter().map(table).collect(),
        flows_counted: count.as_ref().map(|count| Time::from(count.at).to_string()),
        reasons,
        last_error: inner.last_error.clone(),
        set_aside: inner.truth.set_aside().map(|(_, problem)| problem.to_string()).collect(),
        troubles: state.troubles.views(),
    })
}
