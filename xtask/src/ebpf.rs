//! Builds and lints the eBPF crate, for the BPF target.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::toolchain::{Compilers, Toolchain};

const TARGET: &str = "bpfel-unknown-none";

/// The object of weir's programs, which the agent carries.
pub const WEIR: &str = "weir-ebpf";
/// The object that drives weir's programs in the benchmark.
pub const BENCH: &str = "weir-bench-ebpf";
/// The object that floods weir's programs in tests.
pub const FLOOD: &str = "weir-flood-ebpf";

/// Builds an object of probe-ebpf of the workspace at `root`, with `target` as
/// target directory, and returns its path. The error carries what the compiler
/// said.
pub fn build(toolchain: &Toolchain, root: &Path, target: &Path, object: &str) -> Result<PathBuf> {
    let mut flags = flags();
    flags.push(format!("-Clinker={}", toolchain.linker.display()));
    flags.push("-Clink-arg=--btf".into());
    // By default it leaves memset and memmove of a few bytes to functions that go byte by byte.
    flags.push("-Clink-arg=--disable-expand-memcpy-in-order".into());
    let mut libraries = vec![toolchain.llvm.clone()];
    let inherited = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    libraries.extend(std::env::split_paths(&inherited).filter(|p| !p.as_os_str().is_empty()));

    let mut command = Command::new(toolchain.compilers.cargo());
    command.args(["build", "--quiet", "--bin", object]);
    prepare(&mut command, &toolchain.compilers, root, target, &flags);
    command.env("LD_LIBRARY_PATH", std::env::join_paths(libraries)?);
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("building the eBPF object failed:\n{}", stderr.trim_end());
    }
    Ok(target.join(TARGET).join("release").join(object))
}

/// What a build script does: builds an object into OUT_DIR, again when its
/// sources change. A failure is what cargo prints, and all that it prints.
pub fn build_script(object: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a crate of the workspace");
    for part in ["probe-ebpf", "probe-common", "Cargo.toml", "Cargo.lock"] {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("set by cargo"));
    let built = crate::toolchain::find()
        .and_then(|found| build(&found, root, &script_target(&out), object))
        .and_then(|built| Ok(std::fs::copy(built, out.join(object))?));
    if let Err(error) = built {
        // Instead of a panic or a failing status, for which cargo would print
        // all that this program said.
        for line in format!("{error:#}").lines().filter(|line| !line.trim().is_empty()) {
            println!("cargo::error={line}");
        }
    }
}

/// A target directory of the objects' own, since the package's is locked by the
/// cargo that runs its build script; one for all profiles, since the objects are
/// the same.
fn script_target(out: &Path) -> PathBuf {
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let profile = out.ancestors().nth(2).filter(|dir| dir.ends_with("build"));
    let target = profile.and_then(|build| build.ancestors().nth(2));
    target.unwrap_or(out).join("ebpf")
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
    command.args(["clippy", "--quiet", "--bins"]);
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
        .args(["--release", "--package", "probe-ebpf"])
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
        // Whatever the agent is built with.
        .env("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3")
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
