//! How many flows there are: counted now and then, in the background, so that
//! nobody who asks has to wait for a walk through the flow tables.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::warn;

use super::state::State;
use crate::datapath::{DatapathError, young_flows};
use crate::metrics::TableName;

/// The shortest time between two counts of the flow tables.
const PAUSE: Duration = Duration::from_secs(10);
/// Counting takes at most one part in so many of a CPU's time.
const SPARING: u32 = 50;

/// The last count.
pub(super) struct Census {
    /// Flows for which the tables have room.
    pub room: BTreeMap<TableName, u64>,
    latest: Mutex<Option<Arc<Count>>>,
}

/// The flows in the tables, at some time.
pub(super) struct Count {
    pub at: SystemTime,
    /// Active ones and those that are over.
    pub tables: BTreeMap<TableName, [u64; 2]>,
    /// Live ones that are not over, by the endpoint's id.
    pub active: HashMap<u32, u64>,
}

impl Census {
    /// Of tables for so many live flows of each family; nothing is counted yet.
    pub fn new(flows: u32) -> Self {
        let sizes = [("live", flows), ("pending", young_flows(flows))];
        let families = ["ipv4", "ipv6"].into_iter();
        let room = families
            .flat_map(|family| sizes.map(|(table, flows)| ((family, table), flows.into())))
            .collect();
        Self { room, latest: Mutex::default() }
    }

    /// The last count, if there was one.
    pub fn latest(&self) -> Option<Arc<Count>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn put(&self, count: Count) {
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(count));
    }
}

/// Counts again and again, for as long as it is polled.
pub(super) async fn run(state: Arc<State>) -> Infallible {
    loop {
        let (counted, begun) = (Arc::clone(&state), Instant::now());
        match tokio::task::spawn_blocking(move || count(&counted)).await {
            Ok(Ok(count)) => state.census.put(count),
            Ok(Err(error)) => warn!("counting flows: {error}"),
            Err(error) => warn!("counting flows: {error}"),
        }
        tokio::time::sleep(PAUSE.max(begun.elapsed() * SPARING)).await;
    }
}

fn count(state: &State) -> Result<Count, DatapathError> {
    let mut tables: BTreeMap<_, _> =
        state.census.room.keys().map(|&table| (table, [0; 2])).collect();
    let mut active = HashMap::<u32, u64>::new();
    let (at, now) = (SystemTime::now(), state.clock.now());
    state.flows.walk(|flow| {
        let family = if flow.client.is_ipv4() { "ipv4" } else { "ipv6" };
        let table = if flow.is_pending() { "pending" } else { "live" };
        let over = flow.is_over(now, state.idle);
        tables.entry((family, table)).or_default()[usize::from(over)] += 1;
        if table == "live" && !over {
            *active.entry(flow.endpoint_id).or_default() += 1;
        }
    })?;
    Ok(Count { at, tables, active })
}
