//! `weir controller`: says in the status of TrafficSplits on which nodes they are in force.
//!
//! It follows the cluster as agents do, resolves what it says by the same resolver
//! (`resolution`), and looks at what agents report of their nodes (`facts`). On which nodes an
//! object is in force is judged by that alone (`judge`), and becomes its status (`status`). Of
//! several controllers one writes, by a lease (`election`, `lease`).
//!
//! - An object is in force on a node when its agent has reported so much: never because some time
//!   has passed, and never for want of a report.
//! - A status is of the one generation that was judged. It is written for that resourceVersion
//!   of the object, or not at all.

mod election;
mod facts;
mod judge;
mod lease;
mod reconcile;
mod resolution;
mod status;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, anyhow};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};
use tracing::info;

use crate::cluster::{Follower, Health, Tracker, Writer};
use crate::config::{AgentConfig, Kubernetes};
use crate::metrics;

use lease::{Candidate, Place};
use reconcile::Reconciler;

/// How a controller is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file of the agents' configuration: what of the cluster counts is the same for both.
    pub config: PathBuf,
    /// The namespace of the lease.
    pub namespace: String,
    /// The name of the lease.
    pub lease: String,
    /// Where health is served.
    pub health: SocketAddr,
}

/// How long what comes together is waited for.
const GATHER: Duration = Duration::from_millis(50);
/// How long the lease may take to be given back.
const ENDING: Duration = Duration::from_secs(5);

/// Runs a controller until SIGTERM or SIGINT.
///
/// # Errors
///
/// What an operator has to mend: the configuration, or the address of health.
pub fn run(options: &Options) -> Result<()> {
    let config = AgentConfig::load(&options.config).map_err(|problems| {
        let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
        anyhow!("{}", lines.join("\n"))
    })?;
    let kubernetes = config.kubernetes.with_context(|| {
        let file = options.config.display();
        format!("{file}: kubernetes: missing, expected `kubernetes: {{}}` or more: a controller follows a cluster")
    })?;
    let listener = metrics::bind(options.health)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(control(options, &kubernetes, listener))?;
    runtime.shutdown_timeout(ENDING);
    info!("stopped");
    Ok(())
}

async fn control(
    options: &Options,
    kubernetes: &Kubernetes,
    listener: std::net::TcpListener,
) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (followed, tracked) = (Arc::<Health>::default(), Arc::<Health>::default());
    let mut follower = Follower::uncached(kubernetes, Arc::clone(&followed));
    let mut tracker = Tracker::start(kubernetes, Arc::clone(&tracked));

    let place = Place { namespace: options.namespace.clone(), name: options.lease.clone() };
    let writer = Writer::new(kubernetes, Arc::clone(&tracked));
    let (candidate, mut writes) = Candidate::new(place, identity(), writer);
    let (stop, stopped) = oneshot::channel();
    let candidate = tokio::spawn(candidate.run(stopped));

    let unready = Arc::new(Mutex::new(true));
    let reasons = {
        let (unready, followed, tracked) =
            (Arc::clone(&unready), Arc::clone(&followed), Arc::clone(&tracked));
        move || match *unready.lock().unwrap_or_else(PoisonError::into_inner) {
            true => reasons(&followed, &tracked),
            false => Vec::new(),
        }
    };
    let listener = TcpListener::from_std(listener)?;
    let health = tokio::spawn(metrics::serve_health(listener, reasons));
    info!("running; health at {}", options.health);

    let writer = Writer::new(kubernetes, tracked);
    let mut reconciler = Reconciler::new(kubernetes, writer, writes.clone());
    // When it is judged again.
    let mut next: Option<Instant> = None;
    loop {
        let has_news = tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            batch = follower.next() => {
                tokio::task::block_in_place(|| reconciler.take(batch));
                true
            }
            sighting = tracker.next() => {
                reconciler.see(sighting);
                true
            }
            // The sender lives as long as the candidate.
            changed = writes.changed() => changed.is_ok(),
            () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                next = reconciler.reconcile().await.map(Instant::from_std);
                *unready.lock().unwrap_or_else(PoisonError::into_inner) = !reconciler.is_complete();
                false
            }
        };
        if has_news {
            let soon = Instant::now() + GATHER;
            next = Some(next.map_or(soon, |at| at.min(soon)));
        }
    }
    health.abort();
    let _ = stop.send(());
    // A panic was printed.
    let _ = tokio::time::timeout(ENDING, candidate).await;
    Ok(())
}

/// Why not all that there is has been seen yet.
fn reasons(followed: &Health, tracked: &Health) -> Vec<String> {
    let mut reasons = vec!["not all that the cluster has was listed yet".to_owned()];
    for view in [followed.view(), tracked.view()] {
        let kinds = view.kinds.values().filter_map(|kind| kind.standing.error());
        reasons.extend(view.error.iter().map(String::as_str).chain(kinds).map(str::to_owned));
    }
    reasons.dedup();
    reasons
}

/// A name that no other controller has.
fn identity() -> String {
    // In a Pod, that is its name.
    let host = nix::sys::utsname::uname();
    let host = host.map(|host| host.nodename().to_string_lossy().into_owned());
    let bits = getrandom::u64().unwrap_or_else(|_| {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        now.as_nanos() as u64 ^ u64::from(std::process::id())
    });
    format!("{}_{bits:016x}", host.unwrap_or_default())
}
