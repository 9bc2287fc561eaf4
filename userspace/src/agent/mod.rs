//! The agent: one composition root, read from top to bottom.

mod census;
mod control;
mod guard;
mod interfaces;
mod janitor;
mod kernel_log;
mod links;
mod listing;
mod observe;
mod state;
mod stats;
mod status;
mod steering;

use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use crate::api::{self, SocketFile};
use crate::cli::AgentArgs;
use crate::config::AgentConfig;
use crate::datapath::Pins;
use crate::interfaces::Watch;
use crate::metrics;
use crate::privilege;
use crate::source::{Problem, Watcher};

use guard::Guard;
use links::Links;
use observe::Observer;

pub use state::State;

/// Problems as one error, a line each.
pub fn problems(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// Runs the agent until SIGTERM or SIGINT. The programs go on steering when it
/// returns, unless it was told to unload them.
pub fn run(arguments: &AgentArgs) -> Result<()> {
    let config = AgentConfig::load(&arguments.config).map_err(|found| problems(&found))?;
    let (listener, socket) = SocketFile::bind(&config.socket, &config.access)
        .with_context(|| format!("cannot listen at {}", config.socket.display()))?;
    let scrapes = metrics::bind(config.metrics)?;
    let state = Arc::new(State::load(&config, arguments.replace)?);
    // Capabilities are of threads: there is no other thread yet. And resources are not read with
    // more than is left, so that they can be read again.
    let needed = privilege::needed(config.fast_path, privilege::hooks_are_listed());
    let kept = privilege::keep_only(&needed)?;
    info!("capabilities from now on: {kept}");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(follow(&config, listener, scrapes, state))?;
    drop(socket);
    if arguments.unload_on_exit {
        unload(&config)?;
        info!("stopped; programs are detached, maps are gone");
    } else {
        info!("stopped; the programs go on steering (`weir unload` detaches them)");
    }
    Ok(())
}

/// Follows files, interfaces and requests until it is told to stop.
async fn follow(
    config: &AgentConfig,
    listener: UnixListener,
    scrapes: Option<TcpListener>,
    state: Arc<State>,
) -> Result<()> {
    let mut interfaces = Watch::start().context("cannot watch network interfaces")?;
    let mut files = Watcher::new(&config.resources)
        .with_context(|| format!("cannot watch {}", config.resources.display()))?;
    // After the watch began, so that no change falls between.
    state.reload();
    // Interfaces come after the splits: what is attached finds them.
    state.list_interfaces(&mut interfaces).await?;

    let _links = Links::start(state.lock().steering.pins().clone())?;
    let guard = Guard::start(Arc::clone(&state), config.fast_path)?;
    let janitor = tokio::spawn(janitor::run(Arc::clone(&state)));
    let kernel_log = kernel_log::start(config, &state)?;
    let census = tokio::spawn(census::run(Arc::clone(&state)));
    let observer = tokio::spawn(Observer::new(Arc::clone(&state)).run(scrapes));
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let access = config.access.clone();
    let mut server = tokio::spawn(api::serve(listener, access, Arc::clone(&state), async {
        let _ = stopped.await;
    }));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tell_manager(NotifyState::Ready);
    info!("running; API at {}", config.socket.display());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            served = &mut server => {
                return served?.context("the API's server ended");
            }
            Some(()) = files.changed() => tokio::task::block_in_place(|| state.reload()),
            event = interfaces.next() => match event {
                Some(event) => state.follow(event.context("watching network interfaces")?),
                None => anyhow::bail!("the watch on network interfaces ended"),
            },
        }
    }
    tell_manager(NotifyState::Stopping);
    janitor.abort();
    census.abort();
    observer.abort();
    drop(guard);
    kernel_log.abort();
    drop(stop);
    // A client that holds a request open does not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    Ok(())
}

/// Tells systemd, if that started the agent.
fn tell_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("cannot tell the service manager: {error}");
    }
}

/// Takes weir out of the kernel; false if it was not there.
pub fn unload(config: &AgentConfig) -> Result<bool> {
    let pins = Pins::of(&config.bpffs);
    let was_there = pins.are_there();
    steering::unload(&pins)?;
    Ok(was_there)
}
