//! Follows a Kubernetes cluster: what its API server has of the kinds that weir reads becomes
//! documents, in batches. No type of Kubernetes' API leaves this room, and nothing here knows
//! what is steered by them.
//!
//! One task keeps the link to the server (`link`), one asks what is served (`discovery`), one
//! follows each kind that is (`watch`). They tell one that puts it together (`driver`), which
//! alone knows all objects (`objects`), and what was not told yet (`pending`).
//!
//! - What is known goes on whatever fails. Only a list that came whole, a watch, or a definition
//!   that is gone says that something is not there any more.
//! - The text of an object is reduced to what can matter to steering (`object`); one whose rest
//!   changes is as it was, and is not told again.
//! - What comes of several kinds after the server was away is told at once, so that nothing is
//!   steered by new routes and old endpoints (`followed`).
//!
//! A person's commands follow nothing: a [`Session`] takes a [`Picture`] of all that there is,
//! and writes an [`Edit`].

mod account;
mod cache;
mod client;
mod discovery;
mod driver;
mod edit;
mod failure;
mod followed;
mod health;
mod keeping;
mod known;
mod lines;
mod link;
mod object;
mod objects;
mod original;
mod pending;
mod picture;
mod record;
mod report;
mod served;
mod session;
mod start;
#[cfg(test)]
mod tests;
mod timing;
mod told;
mod tracker;
mod watch;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::error;

use crate::config::Kubernetes;
use crate::desired::Batch;

use driver::Driver;
use start::Start;
use timing::Timing;

pub use account::Account;
pub use edit::{Edit, Note, edit};
pub use failure::Failure;
pub use health::{Health, KindHealth, Standing, Verb, View};
pub use picture::Picture;
pub use record::Record;
pub use report::{Activity, Exception, REPORTED, REPORTS, Report, Watermark, in_cluster, resource};
pub use served::Tracked;
pub use session::{Scope, Session};
pub use timing::chance;
pub use tracker::{Sighting, Tracker};
pub use writer::{Change, Writer};

/// Follows a cluster until it is dropped. It never fails for good: what goes wrong is in
/// [`Health`], and tried again.
pub struct Follower {
    health: Arc<Health>,
    state: State,
    was_cached: bool,
}

enum State {
    /// Nobody has asked for a batch.
    New(Box<Start>),
    Running {
        batches: mpsc::Receiver<Batch>,
        driver: JoinHandle<()>,
    },
    Ended,
}

impl Follower {
    /// Reads the cache of the last run, a file that is made if it is missing, in a directory that
    /// is made with mode 0700 likewise. Nobody is asked anything before the first
    /// [`Follower::next`]. It blocks for as long as it takes to read the file: a second for some
    /// thousand Services.
    pub fn new(config: &Kubernetes, cache: PathBuf, health: Arc<Health>) -> Self {
        Self::with(config, Some(cache), health, Timing::default())
    }

    /// One that keeps nothing on the disk.
    pub fn uncached(config: &Kubernetes, health: Arc<Health>) -> Self {
        Self::with(config, None, health, Timing::default())
    }

    fn with(
        config: &Kubernetes,
        cache: Option<PathBuf>,
        health: Arc<Health>,
        timing: Timing,
    ) -> Self {
        let kubeconfig = config.kubeconfig.clone();
        let noted = Arc::clone(&health);
        let (start, was_cached) = Start::read(kubeconfig, cache, (timing, noted));
        Self { health, state: State::New(Box::new(start)), was_cached }
    }

    /// The documents of the last run, as one complete batch; `None` if there is no cache, or
    /// [`Follower::next`] was called. Documents that this build rejects are among the rejected.
    pub fn cached(&self) -> Option<Batch> {
        match &self.state {
            State::New(start) if self.was_cached => Some(start.objects.batch()),
            _ => None,
        }
    }

    /// The next batch; for as long as nothing changes, it waits. If this is dropped, nothing is
    /// lost.
    ///
    /// One is complete: when every kind that is served has been listed, for the first time since
    /// the start or since the server became another cluster's. Others say what changed. If there
    /// are kinds that cannot be listed, others are told all the same after half a minute, or as
    /// soon as the server has answered for all kinds.
    pub async fn next(&mut self) -> Batch {
        if let State::New(_) = self.state {
            let State::New(start) = std::mem::replace(&mut self.state, State::Ended) else {
                return std::future::pending().await;
            };
            let (sender, batches) = mpsc::channel(1);
            let driver = tokio::spawn(Driver::start(*start, sender).run());
            self.state = State::Running { batches, driver };
        }
        if let State::Running { batches, .. } = &mut self.state {
            if let Some(batch) = batches.recv().await {
                return batch;
            }
            // It ends by itself only if it panicked, which was printed.
            error!("cluster: it is not followed any more; restart the agent");
            self.health.lost("following ended by a mistake of weir's; restart the agent");
            self.state = State::Ended;
        }
        std::future::pending().await
    }

    /// Ends it, when the cache holds what is known. Without this, it is written soon after the
    /// drop if the runtime lives on.
    pub async fn stop(self) {
        if let State::Running { batches, driver } = self.state {
            drop(batches);
            // A panic was printed.
            let _ = driver.await;
        }
    }
}
