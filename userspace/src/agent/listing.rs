//! The flow table, listed for the API.
//!
//! A listing reads some thousands of flows when the next are asked for, and
//! nothing meanwhile: a client that reads slowly, or not at all, holds that
//! many in memory, but no thread and no lock.

use std::sync::Arc;

use futures_util::stream;
use probe_common::flow::{CLOSING, RESET, is_closed};
use tracing::warn;

use super::state::State;
use crate::api::types::{FlowQuery, FlowState, FlowView};
use crate::api::{Failure, FlowStream};
use crate::datapath::{Clock, DatapathError, Flow, Idle, Walk};
use crate::model::{Name, Protocol, ServiceAddress, hint};
use crate::plan::Ledger;

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

/// Names of splits and subsets, as they were at an epoch of the ledger.
struct Names {
    ledger: Ledger,
}

/// Whether what a query names is known: an error rather than an empty answer if it
/// is not. Clients may be anybody.
pub(super) fn known(ledger: &Ledger, query: &FlowQuery) -> Result<(), Failure> {
    let views = || ledger.endpoint_views(None);
    if let Some(split) = &query.split
        && !ledger.names().any(|name| name.as_str() == split)
        && !views().any(|view| view.split.as_str() == split)
    {
        let hint = hint(split, ledger.names().map(Name::as_str));
        return Err(Failure::NotFound(format!("there is no split \"{split}\"{hint}")));
    }
    let of_split = || {
        let wanted =
            |name: &Name| query.split.as_deref().is_none_or(|split| split == name.as_str());
        ledger.splits().filter(move |split| wanted(split.name()))
    };
    if let Some(subset) = &query.subset {
        let names = || of_split().flat_map(|split| split.subsets()).map(|s| s.name.as_str());
        if !names().any(|name| name == subset) && !views().any(|v| v.subset.as_str() == subset) {
            let hint = hint(subset, names());
            return Err(Failure::NotFound(format!("no split has a subset \"{subset}\"{hint}")));
        }
    }
    match query.endpoint {
        Some(endpoint) if !views().any(|view| endpoint.is(view.address)) => {
            let known = views().map(|view| view.address.to_string()).collect::<Vec<_>>();
            let meant = match hint(&endpoint.to_string(), known.iter().map(String::as_str)) {
                none if none.is_empty() => ": see `weir get splits -o yaml`".to_owned(),
                meant => meant,
            };
            Err(Failure::NotFound(format!("{endpoint} is no endpoint{meant}")))
        }
        _ => Ok(()),
    }
}

/// The flows that fit, as a stream.
pub(super) fn stream(state: Arc<State>, query: FlowQuery) -> FlowStream {
    let left = query.limit.unwrap_or(u64::MAX);
    let names = Names { ledger: state.lock().steering.ledger().clone() };
    let walk = Walk::new();
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
    /// Ids are given to others, in time. A copy of the ledger costs nothing.
    fn follow(&mut self, state: &State) {
        self.ledger = state.lock().steering.ledger().clone();
    }

    /// The split that has the flow's service address now, or had it when the flow began; and the
    /// subset that the flow was steered to, while it is known.
    fn of(&self, flow: &Flow) -> (Option<&str>, Option<&str>) {
        let (ip, port) = (flow.service.ip(), flow.service.port());
        let service = ServiceAddress { ip, port, protocol: protocol(flow) };
        let names = self.ledger.subset_names(flow.subset_id);
        let split = self.ledger.split_at(service).or(names.map(|(split, _)| split));
        (split.map(Name::as_str), names.map(|(_, subset)| subset.as_str()))
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
    let (split, subset) = names.of(flow);
    let named = |wanted: &Option<String>, name| wanted.is_none() || wanted.as_deref() == name;
    let wanted = named(&query.split, split)
        && named(&query.subset, subset)
        && query.endpoint.is_none_or(|party| party.is(flow.endpoint))
        && query.client.is_none_or(|party| party.is(flow.client))
        && query.state.is_none_or(|wanted| wanted == state);
    if !wanted {
        return None;
    }
    Some(FlowView {
        protocol: protocol(flow).into(),
        client: flow.client,
        service: flow.service,
        split: split.map(str::to_owned),
        subset: subset.map(str::to_owned),
        endpoint: flow.endpoint,
        state,
        idle_seconds: seconds(now, flow.seen, clock),
        age_seconds: seconds(now, flow.created, clock),
    })
}

fn protocol(flow: &Flow) -> Protocol {
    if flow.protocol == Protocol::Tcp.number() { Protocol::Tcp } else { Protocol::Udp }
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
    } else if flow.is_expired(now, idle) {
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
    use crate::model::{Affinity, Split, Subset};
    use crate::plan::{Capacity, Change, plan};

    const IDLE: Idle = Idle { tcp: 100, udp: 10 };

    fn flow() -> Flow {
        Flow {
            client: "192.0.2.7:40000".parse().unwrap(),
            service: "203.0.113.10:80".parse().unwrap(),
            endpoint: "198.51.100.1:8080".parse().unwrap(),
            protocol: TCP,
            endpoint_id: 5,
            subset_id: 0,
            state: ESTABLISHED | SYNCED,
            seen: 50,
            created: 40,
        }
    }

    /// Those of a split reviews with a subset v1, and the id of that.
    fn names() -> (Names, u32) {
        let name = |text| Name::new(text).unwrap();
        let address = ServiceAddress {
            ip: flow().service.ip(),
            port: flow().service.port(),
            protocol: Protocol::Tcp,
        };
        let endpoints = [flow().endpoint].into();
        let subsets = vec![Subset { name: name("v1"), weight: 1, endpoints }];
        let split = Split::new(name("reviews"), address, Affinity::None, subsets).unwrap();
        let ledger = Ledger::new(Capacity { splits: 1, endpoints: 1, chunks: 1 });
        let change = Change { put: vec![split.into()], remove: Vec::new() };
        let ledger = plan(&ledger, &change, 0).unwrap().ledger;
        let id = ledger.subset_id(&name("reviews"), &name("v1")).unwrap();
        (Names { ledger }, id)
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
        let (names, subset_id) = names();
        let flow = || Flow { subset_id, ..flow() };
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
        let renamed = Flow { subset_id: subset_id + (1 << 24), ..flow() };
        assert!(show(&renamed, &query("split=reviews")), "by the service address");
        assert!(!show(&renamed, &query("split=reviews&subset=v1")), "another subset has the index");
        let service = "203.0.113.11:80".parse().unwrap();
        let unknown = Flow { service, ..renamed };
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
