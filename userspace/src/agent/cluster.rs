//! Puts into force what a cluster says, and again what may have failed for a while only.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::state::State;
use super::troubles::Work;
use crate::api::types::{KubernetesKindView, KubernetesView};
use crate::cluster::{Follower, Health};
use crate::config::{AgentConfig, Mode};
use crate::desired::{Batch, Time};

/// A file of the state directory: what was last known.
const CACHE: &str = "cluster.json";

/// How often it is tried to put into force what did not fit: places are given back when drain
/// times end, of which the cluster says nothing.
const ROOM: Duration = Duration::from_secs(10);

/// A cluster that is followed.
pub(super) struct Cluster {
    mode: Mode,
    health: Arc<Health>,
}

impl Cluster {
    /// The one of the configuration, which is not followed yet.
    pub fn of(config: &AgentConfig) -> Option<Self> {
        let mode = config.kubernetes.as_ref()?.mode;
        Some(Self { mode, health: Arc::default() })
    }

    /// How it goes.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// For status, without what is wrong with objects.
    pub fn view(&self) -> KubernetesView {
        let view = self.health.view();
        let kind = |kind: crate::cluster::KindHealth| KubernetesKindView {
            state: kind.standing.name().to_owned(),
            api_version: kind.api_version,
            objects: kind.objects as u64,
            events: kind.events,
            reconnects: kind.reconnects,
        };
        let failing = view.kinds.values().filter_map(|kind| kind.standing.error());
        let errors = view.error.as_deref().into_iter().chain(failing);
        let errors =
            errors.chain(view.discovery_error.as_deref()).chain(view.cache_error.as_deref());
        KubernetesView {
            mode: match self.mode {
                Mode::Steer => "steer".to_owned(),
                Mode::Observe => "observe".to_owned(),
            },
            errors: errors.map(str::to_owned).collect(),
            server: view.server,
            cluster: view.cluster,
            connected: view.connected,
            stale_since: view.stale_since.map(|at| Time::from(at).to_string()),
            complete: view.complete,
            kinds: view.kinds.into_iter().map(|(name, of)| (name, kind(of))).collect(),
            requests: view.requests.into_iter().map(|(verb, n)| (verb.to_owned(), n)).collect(),
            bytes: view.bytes,
            outages: view.outages,
            rejected: Vec::new(),
            observed: Vec::new(),
        }
    }
}

/// Who puts a cluster's documents into force.
pub(super) struct ClusterReader {
    state: Arc<State>,
    follower: Follower,
    /// What could not be put into force.
    left: Option<Batch>,
    backoff: Backoff,
    /// When to try that, or what did not fit, again though nothing has changed.
    again: Option<Instant>,
}

impl ClusterReader {
    /// Puts into force what was known in the last run: if the server is away, that goes on. What
    /// changes from then on is followed by [`ClusterReader::follow`].
    pub fn start(config: &AgentConfig, state: Arc<State>) -> Option<Self> {
        let (kubernetes, cluster) = (config.kubernetes.as_ref()?, state.cluster.as_ref()?);
        let health = Arc::clone(&cluster.health);
        let follower = Follower::new(kubernetes, config.state.join(CACHE), health);
        let (cached, backoff) = (follower.cached(), Backoff::default());
        let mut reader = Self { state, follower, left: None, backoff, again: None };
        if let Some(batch) = cached {
            reader.put(batch);
        }
        Some(reader)
    }

    /// Follows the cluster until it is dropped.
    pub async fn follow(mut self) {
        loop {
            let again = self.again;
            let next = tokio::select! {
                batch = self.follower.next() => batch,
                () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                    Batch::default()
                }
            };
            tokio::task::block_in_place(|| self.put(next));
        }
    }

    fn put(&mut self, batch: Batch) {
        let batch = match self.left.take() {
            Some(left) => left.then(batch),
            None => batch,
        };
        match self.state.troubles.of(Work::Cluster, self.state.observe(batch.clone())) {
            Some(()) => {
                let lacks_room = self.state.lock().desired_state.has_excess();
                self.again = lacks_room.then(|| Instant::now() + ROOM);
                self.backoff.reset();
            }
            None => {
                self.left = Some(batch);
                self.again = Some(Instant::now() + self.backoff.pause());
            }
        }
    }
}
