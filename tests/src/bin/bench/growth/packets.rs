//! Nanoseconds per packet, as something grows.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::axis::Axis;
use super::subject::{Case, Sample, Subject, packets};
use crate::packet::driver::Driver;
use crate::packet::stay_on_this_cpu;
use crate::plot::{Lines, Series};
use crate::report::{Summary, Table};

/// What was found of an axis.
#[derive(Serialize)]
pub struct Growth {
    #[serde(skip)]
    axis: Axis,
    what: &'static str,
    rounds: usize,
    lines: Vec<Line>,
}

/// A case over all sizes.
#[derive(Serialize)]
struct Line {
    packet: &'static str,
    points: Vec<Point>,
}

/// A case at a size; nanoseconds.
#[derive(Serialize)]
struct Point {
    size: u32,
    /// Above the empty program, which was driven over the same packets in the same round.
    above_empty: Summary,
    /// As a ratio to the smallest size in the same round.
    ratio: Summary,
}

/// Measures all sizes, one after the other, in each of the rounds. On a thread of its own, which
/// stays on one CPU.
pub fn measure(axis: Axis, rounds: usize) -> Result<Growth> {
    let measure = move || measure_here(axis, rounds);
    std::thread::spawn(measure).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure_here(axis: Axis, rounds: usize) -> Result<Growth> {
    stay_on_this_cpu()?;
    let (sizes, count) = (axis.sizes(), u32::try_from(rounds)?);
    let cases: Vec<Case> = Case::ALL.into_iter().filter(|case| case.belongs_to(axis)).collect();
    let prepared = sizes.iter().map(|&size| packets(axis, size, count)).sum();
    let mut driver = Driver::load(prepared, 1)?;
    let mut subjects = Vec::new();
    for &size in sizes {
        let subject = Subject::new(&mut driver, axis, size, count);
        subjects.push(subject.with_context(|| format!("{size} {}", axis.name()))?);
    }
    // By case and size.
    let mut samples = vec![vec![Vec::new(); sizes.len()]; cases.len()];
    for round in 0..rounds {
        for (case, samples) in cases.iter().zip(&mut samples) {
            for (subject, at) in subjects.iter_mut().zip(0..) {
                let Sample { total, empty } = subject
                    .measure(&mut driver, *case, round)
                    .with_context(|| format!("{} {}, {case:?}", sizes[at], axis.name()))?;
                samples[at].push(total - empty);
            }
        }
    }
    let lines = cases.iter().zip(&samples).map(|(case, samples)| Line {
        packet: case.name(),
        points: (sizes.iter().zip(samples))
            .map(|(&size, own)| Point {
                size,
                above_empty: Summary::of(own),
                ratio: ratio(own, &samples[0]),
            })
            .collect(),
    });
    Ok(Growth { axis, what: axis.name(), rounds, lines: lines.collect() })
}

fn ratio(own: &[f64], base: &[f64]) -> Summary {
    Summary::of(&own.iter().zip(base).map(|(own, base)| own / base).collect::<Vec<_>>())
}

impl Growth {
    /// Sizes down, cases across.
    pub fn table(&self) -> Table {
        let title = format!(
            "ns per packet by {}: median of {} rounds (ratio to the first row in the same round)",
            self.what, self.rounds
        );
        let header = std::iter::once(self.what).chain(self.lines.iter().map(|line| line.packet));
        let mut table = Table::new(&title, &header.collect::<Vec<_>>());
        for (at, size) in self.axis.sizes().iter().enumerate() {
            let cell = |line: &Line| {
                let Point { above_empty, ratio, .. } = &line.points[at];
                format!("{:.1} ({:.2})", above_empty.median, ratio.median)
            };
            table.row(std::iter::once(size.to_string()).chain(self.lines.iter().map(cell)));
        }
        table
    }

    /// The same for the eye.
    pub fn plot(&self) -> Lines {
        let points = |line: &Line| {
            line.points.iter().map(|point| (point.size.into(), point.above_empty)).collect()
        };
        Lines {
            title: format!("By {}", self.what),
            x: self.what,
            y: "ns per packet",
            series: (self.lines.iter())
                .map(|line| Series { name: line.packet, points: points(line) })
                .collect(),
        }
    }
}
