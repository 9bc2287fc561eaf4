//! Builds the eBPF object.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::Toolchain;

/// Builds the package probe-ebpf of the workspace at `root` below `target`, and
/// returns the object's path.
pub fn build(toolchain: &Toolchain, root: &Path, target: &Path) -> Result<PathBuf> {
    let mut flags = vec![
        format!("-Clinker={}", toolchain.linker.display()),
        "-Clink-arg=--btf".into(),
        "-Cdebuginfo=2".into(),
        "-Ctarget-cpu=v3".into(),
        "--cfg=bpf_target_arch=\"x86_64\"".into(),
    ];
    if std::env::consts::ARCH != "x86_64" {
        flags.pop();
        flags.push(format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH));
    }
    let mut libraries = vec![toolchain.llvm.clone()];
    libraries
        .extend(std::env::split_paths(&std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default()));
    let mut command = Command::new(&toolchain.cargo);
    command
        .current_dir(root)
        .args(["build", "--quiet", "--release", "--package", "probe-ebpf", "--bin", "weir-ebpf"])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target);
    // What cargo set for the build script that calls this is not meant for another cargo.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO") && name != "CARGO_HOME" || name.starts_with("RUSTC") {
            command.env_remove(&*name);
        }
    }
    command
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("RUSTFLAGS")
        .env("RUSTC_BOOTSTRAP", "1")
        .env("RUSTC", &toolchain.rustc)
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("building the eBPF object failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(target.join("bpfel-unknown-none/release/weir-ebpf"))
}
