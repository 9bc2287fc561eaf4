//! Finds a Rust toolchain that can build `core` for BPF, and bpf-linker.
//!
//! Either of two will do: a rustup nightly with the component rust-src, or
//! Debian's packages rustc-web, cargo-web and rust-web-src.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The version of bpf-linker that fits the LLVM of the supported toolchains.
pub const BPF_LINKER: &str = "0.10.3";

/// cargo and rustc of one toolchain, which has the sources of `core`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compilers {
    /// The directory of the executables.
    pub bin: PathBuf,
    /// Whether it is Debian's, not rustup's.
    pub debian: bool,
}

impl Compilers {
    /// A nightly of rustup, else Debian's packages; `None` without either.
    pub fn find() -> Option<Self> {
        Self::nightly().or_else(Self::debian)
    }

    fn nightly() -> Option<Self> {
        let home = std::env::var_os("RUSTUP_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(std::env::home_dir()?.join(".rustup")))?;
        newest_nightly(&home.join("toolchains"))
            .map(|sysroot| Self { bin: sysroot.join("bin"), debian: false })
    }

    fn debian() -> Option<Self> {
        let bin = PathBuf::from("/usr/bin");
        let complete = has_core_sources(Path::new("/usr"))
            && ["cargo", "rustc"].iter().all(|name| bin.join(name).is_file());
        complete.then_some(Self { bin, debian: true })
    }

    /// cargo.
    pub fn cargo(&self) -> PathBuf {
        self.bin.join("cargo")
    }

    /// rustc.
    pub fn rustc(&self) -> PathBuf {
        self.bin.join("rustc")
    }

    /// `cargo-clippy`, if the toolchain has it.
    pub fn clippy(&self) -> Option<PathBuf> {
        let has = |name| self.bin.join(name).is_file();
        (has("cargo-clippy") && has("clippy-driver")).then(|| self.bin.join("cargo-clippy"))
    }

    /// Where bpf-linker finds LLVM. Debian's compilers come without the library
    /// that it wants; that of rustup's current toolchain serves.
    fn llvm(&self) -> Result<PathBuf> {
        if self.debian {
            let sysroot = output(Command::new("rustc").args(["--print", "sysroot"]))?;
            Ok(Path::new(&sysroot).join("lib"))
        } else {
            Ok(self.bin.with_file_name("lib"))
        }
    }
}

/// What builds the eBPF object.
#[derive(Debug)]
pub struct Toolchain {
    /// cargo and rustc.
    pub compilers: Compilers,
    /// bpf-linker.
    pub linker: PathBuf,
    /// Where bpf-linker finds LLVM.
    pub llvm: PathBuf,
}

/// The whole toolchain; the error is one line that says what to do.
pub fn find() -> Result<Toolchain> {
    let (compilers, linker) = (Compilers::find(), bpf_linker());
    match (compilers, linker) {
        (Some(compilers), Some(linker)) => {
            let llvm = compilers.llvm()?;
            Ok(Toolchain { compilers, linker, llvm })
        }
        (compilers, linker) => bail!(not_found(compilers.is_none(), linker.is_none())),
    }
}

fn not_found(compilers: bool, linker: bool) -> String {
    let missing: Vec<&str> =
        [(compilers, "a Rust toolchain with rust-src"), (linker, "bpf-linker")]
            .into_iter()
            .filter_map(|(missing, what)| missing.then_some(what))
            .collect();
    format!("eBPF toolchain not found: run `cargo xtask setup` (missing: {})", missing.join(", "))
}

/// bpf-linker.
pub fn bpf_linker() -> Option<PathBuf> {
    cargo_tool("bpf-linker")
}

/// An executable on PATH, or where `cargo install` puts it.
pub fn cargo_tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let cargo = cargo.or_else(|| Some(std::env::home_dir()?.join(".cargo")));
    search(&path, cargo.map(|home| home.join("bin")), name)
}

/// An executable on PATH, or where administrators' tools lie.
pub fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    search(&path, ["/usr/sbin", "/sbin"].map(PathBuf::from), name)
}

fn search(path: &OsString, more: impl IntoIterator<Item = PathBuf>, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).chain(more).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The standard output of a command, trimmed; an error if it fails.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn has_core_sources(sysroot: &Path) -> bool {
    sysroot.join("lib/rustlib/src/rust/library/core").is_dir()
}

/// The sysroot of the nightly that moves, else of the one with the latest date,
/// among those with the sources of `core`. Reads directories only: asking
/// rustup for a toolchain may make it download one.
fn newest_nightly(toolchains: &Path) -> Option<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(toolchains)
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("nightly-") && has_core_sources(path)
        })
        .collect();
    // "nightly-2026-01-01-x86_64-..." sorts before "nightly-x86_64-...".
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_one_line() {
        let text = not_found(true, true);
        assert!(text.starts_with("eBPF toolchain not found: run `cargo xtask setup`"), "{text}");
        assert!(text.contains("rust-src") && text.contains("bpf-linker"), "{text}");
        assert!(!not_found(false, true).contains("rust-src"));
        assert!(!text.contains('\n'));
    }

    #[test]
    fn a_nightly_counts_only_with_sources() {
        let name = format!("weir-xtask-nightly-{}", std::process::id());
        let root = std::env::temp_dir().join(name);
        let sources = "lib/rustlib/src/rust/library/core";
        std::fs::create_dir_all(root.join("nightly-x86_64-unknown-linux-gnu")).unwrap();
        std::fs::create_dir_all(root.join("stable-x86_64-unknown-linux-gnu").join(sources))
            .unwrap();
        assert_eq!(newest_nightly(&root), None);
        for date in ["2026-01-02", "2025-12-31"] {
            std::fs::create_dir_all(root.join(format!("nightly-{date}-x86_64")).join(sources))
                .unwrap();
        }
        assert_eq!(newest_nightly(&root), Some(root.join("nightly-2026-01-02-x86_64")));
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(newest_nightly(&root), None);
    }
}
