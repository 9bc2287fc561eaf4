//! The agent: one composition root, read from top to bottom.

mod admission;
mod background;
mod backoff;
mod census;
mod cluster;
mod control;
mod detours;
mod files;
mod gate;
mod guard;
mod interfaces;
mod janitor;
mod kernel_log;
mod links;
mod listing;
mod observe;
mod pace;
mod recent;
mod reporting;
mod snapshot;
mod state;
mod stats;
mod status;
mod steering;
mod takeover;
mod topology;
mod troubles;
mod unloaded;

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigHandler, Signal};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Notify;
use tracing::{info, warn};

use crate::api::{self, SocketFile};
use crate::config::AgentConfig;
use crate::datapath::{self, Claim};
use crate::desired::Author;
use crate::privilege;
use crate::source::Problem;

use cluster::ClusterReader;
use files::Reader;
use guard::Guard;
use observe::{Observer, Scrapes};
use reporting::Reporter;
use takeover::Reading;
use topology::Topology;
use unloaded::Unloaded;

pub use state::State;
#[cfg(test)]
pub(crate) use state::change;

/// Problems as one error, a line each.
pub fn problems(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// How long the agent is not ready for want of a list of the interfaces.
const PATIENCE: Duration = Duration::from_secs(5);

/// How an agent is started.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file of its configuration.
    pub config: PathBuf,
    /// Start with empty maps where the pinned ones cannot be adopted or converted.
    pub replace: bool,
    /// Take weir out of the kernel at the end.
    pub unload_on_exit: bool,
}

/// How long what goes on in the background may take to end.
const ENDING: Duration = Duration::from_secs(5);

/// Runs the agent until SIGTERM or SIGINT. The programs go on steering when it
/// returns, unless it was told to unload them.
pub fn run(options: &Options) -> Result<()> {
    ignore_hangups()?;
    let config = AgentConfig::load(&options.config).map_err(|found| problems(&found))?;
    let node = reporting::node()?;
    let (listener, socket) = SocketFile::bind(&config.socket, &config.access)
        .with_context(|| format!("cannot listen at {}", config.socket.display()))?;
    let scrapes = config.metrics.map(Scrapes::at);
    let claim = Arc::new(Claim::make(&config.bpffs)?);
    let state = Arc::new(State::load(&config, Arc::clone(&claim), options.replace)?);
    // Capabilities are of threads: there is no other thread yet. And resources are not read with
    // more than is left, so that they can be read again.
    let needed = privilege::needed(config.fast_path, privilege::hooks_are_listed());
    let kept = privilege::keep_only(&needed)?;
    info!("capabilities from now on: {kept}");
    // For what this is once it was told to unload.
    let after = (listener.try_clone()?, scrapes.as_ref().map(Scrapes::listener));
    let reporter = Reporter::new(&config, Arc::clone(&state), node);
    let running = runtime()?;
    let leaves = options.unload_on_exit;
    let asked = running.block_on(follow(&config, listener, scrapes, state, (reporter, leaves)));
    running.shutdown_timeout(ENDING);
    if let Some(author) = asked? {
        let unloaded = Unloaded::after(&config, author, take_out(&claim));
        drop(claim);
        let (listener, scrapes) = after;
        tell_manager(NotifyState::Status("unloaded: nothing is steered until a restart"));
        runtime()?.block_on(unloaded.wait(&config, listener, scrapes.flatten()))?;
        drop(socket);
        info!("stopped");
        return Ok(());
    }
    drop(socket);
    if options.unload_on_exit {
        take_out(&claim)?;
        info!("stopped; programs are detached, maps are gone");
    } else {
        info!("stopped; the programs go on steering (`weir unload` detaches them)");
    }
    Ok(())
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()
}

/// Until files can be read again at SIGHUP, it is ignored: it is no reason to end.
fn ignore_hangups() -> Result<()> {
    // SAFETY: no handler is set, so none can do what a handler must not.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, SigHandler::SigIgn) }?;
    Ok(())
}

/// Follows files, interfaces and requests until it is told to stop, or to unload: by whom.
/// `leaves`: weir is taken out of the kernel in any case.
async fn follow(
    config: &AgentConfig,
    listener: UnixListener,
    scrapes: Option<Scrapes>,
    state: Arc<State>,
    (reporter, leaves): (Option<Reporter>, bool),
) -> Result<Option<Author>> {
    let takeover = Arc::clone(state.lock().steering.takeover());
    let takeover = Reading::start(takeover)?;
    let files = tokio::spawn(Reader::start(config, Arc::clone(&state))?.follow());
    let cluster = tokio::task::block_in_place(|| ClusterReader::start(config, Arc::clone(&state)));
    let cluster = cluster.map(|reader| tokio::spawn(reader.follow()));
    // Interfaces come after the splits: what is attached finds them.
    let listed = Arc::<Notify>::default();
    let links = tokio::spawn(links::follow(Arc::clone(&state), Arc::clone(&listed)));
    if tokio::time::timeout(PATIENCE, listed.notified()).await.is_err() {
        warn!("the network interfaces are not known yet");
    }

    let topology = Topology::start(Arc::clone(&state))?;
    let guard = Guard::start(Arc::clone(&state), config.fast_path)?;
    let janitor = tokio::spawn(janitor::run(Arc::clone(&state)));
    let kernel_log = kernel_log::start(config, &state)?;
    let census = tokio::spawn(census::run(Arc::clone(&state)));
    let recent = tokio::spawn(recent::run(Arc::clone(&state)));
    let (end_reports, reports_end) = tokio::sync::oneshot::channel();
    let reports = reporter.map(|reporter| tokio::spawn(reporter.run(reports_end)));
    let observer = tokio::spawn(Observer::new(Arc::clone(&state)).run(scrapes));
    // Before anybody can see that it runs, and tell it to stop.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let access = config.access.clone();
    let mut server = tokio::spawn(api::serve(listener, access, Arc::clone(&state), async {
        let _ = stopped.await;
    }));
    tell_manager(NotifyState::Ready);
    info!("running; API at {}", config.socket.display());
    let asked = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        author = state.told_to_unload() => Some(author),
        served = &mut server => {
            served?.context("the API's server ended")?;
            return Ok(None);
        }
    };
    if asked.is_none() {
        tell_manager(NotifyState::Stopping);
    }
    // Who waits for the reporter here waits for one request at most.
    drop(end_reports);
    if let Some(reports) = reports
        && (leaves || asked.is_some())
        && let Ok(Ok(reporter)) = tokio::time::timeout(ENDING, reports).await
    {
        reporter.say_unloaded().await;
    }
    for task in [files, links, janitor, observer, kernel_log].into_iter().chain(cluster) {
        task.abort();
    }
    census.abort();
    recent.abort();
    drop(guard);
    drop(takeover);
    drop(topology);
    drop(stop);
    // A client that holds a request open does not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    Ok(asked)
}

/// Tells systemd, if that started the agent.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("cannot tell the service manager: {error}");
    }
}

/// Gives the maps back to a build of an earlier layout; false if they have it, or
/// there are none.
pub fn downgrade(config: &AgentConfig, layout: u32) -> Result<bool> {
    let Some(claim) = Claim::existing(&config.bpffs)? else { return Ok(false) };
    let pins = claim.pins();
    Ok(pins.are_there() && datapath::downgrade(&steering::settings(config)?, pins, layout)?)
}

/// Takes weir out of the kernel; false if it was not there.
pub fn unload(bpffs: &Path) -> Result<bool> {
    let Some(claim) = Claim::existing(bpffs)? else { return Ok(false) };
    let was_there = claim.pins().are_there();
    take_out(&claim)?;
    Ok(was_there)
}

fn take_out(claim: &Claim) -> Result<()> {
    steering::unload(claim)?;
    Ok(claim.pins().remove()?)
}
