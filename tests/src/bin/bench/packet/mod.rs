//! Nanoseconds per packet, under BPF_PROG_TEST_RUN.

mod cases;
pub mod driver;
pub mod node;
pub mod scene;
mod stage;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use serde::Serialize;

use self::cases::Case;
use self::driver::{Hook, Part};
use self::node::Program;
use self::stage::{Sample, Stage};
use crate::report::{Summary, Table};

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    rounds: usize,
    floors: Vec<Floor>,
    parts: Vec<PartLine>,
    cases: Vec<Line>,
    programs: Vec<Size>,
}

/// What a program that does nothing takes.
#[derive(Serialize)]
struct Floor {
    hook: &'static str,
    /// In the kernel's loop alone.
    empty: Summary,
    /// Driven, with one packet.
    driven: Summary,
}

/// What a part of a packet's way takes; nanoseconds.
#[derive(Serialize)]
struct PartLine {
    part: &'static str,
    above_empty: Summary,
}

/// A case over all rounds; nanoseconds.
#[derive(Serialize)]
struct Line {
    program: &'static str,
    family: &'static str,
    packet: &'static str,
    flows: &'static str,
    /// Above the empty program, which was driven over the same packets in the same round.
    above_empty: Summary,
    /// That empty program.
    empty: Summary,
    aim: Option<f64>,
    #[serde(skip)]
    case: Case,
}

/// A program in the kernel.
#[derive(Serialize)]
struct Size {
    program: &'static str,
    verified_instructions: Option<u32>,
    translated_bytes: Option<u32>,
    machine_code_bytes: u32,
}

/// Measures all cases, one after the other, in each of the rounds, on a thread of its own, which
/// stays on one CPU.
pub fn run(rounds: usize) -> Result<Report> {
    let measure = move || measure(rounds);
    std::thread::spawn(measure).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure(rounds: usize) -> Result<Report> {
    stay_on_this_cpu()?;
    eprintln!("preparing packets and flows");
    let mut stage = Stage::new()?;
    let cases = Case::all();
    let mut samples: Vec<Vec<Sample>> = cases.iter().map(|_| Vec::new()).collect();
    let mut floors: [Vec<Sample>; 2] = Default::default();
    let mut parts: [Vec<Sample>; Part::ALL.len()] = Default::default();
    for round in 0..rounds {
        eprintln!("round {} of {rounds}", round + 1);
        stage.begin_round()?;
        for hook in Hook::ALL {
            floors[hook as usize].push(stage.floor(hook)?);
        }
        for (part, samples) in Part::ALL.into_iter().zip(&mut parts) {
            samples.push(stage.part(part)?);
        }
        for (case, samples) in cases.iter().zip(&mut samples) {
            samples.push(stage.measure(case, round).with_context(|| format!("{case:?}"))?);
        }
    }
    let summary = |samples: &[Sample], field: fn(&Sample) -> f64| {
        Summary::of(&samples.iter().map(field).collect::<Vec<_>>())
    };
    Ok(Report {
        rounds,
        floors: Hook::ALL
            .map(|hook| Floor {
                hook: hook.name(),
                empty: summary(&floors[hook as usize], |s| s.total),
                driven: summary(&floors[hook as usize], |s| s.empty),
            })
            .into(),
        parts: Part::ALL
            .into_iter()
            .zip(&parts)
            .map(|(part, samples)| PartLine {
                part: part.name(),
                above_empty: summary(samples, |s| s.total - s.empty),
            })
            .collect(),
        cases: cases
            .iter()
            .zip(&samples)
            .map(|(case, samples)| Line {
                program: case.program().name(),
                family: if case.v6 { "IPv6" } else { "IPv4" },
                packet: case.kind.name(),
                flows: case.flows.name(),
                above_empty: summary(samples, |s| s.total - s.empty),
                empty: summary(samples, |s| s.empty),
                aim: case.aim(),
                case: *case,
            })
            .collect(),
        programs: Program::ALL.iter().map(|&p| stage.size(p)).collect::<Result<_>>()?,
    })
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        vec![self.floor_table(), self.part_table(), self.case_table(), self.size_table()]
    }

    fn floor_table(&self) -> Table {
        let mut table = Table::new(
            "Floor: ns per run of a program that does nothing",
            &["hook", "BPF_PROG_TEST_RUN alone", "driven"],
        );
        for floor in &self.floors {
            table.row([floor.hook.to_owned(), floor.empty.ns(), floor.driven.ns()]);
        }
        table
    }

    fn part_table(&self) -> Table {
        let title = "Parts of a packet's way at TC, each by itself: ns above the empty program";
        let mut table = Table::new(title, &["part", "ns"]);
        for line in &self.parts {
            table.row([line.part.to_owned(), line.above_empty.ns()]);
        }
        table
    }

    fn case_table(&self) -> Table {
        let title = format!(
            "ns per packet above the empty program: median of {} rounds (first to third quartile)",
            self.rounds
        );
        let header =
            ["packet", "flows", "TC IPv4", "TC IPv6", "XDP IPv4", "XDP IPv6", "aim: at most"];
        let mut table = Table::new(&title, &header);
        let mut rows: BTreeMap<_, [String; 7]> = BTreeMap::new();
        for line in &self.cases {
            let case = &line.case;
            let row = rows.entry((case.kind, case.flows)).or_default();
            row[0] = line.packet.to_owned();
            row[1] = line.flows.to_owned();
            row[2 + 2 * case.hook as usize + usize::from(case.v6)] = line.above_empty.ns();
            row[6] = line.aim.map_or_else(String::new, |aim| format!("{aim:.0}"));
        }
        rows.into_values().for_each(|row| table.row(row));
        table
    }

    fn size_table(&self) -> Table {
        let header = ["program", "verified instructions", "bytes of BPF", "bytes of machine code"];
        let mut table = Table::new("Programs", &header);
        let number = |n: Option<u32>| n.map_or_else(|| "unknown".to_owned(), |n| n.to_string());
        for size in &self.programs {
            table.row([
                size.program.to_owned(),
                number(size.verified_instructions),
                number(size.translated_bytes),
                size.machine_code_bytes.to_string(),
            ]);
        }
        table
    }
}

/// Caches, and the parts of maps that are of a CPU, stay those of one.
pub fn stay_on_this_cpu() -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu()?)?;
    sched_setaffinity(Pid::from_raw(0), &cpus).context("cannot stay on one CPU")
}
