//! `helm`, run in the namespace of the control plane, by its administrator.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

use super::control_plane::ControlPlane;
use super::programs;

/// The namespace that the chart is installed into.
pub const NAMESPACE: &str = "weir-system";

/// Helm, with files of its own.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: TempDir,
}

impl Helm {
    /// It.
    ///
    /// # Errors
    ///
    /// Fails if it was not built yet.
    pub fn find() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("weir-helm-").tempdir()?;
        Ok(Self { program: programs::helm()?, home })
    }

    /// Runs it without a cluster: its standard output.
    ///
    /// # Errors
    ///
    /// Fails, with all that it wrote, unless it exits with 0.
    pub fn alone(&self, arguments: &[&str]) -> Result<String> {
        self.check(Command::new(&self.program), arguments)
    }

    /// Runs it for a cluster, in [`NAMESPACE`]: its standard output.
    ///
    /// # Errors
    ///
    /// As [`Helm::alone`].
    pub fn try_run(&self, control: &ControlPlane, arguments: &[&str]) -> Result<String> {
        let mut command = control.ns().command(self.program.to_str().context("not UTF-8")?);
        command.arg("--kubeconfig").arg(control.kubeconfig()).args(["--namespace", NAMESPACE]);
        self.check(command, arguments)
    }

    /// As [`Helm::try_run`].
    ///
    /// # Panics
    ///
    /// If that fails.
    #[track_caller]
    pub fn run(&self, control: &ControlPlane, arguments: &[&str]) -> String {
        self.try_run(control, arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    fn check(&self, mut command: Command, arguments: &[&str]) -> Result<String> {
        command.args(arguments).env_remove("KUBECONFIG");
        let output = command.envs(xtask::chart::variables(self.home.path())).output()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            let (said, shown) = (text(&output.stderr), text(&output.stdout));
            bail!("helm {}: {}\n{said}{shown}", arguments.join(" "), output.status);
        }
        Ok(text(&output.stdout))
    }
}
