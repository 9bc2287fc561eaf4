//! What one who looks at all splits, again and again, costs those who change weights.
//!
//! Whoever uses a CPU delays others. So changes beside one who looks are compared with changes
//! beside threads that burn as much CPU: one as much as that client, one as much as the agent
//! does for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, ensure};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use serde::Serialize;
use weir::api::Client;

use super::changes::{self, Changes, Sample};
use super::scene::Scene;
use crate::report::Table;

/// How many splits there are to look at.
pub const SPLITS: u32 = 5_000;
/// Blocks of changes, one kind after the other: a CPU is not always as fast.
const BLOCKS: usize = 10;
/// In which a thread burns its part of a CPU, and sleeps for the rest.
const PERIOD: Duration = Duration::from_millis(100);

/// Changes of weights.
#[derive(Serialize)]
pub struct Lookers {
    /// On an idle node.
    alone: Changes,
    /// Beside one who asks for all splits in a loop.
    looker: Changes,
    /// How often that one got them.
    looks: u64,
    /// CPUs that this client used.
    client_cpus: f64,
    /// CPUs that the agent used for it.
    agent_cpus: f64,
    /// Beside threads that burn as much.
    burners: Changes,
}

/// Measures each kind in blocks of so many changes.
pub fn measure(scene: &mut Scene<'_>, rounds: usize) -> Result<Lookers> {
    scene.agent.start_again(&scene.topology.node)?;
    let client = Client::new(scene.agent.socket());
    let (mut alone, mut looker, mut burners) =
        (Sample::default(), Sample::default(), Sample::default());
    let (mut looks, mut client_cpus, mut agent_cpus) = (0, 0.0, 0.0);
    for _ in 0..BLOCKS {
        let before = scene.cpu()?;
        alone.add(changes::weights(scene, rounds)?);
        let changing = scene.cpu()? - before;

        let (before, begun) = (scene.cpu()?, Instant::now());
        let (sample, (seen, cpu)) = beside(scene, rounds, |over| look(&client, over))?;
        looker.add(sample);
        let took = begun.elapsed().as_secs_f64();
        let by_client = cpu.as_secs_f64() / took;
        let by_agent = ((scene.cpu()? - before - changing) / took).max(0.0);

        let (sample, ()) = beside(scene, rounds, |over| {
            std::thread::scope(|scope| {
                scope.spawn(|| burn(by_agent, over));
                burn(by_client, over);
            });
            Ok(())
        })?;
        burners.add(sample);
        looks += seen;
        client_cpus += by_client / BLOCKS as f64;
        agent_cpus += by_agent / BLOCKS as f64;
    }
    let [alone, looker, burners] = [alone, looker, burners].map(Changes::from);
    Ok(Lookers { alone, looker, looks, client_cpus, agent_cpus, burners })
}

/// Asks for all splits until it is over: how often, and the CPU time that it took here.
fn look(client: &Client, over: &AtomicBool) -> Result<(u64, Duration)> {
    let (runtime, mut looks) = (changes::runtime()?, 0);
    while !over.load(Ordering::Relaxed) {
        let seen = runtime.block_on(client.splits())?.len();
        ensure!(seen >= SPLITS as usize, "{seen} splits were shown");
        looks += 1;
    }
    Ok((looks, cpu_of_thread()?))
}

/// CPU time of the calling thread.
fn cpu_of_thread() -> Result<Duration> {
    Ok(TimeSpec::into(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?))
}

/// Uses that part of a CPU until it is over.
fn burn(part: f64, over: &AtomicBool) {
    let part = PERIOD.mul_f64(part.min(1.0));
    while !over.load(Ordering::Relaxed) {
        let begun = Instant::now();
        while begun.elapsed() < part && !over.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        std::thread::sleep(PERIOD - part);
    }
}

/// Changes weights while `other` goes on, until it is told that it is over.
fn beside<T: Send>(
    scene: &Scene<'_>,
    rounds: usize,
    other: impl FnOnce(&AtomicBool) -> Result<T> + Send,
) -> Result<(Sample, T)> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| other(&over));
        let measured = changes::weights(scene, rounds);
        over.store(true, Ordering::Relaxed);
        let told = beside.join().map_err(|_| anyhow!("what went on beside it panicked"))??;
        Ok((measured?, told))
    })
}

impl Lookers {
    /// The table for people.
    pub fn table(&self) -> Table {
        let title = format!(
            "Changing the weights of one of {SPLITS} splits: median (99th percentile), in ms; all \
             splits were shown {} times meanwhile, for {:.2} CPUs of the client and {:.2} of the \
             agent",
            self.looks, self.client_cpus, self.agent_cpus
        );
        let mut table = Table::new(&title, &["beside", "agent", "as the client sees it"]);
        let rows = [
            ("nothing", &self.alone),
            ("threads that burn as much CPU", &self.burners),
            ("one who looks at all splits in a loop", &self.looker),
        ];
        for (beside, measured) in rows {
            table.row([beside.to_owned(), measured.agent.shown(), measured.client.shown()]);
        }
        let ratio = |of: fn(&Changes) -> f64| of(&self.looker) / of(&self.burners);
        table.row([
            "ratio of the last two".to_owned(),
            "-".to_owned(),
            format!("{:.2} ({:.2})", ratio(|c| c.client.median), ratio(|c| c.client.p99)),
        ]);
        table
    }
}
