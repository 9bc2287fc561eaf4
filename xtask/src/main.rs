//! weir's development commands: `cargo xtask help`.

mod fuzz;
mod kernels;
mod package;
mod peers;
mod previous;
mod setup;
mod stress;
mod test;

use std::ffi::{OsStr, OsString};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use xtask::{chart, cluster, image, toolchain};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "weir's development commands")]
enum Task {
    /// Find or install what building and testing need.
    Setup,
    /// Build everything, the eBPF object included, in release mode.
    Build,
    /// rustfmt and clippy over all crates.
    Lint,
    /// Run tests: all (after lint), or those of one tier.
    Test {
        /// Which.
        #[arg(default_value = "all")]
        selection: test::Selection,
    },
    /// Run tests with ten times the load, or with a real build of the layout before, and show
    /// their figures; root.
    Stress {
        /// Which: all unless said.
        subjects: Vec<stress::Subject>,
    },
    /// Steer real traffic on the kernels of Debian's releases, in virtual machines; root.
    TestKernels {
        /// Which: 5.10, 6.1, 6.12, newest; all unless said.
        kernels: Vec<String>,
    },
    /// Fuzz the code that programs and user space share, and the loaded programs; root.
    Fuzz(fuzz::Options),
    /// Build the Debian package, into target/debian.
    Package,
    /// Write the image of a container into target/image, as an OCI archive.
    Image,
    /// Write the manifests in deploy/kubernetes, as the chart in deploy/chart renders them.
    Manifests,
    /// Show weir at work between network namespaces; root.
    Demo {
        /// For the demonstration.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Measure weir; root.
    Bench {
        /// For the benchmarks.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    match Task::parse().perform() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

impl Task {
    fn perform(self) -> Result<()> {
        match self {
            Self::Setup => setup::all(),
            Self::Build => {
                setup::ebpf()?;
                cargo(["build", "--release"])
            }
            Self::Lint => {
                setup::ebpf()?;
                test::lint()
            }
            Self::Test { selection } => {
                test::check_rights(selection)?;
                setup::ebpf()?;
                if selection != test::Selection::Pure {
                    setup::tools()?;
                }
                if selection.includes(test::Selection::Package) {
                    setup::packaging()?;
                }
                if selection.includes(test::Selection::Cluster) {
                    setup::containers()?;
                    cluster::build(root(), &cluster::Module::ALL)?;
                }
                test::test(selection)
            }
            Self::Stress { subjects } => {
                test::check_rights(test::Selection::Kernel)?;
                setup::ebpf()?;
                stress::stress(&subjects)
            }
            Self::TestKernels { kernels } => {
                setup::all()?;
                setup::emulation()?;
                kernels::test(&kernels)
            }
            Self::Fuzz(options) => fuzz::fuzz(&options),
            Self::Package => {
                setup::ebpf()?;
                setup::packaging()?;
                package::build()
            }
            Self::Image => {
                setup::ebpf()?;
                cargo(["build", "--release", "-p", "weir"])?;
                let program = root().join("target/release/weir");
                let made = image::write(
                    &program,
                    env!("CARGO_PKG_VERSION"),
                    &root().join("target/image"),
                )?;
                for (name, size) in &made.files {
                    eprintln!("{size:>12}  /{name}");
                }
                eprintln!("wrote {}", made.archive.display());
                Ok(())
            }
            Self::Manifests => {
                cluster::build(root(), &[cluster::Module::Helm])?;
                chart::write(root())
            }
            Self::Demo { arguments } => {
                check_root("demo")?;
                setup::ebpf()?;
                setup::namespaces()?;
                // Nothing is measured: what counts is how soon it is built. The eBPF object is
                // optimized all the same.
                harness("demo", Profile::Dev, &arguments)
            }
            Self::Bench { arguments } => {
                check_root("bench")?;
                peers::install(&arguments);
                setup::all()?;
                build_programs()?;
                harness("bench", Profile::Release, &arguments)
            }
        }
    }
}

/// Builds `weir` and the programs of the test crate: together, since cargo would build everything
/// twice where one of the two asks for more features of a crate than the other.
fn build_programs() -> Result<()> {
    cargo(["build", "--release", "-p", "weir", "-p", "weir-tests", "--bins"])
}

/// What the programs of the test crate are built with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    Dev,
    Release,
}

/// Runs a program of the test crate, beside a `weir` of the same profile.
fn harness(program: &str, profile: Profile, arguments: &[OsString]) -> Result<()> {
    let (flags, built): (&[&str], _) = match profile {
        Profile::Dev => (&[], "target/debug/weir"),
        Profile::Release => (&["--release"], "target/release/weir"),
    };
    let what = ["-p", "weir", "-p", "weir-tests", "--bin", "weir", "--bin", program];
    let first = !root().join(built).exists();
    let cargo = |task: &str| {
        let mut command = Command::new("cargo");
        if first {
            // Notes for a second build, which may never be made, are a third of the time that the
            // first one of weir takes.
            command.env("CARGO_INCREMENTAL", "0");
        }
        command.arg(task).args(flags).current_dir(root());
        command
    };
    run(cargo("build").args(what))?;
    let mut command = cargo("run");
    command.args(["-p", "weir-tests", "--bin", program, "--"]);
    command.args(arguments);
    // In place of this process, as cargo does in its turn: signals then reach the program itself,
    // which has things to remove.
    Err(command.exec()).context("cannot run cargo")
}

fn check_root(task: &str) -> Result<()> {
    if !is_root()? {
        bail!("`cargo xtask {task}` makes network namespaces: run it as root");
    }
    Ok(())
}

/// The root of the workspace.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace")
}

fn is_root() -> Result<bool> {
    Ok(toolchain::output(Command::new("id").arg("-u"))? == "0")
}

/// Runs cargo in the workspace.
fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<()> {
    run(Command::new("cargo").args(arguments).current_dir(root()))
}

/// Runs a command, which must succeed.
fn run(command: &mut Command) -> Result<()> {
    let line = std::iter::once(command.get_program()).chain(command.get_args());
    let line = line.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ");
    eprintln!("+ {line}");
    let status = command.status().with_context(|| format!("cannot run {line}"))?;
    if !status.success() {
        bail!("`{line}` failed ({status})");
    }
    Ok(())
}
