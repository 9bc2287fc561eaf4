//! weir's development commands: `cargo xtask setup | build | lint | test`.

mod setup;
mod test;

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "weir's development commands")]
enum Task {
    /// Find or install what building and testing needs.
    Setup,
    /// Build everything, the eBPF object included, in release mode.
    Build,
    /// rustfmt and clippy over all crates.
    Lint,
    /// Lint, then the tests of all tiers or of one.
    Test {
        /// Which tier.
        #[arg(default_value = "all")]
        tier: Tier,
    },
}

/// A tier of tests.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Tier {
    /// All of them, and lint.
    All,
    /// No root, no kernel.
    Pure,
    /// Programs under BPF_PROG_TEST_RUN; root.
    Kernel,
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Setup => setup::setup(),
        Task::Build => setup::setup().and_then(|()| cargo(&["build", "--release"])),
        Task::Lint => setup::setup().and_then(|()| test::lint()),
        Task::Test { tier } => setup::setup().and_then(|()| test::test(tier)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

/// Runs cargo in the workspace.
fn cargo(arguments: &[&str]) -> Result<()> {
    run(Command::new("cargo").args(arguments).current_dir(root()))
}

/// Runs a command, which must succeed.
fn run(command: &mut Command) -> Result<()> {
    eprintln!("+ {command:?}");
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("{command:?} failed ({status})");
    }
    Ok(())
}
