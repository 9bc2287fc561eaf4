//! How long it takes to change one split.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use weir::api::Client;
use weir::api::types::{ApplyRequest, FileText, WeightsRequest};

use super::scene::{Scene, document, name};

/// How many splits are applied: one that changes again at once waits for a grace period.
const APPLIED: u32 = 100;

/// What each of some changes took, in milliseconds.
#[derive(Default)]
pub struct Sample {
    agent: Vec<f64>,
    disk: Vec<f64>,
    client: Vec<f64>,
    writes: u64,
}

impl Sample {
    /// Takes those of another measurement beside its own.
    pub fn add(&mut self, other: Self) {
        self.agent.extend(other.agent);
        self.disk.extend(other.disk);
        self.client.extend(other.client);
        self.writes = self.writes.max(other.writes);
    }
}

impl From<Sample> for Changes {
    fn from(Sample { agent, disk, client, writes }: Sample) -> Self {
        Self { agent: Times::of(agent), disk: Times::of(disk), client: Times::of(client), writes }
    }
}

/// What changes took.
#[derive(Serialize)]
pub struct Changes {
    /// In the agent, without the disk.
    pub agent: Times,
    /// Until the change was on the disk.
    pub disk: Times,
    /// From the client's request to the answer.
    pub client: Times,
    /// Writes to the kernel's maps for each change: the new version, and the word that puts it
    /// in force.
    pub writes: u64,
}

/// In milliseconds.
#[derive(Serialize)]
pub struct Times {
    pub median: f64,
    pub p99: f64,
}

impl Times {
    fn of(mut sample: Vec<f64>) -> Self {
        sample.sort_by(f64::total_cmp);
        let at = |part: f64| sample[((sample.len() - 1) as f64 * part).round() as usize];
        Self { median: at(0.5), p99: at(0.99) }
    }

    pub fn shown(&self) -> String {
        format!("{:.2} ({:.2})", self.median, self.p99)
    }
}

/// Overrides weights.
pub fn weights(scene: &Scene<'_>, rounds: usize) -> Result<Sample> {
    measure(scene, rounds, async |client, number, v1| {
        let weights = [("v1".to_owned(), v1), ("v2".to_owned(), 100 - v1)].into();
        let request = WeightsRequest { weights, ..WeightsRequest::default() };
        client.set_weights(&name(number), &request).await.map(|_| ())
    })
}

/// Applies one of some splits beside those of the files.
pub fn apply(scene: &Scene<'_>, rounds: usize) -> Result<Sample> {
    let first = scene.splits;
    let file = |at: u32, v1| {
        let text = document(&format!("applied-{at}"), first + at, v1);
        FileText { name: "a.yaml".into(), text }
    };
    let all = ApplyRequest {
        files: (0..APPLIED).map(|at| file(at, 99)).collect(),
        dry_run: false,
        ..ApplyRequest::default()
    };
    runtime()?.block_on(Client::new(scene.agent.socket()).apply(&all))?;
    measure(scene, rounds, async |client, number, v1| {
        let files = vec![file(number % APPLIED, v1)];
        client
            .apply(&ApplyRequest { files, dry_run: false, ..ApplyRequest::default() })
            .await
            .map(|_| ())
    })
}

pub fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn measure<E: std::error::Error + Send + Sync + 'static>(
    scene: &Scene<'_>,
    rounds: usize,
    change: impl AsyncFn(&Client, u32, u32) -> Result<(), E>,
) -> Result<Sample> {
    let client = Client::new(scene.agent.socket());
    let runtime = runtime()?;
    // What the log says of earlier changes has come through the pipe.
    std::thread::sleep(Duration::from_millis(200));
    let before = scene.agent.stderr().len();
    let mut seen = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let split = (round as u32).wrapping_mul(7919) % scene.splits;
        // Never what it was: whole rounds through all splits have other weights.
        let v1 = 1 + (round as u32 + round as u32 / scene.splits) % 97;
        let begun = Instant::now();
        runtime.block_on(change(&client, split, v1))?;
        seen.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    let said = said(scene, before, rounds)?;
    let writes = said.iter().map(|said| said.writes).max().context("no change")?;
    Ok(Sample {
        agent: said.iter().map(|said| said.agent).collect(),
        disk: said.iter().map(|said| said.disk).collect(),
        client: seen,
        writes,
    })
}

/// What the agent's log says from there on, once it has come through the pipe.
fn said(scene: &Scene<'_>, from: usize, rounds: usize) -> Result<Vec<Said>> {
    let begun = Instant::now();
    loop {
        let said: Vec<Said> = scene.agent.stderr()[from..].lines().filter_map(Said::of).collect();
        if said.len() == rounds {
            return Ok(said);
        }
        let patient = begun.elapsed() < Duration::from_secs(5);
        ensure!(patient, "{} changes of {rounds} are in the agent's log", said.len());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// What the agent's log says of a change, in milliseconds.
struct Said {
    agent: f64,
    disk: f64,
    writes: u64,
}

impl Said {
    fn of(line: &str) -> Option<Self> {
        let fields = line.split_once("DEBUG changed ")?.1;
        let field = |name: &str| {
            let of = |word: &str| word.strip_prefix(name)?.strip_prefix('=').map(str::to_owned);
            fields.split(' ').find_map(of)
        };
        let micros = |name: &str| Some(field(name)?.parse::<f64>().ok()? / 1e3);
        Some(Self {
            agent: micros("agent_us")?,
            disk: micros("disk_us")?,
            writes: field("map_writes")?.parse().ok()?,
        })
    }
}
