//! Reports to the cluster what of it is in force on this node, and on this node alone.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use tokio::time::{Instant, sleep_until, timeout};

use super::backoff::Backoff;
use super::cluster::{Cluster, InForce};
use super::pace::Pace;
use super::state::State;
use super::troubles::Work;
use crate::cluster::{
    Activity, Failure, Health, REPORTED, Report, Standing, Writer, chance, resource,
};
use crate::config::{AgentConfig, Mode};

/// The variable that says on which node the agent is. Without it, nothing is reported.
const NODE: &str = "WEIR_NODE_NAME";
/// How often it is looked which interfaces have the programs.
const LOOK: Duration = Duration::from_secs(2);
/// How long the last report may take.
const LAST: Duration = Duration::from_secs(2);

/// Who reports.
pub(super) struct Reporter {
    state: Arc<State>,
    node: String,
    writer: Writer,
    pace: Pace,
    renewed_every: u64,
    backoff: Backoff,
    /// What was written last, and of which revision of the cluster's objects it is.
    last: Option<(Report, u64)>,
}

/// The name of this node in its cluster, if the environment says it.
///
/// # Errors
///
/// If it is none that a Node can have.
pub(super) fn node() -> Result<Option<String>> {
    let Some(name) = std::env::var_os(NODE) else { return Ok(None) };
    let name = name.to_string_lossy().into_owned();
    if !is_node(&name) {
        bail!("{NODE}: \"{name}\" is no name of a Node, expected one as `kubectl get nodes` has");
    }
    Ok(Some(name))
}

fn is_node(name: &str) -> bool {
    let part = |part: &str| {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        !part.is_empty()
            && part.chars().all(plain)
            && !part.starts_with('-')
            && !part.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(part)
}

impl Reporter {
    /// One for this node; `None` if no cluster is followed, or nobody says which node it is.
    pub fn new(config: &AgentConfig, state: Arc<State>, node: Option<String>) -> Option<Self> {
        let kubernetes = config.kubernetes.as_ref()?;
        let writer = Writer::new(kubernetes, state.cluster.as_ref()?.share_health());
        Some(Self {
            state,
            node: node?,
            writer,
            pace: Pace::new(kubernetes.reports, Instant::now()),
            renewed_every: kubernetes.reports.renewal.as_secs(),
            backoff: Backoff::default(),
            last: None,
        })
    }

    /// Reports until it is told to stop; then it can say a last word.
    pub async fn run(mut self, mut stop: tokio::sync::oneshot::Receiver<()>) -> Self {
        let state = Arc::clone(&self.state);
        let Some(cluster) = &state.cluster else { return self };
        let mut look = tokio::time::interval(LOOK);
        loop {
            let due = self.pace.due();
            tokio::select! {
                biased;
                _ = &mut stop => return self,
                () = sleep_until(due) => self.attempt(cluster).await,
                () = cluster.touched() => self.pace.changed(Instant::now(), chance()),
                _ = look.tick() => {
                    let mut now = Report::default();
                    self.look_at_interfaces(&mut now);
                    let last = self.last.as_ref().map(|(last, _)| (last.attached, &last.failing));
                    if last.is_some_and(|last| last != (now.attached, &now.failing)) {
                        self.pace.changed(Instant::now(), chance());
                    }
                }
            }
        }
    }

    /// Says that the node steers no more, before it is so. If that is not heard, the reports end,
    /// which says it later.
    pub async fn say_unloaded(self) {
        let report = Report { activity: Activity::Unloaded, ..self.blank() };
        let now = SystemTime::now().into();
        let _ = timeout(LAST, report.write(&self.writer, &self.node, now)).await;
    }

    async fn attempt(&mut self, cluster: &Cluster) {
        let now = Instant::now();
        let Some((report, revision)) = self.report(cluster) else {
            self.pace.failed(now + LOOK);
            return;
        };
        let is_same = self
            .last
            .as_ref()
            .is_some_and(|(last, of)| *of == revision && last.is_as_good_as(&report));
        if is_same && !self.pace.is_renewal(now) {
            self.pace.passed();
            return;
        }
        let written = report.write(&self.writer, &self.node, SystemTime::now().into()).await;
        let now = Instant::now();
        match &written {
            Ok(()) => {
                self.pace.wrote(now, chance());
                self.backoff.reset();
                self.last = Some((report, revision));
            }
            Err(Failure::Busy(_, Some(wish))) => {
                let pause = self.backoff.pause().max(*wish);
                self.pace.failed(now + pause);
            }
            // Following says that the server is away.
            Err(_) => self.pace.failed(now + self.backoff.pause()),
        }
        let said = written.err().filter(|failure| !failure.is_passing());
        self.state.troubles.note(Work::Report, said.map(|failure| self.say(&failure)));
    }

    fn say(&self, failure: &Failure) -> String {
        let node = &self.node;
        match failure {
            Failure::Missing => format!(
                "NodeReport {node}: the cluster has no definition of it (CustomResourceDefinition nodereports.weir.dev)"
            ),
            failure => format!("NodeReport {node}: {failure}"),
        }
    }

    fn blank(&self) -> Report {
        Report {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            renewed_every: self.renewed_every,
            ..Report::default()
        }
    }

    /// What there is to report, and of which revision of the cluster's objects; `None` while that
    /// is not known.
    fn report(&self, cluster: &Cluster) -> Option<(Report, u64)> {
        if !is_known(cluster.health()) {
            return None;
        }
        // Before what is in force is looked at: it may be more by then, and never less.
        let InForce { positions, revision } = cluster.in_force();
        let (desired_state, persisted) = {
            let inner = self.state.lock();
            (Arc::clone(&inner.desired_state), inner.store.persisted().clone())
        };
        if !desired_state.is_complete() {
            return None;
        }
        let deviations =
            REPORTED.iter().flat_map(|kind| desired_state.deviations(*kind, &persisted));
        let deviations: Vec<_> = deviations.collect();
        let activity = match cluster.mode() {
            Mode::Steer => Activity::Steering,
            Mode::Observe => Activity::Observing,
        };
        let mut report = Report { activity, ..self.blank() };
        report.state(&positions, &deviations);
        self.look_at_interfaces(&mut report);
        Some((report, revision))
    }

    fn look_at_interfaces(&self, report: &mut Report) {
        let views = self.state.lock().interfaces.views();
        let attached = views.iter().any(|view| !view.mode.is_empty() && view.error.is_none());
        let failing =
            views.into_iter().filter_map(|view| Some(format!("{}: {}", view.name, view.error?)));
        report.interfaces(attached, failing);
    }
}

/// Whether what was heard last of the server is what it says now: one that was restored from an
/// older state has other versions.
fn is_known(health: &Health) -> bool {
    let view = health.view();
    let is_followed = |standing: &Standing| {
        matches!(standing, Standing::Following | Standing::NotServed | Standing::Unknown)
    };
    let mut kinds = REPORTED.iter().filter_map(|kind| view.kinds.get(&resource(*kind)));
    view.connected && kinds.all(|kind| is_followed(&kind.standing))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_no_node_can_have_is_rejected() {
        for name in ["node-1", "a", "10.0.0.1", "ip-10-0-0-1.eu.compute.internal"] {
            assert!(is_node(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in ["", "Node", "a/b", "../pods", "a b", "-a", "a-", "a..b", "a?b", &*long] {
            assert!(!is_node(name), "{name}");
        }
    }
}
