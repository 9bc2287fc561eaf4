//! The last build of the layout before, which upgrades are tried with.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{root, run};

/// The last commit of layout 7.
const COMMIT: &str = "2fd90a7894dd5bfa5da429bb19cdc0eb02065c45";

/// Builds it from the repository's history, below target/previous, if it is not there; its `weir`.
pub fn build() -> Result<PathBuf> {
    let directory = root().join("target/previous");
    let (source, target) = (directory.join("source"), directory.join("target"));
    let weir = directory.join(format!("weir-{}", &COMMIT[..7]));
    if weir.is_file() {
        return Ok(weir);
    }
    let mut known = Command::new("git");
    known.args(["cat-file", "-e", &format!("{COMMIT}^{{commit}}")]).current_dir(root());
    if !known.stderr(Stdio::null()).status().context("cannot run git")?.success() {
        bail!(
            "the build before this one is made of commit {COMMIT}, which is not in the history \
             here: fetch all of it (git fetch --unshallow)"
        );
    }
    let at = |path: &PathBuf| path.display().to_string();
    if source.exists() {
        std::fs::remove_dir_all(&source).with_context(|| at(&source))?;
    }
    std::fs::create_dir_all(&source).with_context(|| at(&source))?;
    let tar = directory.join("source.tar");
    run(Command::new("git")
        .args(["archive", "--output"])
        .arg(&tar)
        .arg(COMMIT)
        .current_dir(root()))?;
    run(Command::new("tar").arg("-xf").arg(&tar).arg("-C").arg(&source))?;
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--locked", "-p", "weir"]).current_dir(&source);
    // Not what the workspace is built with.
    run(build.env("CARGO_TARGET_DIR", &target))?;
    std::fs::copy(target.join("release/weir"), &weir).with_context(|| at(&weir))?;
    Ok(weir)
}
