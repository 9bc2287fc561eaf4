//! `cargo xtask stress`: tests of the usual tiers, many times as long, or with what takes long
//! to be made.

use std::ffi::OsString;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;

use crate::{build_programs, cluster, previous, root, run};

/// What is to be stressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Subject {
    /// Ten million packets of each kind of flood: tests/tests/kernel_flood.rs. Some minutes.
    Floods,
    /// A hundred thousand histories of documents: userspace/src/histories. Half an hour.
    Documents,
    /// A hundred thousand connections over each family, counted by weir and logged by both ends:
    /// tests/tests/netns_truth.rs. Some minutes.
    Truth,
    /// Upgrade from the real build of the layout before, and back: tests/tests/netns_upgrade.rs.
    /// The first time, that is built: a quarter of an hour.
    Upgrade,
    /// A thousand changes of weights in a cluster, after each of which every node is asked:
    /// tests/tests/cluster_programmed.rs. Some minutes, once the cluster is built.
    Shifts,
}

/// A test that can be made long, or real.
struct Test {
    /// What cargo is to run of it.
    arguments: &'static [&'static str],
    /// The variable that says how, and its value.
    variable: (&'static str, OsString),
}

impl Subject {
    fn test(self) -> Result<Test> {
        Ok(match self {
            Self::Floods => Test {
                arguments: &["-p", "weir-tests", "--test", "kernel_flood", "--"],
                variable: ("WEIR_FLOOD_PACKETS", "10000000".into()),
            },
            Self::Documents => Test {
                arguments: &["-p", "weir", "--lib", "--", "histories::"],
                variable: ("WEIR_HISTORIES", "100000".into()),
            },
            Self::Truth => {
                build_programs()?;
                Test {
                    arguments: &["-p", "weir-tests", "--test", "netns_truth", "--"],
                    variable: ("WEIR_TRUTH_CONNECTIONS", "100000".into()),
                }
            }
            Self::Shifts => {
                build_programs()?;
                cluster::build(root(), &cluster::Module::ALL)?;
                Test {
                    arguments: &["-p", "weir-tests", "--test", "cluster_programmed", "--"],
                    variable: ("WEIR_SHIFTS", "1000".into()),
                }
            }
            Self::Upgrade => {
                let previous = previous::build()?;
                build_programs()?;
                Test {
                    arguments: &["-p", "weir-tests", "--test", "netns_upgrade", "--", "--ignored"],
                    variable: ("WEIR_PREVIOUS", previous.into()),
                }
            }
        })
    }
}

/// Runs the tests of these subjects, or of all, and shows their figures. A value of the variable
/// that is there already stays.
pub fn stress(subjects: &[Subject]) -> Result<()> {
    let subjects = if subjects.is_empty() { Subject::value_variants() } else { subjects };
    for subject in subjects {
        let Test { arguments, variable: (name, value) } = subject.test()?;
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
