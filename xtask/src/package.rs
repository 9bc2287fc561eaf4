//! `cargo xtask package`: the Debian package.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use crate::{build_programs, cargo, root, run};

/// Shells, by the name that `weir completions` knows.
const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// Builds `weir`, what it says of itself, and target/debian/weir_VERSION_ARCH.deb of them.
pub fn build() -> Result<()> {
    build_programs()?;
    let release = root().join("target/release");
    documents(&release.join("weir"), &release.join("package"))?;
    cargo(["deb", "--no-build", "--strip", "-p", "weir"])
}

/// Man pages and completions: what the assets in userspace/Cargo.toml refer to.
fn documents(weir: &Path, to: &Path) -> Result<()> {
    // Pages of commands that are no more.
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("{}", to.display()))?;
    }
    let man = to.join("man");
    fs::create_dir_all(&man).with_context(|| format!("{}", man.display()))?;
    run(Command::new(weir).arg("manual").arg(&man))?;
    let pages = fs::read_dir(&man)?.map(|page| Ok(page?.path())).collect::<Result<Vec<_>>>()?;
    // As Debian's policy wants it: the best compression, no time stamp.
    run(Command::new("gzip").arg("-9n").args(pages))?;
    for shell in SHELLS {
        let path = to.join(format!("weir.{shell}"));
        let file = fs::File::create(&path).with_context(|| format!("{}", path.display()))?;
        let mut command = Command::new(weir);
        let status = command.args(["completions", shell]).stdout(Stdio::from(file)).status()?;
        if !status.success() {
            bail!("{command:?} failed ({status})");
        }
    }
    Ok(())
}
