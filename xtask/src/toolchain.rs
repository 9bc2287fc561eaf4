//! Finds a Rust toolchain with the sources of `core`, and bpf-linker.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The version of bpf-linker that fits the LLVM of the supported toolchains.
pub const BPF_LINKER: &str = "0.10.3";

/// What builds the eBPF object.
#[derive(Debug)]
pub struct Toolchain {
    /// cargo of a toolchain with rust-src.
    pub cargo: PathBuf,
    /// rustc of the same.
    pub rustc: PathBuf,
    /// bpf-linker.
    pub linker: PathBuf,
    /// Where bpf-linker finds LLVM: the library directory of rustup's toolchain.
    pub llvm: PathBuf,
}

/// Where an executable is: on PATH, or where cargo installs.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::home_dir().map(|home| home.join(".cargo/bin"));
    std::env::split_paths(&path).chain(cargo).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The standard output of a command, trimmed; an error if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn sysroot(rustc: &Path) -> Result<PathBuf> {
    Ok(output(Command::new(rustc).args(["--print", "sysroot"]).env_remove("RUSTUP_TOOLCHAIN"))?
        .into())
}

fn has_core_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// A pair of cargo and rustc whose sysroot has the sources of `core`: a rustup
/// nightly, else Debian's packages.
pub fn compilers() -> Option<(PathBuf, PathBuf)> {
    let nightly =
        Command::new("rustc").args(["+nightly", "--print", "sysroot"]).output().ok().and_then(|o| {
            let root = PathBuf::from(String::from_utf8(o.stdout).ok()?.trim());
            (o.status.success() && has_core_sources(&root)).then_some(root.join("bin"))
        });
    let debian = || {
        let rustc = Path::new("/usr/bin/rustc");
        let good = rustc.is_file() && sysroot(rustc).is_ok_and(|root| has_core_sources(&root));
        good.then_some(PathBuf::from("/usr/bin"))
    };
    let bin = nightly.or_else(debian)?;
    Some((bin.join("cargo"), bin.join("rustc")))
}

/// Whether a toolchain with rust-src is there that builds eBPF, and the linker.
pub fn find() -> Result<Toolchain> {
    let Some((cargo, rustc)) = compilers() else {
        bail!(
            "the eBPF toolchain is missing (no Rust toolchain with rust-src): run `cargo xtask setup`"
        );
    };
    let Some(linker) = which("bpf-linker") else {
        bail!("the eBPF toolchain is missing (no bpf-linker): run `cargo xtask setup`");
    };
    let llvm = output(Command::new("rustc").args(["--print", "sysroot"]))?;
    Ok(Toolchain { cargo, rustc, linker, llvm: Path::new(&llvm).join("lib") })
}
