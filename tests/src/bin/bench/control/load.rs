//! How long it takes until all splits are in the kernel.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde::Serialize;

use super::scene::Scene;

/// In seconds and MiB.
#[derive(Serialize)]
pub struct Load {
    /// From the start of the process with no maps to its first answer, which it
    /// gives when all splits are in the kernel's maps.
    pub first: f64,
    /// CPU time of the process meanwhile: what it takes when nobody else wants the CPUs.
    pub cpu: f64,
    /// The same for an agent that adopts the maps.
    pub restart: f64,
    pub resident_mib: f64,
    pub peak_mib: f64,
}

pub fn measure(scene: &mut Scene<'_>) -> Result<Load> {
    let start = |scene: &mut Scene<'_>| -> Result<f64> {
        let begun = Instant::now();
        scene.agent.start_again(&scene.topology.node)?;
        Ok(begun.elapsed().as_secs_f64())
    };
    let first = start(scene)?;
    let cpu = scene.cpu()?;
    let peak_mib = scene.peak_mib()?;
    let there = scene.agent.status()?;
    ensure!(there.last_error.is_empty(), "{:?}", there.last_error);
    scene.agent.split(&super::scene::name(scene.splits - 1)).context("the last split")?;
    scene.agent.end(Signal::SIGTERM)?;
    let restart = start(scene)?;
    Ok(Load { first, cpu, restart, resident_mib: scene.resident_mib()?, peak_mib })
}
