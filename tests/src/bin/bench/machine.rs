//! Where the numbers come from.

use std::fmt;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The machine, as results depend on it.
#[derive(Default, Serialize)]
pub struct Machine {
    kernel: String,
    cpu: String,
    cpus: usize,
    /// Runnable processes over the last minute, when the benchmark began: above 0.1 or so,
    /// others were using the machine.
    load: f64,
}

impl Machine {
    pub fn look() -> Result<Self> {
        let read = |path: &str| std::fs::read_to_string(path).with_context(|| path.to_owned());
        let cpuinfo = read("/proc/cpuinfo")?;
        let cpu = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
        let load = read("/proc/loadavg")?;
        let load = load.split(' ').next().and_then(|load| load.parse().ok());
        Ok(Self {
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            cpu: cpu.map_or("unknown CPU", |cpu| cpu.trim_start_matches(['\t', ' ', ':'])).into(),
            cpus: std::thread::available_parallelism()?.get(),
            load: load.context("/proc/loadavg")?,
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, cpu, cpus, load } = self;
        write!(f, "Linux {kernel}, {cpus} x {cpu}; load before the run: {load}.")
    }
}
