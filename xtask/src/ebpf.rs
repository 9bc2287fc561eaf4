//! Builds and lints the eBPF crate, for the BPF target.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{Compilers, Toolchain};

const TARGET: &str = "bpfel-unknown-none";

/// Builds probe-ebpf of the workspace at `root`, with `target` as target
/// directory, and returns the object's path. The error carries what the
/// compiler said.
pub fn build(toolchain: &Toolchain, root: &Path, target: &Path) -> Result<PathBuf> {
    let mut flags = flags();
    flags.push(format!("-Clinker={}", toolchain.linker.display()));
    flags.push("-Clink-arg=--btf".into());
    let mut libraries = vec![toolchain.llvm.clone()];
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    libraries.extend(std::env::split_paths(&inherited).filter(|p| !p.as_os_str().is_empty()));

    let mut command = Command::new(toolchain.compilers.cargo());
    command.args(["build", "--quiet"]);
    prepare(&mut command, &toolchain.compilers, root, target, &flags);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("building the eBPF object failed:\n{}", stderr.trim_end());
    }
    Ok(target.join(TARGET).join("release/weir-ebpf"))
}

/// clippy over probe-ebpf, and what it uses of the workspace, as compiled for
/// the BPF target. Warnings are errors.
pub fn clippy(toolchain: &Toolchain, root: &Path, target: &Path) -> Result<()> {
    let Some(clippy) = toolchain.compilers.clippy() else {
        bail!(
            "no clippy beside {}: run `cargo xtask setup`",
            toolchain.compilers.rustc().display()
        );
    };
    let mut command = Command::new(clippy);
    // cargo would look for the subcommand in CARGO_HOME first and find rustup's.
    command.args(["clippy", "--quiet"]);
    prepare(&mut command, &toolchain.compilers, root, target, &flags());
    command.env("CARGO", toolchain.compilers.cargo()).args(["--", "-D", "warnings"]);
    let status = command.status().with_context(|| format!("cannot run {command:?}"))?;
    if !status.success() {
        bail!("clippy of the eBPF crate failed");
    }
    Ok(())
}

/// What changes the generated code.
fn flags() -> Vec<String> {
    // A build script is told what it builds for; xtask builds for this machine.
    let arch = std::env::var("CARGO_CFG_TARGET_ARCH");
    let arch = arch.unwrap_or_else(|_| std::env::consts::ARCH.into());
    vec![
        "-Cdebuginfo=2".into(),
        "-Ctarget-cpu=v3".into(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ]
}

/// What all commands have in common.
fn prepare(
    command: &mut Command,
    compilers: &Compilers,
    root: &Path,
    target: &Path,
    flags: &[String],
) {
    command
        .current_dir(root)
        .args(["--release", "--package", "probe-ebpf", "--bin", "weir-ebpf"])
        .args(["--target", TARGET, "-Z", "build-std=core", "--target-dir"])
        .arg(target);
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(is_of_outer_cargo) {
            command.env_remove(name);
        }
    }
    command
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", compilers.rustc())
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
}

/// Whether a variable was set by, or for, the cargo that runs this program, and
/// would mislead one of another toolchain. Registry and network settings stay.
fn is_of_outer_cargo(name: &str) -> bool {
    const KEPT: [&str; 5] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_"];
    const REMOVED: [&str; 5] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_TOOLCHAIN"];
    let starts = |list: &[&str]| list.iter().any(|prefix| name.starts_with(prefix));
    starts(&REMOVED) && !starts(&KEPT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_cargo_is_not_misled() {
        for name in ["CARGO", "CARGO_PKG_NAME", "RUSTC", "RUSTC_WRAPPER", "RUSTUP_TOOLCHAIN"] {
            assert!(is_of_outer_cargo(name), "{name}");
        }
        for name in ["CARGO_HOME", "CARGO_NET_OFFLINE", "RUSTUP_HOME", "PATH", "RUST_LOG"] {
            assert!(!is_of_outer_cargo(name), "{name}");
        }
    }
}
