//! `cargo xtask lint` and `cargo xtask test`.

use std::fmt;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use xtask::{ebpf, toolchain};

use crate::{build_programs, cargo, is_root, package, root, run};

/// What `cargo xtask test` is to run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Selection {
    /// lint, then all tiers but `cluster`; root.
    All,
    /// Neither root nor kernel: unit tests and tests/tests/pure_*.rs.
    Pure,
    /// The command line: tests/tests/cli_*.rs; root.
    Cli,
    /// Programs under BPF_PROG_TEST_RUN: tests/tests/kernel_*.rs; root.
    Kernel,
    /// Real traffic between network namespaces: tests/tests/netns_*.rs; root.
    Netns,
    /// The Debian package, under a systemd of its own: tests/tests/package_*.rs; root.
    Package,
    /// A real Kubernetes API server, built with Go: tests/tests/cluster_*.rs; root.
    Cluster,
}

impl Selection {
    const TIERS: [Self; 6] =
        [Self::Pure, Self::Cli, Self::Kernel, Self::Netns, Self::Package, Self::Cluster];
    /// The tiers that run only where they are asked for.
    const APART: &[Self] = &[Self::Cluster];

    /// Whether that tier is to run.
    pub fn includes(self, tier: Self) -> bool {
        self == tier || self == Self::All && !Self::APART.contains(&tier)
    }

    fn prefix(self) -> &'static str {
        match self {
            Self::All => "",
            Self::Pure => "pure_",
            Self::Cli => "cli_",
            Self::Kernel => "kernel_",
            Self::Netns => "netns_",
            Self::Package => "package_",
            Self::Cluster => "cluster_",
        }
    }
}

/// Whether the selected tests can run here. Never skips any silently.
pub fn check_rights(selection: Selection) -> Result<()> {
    if selection != Selection::Pure && !is_root()? {
        bail!(
            "these tests load eBPF programs and make network namespaces: run them as root, \
             or only `cargo xtask test pure`"
        );
    }
    Ok(())
}

/// rustfmt, clippy and rustdoc over all crates; clippy of the eBPF crate as compiled for BPF.
pub fn lint() -> Result<()> {
    cargo(["fmt", "--all", "--check"])?;
    eprintln!("+ clippy of probe-ebpf");
    ebpf::clippy(&toolchain::find()?, root(), &root().join("target/ebpf"))?;
    cargo(["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    let mut doc = Command::new("cargo");
    doc.args(["doc", "--release", "--workspace", "--no-deps", "--quiet"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings").current_dir(root()))
}

/// The selected tests.
pub fn test(selection: Selection) -> Result<()> {
    let files = integration_tests(&root().join("tests/tests"))?;
    let mut stopwatch = Stopwatch::start();
    if selection == Selection::All {
        lint()?;
        stopwatch.lap("lint");
    }
    // The tests of other tiers run the command.
    if selection != Selection::Pure {
        build_programs()?;
        stopwatch.lap("build");
    }
    for tier in Selection::TIERS.into_iter().filter(|&tier| selection.includes(tier)) {
        match (selection, tier) {
            (Selection::All, Selection::Cli) => {
                run_side_by_side(&files)?;
                stopwatch.lap("cli and kernel beside some of netns");
            }
            (Selection::All, Selection::Kernel) => {}
            (Selection::All, Selection::Netns) => {
                let rest = of_tier(&files, tier).filter(|name| !WAIT_MOSTLY.contains(name));
                run_tests(&rest.collect::<Vec<_>>(), ONE_AT_A_TIME)?;
                stopwatch.lap("the rest of netns");
            }
            _ => {
                run_tier(tier, &files)?;
                stopwatch.lap(tier.prefix().trim_end_matches('_'));
            }
        }
    }
    eprintln!("minutes: {stopwatch}");
    Ok(())
}

fn run_tier(tier: Selection, files: &[String]) -> Result<()> {
    if tier == Selection::Package {
        package::build()?;
    }
    if tier == Selection::Pure {
        // Always with weir-tests: what they need of other crates is then the same for all that
        // is built, and nothing is built twice.
        let packages = ["-p", "probe-common", "-p", "weir", "-p", "xtask", "-p", "weir-tests"];
        cargo(["test", "--release", "--lib"].iter().chain(&UNOPTIMIZED).chain(&packages))?;
        cargo(["test", "--release", "--bins", "-p", "xtask", "-p", "weir-tests"])?;
    }
    let of_tier: Vec<&str> = of_tier(files, tier).collect();
    if of_tier.is_empty() {
        eprintln!("note: there are no tests/tests/{}*.rs", tier.prefix());
        return Ok(());
    }
    match tier {
        Selection::Pure => run_tests(&of_tier, None),
        Selection::Kernel => {
            let (alone, beside): (Vec<&str>, Vec<&str>) =
                of_tier.iter().partition(|name| NEED_ALL_CPUS.contains(name));
            run_tests(&beside, Some("--test-threads=2"))?;
            run_tests(&alone, ONE_AT_A_TIME)
        }
        _ => run_tests(&of_tier, ONE_AT_A_TIME),
    }
}

/// The tiers cli and kernel, and beside them those of netns that wait for most of their time; what
/// these print is shown when they are over. What needs all CPUs comes last, alone.
fn run_side_by_side(files: &[String]) -> Result<()> {
    let tier = |tier| of_tier(files, tier).collect::<Vec<_>>();
    let (cli, kernel, all_netns) =
        (tier(Selection::Cli), tier(Selection::Kernel), tier(Selection::Netns));
    let (alone, beside): (Vec<&str>, Vec<&str>) =
        kernel.iter().partition(|name| NEED_ALL_CPUS.contains(name));
    let beside: Vec<&str> = cli.into_iter().chain(beside).collect();
    let all: Vec<&str> = all_netns.iter().chain(&beside).chain(&alone).copied().collect();
    cargo(arguments_for(&all, &["--no-run"], None))?;
    let netns: Vec<&str> =
        all_netns.into_iter().filter(|name| WAIT_MOSTLY.contains(name)).collect();
    let log = root().join("target/netns.log");
    let output = File::create(&log).with_context(|| log.display().to_string())?;
    let mut other = Command::new("cargo");
    other.args(arguments_for(&netns, &[], ONE_AT_A_TIME)).current_dir(root());
    other.stdout(output.try_clone()?).stderr(output).stdin(Stdio::null());
    let mut other = other.spawn().context("cannot run cargo")?;
    let own = run_tests(&beside, ONE_AT_A_TIME);
    let others = other.wait().context("cannot wait for cargo")?;
    eprintln!("netns, beside these:");
    eprint!("{}", String::from_utf8_lossy(&fs::read(&log)?));
    own?;
    if !others.success() {
        bail!("tests of the tier netns failed ({others})");
    }
    run_tests(&alone, ONE_AT_A_TIME)
}

/// How long each part takes.
struct Stopwatch {
    since: Instant,
    laps: Vec<(&'static str, Duration)>,
}

impl Stopwatch {
    fn start() -> Self {
        Self { since: Instant::now(), laps: Vec::new() }
    }

    fn lap(&mut self, of: &'static str) {
        let now = Instant::now();
        self.laps.push((of, now - std::mem::replace(&mut self.since, now)));
    }
}

impl fmt::Display for Stopwatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (of, time) in &self.laps {
            write!(f, "{of} {:.1}, ", time.as_secs_f64() / 60.0)?;
        }
        let sum: Duration = self.laps.iter().map(|(_, time)| time).sum();
        write!(f, "together {:.1}", sum.as_secs_f64() / 60.0)
    }
}

/// Unit tests of weir take seconds to run and, optimized, minutes to build.
const UNOPTIMIZED: [&str; 2] = ["--config", "profile.release.package.weir.opt-level=0"];
/// Those of the kernel tier that choose where their threads run.
const NEED_ALL_CPUS: [&str; 2] = ["kernel_flood", "kernel_races"];
/// Those of the netns tier that wait for most of their time, and can do so beside others.
const WAIT_MOSTLY: [&str; 10] = [
    "netns_attachments",
    "netns_bridge",
    "netns_connections",
    "netns_detours",
    "netns_doctor",
    "netns_files",
    "netns_fixed_port",
    "netns_icmp",
    "netns_interfaces",
    "netns_istio",
];
/// For tests that share what there is once: names of links in bpffs, the CPUs for their traffic.
const ONE_AT_A_TIME: Option<&str> = Some("--test-threads=1");

/// Runs integration tests, with an argument for them.
fn run_tests(names: &[&str], argument: Option<&str>) -> Result<()> {
    cargo(arguments_for(names, &[], argument))
}

/// What cargo is told, with options of its own and an argument for the tests.
fn arguments_for<'a>(
    names: &[&'a str],
    options: &[&'a str],
    argument: Option<&'a str>,
) -> Vec<&'a str> {
    let mut arguments = vec!["test", "--release", "-p", "weir-tests"];
    arguments.extend(options);
    arguments.extend(names.iter().flat_map(|name| ["--test", name]));
    arguments.extend(argument.iter().flat_map(|argument| ["--", argument]));
    arguments
}

fn of_tier(files: &[String], tier: Selection) -> impl Iterator<Item = &str> {
    files.iter().map(String::as_str).filter(move |name| name.starts_with(tier.prefix()))
}

/// The names of the integration tests in `dir`. One that belongs to no tier
/// would never run, so it is an error.
fn integration_tests(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("{}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        if !Selection::TIERS.iter().any(|tier| name.starts_with(tier.prefix())) {
            bail!(
                "{} has no tier: pure_, cli_, kernel_, netns_, package_ or cluster_ begins a name",
                path.display()
            );
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_named_apart_is_there() {
        let files = integration_tests(&root().join("tests/tests")).unwrap();
        for name in WAIT_MOSTLY.iter().chain(&NEED_ALL_CPUS) {
            assert!(files.iter().any(|file| file == name), "there is no {name}");
        }
    }

    #[test]
    fn every_integration_test_has_a_tier() {
        let files = integration_tests(&root().join("tests/tests")).unwrap();
        let sorted: usize = Selection::TIERS.map(|tier| of_tier(&files, tier).count()).iter().sum();
        assert_eq!(sorted, files.len());
    }
}
