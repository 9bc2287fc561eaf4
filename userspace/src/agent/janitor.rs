//! What has to be done some time after a change, off the agent's lock: grace
//! periods, drain times that end, a journal that has grown, and another try for
//! interfaces that failed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tracing::error;

use super::state::State;
use crate::datapath::grace;

/// How often the clock is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How many ticks pass between attempts to attach.
const RETRY: u32 = 5;

/// Runs until it is dropped.
pub(super) async fn run(state: Arc<State>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut count = 0u32;
    loop {
        tokio::select! {
            _ = ticks.tick() => {
                count = count.wrapping_add(1);
                if count.is_multiple_of(RETRY) {
                    let mut inner = state.lock();
                    let inner = &mut *inner;
                    inner.interfaces.retry(&mut inner.steering);
                }
            }
            () = state.changed.notified() => {}
        }
        let work = Arc::clone(&state);
        match tokio::task::spawn_blocking(move || tidy(&work)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => error!("{error:#}"),
            Err(error) => error!("tidying up: {error}"),
        }
    }
}

fn tidy(state: &State) -> Result<()> {
    let epoch = {
        let inner = state.lock();
        let ledger = inner.steering.ledger();
        ledger.wants_grace().then(|| ledger.epoch())
    };
    if let Some(epoch) = epoch {
        grace()?;
        state.lock().steering.note_grace(epoch);
    }
    let compaction = state.lock().store.compaction();
    if let Some(compaction) = compaction {
        let compacted = compaction.write()?;
        state.lock().store.replace(compacted)?;
    }
    let leaving = state.lock().steering.expire()?;
    if !leaving.is_empty() {
        state.flows.sweep(&leaving)?;
        state.lock().steering.swept(&leaving)?;
    }
    Ok(())
}
