//! How many flows there are: counted now and then, in the background, so that
//! nobody who asks has to wait for a walk through the flow tables. Those that
//! have ended are cleared away after that, and a full table is reported.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tracing::{info, warn};

use super::state::State;
use super::troubles::Work;
use crate::datapath::{DatapathError, Swept, full_flows, new_flows};
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
    /// Active ones and those that are expired.
    pub tables: BTreeMap<TableName, [u64; 2]>,
    /// Live ones that are not expired, by the endpoint's id.
    pub active: HashMap<u32, u64>,
    /// The same by the id of the subset that they were steered to.
    pub by_subset: HashMap<u32, u64>,
    /// Tables of live flows that are full, and since when: new flows evict
    /// those whose last packet is the longest ago, though they may live.
    pub full: BTreeMap<TableName, SystemTime>,
}

impl Census {
    /// Of tables for so many live flows of each family; nothing is counted yet.
    pub fn new(flows: u32) -> Self {
        let sizes = [("live", flows), ("pending", new_flows(flows))];
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
        match tokio::task::spawn_blocking(move || look(&counted)).await {
            Ok(result) => {
                if let Some(count) = state.troubles.of(Work::Census, result) {
                    tell(&state.census, &count);
                    state.census.put(count);
                }
            }
            Err(error) => state.troubles.note(Work::Census, Some(error.to_string())),
        }
        tokio::time::sleep(PAUSE.max(begun.elapsed() * SPARING)).await;
    }
}

/// Counts, and clears away what has ended.
fn look(state: &State) -> Result<Count, DatapathError> {
    let mut count = count(state)?;
    let swept = state.flows.sweep_ended(state.clock, state.idle)?;
    let before = state.census.latest();
    let before = before.as_deref().map_or(&BTreeMap::new(), |before| &before.full).clone();
    count.full = full(&before, &swept, &state.census.room, count.at);
    Ok(count)
}

/// Which of these tables are full at the time of a count, by those that were
/// before. To be full no longer takes more than a few places.
fn full(
    before: &BTreeMap<TableName, SystemTime>,
    swept: &Swept,
    room: &BTreeMap<TableName, u64>,
    at: SystemTime,
) -> BTreeMap<TableName, SystemTime> {
    let live = room.iter().filter(|(name, _)| name.1 == "live");
    let full = live.filter_map(|(&name, &limit)| {
        // Places of flows: of one, the forward entry alone may have been evicted.
        let taken = swept.entries[usize::from(name.0 == "ipv6")] / 2;
        let (since, level) = (before.get(&name), full_flows(limit));
        let still = since.is_some() && taken > level - level / 16;
        (taken >= level || still).then(|| (name, since.copied().unwrap_or(at)))
    });
    full.collect()
}

/// Tells of tables that are full now and were not before, and the other way round.
fn tell(census: &Census, count: &Count) {
    let before = census.latest();
    let was_full = |name| before.as_ref().is_some_and(|before| before.full.contains_key(name));
    for (name @ (family, table), limit) in &census.room {
        let [active, expired] = count.tables.get(name).copied().unwrap_or_default();
        match (was_full(name), count.full.contains_key(name)) {
            (false, true) => warn!(
                "flow table {family} {table} is full: {active} flows are active and {expired} expired, \
                 there is room for {limit}; new flows evict those that were silent for \
                 longest, though they may live: raise flows.max"
            ),
            (true, false) => info!(
                "flow table {family} {table} is not full any more: {active} flows are active and \
                 {expired} expired, there is room for {limit}"
            ),
            _ => {}
        }
    }
}

fn count(state: &State) -> Result<Count, DatapathError> {
    let mut tables: BTreeMap<_, _> =
        state.census.room.keys().map(|&table| (table, [0; 2])).collect();
    let (mut active, mut by_subset) = (HashMap::<u32, u64>::new(), HashMap::<u32, u64>::new());
    let (at, now) = (SystemTime::now(), state.clock.now());
    state.flows.walk(|flow| {
        let family = if flow.client.is_ipv4() { "ipv4" } else { "ipv6" };
        let table = if flow.is_pending() { "pending" } else { "live" };
        let expired = flow.is_expired(now, state.idle);
        tables.entry((family, table)).or_default()[usize::from(expired)] += 1;
        if table == "live" && !expired {
            *active.entry(flow.endpoint_id).or_default() += 1;
            *by_subset.entry(flow.subset_id).or_default() += 1;
        }
    })?;
    Ok(Count { at, tables, active, by_subset, full: BTreeMap::new() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_stays_full_until_it_has_some_room_again() {
        let room = Census::new(1 << 20).room;
        let level = full_flows(1 << 20);
        let name = ("ipv4", "live");
        let mut before = BTreeMap::new();
        let cases = [
            (level - 1, None),
            (level, Some(1)),
            (level - 1, Some(1)),
            (level * 16 / 15, Some(1)),
            (level - level / 16, None),
            (level - 1, None),
            (level, Some(6)),
        ];
        for (n, (taken, since)) in cases.into_iter().enumerate() {
            let at = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            let swept = Swept { entries: [2 * taken, 2], deleted: 0 };
            before = full(&before, &swept, &room, at(n as u64));
            let wanted = since.map(|n| (name, at(n)));
            assert_eq!(before, wanted.into_iter().collect(), "count {n}, {taken} flows");
        }
    }
}
