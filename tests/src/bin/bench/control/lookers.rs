//! What one who looks at all splits, again and again, costs those who change weights.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, anyhow, ensure};
use serde::Serialize;
use weir::api::Client;

use super::changes::{self, Changes};
use super::scene::Scene;
use crate::report::Table;

/// How many splits there are to look at.
pub const SPLITS: u32 = 5_000;

/// Changes of weights.
#[derive(Serialize)]
pub struct Lookers {
    /// On an idle node.
    alone: Changes,
    /// Beside a thread that burns a CPU, as the one who looks and the agent do together.
    burner: Changes,
    /// Beside one who asks for all splits in a loop.
    looker: Changes,
    /// How often that one got them.
    looks: u64,
}

/// Measures each with so many changes.
pub fn measure(scene: &mut Scene<'_>, rounds: usize) -> Result<Lookers> {
    let alone = changes::weights(scene, rounds)?;
    let burner = beside(scene, rounds, |over| {
        while !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Ok(())
    })?;
    let (looks, client) = (AtomicU64::new(0), Client::new(scene.agent.socket()));
    let looker = beside(scene, rounds, |over| {
        let runtime = changes::runtime()?;
        while !over.load(Ordering::Relaxed) {
            let seen = runtime.block_on(client.splits())?.len();
            ensure!(seen >= SPLITS as usize, "{seen} splits were shown");
            looks.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    })?;
    Ok(Lookers { alone, burner, looker, looks: looks.into_inner() })
}

/// Changes weights while `other` goes on, until it is told that it is over.
fn beside(
    scene: &mut Scene<'_>,
    rounds: usize,
    other: impl FnOnce(&AtomicBool) -> Result<()> + Send,
) -> Result<Changes> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| other(&over));
        let measured = changes::weights(scene, rounds);
        over.store(true, Ordering::Relaxed);
        beside.join().map_err(|_| anyhow!("what went on beside it panicked"))??;
        measured
    })
}

impl Lookers {
    /// The table for people.
    pub fn table(&self) -> Table {
        let title = format!(
            "Changing the weights of one of {SPLITS} splits: median (99th percentile), in ms; all \
             splits were shown {} times meanwhile",
            self.looks
        );
        let mut table = Table::new(&title, &["beside", "agent", "as the client sees it"]);
        let rows = [
            ("nothing", &self.alone),
            ("a thread that burns a CPU", &self.burner),
            ("one who looks at all splits in a loop", &self.looker),
        ];
        for (beside, measured) in rows {
            table.row([beside.to_owned(), measured.agent.shown(), measured.client.shown()]);
        }
        let ratio = |of: fn(&Changes) -> f64| of(&self.looker) / of(&self.burner);
        table.row([
            "ratio of the last two".to_owned(),
            "-".to_owned(),
            format!("{:.2} ({:.2})", ratio(|c| c.client.median), ratio(|c| c.client.p99)),
        ]);
        table
    }
}
