//! `cargo xtask stress`: tests of the usual tiers, many times as long.

use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{root, run};

/// What is to be stressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Subject {
    /// Ten million packets of each kind of flood: tests/tests/kernel_flood.rs. Some minutes.
    Floods,
}

impl Subject {
    /// The test, and the variable that makes it long, with its value.
    fn test(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Floods => ("kernel_flood", "WEIR_FLOOD_PACKETS", "10000000"),
        }
    }
}

/// Runs the tests of these subjects, or of all, and shows their figures. A value of the variable
/// that is there already stays.
pub fn stress(subjects: &[Subject]) -> Result<()> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    for subject in subjects {
        let (test, name, value) = subject.test();
        let mut command = Command::new("cargo");
        command.args(["test", "--release", "-p", "weir-tests", "--test", test]);
        command.args(["--", "--test-threads=1", "--nocapture"]).current_dir(root());
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
        run(&mut command)?;
    }
    Ok(())
}
