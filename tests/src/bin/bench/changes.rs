//! Weights that change all the time, under load.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use weir::api::Client;
use weir::api::types::WeightsRequest;
use weir_tests::agent::Agent;

use crate::control::scene;
use crate::e2e::latency::{Percentiles, Way};
use crate::e2e::load::{Load, Sample};
use crate::e2e::system::weir::{self as system, SPLIT};
use crate::e2e::system::{Installed, Path};
use crate::report::{Summary, Table};

/// Splits that change in turn. The load goes to the first of them.
const SPLITS: u32 = 100;
/// How long a load is measured each time.
const INTERVAL: Duration = Duration::from_secs(2);
/// The same for connections at a fixed rate, while weights change. Here most of the changes are
/// made, since there is CPU time left for the agent.
const CHANGING: Duration = Duration::from_secs(10);
/// Latency is measured at so much of the connections that are made at most.
const RATE: f64 = 0.1;

/// What changes did to the load.
#[derive(Serialize)]
pub struct Report {
    rounds: usize,
    changes: u32,
    /// Changes per second, in each phase, beside as many connections as there can be, and beside
    /// connections at the rate.
    per_second: [Summary; 2],
    /// Connections per second.
    rate: f64,
    /// Without changes, and with them.
    connections: [Summary; 2],
    connections_ratio: Summary,
    /// Seconds: 50th, 99th, 99.9th percentile of each.
    latency: [[Summary; 3]; 2],
    latency_more: [Summary; 3],
    /// Connections of the first kind while weights changed, and those that were reset, of both.
    made: u64,
    reset: u64,
}

/// The load's path, and the agent on its node.
struct Scene {
    agent: Agent,
    path: Path,
}

impl Scene {
    fn new() -> Result<Self> {
        let mut agent = None;
        let others = (1..SPLITS).map(|number| scene::document(&scene::name(number), number, 50));
        let others: String = others.collect();
        let path = Path::with("weir TC", |topology| {
            agent = Some(system::start(topology, system::TC, &others)?);
            Ok(Installed::service(()))
        })?;
        Ok(Self { agent: agent.context("no agent")?, path })
    }
}

/// Changes weights, one after the other, while something else is done.
struct Changer {
    socket: PathBuf,
    /// Made so far.
    made: AtomicU32,
}

impl Changer {
    /// Does `work` while weights change: its result, and changes per second.
    fn during<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<(T, f64)> {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let changing = scope.spawn(|| self.change(&stop));
            let result = work();
            stop.store(true, Ordering::Relaxed);
            let per_second =
                changing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Ok((result?, per_second?))
        })
    }

    fn change(&self, stop: &AtomicBool) -> Result<f64> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(self.socket.clone());
        let (begun, mut made) = (Instant::now(), 0);
        while !stop.load(Ordering::Relaxed) {
            let number = self.made.fetch_add(1, Ordering::Relaxed);
            let (name, weights) = change(number);
            let request = WeightsRequest { weights, ..WeightsRequest::default() };
            runtime.block_on(client.set_weights(&name, &request))?;
            made += 1;
        }
        Ok(f64::from(made) / begun.elapsed().as_secs_f64())
    }
}

/// The split that a change is about, and its new weights: others than before.
fn change(number: u32) -> (String, BTreeMap<String, u32>) {
    let (split, turn) = (number % SPLITS, number / SPLITS);
    let (name, second) =
        if split == 0 { (SPLIT.to_owned(), "v3") } else { (scene::name(split), "v2") };
    let first = 1 + turn % 97;
    (name, [("v1".to_owned(), first), (second.to_owned(), 100 - first)].into())
}

/// Makes so many changes, or some more, and measures the load without changes and with them by turns.
pub fn run(wanted: usize) -> Result<Report> {
    let wanted = u32::try_from(wanted)?;
    let Scene { agent, path } = &Scene::new()?;
    let changer = Changer { socket: agent.socket(), made: AtomicU32::new(0) };
    let connect = || Load::Short.measure(path, INTERVAL).context("as many connections as possible");
    let rate = connect()?.rate * RATE;
    let wait = |interval| {
        let seen = Way::Connection.measure(path, rate, interval);
        seen.with_context(|| format!("{rate:.0} connections/s for {interval:?}"))
    };

    let mut connections: [Vec<Sample>; 2] = Default::default();
    let mut latencies: [Vec<Percentiles>; 2] = Default::default();
    let mut per_second: [Vec<f64>; 2] = Default::default();
    loop {
        connections[0].push(connect()?);
        let (sample, changes) = changer.during(connect)?;
        connections[1].push(sample);
        per_second[0].push(changes);
        latencies[0].push(wait(INTERVAL)?);
        let (seen, changes) = changer.during(|| wait(CHANGING))?;
        latencies[1].push(seen);
        per_second[1].push(changes);
        let made = changer.made.load(Ordering::Relaxed);
        eprintln!("round {}: {made} changes of {wanted}", latencies[0].len());
        if made >= wanted {
            break;
        }
    }
    let changes = changer.made.load(Ordering::Relaxed);
    last_change_is_in_force(agent, changes)?;

    let pairs = connections[1].iter().zip(&connections[0]);
    let ratio: Vec<f64> = pairs.map(|(with, without)| with.rate / without.rate).collect();
    let percentile = |of: &[Percentiles], at: usize| {
        Summary::of(&of.iter().map(|p| p.seconds[at]).collect::<Vec<_>>())
    };
    let more = |at: usize| {
        let pairs = latencies[1].iter().zip(&latencies[0]);
        let more = pairs.map(|(with, without)| with.seconds[at] - without.seconds[at]);
        Summary::of(&more.collect::<Vec<_>>())
    };
    Ok(Report {
        rounds: ratio.len(),
        changes,
        per_second: per_second.each_ref().map(|sample| Summary::of(sample)),
        rate,
        connections: connections
            .each_ref()
            .map(|of| Summary::of(&of.iter().map(|s| s.rate).collect::<Vec<_>>())),
        connections_ratio: Summary::of(&ratio),
        latency: latencies.each_ref().map(|of| std::array::from_fn(|at| percentile(of, at))),
        latency_more: std::array::from_fn(more),
        made: connections[1].iter().map(|s| s.answers.iter().sum::<u64>()).sum(),
        reset: connections[1].iter().map(|s| s.reset).sum::<u64>()
            + latencies[1].iter().map(|p| p.reset).sum::<u64>(),
    })
}

/// Changes that nobody carried out would cost nothing.
fn last_change_is_in_force(agent: &Agent, changes: u32) -> Result<()> {
    let (name, weights) = change(changes - 1);
    for subset in agent.split(&name)?.subsets {
        let (found, wanted) = (subset.weight, weights.get(&subset.name));
        ensure!(wanted == Some(&found), "{name}, {}: {found}, not {wanted:?}", subset.name);
    }
    Ok(())
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        let title = format!(
            "{} changes of weights, of {SPLITS} splits in turn, and what they do to short \
             connections to one of these: median of {} rounds",
            self.changes, self.rounds
        );
        let header = ["", "without changes", "with changes", "difference in the same round"];
        let mut table = Table::new(&title, &header);
        let [closed, open] = self.per_second.map(|summary| format!("{:.0}", summary.median));
        let row = |name: &str, cells: [String; 3]| {
            std::iter::once(name.to_owned()).chain(cells).collect::<Vec<_>>()
        };
        let [without, with] = self.connections.map(|summary| format!("{:.0}", summary.median));
        let ratio = format!("times {:.2}", self.connections_ratio.median);
        table.row(row("connections/s, as many as possible", [without, with, ratio]));
        table.row(row("changes/s meanwhile", [String::new(), closed, String::new()]));
        for (at, name) in
            ["median latency", "99th percentile", "99.9th percentile"].iter().enumerate()
        {
            let us = |summary: &Summary| format!("{:.0}", summary.median * 1e6);
            let [without, with] = self.latency.each_ref().map(|all| us(&all[at]));
            let more = format!("{:+.0}", self.latency_more[at].median * 1e6);
            let name = format!("{name} at {:.0} connections/s, us", self.rate);
            table.row(row(&name, [without, with, more]));
        }
        table.row(row("changes/s meanwhile", [String::new(), open, String::new()]));
        table.row(row(
            "connections, of the first kind",
            [String::new(), self.made.to_string(), String::new()],
        ));
        table.row(row("failed, of both", [String::new(), self.reset.to_string(), String::new()]));
        vec![table]
    }
}
