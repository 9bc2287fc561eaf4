//! Puts into force what a cluster says, and again what may have failed for a while only.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::backoff::Backoff;
use super::state::State;
use super::troubles::Work;
use crate::api::types::{KubernetesKindView, KubernetesView};
use crate::cluster::{Follower, Health, REPORTED};
use crate::config::{AgentConfig, Mode};
use crate::desired::{Batch, Positions, Time};

/// A file of the state directory: what was last known.
const CACHE: &str = "cluster.json";

/// How often it is tried to put into force what did not fit: places are given back when drain
/// times end, of which the cluster says nothing.
const ROOM: Duration = Duration::from_secs(10);

/// A cluster that is followed.
pub(super) struct Cluster {
    mode: Mode,
    health: Arc<Health>,
    in_force: Mutex<InForce>,
    /// Something changed of which a report may be due.
    changed: Notify,
}

/// Up to where what the cluster says is in force.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct InForce {
    /// The last positions that came with what is in force, or with nothing after it.
    pub positions: Positions,
    /// Grows whenever objects that are reported of may have changed.
    pub revision: u64,
}

impl Cluster {
    /// The one of the configuration, which is not followed yet.
    pub fn of(config: &AgentConfig) -> Option<Self> {
        let mode = config.kubernetes.as_ref()?.mode;
        let (in_force, changed) = (Mutex::default(), Notify::new());
        Some(Self { mode, health: Arc::default(), in_force, changed })
    }

    /// Whether its objects are steered by, or only shown.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Up to where what it says is in force: read before what is in force, never after.
    pub fn in_force(&self) -> InForce {
        self.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Something changed of which a report may be due.
    pub fn touch(&self) {
        self.changed.notify_one();
    }

    /// Returns when something did; for one who waits.
    pub async fn touched(&self) {
        self.changed.notified().await;
    }

    /// All that came up to these positions is in force.
    fn reached(&self, positions: Option<Positions>, is_reported: bool) {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(positions) = positions {
            in_force.positions = positions;
        }
        in_force.revision += u64::from(is_reported);
        drop(in_force);
        self.touch();
    }

    /// How it goes.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// The same, for one who notes in it what is asked.
    pub fn share_health(&self) -> Arc<Health> {
        Arc::clone(&self.health)
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

    fn reached(&self, positions: Option<Positions>, is_reported: bool) {
        if let Some(cluster) = &self.state.cluster {
            cluster.reached(positions, is_reported);
        }
    }

    fn put(&mut self, batch: Batch) {
        let batch = match self.left.take() {
            Some(left) => left.then(batch),
            // Nothing has changed up to there.
            None if batch.is_empty() && batch.positions.is_some() => {
                self.reached(batch.positions, false);
                return;
            }
            None => batch,
        };
        let is_reported = REPORTED.iter().any(|kind| batch.is_about(*kind));
        match self.state.troubles.of(Work::Cluster, self.state.observe(batch.clone())) {
            Some(()) => {
                let lacks_room = self.state.lock().desired_state.has_excess();
                self.again = lacks_room.then(|| Instant::now() + ROOM);
                self.backoff.reset();
                self.reached(batch.positions, is_reported);
            }
            None => {
                self.left = Some(batch);
                self.again = Some(Instant::now() + self.backoff.pause());
            }
        }
    }
}
