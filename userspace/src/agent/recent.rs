//! What the programs counted in the last minute: counters as they were at some times before now.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use probe_common::map::SubsetCounters;

use super::state::State;
use super::stats::Counted;

/// How often counters are written down.
const PAUSE: Duration = Duration::from_secs(10);
/// How long ago those are that what is new is told from, at least.
const WINDOW: Duration = Duration::from_secs(60);

/// The counters of subsets, by id.
type Counters = HashMap<u32, Counted>;

/// Counters as they were.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<(Instant, Arc<Counters>)>>);

/// Counters of before, and how long ago that was.
#[derive(Debug, Clone)]
pub(super) struct Before {
    counters: Arc<Counters>,
    /// How long ago.
    pub age: Duration,
}

impl Before {
    /// Those of a subset id; zero if it was not there, or had counted nothing.
    pub fn of(&self, id: u32) -> Counted {
        self.counters.get(&id).cloned().unwrap_or_default()
    }
}

impl Recent {
    /// Writes counters down. What is not needed any more is forgotten.
    fn put(&self, at: Instant, counters: Counters) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.push_back((at, Arc::new(counters)));
        // One that is older than the window stays, and those after it.
        while all.get(1).is_some_and(|(then, _)| at.duration_since(*then) >= WINDOW) {
            all.pop_front();
        }
    }

    /// Those of a minute ago, or the first since the agent started; None before these.
    pub fn before(&self, now: Instant) -> Option<Before> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let old = all.iter().rev().find(|(at, _)| now.duration_since(*at) >= WINDOW);
        let (at, counters) = old.or(all.front())?;
        Some(Before { counters: Arc::clone(counters), age: now.duration_since(*at) })
    }
}

/// Writes counters down for as long as it is polled.
pub(super) async fn run(state: Arc<State>) -> Infallible {
    loop {
        let work = Arc::clone(&state);
        // A panic of it has been printed; there are more tries.
        let _ = tokio::task::spawn_blocking(move || note(&work)).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What cannot be read is told by who asks for counters themselves.
fn note(state: &State) {
    let ledger = state.lock().steering.ledger().clone();
    let at = Instant::now();
    let ids = ledger.splits().flat_map(|split| {
        let id = |subset: &crate::model::Subset| ledger.subset_id(split.name(), &subset.name);
        split.subsets().iter().filter_map(id).collect::<Vec<_>>()
    });
    let counted = ids.filter_map(|id| {
        let counters = state.counters.subset(id).ok()?;
        if counters == SubsetCounters::default() {
            return None;
        }
        Some((id, Counted { counters, times: state.counters.times(id).ok()?.map(Arc::new) }))
    });
    state.recent.put(at, counted.collect());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_those_of_a_minute_ago_or_the_first() {
        let (recent, start) = (Recent::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(recent.before(at(0)).is_none());
        for tens in 0..30 {
            let mut counters = Counted::default();
            counters.counters.stats.flows = 10 * tens;
            recent.put(at(10 * tens), HashMap::from([(7, counters)]));
        }
        let flows = |seconds| {
            let before = recent.before(at(seconds)).unwrap();
            let flows = [7, 8].map(|id| before.of(id).counters.stats.flows);
            (flows[0], before.age.as_secs(), flows[1])
        };
        assert_eq!(flows(290), (230, 60, 0));
        assert_eq!(flows(299), (230, 69, 0));
        assert_eq!(recent.0.lock().unwrap().len(), 7);
        let young = Recent::default();
        young.put(at(0), HashMap::new());
        young.put(at(10), HashMap::new());
        assert_eq!(young.before(at(15)).unwrap().age.as_secs(), 15);
    }
}
