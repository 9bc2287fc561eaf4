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
    /// A hundred thousand histories of documents: userspace/src/histories. Half an hour.
    Documents,
}

/// A test that can be made long.
struct Test {
    /// What cargo is to run of it.
    arguments: &'static [&'static str],
    /// The variable that says how long, and its value.
    length: (&'static str, &'static str),
}

impl Subject {
    fn test(self) -> Test {
        match self {
            Self::Floods => Test {
                arguments: &["-p", "weir-tests", "--test", "kernel_flood", "--"],
                length: ("WEIR_FLOOD_PACKETS", "10000000"),
            },
            Self::Documents => Test {
                arguments: &["-p", "weir", "--lib", "--", "histories::"],
                length: ("WEIR_HISTORIES", "100000"),
            },
        }
    }
}

/// Runs the tests of these subjects, or of all, and shows their figures. A value of the variable
/// that is there already stays.
pub fn stress(subjects: &[Subject]) -> Result<()> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    for subject in subjects {
        let Test { arguments, length: (name, value) } = subject.test();
        let mut command = Command::new("cargo");
        command.args(["test", "--release"]).args(arguments);
        command.args(["--test-threads=1", "--nocapture"]).current_dir(root());
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
        run(&mut command)?;
    }
    Ok(())
}
