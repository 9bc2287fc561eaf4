//! Reads the resources: when they change, at SIGHUP, and again after what may
//! have failed for a while only, such as a write to a state directory that was full.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep_until};
use tracing::info;

use super::backoff::Backoff;
use super::state::State;
use super::troubles::Work;
use crate::config::AgentConfig;
use crate::files::Watcher;

/// Who reads them.
pub(super) struct Reader {
    state: Arc<State>,
    watcher: Watcher,
    hangups: Signal,
    backoff: Backoff,
    /// When to read again though nothing has changed.
    again: Option<Instant>,
}

impl Reader {
    /// Reads them for the first time. What changes from then on is followed by
    /// [`Reader::follow`].
    pub fn start(config: &AgentConfig, state: Arc<State>) -> Result<Self> {
        let hangups = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        // Before they are read, so that no change falls between.
        let watcher = Watcher::new(&config.resources);
        let (backoff, again) = (Backoff::default(), None);
        let mut reader = Self { state, watcher, hangups, backoff, again };
        reader.read();
        Ok(reader)
    }

    /// Follows them until it is dropped.
    pub async fn follow(mut self) {
        loop {
            let again = self.again;
            tokio::select! {
                () = self.watcher.changed() => {}
                _ = self.hangups.recv() => {
                    info!("SIGHUP: resources are read again; agent.yaml is, when the agent starts");
                }
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {}
            }
            tokio::task::block_in_place(|| self.read());
        }
    }

    fn read(&mut self) {
        let troubles = &self.state.troubles;
        troubles.note(Work::Watch, self.watcher.trouble().map(str::to_owned));
        match troubles.of(Work::Files, self.state.reload()) {
            Some(()) => {
                self.again = None;
                self.backoff.reset();
            }
            None => self.again = Some(Instant::now() + self.backoff.pause()),
        }
    }
}
