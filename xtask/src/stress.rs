//! `cargo xtask stress`: tests of the usual tiers, many times as long, or with what takes long
//! to be made.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build_programs, previous, root, run};

/// What is to be stressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Subject {
    /// Ten million packets of each kind of flood: tests/tests/kernel_flood.rs. Some minutes.
    Floods,
    /// Upgrade from the real build of the layout before, and back: tests/tests/netns_upgrade.rs.
    /// The first time, that is built: a quarter of an hour.
    Upgrade,
}

/// A test, its arguments, and a variable that it reads, with its value.
struct Long {
    test: &'static str,
    arguments: &'static [&'static str],
    variable: (&'static str, OsString),
}

impl Subject {
    fn long(self) -> Result<Long> {
        Ok(match self {
            Self::Floods => Long {
                test: "kernel_flood",
                arguments: &[],
                variable: ("WEIR_FLOOD_PACKETS", "10000000".into()),
            },
            Self::Upgrade => Long {
                test: "netns_upgrade",
                arguments: &["--ignored"],
                variable: ("WEIR_PREVIOUS", previous::build()?.into()),
            },
        })
    }
}

/// Runs the tests of these subjects, or of all, and shows their figures. A value of the variable
/// that is there already stays.
pub fn stress(subjects: &[Subject]) -> Result<()> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    for subject in subjects {
        let Long { test, arguments, variable: (name, value) } = subject.long()?;
        build_programs()?;
        let mut command = Command::new("cargo");
        command.args(["test", "--release", "-p", "weir-tests", "--test", test]);
        command.args(["--", "--test-threads=1", "--nocapture"]).args(arguments);
        command.current_dir(root());
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
        run(&mut command)?;
    }
    Ok(())
}
