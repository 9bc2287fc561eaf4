//! Connections, requests and bulk data, end to end: client, node and endpoints are network
//! namespaces, and each system that is compared has its own.

pub mod alone;
mod cpu;
pub mod latency;
pub mod load;
mod server;
pub mod system;
mod tables;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde::Serialize;

use self::latency::{Percentiles, Way};
use self::load::{Load, Sample};
use self::system::{Path, System, WEIGHTS};
use crate::report::Summary;

/// How long each load is measured on each system in each round.
const INTERVAL: Duration = Duration::from_millis(1200);
/// Latency is measured at so much of what plain forwarding can do, which no system has trouble
/// to keep up with.
const RATE: f64 = 0.1;

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    rounds: usize,
    /// By way, what latency was measured at: per second.
    rates: [f64; 2],
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
    /// By way.
    latency: [Latency; 2],
}

/// Latency at a fixed rate, over all rounds: 50th, 99th and 99.9th percentile.
#[derive(Serialize)]
struct Latency {
    seconds: [Summary; 3],
    /// Less that of the first system in the same round.
    more: [Summary; 3],
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
    /// Connections that were reset, besides, also at the fixed rate.
    reset: u64,
    /// The standard deviation of a share that is drawn as wanted.
    deviation: f64,
}

/// Measures all loads on all systems, one after the other, in each of the rounds.
pub fn run(rounds: usize, systems: &[&'static System]) -> Result<Report> {
    eprintln!("setting up {} systems", systems.len());
    let paths = set_up(systems)?;
    let rates = [Load::Requests, Load::Short].map(|load| load.measure(&paths[0], INTERVAL));
    let [requests, connections] = rates;
    let rates = [requests?, connections?].map(|sample| rounded(sample.rate * RATE));
    let mut samples = paths.iter().map(|_| Load::ALL.map(|_| Vec::new())).collect::<Vec<_>>();
    let mut latencies = paths.iter().map(|_| Way::ALL.map(|_| Vec::new())).collect::<Vec<_>>();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        // Nobody is always first, or always behind the same one.
        let turns = || (0..paths.len()).map(|turn| (turn + round) % paths.len());
        for load in Load::ALL {
            for at in turns() {
                let sample = load.measure(&paths[at], INTERVAL);
                let sample = sample.with_context(|| format!("{}, {load:?}", paths[at].name))?;
                samples[at][load as usize].push(sample);
            }
        }
        for way in Way::ALL {
            for at in turns() {
                let seen = way.measure(&paths[at], rates[way as usize], INTERVAL);
                let seen = seen.with_context(|| format!("{}, {way:?}", paths[at].name))?;
                latencies[at][way as usize].push(seen);
            }
        }
    }
    let systems = paths.iter().zip(&samples).zip(&latencies).map(|((path, own), seen)| {
        let measured = |load: Load| Measured::of(&own[load as usize], &samples[0][load as usize]);
        let latency = |way: Way| Latency::of(&seen[way as usize], &latencies[0][way as usize]);
        Line {
            system: path.name,
            connections: measured(Load::Short),
            requests: measured(Load::Requests),
            upload: measured(Load::Upload),
            download: measured(Load::Download),
            shares: Shares::of(&own[Load::Short as usize], &seen[Way::Connection as usize]),
            latency: Way::ALL.map(latency),
        }
    });
    Ok(Report { rounds, rates, systems: systems.collect() })
}

/// A path for each system; all that cannot be set up are named.
fn set_up(systems: &[&'static System]) -> Result<Vec<Path>> {
    let (mut paths, mut failed) = (Vec::new(), Vec::new());
    for system in systems {
        match Path::new(system) {
            Ok(path) => paths.push(path),
            Err(error) => failed.push((system.id, error)),
        }
    }
    if failed.is_empty() {
        return Ok(paths);
    }
    let ids: Vec<&str> = failed.iter().map(|(id, _)| *id).collect();
    let reasons: String = failed.iter().map(|(_, error)| format!("- {error:#}\n")).collect();
    bail!(
        "not all systems can be set up:\n{reasons}`--without {}` measures the others",
        ids.join(",")
    )
}

/// To two digits.
fn rounded(rate: f64) -> f64 {
    let unit = 10_f64.powf(rate.log10().floor() - 1.0);
    (rate / unit).round() * unit
}

impl Latency {
    fn of(own: &[Percentiles], base: &[Percentiles]) -> Self {
        let each = |value: &dyn Fn(&Percentiles, &Percentiles) -> f64| {
            Summary::of(&own.iter().zip(base).map(|(s, b)| value(s, b)).collect::<Vec<_>>())
        };
        Self {
            seconds: std::array::from_fn(|at| each(&|s, _| s.seconds[at])),
            more: std::array::from_fn(|at| each(&|s, b| s.seconds[at] - b.seconds[at])),
        }
    }
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
}

impl Shares {
    fn of(samples: &[Sample], seen: &[Percentiles]) -> Self {
        let [first, second] = [0, 1].map(|at| samples.iter().map(|s| s.answers[at]).sum::<u64>());
        let connections = first + second;
        let wanted = f64::from(WEIGHTS[1]) / f64::from(WEIGHTS[0] + WEIGHTS[1]);
        Self {
            wanted,
            observed: second as f64 / connections as f64,
            connections,
            reset: samples.iter().map(|s| s.reset).chain(seen.iter().map(|p| p.reset)).sum(),
            deviation: (wanted * (1.0 - wanted) / connections as f64).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_have_two_digits() {
        assert_eq!([26_442.0, 5_536.0, 99.9].map(rounded), [26_000.0, 5_500.0, 100.0]);
    }
}
