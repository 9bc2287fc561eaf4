//! `weir unload`: asks the agent that runs; without one, takes out what an earlier one left.

use std::io::{BufRead as _, IsTerminal as _, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{sleep, timeout};

use super::args::UnloadArgs;
use super::dispatch::{Failure, wait};
use super::{EXIT_DONE, EXIT_FAILED};
use crate::agent;
use crate::api::types::{StatusView, UnloadedView};
use crate::api::{Client, ClientError, DEFAULT_SOCKET};
use crate::config::AgentConfig;
use crate::model::counted;

/// How long an agent may take to let go of everything.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// What an agent steers that is to be unloaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stakes {
    pub splits: usize,
    /// Live flows at the last count.
    pub flows: Option<u64>,
}

impl Stakes {
    fn of(splits: usize, status: &StatusView) -> Self {
        let live = status.flow_tables.iter().map(|table| table.open_flows);
        Self { splits, flows: live.sum() }
    }

    /// What is lost, for who is to decide.
    pub fn text(&self, socket: &Path) -> String {
        let flows = match self.flows {
            Some(flows) => format!("{} at the last count", counted(flows as usize, "live flow")),
            None => "live flows that were not counted yet".to_owned(),
        };
        format!(
            "The agent at {} has {} and {flows}. Unloaded, it steers nothing until it is \
             restarted: these flows break, and new connections get no answer from the splits.",
            socket.display(),
            counted(self.splits, "split"),
        )
    }
}

/// `weir unload`.
pub(super) fn run(
    client: &Client,
    args: &UnloadArgs,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, Failure> {
    let found = AgentConfig::load_if_there(&args.config);
    let found = found.map_err(|found| agent::problems(&found))?;
    if found.is_none() {
        let (config, bpffs) = (args.config.display(), AgentConfig::default_bpffs());
        let said = writeln!(errors, "there is no {config}: looking at {}", bpffs.display());
        said.map_err(anyhow::Error::from)?;
    }
    let client = match &found {
        // The configuration's own, unless another one was named.
        Some(config) if client.socket() == Path::new(DEFAULT_SOCKET) => {
            client.clone().at(config.socket.clone())
        }
        _ => client.clone(),
    };
    let agent = match wait(async { Ok(client.status().await) })? {
        Err(ClientError::NotRunning(_)) => None,
        status => Some(status.map_err(|error| Failure::of_agent(error.into()))?),
    };
    match agent {
        Some(status) => told(&client, args, &status, out, errors),
        None => {
            let bpffs = found.map_or_else(AgentConfig::default_bpffs, |config| config.bpffs);
            let was_there = agent::unload(&bpffs)?;
            say(out, if was_there { GONE } else { "weir was not in the kernel" })
        }
    }
}

const GONE: &str = "weir is out of the kernel";
const IDLE: &str = "the agent is idle until it is restarted: systemctl restart weir";

fn say(out: &mut impl Write, text: &str) -> Result<u8, Failure> {
    writeln!(out, "{text}").map_err(anyhow::Error::from)?;
    Ok(EXIT_DONE)
}

/// Has an agent unload.
fn told(
    client: &Client,
    args: &UnloadArgs,
    status: &StatusView,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8, Failure> {
    if let Some(UnloadedView { since, by, error: None, .. }) = &status.unloaded {
        return say(out, &format!("weir was not in the kernel: unloaded {since} by {by}; {IDLE}"));
    }
    if !args.yes {
        let splits = wait(async { Ok(client.splits().await?.len()) });
        let stakes = Stakes::of(splits.map_err(Failure::of_agent)?, status);
        let question = stakes.text(client.socket());
        if !std::io::stdin().is_terminal() {
            let message = format!("{question} Say --yes to have that.");
            return Err(Failure::of_usage(anyhow::Error::msg(message)));
        }
        write!(errors, "{question}\nUnload? [y/N] ").map_err(anyhow::Error::from)?;
        errors.flush().map_err(anyhow::Error::from)?;
        let mut answer = String::new();
        std::io::stdin().lock().read_line(&mut answer).context("no answer")?;
        if !is_yes(&answer) {
            writeln!(errors, "nothing has changed").map_err(anyhow::Error::from)?;
            return Ok(EXIT_FAILED);
        }
    }
    let client = match &args.reason {
        Some(reason) => client.clone().because(reason),
        None => client.clone(),
    };
    wait(unload(&client)).map_err(Failure::of_agent)?;
    say(out, &format!("{GONE}; {IDLE}"))
}

/// Whether that is consent. Anything else is not.
pub(super) fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_lowercase().as_str())
}

/// Tells the agent, and waits until it has let go.
async fn unload(client: &Client) -> Result<()> {
    client.unload().await?;
    let gone = async {
        loop {
            match client.status().await {
                Ok(StatusView { unloaded: Some(unloaded), .. }) => return Ok(unloaded),
                Ok(_) => {}
                Err(error) if error.is_absence() => {}
                Err(error) => return Err(error),
            }
            sleep(PAUSE).await;
        }
    };
    let gone = timeout(PATIENCE, gone).await;
    let seconds = PATIENCE.as_secs();
    let gone = gone.with_context(|| format!("the agent is not done after {seconds} s"))??;
    match gone.error {
        None => Ok(()),
        Some(error) => bail!("the agent could not take out all of it: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_yes_is_consent() {
        assert!(["y\n", "Y", " yes \n", "YES"].into_iter().all(is_yes));
        for other in ["", "\n", "n\n", "no", "yo", "yes please", "ja"] {
            assert!(!is_yes(other), "{other}");
        }
    }
}
