//! `cargo xtask setup`: idempotent, and says what it does.

use std::process::Command;

use anyhow::{Context as _, Result};
use xtask::toolchain::{self, BPF_LINKER};

use crate::run;

/// Debian's packages with a Rust toolchain whose sources are included.
const RUST_PACKAGES: &[&str] = &["rustc-web", "cargo-web", "rust-web-src"];

/// Finds or installs the eBPF toolchain.
pub fn setup() -> Result<()> {
    if toolchain::compilers().is_none() {
        add_rust_src_or_packages()?;
    }
    if toolchain::which("bpf-linker").is_none() {
        eprintln!("setup: installing bpf-linker {BPF_LINKER}");
        run(Command::new("cargo").args([
            "install",
            "bpf-linker",
            "--version",
            BPF_LINKER,
            "--locked",
        ]))
        .context("install bpf-linker by hand and run this again")?;
    }
    let found = toolchain::find()?;
    eprintln!("setup: eBPF is built by {} and {}", found.rustc.display(), found.linker.display());
    Ok(())
}

fn add_rust_src_or_packages() -> Result<()> {
    eprintln!("setup: no toolchain with rust-src; asking rustup for it");
    let added = Command::new("rustup")
        .args(["component", "add", "rust-src", "--toolchain", "nightly"])
        .output()
        .is_ok_and(|output| output.status.success());
    if added && toolchain::compilers().is_some() {
        return Ok(());
    }
    eprintln!("setup: rustup cannot; installing {}", RUST_PACKAGES.join(" "));
    run(Command::new("apt-get").args(["update", "-qq"]))
        .context("run `cargo xtask setup` as root, or install a nightly toolchain with rust-src")?;
    run(Command::new("apt-get")
        .args(["install", "-y", "-qq", "--no-install-recommends"])
        .args(RUST_PACKAGES)
        .env("DEBIAN_FRONTEND", "noninteractive"))
    .context("run `cargo xtask setup` as root, or install a nightly toolchain with rust-src")
}
