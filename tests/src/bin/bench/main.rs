//! `cargo xtask bench`: what weir costs. Needs root.

mod changes;
mod control;
mod e2e;
mod growth;
mod machine;
mod packet;
mod plot;
mod report;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::e2e::system::Choice;
use crate::machine::Machine;
use crate::plot::Figure;
use crate::report::Table;

/// The benchmark's own eBPF programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/weir-bench-ebpf"));

#[derive(Parser)]
#[command(name = "cargo xtask bench", about = "Measure weir; all benchmarks if none is named")]
struct Arguments {
    #[command(subcommand)]
    which: Option<Which>,
    /// Write the results as JSON there [default: target/bench/packet.json and the like].
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the tables into that document, between the marks that it has for them, and diagrams
    /// into a directory of its name beside it.
    #[arg(long, global = true, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Rounds in which everything is measured once [default: 11 of packet, 21 of alone, 5 of e2e,
    /// 7 of growth, 1,000 changes of control, 100,000 of changes].
    #[arg(long, global = true, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    #[command(flatten)]
    choice: Choice,
}

#[derive(Clone, Copy, PartialEq, Eq, Subcommand)]
enum Which {
    /// Nanoseconds per packet, under BPF_PROG_TEST_RUN.
    Packet,
    /// Connections, requests and bulk data through a node between network namespaces.
    E2e,
    /// The same in one thread on one CPU, without the scheduler.
    Alone,
    /// How the cost of a packet grows with splits, subsets, endpoints and flows.
    Growth,
    /// 100,000 changes of weights under load.
    Changes,
    /// Loading and changing up to 10,000 splits, by the real agent.
    Control,
}

/// What is written as JSON.
#[derive(Default, Serialize)]
struct Results {
    machine: Machine,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet: Option<packet::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    e2e: Option<e2e::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone: Option<e2e::alone::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth: Option<growth::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changes: Option<changes::Report>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<control::Report>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let systems = arguments.choice.systems()?;
    let wanted = |which| arguments.which.is_none_or(|only| only == which);
    let rounds = |default| arguments.rounds.map_or(default, |rounds| rounds as usize);
    let machine = Machine::look()?;
    let mut results = Results { machine, ..Results::default() };
    if wanted(Which::Packet) {
        let report = packet::run(rounds(11))?;
        show(arguments, "packet", &results.machine, &report.tables(), &[])?;
        results.packet = Some(report);
    }
    if wanted(Which::E2e) {
        let report = e2e::run(rounds(5), &systems)?;
        show(arguments, "e2e", &results.machine, &report.tables(), &report.figures()?)?;
        results.e2e = Some(report);
    }
    if wanted(Which::Alone) {
        let report = e2e::alone::run(rounds(21), &systems)?;
        show(arguments, "alone", &results.machine, &report.tables(), &[])?;
        results.alone = Some(report);
    }
    if wanted(Which::Growth) {
        let report = growth::run(rounds(7))?;
        show(arguments, "growth", &results.machine, &report.tables(), &report.figures()?)?;
        results.growth = Some(report);
    }
    if wanted(Which::Changes) {
        let report = changes::run(rounds(100_000))?;
        show(arguments, "changes", &results.machine, &report.tables(), &[])?;
        results.changes = Some(report);
    }
    if wanted(Which::Control) {
        let report = control::run(rounds(1_000))?;
        show(arguments, "control", &results.machine, &report.tables(), &[])?;
        results.control = Some(report);
    }
    let name = match arguments.which {
        None => "all",
        Some(Which::Packet) => "packet",
        Some(Which::E2e) => "e2e",
        Some(Which::Alone) => "alone",
        Some(Which::Growth) => "growth",
        Some(Which::Changes) => "changes",
        Some(Which::Control) => "control",
    };
    let default = PathBuf::from(format!("target/bench/{name}.json"));
    write_json(arguments.json.as_ref().unwrap_or(&default), &results)
}

/// Prints tables, and writes them into the document that is to have them, with the diagrams.
fn show(
    arguments: &Arguments,
    section: &str,
    machine: &Machine,
    tables: &[Table],
    figures: &[Figure],
) -> Result<()> {
    let mut text = format!("{machine}\n");
    for table in tables {
        text += &format!("\n{}", table.markdown());
    }
    println!("{text}");
    let Some(path) = &arguments.markdown else { return Ok(()) };
    let directory = path.with_extension("");
    for Figure { name, caption, svg } in figures {
        let file = directory.join(name).with_extension("svg");
        write(&file, svg)?;
        let (directory, file) = (directory.file_name(), file.file_name());
        let link = [directory, file].map(|part| part.unwrap_or_default().to_string_lossy());
        text += &format!("\n![{caption}]({})\n", link.join("/"));
    }
    report::write_section(path, section, &text)
}

fn write_json(path: &Path, results: &Results) -> Result<()> {
    let mut text = serde_json::to_string_pretty(results)?;
    text.push('\n');
    write(path, &text)
}

/// Writes a file, in a directory that may not be there yet.
fn write(path: &Path, text: &str) -> Result<()> {
    let name = path.display();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("{name}"))?;
    eprintln!("written: {name}");
    Ok(())
}
