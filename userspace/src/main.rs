//! The `weir` command. Only wires.

use std::io::{stderr, stdout};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use weir::agent;
use weir::cli::{self, Action, AgentArgs, Cli};
use weir::config::AgentConfig;

fn main() -> ExitCode {
    let (socket, action) = Cli::from_process();
    let result = match action {
        Action::Ask(question) => return cli::run(&socket, question).into(),
        Action::Doctor(arguments) => return cli::doctor(&socket, &arguments).into(),
        Action::Agent(arguments) => run_agent(&arguments),
        Action::Unload(arguments) => unload(&arguments.config),
        Action::Downgrade(arguments) => downgrade(&arguments.config, arguments.to),
        Action::Validate(arguments) => {
            return exit(cli::validate(&arguments, &mut stdout(), &mut stderr()));
        }
        Action::Translate(arguments) => {
            return exit(cli::translate(&arguments, &mut stdout(), &mut stderr()));
        }
        Action::Completions(shell) => cli::completions(shell, &mut stdout()),
        Action::Manual(directory) => cli::manual(&directory),
    };
    exit(result.map(|()| cli::EXIT_DONE))
}

fn exit(result: Result<u8>) -> ExitCode {
    match result {
        Ok(code) => code.into(),
        // `weir translate | head` has read enough.
        Err(error) if cli::is_broken_pipe(&error) => cli::EXIT_DONE.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            cli::EXIT_FAILED.into()
        }
    }
}

fn run_agent(arguments: &AgentArgs) -> Result<()> {
    let level = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    tracing_subscriber::fmt()
        .with_env_filter(level.from_env_lossy())
        .with_writer(stderr)
        .with_ansi(false)
        .with_target(false)
        // What keeps the log has its own clock.
        .without_time()
        .init();
    agent::run(arguments)
}

fn unload(config: &Path) -> Result<()> {
    let found = AgentConfig::bpffs_of(config).map_err(|found| agent::problems(&found))?;
    let bpffs = found.unwrap_or_else(|| {
        let bpffs = AgentConfig::default_bpffs();
        eprintln!("there is no {}: looking at {}", config.display(), bpffs.display());
        bpffs
    });
    let was_there = agent::unload(&bpffs)?;
    println!(
        "{}",
        if was_there { "weir is out of the kernel" } else { "weir was not in the kernel" }
    );
    Ok(())
}

fn downgrade(config: &Path, layout: u32) -> Result<()> {
    let config = AgentConfig::load(config).map_err(|found| agent::problems(&found))?;
    let moved = agent::downgrade(&config, layout)?;
    println!(
        "{}",
        if moved { "the earlier build can be started" } else { "there was nothing to give back" }
    );
    Ok(())
}
