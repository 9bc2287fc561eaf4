//! What has to be done some time after a change, off the agent's lock: grace
//! periods, drain times that end, a journal that has grown, a look at whether the
//! programs are still attached, and another try for interfaces that failed. What
//! fails holds up nothing else.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;
use tracing::error;

use super::backoff::Backoff;
use super::state::State;
use super::troubles::Work;
use crate::datapath::grace;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks pass between attempts to attach.
const RETRY: u32 = 5;

/// Runs until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let journal = Arc::new(Mutex::new(Journal::default()));
    let mut count = 0u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                state.verify_interfaces();
                if count.is_multiple_of(RETRY) {
                    state.retry_interfaces();
                }
            }
            () = state.changed.notified() => {}
        }
        let (work, journal) = (Arc::clone(&state), Arc::clone(&journal));
        if let Err(error) = tokio::task::spawn_blocking(move || tidy(&work, &journal)).await {
            error!("tidying up: {error}");
        }
    }
}

/// When the journal may be written anew, which costs as much as it is long, also
/// where there is no room for it.
#[derive(Default)]
struct Journal {
    backoff: Backoff,
    not_before: Option<Instant>,
}

fn tidy(state: &State, journal: &Mutex<Journal>) {
    state.troubles.of(Work::Grace, wait_for_grace(state));
    let mut journal = journal.lock().unwrap_or_else(PoisonError::into_inner);
    if journal.not_before.is_none_or(|then| Instant::now() >= then) {
        match state.troubles.of(Work::Journal, compact(state)) {
            Some(()) => *journal = Journal::default(),
            None => journal.not_before = Some(Instant::now() + journal.backoff.pause()),
        }
    }
    state.troubles.of(Work::Drain, sweep(state));
}

fn wait_for_grace(state: &State) -> Result<()> {
    let epoch = {
        let inner = state.lock();
        let ledger = inner.steering.ledger();
        ledger.wants_grace().then(|| ledger.epoch())
    };
    if let Some(epoch) = epoch {
        grace()?;
        state.lock().steering.note_grace(epoch);
    }
    Ok(())
}

fn compact(state: &State) -> Result<()> {
    let compaction = state.lock().store.compaction();
    if let Some(compaction) = compaction {
        let compacted = compaction.write()?;
        state.lock().store.replace(compacted)?;
    }
    Ok(())
}

fn sweep(state: &State) -> Result<()> {
    let leaving = state.lock().steering.expire()?;
    if !leaving.is_empty() {
        state.flows.sweep(&leaving)?;
        state.lock().steering.swept(&leaving)?;
    }
    Ok(())
}
