//! What is known of the following of one kind, and how long others wait for it.

use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::served::Served;
use super::timing::Timing;

/// How far it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Phase {
    /// Nobody follows it.
    #[default]
    Idle,
    /// It is not told yet, or not all of it.
    Listing,
    /// It is told, and what changes is.
    Reconciled,
    /// The server does not answer for it.
    Waiting,
    /// The server answers with an error.
    Failing,
}

/// One kind.
#[derive(Default)]
pub(super) struct Followed {
    /// Who follows it.
    task: Option<Task>,
    /// Of the last one who did.
    run: u64,
    phase: Phase,
    /// Since when it was reconciled last.
    unreconciled: Option<Instant>,
    /// When some of what is being listed came last.
    progress: Option<Instant>,
    /// Since when it is watched again, after it was not.
    resumed: Option<Instant>,
    /// Whether it was listed since the agent met this cluster.
    listed: bool,
    /// Since when it is not served, if so.
    pub absent: Option<Instant>,
}

struct Task {
    served: Served,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

impl Followed {
    /// The number of who is about to follow it.
    pub fn next_run(&mut self) -> u64 {
        self.run += 1;
        self.run
    }

    /// Somebody follows it from now on, in place of who did.
    pub fn start(&mut self, served: Served, handle: AbortHandle) {
        self.task = Some(Task { served, handle });
        self.enter(Phase::Listing);
    }

    /// Nobody follows it any more.
    pub fn stop(&mut self) {
        self.task = None;
        self.enter(Phase::Idle);
    }

    /// All is forgotten: it was another cluster's.
    pub fn forget(&mut self) {
        self.stop();
        (self.listed, self.absent) = (false, None);
    }

    /// As what it is followed, if it is.
    pub fn served(&self) -> Option<&Served> {
        self.task.as_ref().map(|task| &task.served)
    }

    /// Whether what is told by this number counts.
    pub fn is_current(&self, run: u64) -> bool {
        self.task.is_some() && self.run == run
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    pub fn enter(&mut self, phase: Phase) {
        if phase == Phase::Reconciled && matches!(self.phase, Phase::Waiting | Phase::Failing) {
            self.resumed = Some(Instant::now());
        }
        self.phase = phase;
        self.listed |= phase == Phase::Reconciled;
        match phase {
            Phase::Idle | Phase::Reconciled => (self.unreconciled, self.progress) = (None, None),
            _ => _ = self.unreconciled.get_or_insert_with(Instant::now),
        }
    }

    /// Some of what is being listed came.
    pub fn progress(&mut self) {
        self.progress = Some(Instant::now());
    }

    /// Whether it was listed once.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Until when what others say waits for it: an agent that comes back does not steer by new
    /// routes and old endpoints.
    pub fn holds_until(&self, timing: &Timing) -> Option<Instant> {
        match self.phase {
            Phase::Listing => self.comes_until(timing.hold, timing),
            Phase::Waiting => Some(self.unreconciled? + timing.short_hold),
            Phase::Reconciled => Some(self.resumed? + timing.catch_up),
            Phase::Idle | Phase::Failing => None,
        }
    }

    /// Until when that what was not listed yet may come, if it comes within that time of what came
    /// last: half a list is worse than none. `None` if it is not about to come.
    pub fn comes_until(&self, within: Duration, timing: &Timing) -> Option<Instant> {
        let since = self.unreconciled?;
        let last = self.progress.map_or(since, |last| last.min(since + timing.longest_hold));
        matches!(self.phase, Phase::Listing | Phase::Waiting).then(|| last + within)
    }
}
