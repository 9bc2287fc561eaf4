//! Commands that run the agent or a controller, or give what it left in the kernel to another build.

use std::io::Write;

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::args::{AgentArgs, ControllerArgs, DowngradeArgs};
use crate::agent::{self, Options};
use crate::config::AgentConfig;
use crate::controller;

/// `weir agent`: until it is told to stop.
pub(super) fn agent(args: AgentArgs) -> Result<()> {
    log_to_stderr();
    let AgentArgs { config, unload_on_exit, replace } = args;
    agent::run(&Options { config, replace, unload_on_exit })
}

/// `weir controller`: until it is told to stop.
pub(super) fn controller(args: ControllerArgs) -> Result<()> {
    log_to_stderr();
    let ControllerArgs { config, namespace, lease, health } = args;
    controller::run(&controller::Options { config, namespace, lease, health })
}

fn log_to_stderr() {
    let level = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(level.from_env_lossy())
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // What keeps the log has its own clock.
        .without_time()
        .init();
}

/// `weir downgrade`.
pub(super) fn downgrade(args: &DowngradeArgs, out: &mut impl Write) -> Result<()> {
    let config = AgentConfig::load(&args.config).map_err(|found| agent::problems(&found))?;
    let moved = agent::downgrade(&config, args.to)?;
    let said =
        if moved { "the earlier build can be started" } else { "there was nothing to give back" };
    Ok(writeln!(out, "{said}")?)
}
