//! What the programs tell, brought to the log.

use anyhow::{Context as _, Result};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;
use tracing::warn;

use super::state::State;
use crate::config::{AgentConfig, KernelLog};

/// Follows what the programs tell, if they are to tell anything.
pub(super) fn start(config: &AgentConfig, state: &State) -> Result<JoinHandle<()>> {
    if config.kernel_log == KernelLog::Off {
        return Ok(tokio::spawn(async {}));
    }
    let log = state.lock().steering.kernel_log()?;
    // SAFETY: the descriptor is that of the map which `log` owns, always the same, and open as
    // long as `log` lives.
    let log = unsafe { AsyncFd::register_with_interest(log, Interest::READABLE) };
    let mut log = log.context("cannot wait for what the programs tell")?;
    Ok(tokio::spawn(async move {
        loop {
            match log.readable_mut().await {
                Ok(mut ready) => {
                    ready.get_inner_mut().flush();
                    ready.clear_ready();
                }
                Err(error) => return warn!("no more is told by the programs: {error}"),
            }
        }
    }))
}
