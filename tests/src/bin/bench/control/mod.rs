//! What a node with many splits costs the agent: loading them, changing one of
//! them, and memory.

mod changes;
mod load;
mod lookers;
pub mod scene;

use anyhow::Result;
use serde::Serialize;

use crate::report::Table;
use changes::Changes;
use load::Load;
use lookers::Lookers;
use scene::Stage;

/// Splits of each step; the last one is what the limits are stated for.
const SPLITS: [u32; 4] = [10, 100, 1_000, 10_000];

/// What was measured.
#[derive(Serialize)]
pub struct Report {
    steps: Vec<Step>,
    lookers: Lookers,
}

/// With so many splits.
#[derive(Serialize)]
struct Step {
    splits: u32,
    endpoints: u32,
    load: Load,
    /// `weir weights`, of one split in turn.
    weights: Changes,
    /// `weir apply` of one document with other weights.
    apply: Changes,
}

/// Measures each number of splits with an agent of its own; each kind of change `rounds` times.
pub fn run(rounds: usize) -> Result<Report> {
    let stage = Stage::new()?;
    let mut steps = Vec::new();
    for splits in SPLITS {
        eprintln!("{splits} splits");
        let mut scene = stage.agent(splits)?;
        let load = load::measure(&mut scene)?;
        let weights = changes::weights(&scene, rounds)?.into();
        let apply = changes::apply(&scene, rounds)?.into();
        let endpoints = splits * scene::ENDPOINTS;
        let load = Load { resident_mib: scene.resident_mib()?, ..load };
        steps.push(Step { splits, endpoints, load, weights, apply });
    }
    eprintln!("{} splits, and one who looks at them", lookers::SPLITS);
    let lookers = lookers::measure(&mut stage.agent(lookers::SPLITS)?, rounds)?;
    Ok(Report { steps, lookers })
}

impl Report {
    /// The tables for people.
    pub fn tables(&self) -> Vec<Table> {
        let mut load = Table::new(
            "Loading, and memory when all is measured",
            &[
                "splits",
                "endpoints",
                "first start, s",
                "of that one CPU, s",
                "restart, s",
                "resident, MiB",
                "most ever, MiB",
            ],
        );
        for step in &self.steps {
            let Load { first, cpu, restart, resident_mib, peak_mib } = &step.load;
            load.row([
                step.splits.to_string(),
                step.endpoints.to_string(),
                format!("{first:.2}"),
                format!("{cpu:.2}"),
                format!("{restart:.2}"),
                format!("{resident_mib:.0}"),
                format!("{peak_mib:.0}"),
            ]);
        }
        let title = "Changing the weights of one split among them: median (99th percentile), in ms";
        let columns = ["splits", "by", "agent", "disk", "as the client sees it", "map writes"];
        let mut changes = Table::new(title, &columns);
        for step in &self.steps {
            for (by, measured) in [("weights", &step.weights), ("apply", &step.apply)] {
                changes.row([
                    step.splits.to_string(),
                    by.to_owned(),
                    measured.agent.shown(),
                    measured.disk.shown(),
                    measured.client.shown(),
                    measured.writes.to_string(),
                ]);
            }
        }
        vec![load, changes, self.lookers.table()]
    }
}
