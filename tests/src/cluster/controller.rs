//! `weir controller`, run in the namespace of the control plane with the rights that the chart
//! gives it.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};

use super::control_plane::ControlPlane;
use super::process::Process;
use super::steered::{NAMESPACE, repository};
use crate::agent::program;

/// What the chart renders of it.
const MANIFEST: &str = "deploy/kubernetes/controller.yaml";
/// Its ServiceAccount, and its lease.
pub const NAME: &str = "weir-controller";

/// Gives controllers their rights, without starting any: the Deployment is left out.
///
/// # Errors
///
/// Fails with what `kubectl` wrote.
pub fn grant(control: &ControlPlane) -> Result<()> {
    let text = std::fs::read_to_string(repository(MANIFEST))?;
    let rights = text.split("---\n").filter(|document| !document.contains("kind: Deployment"));
    let rights: Vec<&str> = rights.collect();
    let apply = ["apply", "--server-side", "-f", "-"];
    control.kubectl().try_run(&apply, &rights.join("---\n")).map(drop)
}

/// Starts one; `number` tells it from others. `config` is what `agent.yaml` has of the cluster
/// beside how it is reached, such as `mode: observe`.
///
/// # Errors
///
/// Fails if it cannot be started; not if it ends at once.
pub fn start(control: &ControlPlane, number: u16, config: &str) -> Result<Process> {
    let kubeconfig = control.kubeconfig_of(NAMESPACE, NAME)?;
    let at = control.directory();
    let text = format!(
        "interfaces: [{{match: none}}]\nkubernetes: {{kubeconfig: {}, {config}}}\n",
        kubeconfig.display()
    );
    let file = at.join(format!("controller-{number}.yaml"));
    std::fs::write(&file, text)?;
    let program = program()?;
    let mut command = control.ns().command(program.to_str().context("not UTF-8")?);
    let health = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 9_500 + number);
    command.arg("controller").arg("--config").arg(file).arg(format!("--health={health}"));
    Process::start(NAME, command, &at.join(format!("controller-{number}.log")))
}
