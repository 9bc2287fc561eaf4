//! The agent: one composition root, read from top to bottom.

mod control;
mod state;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::api;
use crate::config::AgentConfig;
use crate::interfaces::{Event, Watch};
use crate::source::{Problem, Watcher};

pub use state::State;

/// Problems as one error, a line each.
pub fn problems(problems: &[Problem]) -> anyhow::Error {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    anyhow::anyhow!("{}", lines.join("\n"))
}

/// Runs the agent until SIGTERM or SIGINT. The programs are detached when it returns.
pub async fn run(config: &Path) -> Result<()> {
    let config = AgentConfig::load(config).map_err(|found| problems(&found))?;
    let listener = api::bind(&config.socket)
        .with_context(|| format!("cannot listen at {}", config.socket.display()))?;
    let state = Arc::new(State::load(&config)?);
    let mut interfaces = Watch::start().context("cannot watch network interfaces")?;
    let mut files = Watcher::new(&config.resources)
        .with_context(|| format!("cannot watch {}", config.resources.display()))?;
    // After the watch began, so that no change falls between.
    state.reload();

    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let mut server = tokio::spawn(api::serve(listener, Arc::clone(&state), async {
        let _ = stopped.await;
    }));
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    eprintln!("weir: running; API at {}", config.socket.display());
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            served = &mut server => {
                return served?.context("the API's server ended");
            }
            Some(()) = files.changed() => state.reload(),
            event = interfaces.next() => match event {
                Some(Ok(Event::Appeared { index, name, kind, ethernet })) => {
                    state.appeared(index, &name, kind.as_deref(), ethernet);
                }
                Some(Ok(Event::Gone { index })) => state.gone(index),
                Some(Err(error)) => return Err(error).context("watching network interfaces"),
                None => anyhow::bail!("the watch on network interfaces ended"),
            },
        }
    }
    drop(stop);
    // A client that holds a request open does not hold up the end.
    let _ = tokio::time::timeout(Duration::from_secs(2), server).await;
    std::fs::remove_file(&config.socket).context("cannot remove the API's socket")?;
    eprintln!("weir: stopped; programs are detached");
    Ok(())
}
