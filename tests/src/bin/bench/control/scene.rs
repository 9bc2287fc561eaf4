//! A node, and an agent on it that has many splits.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use weir_tests::agent::{Agent, Setup};
use weir_tests::topology::{CLIENT_FACING, EndpointSpec, Topology};

/// Endpoints of each split, half of them in each of its two subsets.
pub const ENDPOINTS: u32 = 10;
/// Splits of each file.
const PER_FILE: u32 = 100;

/// The namespaces.
pub struct Stage(Topology);

/// An agent that has ended, with the files for its next start.
pub struct Scene<'a> {
    pub topology: &'a Topology,
    pub agent: Agent,
    pub splits: u32,
}

impl Stage {
    pub fn new() -> Result<Self> {
        Ok(Self(Topology::new(&[EndpointSpec::new("a")])?))
    }

    /// An agent that has never had any of `splits` splits.
    pub fn agent(&self, splits: u32) -> Result<Scene<'_>> {
        let limits = "limits: {splits: 16384, endpoints: 131072, tableSlots: 67108864}\n";
        let mut agent = Setup::default()
            .interfaces(&[(CLIENT_FACING, "tc")])
            .config(limits)
            .environment("RUST_LOG", "weir=debug")
            .start(&self.0.node)?;
        agent.end(nix::sys::signal::Signal::SIGTERM)?;
        agent.pins().remove()?;
        for file in 0..splits.div_ceil(PER_FILE) {
            let all = file * PER_FILE..splits.min((file + 1) * PER_FILE);
            let text: String = all.map(|number| document(&name(number), number, 50)).collect();
            agent.write(&format!("{file:03}.yaml"), &text);
        }
        Ok(Scene { topology: &self.0, agent, splits })
    }
}

impl Scene<'_> {
    /// The agent's resident memory.
    pub fn resident_mib(&self) -> Result<f64> {
        self.memory("VmRSS:")
    }

    /// The most that it ever had.
    pub fn peak_mib(&self) -> Result<f64> {
        self.memory("VmHWM:")
    }

    /// CPU seconds of the agent so far.
    pub fn cpu(&self) -> Result<f64> {
        let pid = self.agent.pid().context("the agent runs")?;
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        // After the name, which may hold anything: fields 14 and 15 are user and system time.
        let (_, rest) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        let ticks = rest.split_whitespace().skip(11).take(2).map(str::parse::<f64>);
        let ticks: f64 = ticks.sum::<Result<f64, _>>()?;
        let per_second =
            nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("CLK_TCK")?;
        Ok(ticks / per_second as f64)
    }

    fn memory(&self, field: &str) -> Result<f64> {
        let pid = self.agent.pid().context("the agent runs")?;
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let found = status.lines().find_map(|line| line.strip_prefix(field));
        let kib = found.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(kib.context("memory in /proc")?.parse::<f64>()? / 1024.0)
    }
}

/// The name of a split.
pub fn name(number: u32) -> String {
    format!("service-{number:05}.shop")
}

/// A split as a file or a call says it; its addresses follow from `number`.
pub fn document(name: &str, number: u32, v1: u32) -> String {
    let [_, _, high, low] = number.to_be_bytes();
    let mut text = format!(
        "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata:\n  name: {name}\nspec:\n  \
         address: 10.96.{high}.{low}\n  port: 80\n  protocol: TCP\n  subsets:\n"
    );
    for (subset, weight) in [("v1", v1), ("v2", 100 - v1)] {
        // Infallible: a String takes all.
        let _ = writeln!(text, "  - name: {subset}\n    weight: {weight}\n    endpoints:");
        let side = if subset == "v1" { 100 } else { 200 };
        for endpoint in 0..ENDPOINTS / 2 {
            let _ = writeln!(text, "    - 10.{}.{high}.{low}:8080", side + endpoint);
        }
    }
    text
}
