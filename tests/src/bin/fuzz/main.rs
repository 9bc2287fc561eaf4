//! Generated frames over the loaded programs, as many as are asked for, by as many workers: each
//! has nodes and a model of its own. `cargo xtask fuzz` runs it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use clap::Parser;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use weir_tests::fuzz::{Benches, Figures, history, seeds};

#[derive(Parser)]
struct Options {
    /// Frames to compare.
    #[arg(long, default_value_t = 1_000_000)]
    frames: u64,
    /// The first history; each has a number, from which all of it follows.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Workers, each on a CPU of its own.
    #[arg(long, default_value_t = 2)]
    workers: u64,
    /// Write what coverage-guided fuzzing begins with into this directory, and do no more.
    #[arg(long)]
    seeds: Option<PathBuf>,
}

/// What workers share.
#[derive(Default)]
struct Shared {
    next: AtomicU64,
    frames: AtomicU64,
    stop: AtomicBool,
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    if let Some(directory) = &options.seeds {
        return seeds::write(directory).with_context(|| format!("{}", directory.display()));
    }
    let shared = Shared { next: options.seed.into(), ..Shared::default() };
    let start = Instant::now();
    let results: Vec<Result<Figures>> = thread::scope(|scope| {
        let workers: Vec<_> = (0..options.workers)
            .map(|worker| {
                let shared = &shared;
                scope.spawn(move || {
                    let result = work(options, shared, worker as usize);
                    shared.stop.fetch_or(result.is_err(), Relaxed);
                    result
                })
            })
            .collect();
        let mut told = Instant::now();
        while workers.iter().any(|worker| !worker.is_finished()) {
            thread::sleep(Duration::from_millis(50));
            if told.elapsed() > Duration::from_secs(30) {
                told = Instant::now();
                let frames = shared.frames.load(Relaxed);
                eprintln!("{:>5} s: {frames} frames", start.elapsed().as_secs());
            }
        }
        let join = |worker: thread::ScopedJoinHandle<'_, _>| {
            worker.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
        };
        workers.into_iter().map(join).collect()
    });
    let mut all = Figures::default();
    for result in results {
        all += result?;
    }
    println!(
        "{all}; differences between TC, XDP and model: 0; {} s, first seed {}",
        start.elapsed().as_secs(),
        options.seed
    );
    Ok(())
}

fn work(options: &Options, shared: &Shared, worker: usize) -> Result<Figures> {
    let cpus = thread::available_parallelism()?.get();
    let mut cpu = CpuSet::new();
    cpu.set(worker % cpus)?;
    sched_setaffinity(Pid::from_raw(0), &cpu).context("a CPU for a worker")?;
    let mut benches = Benches::new()?;
    let mut figures = Figures::default();
    while shared.frames.load(Relaxed) < options.frames && !shared.stop.load(Relaxed) {
        let before = figures.frames;
        history(&mut benches, shared.next.fetch_add(1, Relaxed), &mut figures)?;
        shared.frames.fetch_add(figures.frames - before, Relaxed);
    }
    Ok(figures)
}
