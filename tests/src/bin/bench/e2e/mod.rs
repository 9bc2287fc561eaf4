//! Connections, requests and bulk data, end to end: client, node and endpoints are network
//! namespaces, and each system that is compared has its own.

pub mod alone;
mod cpu;
mod load;
mod server;
mod system;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::load::{Load, Sample};
use self::system::{Path, WEIGHTS};
use crate::report::{Summary, Table};

/// How long each load is measured on each system in each round.
const INTERVAL: Duration = Duration::from_millis(1200);

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    rounds: usize,
    systems: Vec<Line>,
}

/// A system.
#[derive(Serialize)]
struct Line {
    system: &'static str,
    connections: Measured,
    requests: Measured,
    upload: Measured,
    download: Measured,
    shares: Shares,
}

/// A load on a system, over all rounds.
#[derive(Serialize)]
struct Measured {
    /// Connections, requests or bytes per second.
    rate: Summary,
    /// The same as a ratio to the first system in the same round.
    rate_ratio: Summary,
    /// CPU seconds of the whole machine per connection, request or byte.
    cpu: Summary,
    /// The same less that of the first system in the same round.
    cpu_more: Summary,
}

/// Where short connections went.
#[derive(Serialize)]
struct Shares {
    wanted: f64,
    observed: f64,
    connections: u64,
    /// Connections that were reset, besides.
    reset: u64,
    /// The standard deviation of a share that is drawn as wanted.
    deviation: f64,
}

/// Measures all loads on all systems, one after the other, in each of the rounds.
pub fn run(rounds: usize) -> Result<Report> {
    eprintln!("setting up {} systems", system::ALL.len());
    let paths = system::ALL.iter().map(Path::new).collect::<Result<Vec<_>>>()?;
    let mut samples = paths.iter().map(|_| Load::ALL.map(|_| Vec::new())).collect::<Vec<_>>();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        for load in Load::ALL {
            for turn in 0..paths.len() {
                // Nobody is always first, or always behind the same one.
                let at = (turn + round) % paths.len();
                let name = paths[at].system.name;
                let sample = load.measure(&paths[at], INTERVAL);
                let sample = sample.with_context(|| format!("{name}, {load:?}"))?;
                samples[at][load as usize].push(sample);
            }
        }
    }
    let systems = paths.iter().zip(&samples).map(|(path, own)| {
        let measured = |load: Load| Measured::of(&own[load as usize], &samples[0][load as usize]);
        Line {
            system: path.system.name,
            connections: measured(Load::Short),
            requests: measured(Load::Requests),
            upload: measured(Load::Upload),
            download: measured(Load::Download),
            shares: Shares::of(&own[Load::Short as usize]),
        }
    });
    Ok(Report { rounds, systems: systems.collect() })
}

impl Measured {
    fn of(own: &[Sample], base: &[Sample]) -> Self {
        let each = |value: fn(&Sample, &Sample) -> f64| {
            Summary::of(&own.iter().zip(base).map(|(s, b)| value(s, b)).collect::<Vec<_>>())
        };
        Self {
            rate: each(|s, _| s.rate),
            rate_ratio: each(|s, b| s.rate / b.rate),
            cpu: each(|s, _| s.cpu),
            cpu_more: each(|s, b| s.cpu - b.cpu),
        }
    }

    /// Rate and ratio.
    fn speed(&self, unit: f64, digits: usize) -> String {
        let (rate, ratio) = (self.rate.median / unit, self.rate_ratio.median);
        format!("{rate:.digits$} ({ratio:.2})")
    }

    /// CPU time and what is above the first system.
    fn cost(&self, unit: f64, digits: usize) -> String {
        let (cpu, more) = (self.cpu.median * unit, self.cpu_more.median * unit);
        format!("{cpu:.digits$} ({more:+.digits$})")
    }
}

impl Shares {
    fn of(samples: &[Sample]) -> Self {
        let [first, second] = [0, 1].map(|at| samples.iter().map(|s| s.answers[at]).sum::<u64>());
        let connections = first + second;
        let wanted = f64::from(WEIGHTS[1]) / f64::from(WEIGHTS[0] + WEIGHTS[1]);
        Self {
            wanted,
            observed: second as f64 / connections as f64,
            connections,
            reset: samples.iter().map(|s| s.reset).sum(),
            deviation: (wanted * (1.0 - wanted) / connections as f64).sqrt(),
        }
    }
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        vec![self.speed_table(), self.cpu_table(), self.share_table()]
    }

    fn speed_table(&self) -> Table {
        let title = format!(
            "Throughput: median of {} rounds (ratio to plain forwarding in the same round)",
            self.rounds
        );
        let header =
            ["system", "short connections/s", "requests/s", "GB/s to endpoint", "GB/s to client"];
        let mut table = Table::new(&title, &header);
        for line in &self.systems {
            table.row([
                line.system.to_owned(),
                line.connections.speed(1.0, 0),
                line.requests.speed(1.0, 0),
                line.upload.speed(1e9, 2),
                line.download.speed(1e9, 2),
            ]);
        }
        table
    }

    fn cpu_table(&self) -> Table {
        let title = "CPU time of the whole machine, clients and servers included \
                     (above plain forwarding in the same round)";
        let header =
            ["system", "us/connection", "us/request", "s/GB to endpoint", "s/GB to client"];
        let mut table = Table::new(title, &header);
        for line in &self.systems {
            table.row([
                line.system.to_owned(),
                line.connections.cost(1e6, 1),
                line.requests.cost(1e6, 2),
                line.upload.cost(1e9, 3),
                line.download.cost(1e9, 3),
            ]);
        }
        table
    }

    fn share_table(&self) -> Table {
        let header = ["system", "wanted", "observed", "standard deviation", "connections", "reset"];
        let mut table = Table::new("Share of the smaller subset, of short connections", &header);
        for line in &self.systems {
            let Shares { wanted, observed, connections, reset, deviation } = line.shares;
            table.row([
                line.system.to_owned(),
                format!("{:.2} %", wanted * 100.0),
                format!("{:.2} %", observed * 100.0),
                format!("{:.2} %", deviation * 100.0),
                connections.to_string(),
                reset.to_string(),
            ]);
        }
        table
    }
}
