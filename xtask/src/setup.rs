//! `cargo xtask setup`: finds or installs. Idempotent, and says what it does.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use xtask::toolchain::{self, BPF_LINKER, Compilers};

use crate::{is_root, run};

/// The version of cargo-deb, which makes the Debian package.
const CARGO_DEB: &str = "3.8.0";

/// Debian's packages with a Rust toolchain and the sources of its library.
const RUST: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// What the demonstration runs: executable and package.
const NAMESPACES: &[(&str, &str)] = &[("ip", "iproute2")];

/// What the tests and the benchmarks run.
const TOOLS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
    ("iperf3", "iperf3"),
    ("tcpdump", "tcpdump"),
    ("tmux", "tmux"),
    ("zsh", "zsh"),
    ("fish", "fish"),
    ("prometheus", "prometheus"),
];

/// What makes and tries the Debian package.
const PACKAGING: &[(&str, &str)] =
    &[("dpkg-shlibdeps", "dpkg-dev"), ("systemd-analyze", "systemd"), ("man", "man-db")];

/// What runs containers.
const CONTAINERS: &[(&str, &str)] = &[("runc", "runc")];

/// What boots other kernels.
const EMULATION: &[(&str, &str)] = &[
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("xz", "xz-utils"),
];

/// What builds libFuzzer.
const FUZZING: &[(&str, &str)] = &[("g++", "g++")];

/// Everything but what only `cargo xtask test-kernels` and `cargo xtask fuzz` need.
pub fn all() -> Result<()> {
    ebpf()?;
    tools()?;
    packaging()
}

/// The eBPF toolchain.
pub fn ebpf() -> Result<()> {
    let compilers = match Compilers::find() {
        Some(found) => found,
        None => install_compilers()?,
    };
    say("found", &compilers.rustc().display());
    if compilers.clippy().is_none() {
        if compilers.debian {
            apt_get(&["rust-web-clippy"])?;
        } else {
            bail!("no clippy beside {}: add it with rustup", compilers.rustc().display());
        }
    }
    if toolchain::bpf_linker().is_none() {
        say("installing", &format_args!("bpf-linker {BPF_LINKER}"));
        let install = ["install", "bpf-linker", "--version", BPF_LINKER, "--locked"];
        // What links is LLVM, a library that is there. The rest is built in half the time so, and
        // makes the same objects.
        let soon = [("CARGO_PROFILE_RELEASE_DEBUG", "0"), ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "1")];
        run(Command::new("cargo").args(install).envs(soon))?;
    }
    say("found", &toolchain::find()?.linker.display());
    Ok(())
}

/// What makes network namespaces.
pub fn namespaces() -> Result<()> {
    programs(NAMESPACES)
}

/// The tools that tests run.
pub fn tools() -> Result<()> {
    programs(TOOLS)
}

/// What makes and tries the Debian package.
pub fn packaging() -> Result<()> {
    programs(PACKAGING)?;
    if toolchain::cargo_tool("cargo-deb").is_none() {
        say("installing", &format_args!("cargo-deb {CARGO_DEB}"));
        let install = ["install", "cargo-deb", "--version", CARGO_DEB, "--locked"];
        run(Command::new("cargo").args(install))?;
    }
    Ok(())
}

/// What only `cargo xtask fuzz` needs.
pub fn fuzzing() -> Result<()> {
    programs(FUZZING)
}

/// What only `cargo xtask test cluster` needs.
pub fn containers() -> Result<()> {
    programs(CONTAINERS)
}

/// What boots other kernels.
pub fn emulation() -> Result<()> {
    programs(EMULATION)
}

fn programs(wanted: &[(&str, &'static str)]) -> Result<()> {
    let mut missing = Vec::new();
    for (name, package) in wanted {
        match toolchain::which(name) {
            Some(path) => say("found", &path.display()),
            None => missing.push(*package),
        }
    }
    if missing.is_empty() { Ok(()) } else { apt_get(&missing) }
}

fn install_compilers() -> Result<Compilers> {
    say("missing", &"a Rust toolchain with rust-src; trying rustup");
    let added = Command::new("rustup")
        .args(["component", "add", "rust-src", "clippy", "--toolchain", "nightly"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !added {
        say("missing", &"rust-src for a nightly of rustup; trying packages");
        apt_get(RUST)
            .context("alternatively: rustup toolchain install nightly -c rust-src,clippy")?;
    }
    Compilers::find().context("installed, but still no Rust toolchain with rust-src")
}

/// Installs Debian's packages; root.
pub fn apt_get(packages: &[&str]) -> Result<()> {
    let list = packages.join(" ");
    if toolchain::which("apt-get").is_none() {
        bail!("missing: {list}; there is no apt-get here, install their like by hand");
    }
    if !is_root()? {
        bail!("missing: {list}; run `cargo xtask setup` as root to install them");
    }
    say("installing", &list);
    run(Command::new("apt-get").args(["update", "-qq"]))?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Tells what set-up does.
pub fn say(what: &str, detail: &dyn std::fmt::Display) {
    eprintln!("setup: {what:<10} {detail}");
}
