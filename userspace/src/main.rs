//! The `weir` command. Only wires.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use weir::cli::{self, Action, AgentArgs, Cli};
use weir::config::AgentConfig;
use weir::resource::{self, Resolved};
use weir::{agent, source};

fn main() -> ExitCode {
    let (socket, action) = Cli::from_process();
    let result = match action {
        Action::Ask(question) => return cli::run(&socket, question).into(),
        Action::Doctor(arguments) => return cli::doctor(&socket, &arguments).into(),
        Action::Agent(arguments) => run_agent(&arguments),
        Action::Unload(arguments) => unload(&arguments.config),
        Action::Downgrade(arguments) => downgrade(&arguments.config, arguments.to),
        Action::Validate(arguments) => validate(&arguments.files),
        Action::Translate(arguments) => translate(&arguments.files),
        Action::Completions(shell) => cli::completions(shell, &mut std::io::stdout()),
        Action::Manual(directory) => cli::manual(&directory),
    };
    match result {
        Ok(()) => cli::EXIT_DONE.into(),
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
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        // What keeps the log has its own clock.
        .without_time()
        .init();
    agent::run(arguments)
}

fn unload(config: &Path) -> Result<()> {
    let config = AgentConfig::load(config).map_err(|found| agent::problems(&found))?;
    let was_there = agent::unload(&config)?;
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

fn validate(files: &[PathBuf]) -> Result<()> {
    let resolved = resolve(files)?;
    println!("{} splits in {} files are valid", resolved.desired.splits().len(), files.len());
    Ok(())
}

fn translate(files: &[PathBuf]) -> Result<()> {
    let text = resource::translate(&resolve(files)?);
    match std::io::stdout().write_all(text.as_bytes()) {
        // `weir translate | head` has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// What files come to; notes go to standard error.
fn resolve(files: &[PathBuf]) -> Result<Resolved> {
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for file in files {
        match source::read(file) {
            Ok(text) => texts.push((file.display().to_string(), text)),
            Err(problem) => problems.push(problem),
        }
    }
    let resolved = source::resolve_all(&texts);
    for note in &resolved.notes {
        eprintln!("note: {note}");
    }
    problems.extend(resolved.problems.iter().cloned());
    if problems.is_empty() { Ok(resolved) } else { Err(agent::problems(&problems)) }
}
