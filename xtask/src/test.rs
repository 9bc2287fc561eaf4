//! `cargo xtask lint` and `cargo xtask test`.

use anyhow::{Result, bail};
use xtask::toolchain;

use crate::{Tier, cargo};

/// rustfmt and clippy. The eBPF crate is formatted here and compiled, with its
/// warnings as errors of review, by every build.
pub fn lint() -> Result<()> {
    cargo(&["fmt", "--all", "--check"])?;
    cargo(&["clippy", "--release", "--workspace", "--all-targets", "--", "-D", "warnings"])
}

/// The tests of a tier.
pub fn test(tier: Tier) -> Result<()> {
    if tier == Tier::All {
        lint()?;
    }
    if tier != Tier::Kernel {
        let pure = ["-p", "probe-common", "-p", "weir", "-p", "xtask", "-p", "weir-tests"];
        cargo(&[&["test", "--release", "--lib", "--bins"], &pure[..]].concat())?;
        cargo(&["test", "--release", "-p", "weir-tests", "--test", "pure_shares"])?;
    }
    if tier != Tier::Pure {
        if toolchain::output(std::process::Command::new("id").arg("-u"))? != "0" {
            bail!("the kernel tier loads programs: run it as root, or `cargo xtask test pure`");
        }
        cargo(&["test", "--release", "-p", "weir-tests", "--test", "kernel_steer"])?;
    }
    Ok(())
}
