//! The flow table, listed for the API.
//!
//! A listing reads some thousands of flows when the next are asked for, and
//! nothing meanwhile: a client that reads slowly, or not at all, holds that
//! many in memory, but no thread and no lock.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::stream;
use probe_common::flow::{CLOSING, RESET, is_closed};
use tracing::warn;

use super::state::State;
use crate::api::types::{FlowQuery, FlowState, FlowView};
use crate::api::{Failure, FlowStream};
use crate::datapath::{Clock, DatapathError, Flow, Idle, Walk};
use crate::model::Protocol;

/// A walk through the flow tables that looks for certain flows.
struct Listing {
    state: Arc<State>,
    query: FlowQuery,
    names: Names,
    walk: Walk,
    /// How many may still be shown.
    left: u64,
    over: bool,
}

/// Split and subset of endpoint ids, as they were at an epoch of the ledger.
#[derive(Default)]
struct Names {
    epoch: Option<u64>,
    by_id: HashMap<u32, (String, String)>,
}

/// The flows that fit, as a stream.
pub(super) fn stream(state: Arc<State>, query: FlowQuery) -> FlowStream {
    let left = query.limit.unwrap_or(u64::MAX);
    let (names, walk) = (Names::default(), Walk::new());
    let listing = Listing { state, query, names, walk, left, over: false };
    Box::pin(stream::try_unfold(listing, |mut listing| async {
        if listing.over {
            return Ok(None);
        }
        let step = tokio::task::spawn_blocking(move || listing.step().map(|all| (all, listing)));
        let result = step.await.map_err(|error| error.to_string());
        let result = result.and_then(|step| step.map_err(|error| error.to_string()));
        result.map(Some).map_err(|error| {
            warn!("listing flows: {error}");
            Failure::Internal(error)
        })
    }))
}

impl Listing {
    /// The next flows that fit, which may be none.
    fn step(&mut self) -> Result<Vec<FlowView>, DatapathError> {
        self.names.follow(&self.state);
        let State { clock, idle, flows, .. } = &*self.state;
        let (now, mut found) = (clock.now(), Vec::new());
        let more = flows.step(&mut self.walk, |flow| {
            if self.left > 0
                && let Some(view) = fits(&flow, &self.query, &self.names, (now, *idle, *clock))
            {
                self.left -= 1;
                found.push(view);
            }
        })?;
        self.over = !more || self.left == 0;
        Ok(found)
    }
}

impl Names {
    /// Ids are given to other endpoints, in time.
    fn follow(&mut self, state: &State) {
        let ledger = {
            let inner = state.lock();
            let ledger = inner.steering.ledger();
            if self.epoch == Some(ledger.epoch()) {
                return;
            }
            ledger.clone()
        };
        let names = ledger
            .endpoint_ids()
            .map(|(id, split, subset, ..)| (id, (split.to_string(), subset.to_string())));
        self.by_id = names.collect();
        self.epoch = Some(ledger.epoch());
    }
}

/// How a flow is shown, if it is asked for.
fn fits(
    flow: &Flow,
    query: &FlowQuery,
    names: &Names,
    (now, idle, clock): (u32, Idle, Clock),
) -> Option<FlowView> {
    let state = life(flow, now, idle);
    let (split, subset) = match names.by_id.get(&flow.endpoint_id) {
        Some((split, subset)) => (Some(split), Some(subset)),
        None => (None, None),
    };
    let named = |wanted: &Option<String>, name| wanted.is_none() || wanted.as_ref() == name;
    let wanted = named(&query.split, split)
        && named(&query.subset, subset)
        && query.endpoint.is_none_or(|party| party.is(flow.endpoint))
        && query.client.is_none_or(|party| party.is(flow.client))
        && query.state.is_none_or(|wanted| wanted == state);
    if !wanted {
        return None;
    }
    let protocol =
        if flow.protocol == Protocol::Tcp.number() { Protocol::Tcp } else { Protocol::Udp };
    Some(FlowView {
        protocol: protocol.into(),
        client: flow.client,
        service: flow.service,
        split: split.cloned(),
        subset: subset.cloned(),
        endpoint: flow.endpoint,
        state,
        idle_seconds: seconds(now, flow.seen, clock),
        age_seconds: seconds(now, flow.created, clock),
    })
}

/// Seconds between two ticks; 0 if the second is not over.
fn seconds(now: u32, tick: u32, clock: Clock) -> u64 {
    let ticks = now.wrapping_sub(tick).cast_signed().max(0).unsigned_abs();
    (clock.tick() * ticks).as_secs()
}

/// Where a flow is in its life.
fn life(flow: &Flow, now: u32, idle: Idle) -> FlowState {
    if flow.state & RESET != 0 {
        FlowState::Reset
    } else if is_closed(flow.state) {
        FlowState::Closed
    } else if flow.is_over(now, idle) {
        FlowState::Expired
    } else if flow.is_pending() {
        FlowState::Pending
    } else if flow.state & CLOSING != 0 {
        FlowState::Closing
    } else {
        FlowState::Established
    }
}

#[cfg(test)]
mod tests {
    use probe_common::flow::{ESTABLISHED, FIN_CLIENT, FIN_ENDPOINT, SYNCED};
    use probe_common::parse::TCP;

    use super::*;

    const IDLE: Idle = Idle { tcp: 100, udp: 10 };

    fn flow() -> Flow {
        Flow {
            client: "192.0.2.7:40000".parse().unwrap(),
            service: "203.0.113.10:80".parse().unwrap(),
            endpoint: "198.51.100.1:8080".parse().unwrap(),
            protocol: TCP,
            endpoint_id: 5,
            state: ESTABLISHED | SYNCED,
            seen: 50,
            created: 40,
        }
    }

    #[test]
    fn life_of_a_flow_is_told_from_its_state_and_silence() {
        const BOTH: u16 = FIN_CLIENT | FIN_ENDPOINT;
        for (state, now, expected) in [
            (SYNCED, 50, FlowState::Pending),
            (ESTABLISHED, 50, FlowState::Established),
            (ESTABLISHED | FIN_CLIENT, 50, FlowState::Closing),
            (ESTABLISHED | FIN_ENDPOINT, 50, FlowState::Closing),
            (ESTABLISHED | BOTH, 50, FlowState::Closed),
            (ESTABLISHED | BOTH | RESET, 50, FlowState::Reset),
            (RESET, 50, FlowState::Reset),
            (ESTABLISHED, 150, FlowState::Established),
            (ESTABLISHED, 151, FlowState::Expired),
            (ESTABLISHED | FIN_CLIENT, 151, FlowState::Expired),
            (SYNCED, 151, FlowState::Expired),
            (ESTABLISHED | BOTH, 151, FlowState::Closed),
        ] {
            let found = life(&Flow { state, ..flow() }, now, IDLE);
            assert_eq!(found, expected, "state {state} at {now}");
        }
    }

    #[test]
    fn flows_are_chosen_by_all_that_is_asked() {
        let by_id = HashMap::from([(5, ("reviews".to_owned(), "v1".to_owned()))]);
        let names = Names { epoch: Some(0), by_id };
        let show = |flow: &Flow, query: &FlowQuery| {
            fits(flow, query, &names, (60, IDLE, Clock::new())).is_some()
        };
        let query = |text: &str| serde_urlencoded::from_str::<FlowQuery>(text).expect(text);
        for (text, expected) in [
            ("", true),
            ("split=reviews&subset=v1&endpoint=198.51.100.1&client=192.0.2.7:40000", true),
            ("state=established", true),
            ("state=pending", false),
            ("split=ratings", false),
            ("split=reviews&subset=v2", false),
            ("endpoint=198.51.100.1:8081", false),
            ("client=192.0.2.8", false),
            ("client=203.0.113.10", false),
        ] {
            assert_eq!(show(&flow(), &query(text)), expected, "{text}");
        }
        let unknown = Flow { endpoint_id: 6, ..flow() };
        assert!(show(&unknown, &query("")) && !show(&unknown, &query("split=reviews")));
    }

    #[test]
    fn idle_time_is_never_negative() {
        let clock = Clock::new();
        assert_eq!(seconds(60, 50, clock), (clock.tick() * 10).as_secs());
        assert_eq!(seconds(2, u32::MAX, clock), (clock.tick() * 3).as_secs(), "wrapped around");
        assert_eq!(seconds(50, 51, clock), 0, "the programs' clock is ahead");
    }
}
