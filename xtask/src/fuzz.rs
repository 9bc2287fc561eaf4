//! `cargo xtask fuzz`: coverage-guided fuzzing of the shared code (libFuzzer over fuzz/), and
//! generated frames over the loaded programs (weir-tests, bin `fuzz`).

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use xtask::toolchain;

use crate::{cargo, is_root, root, run, setup};

/// The fuzz targets: fuzz/src/bin.
const TARGETS: [&str; 4] = ["parse", "rewrite", "icmp", "fragment"];

/// Coverage as libFuzzer wants it: what cargo-fuzz sets, but for the sanitizers, which no stable
/// compiler has.
const COVERAGE: [&str; 5] = [
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
];

/// How much is to be done.
#[derive(Args)]
pub struct Options {
    /// Inputs of all coverage-guided targets together.
    #[arg(long, default_value_t = 60_000_000)]
    inputs: u64,
    /// Frames over the loaded programs.
    #[arg(long, default_value_t = 40_000_000)]
    frames: u64,
    /// The first history of frames, and the seed of libFuzzer; chosen anew unless said.
    #[arg(long)]
    seed: Option<u32>,
}

/// Fuzzes all there is, two processes at a time.
pub fn fuzz(options: &Options) -> Result<()> {
    if !is_root()? {
        bail!("`cargo xtask fuzz` loads eBPF programs: run it as root");
    }
    setup::ebpf()?;
    setup::fuzzing()?;
    let seed = options.seed.unwrap_or_else(std::process::id);
    cargo(["build", "--release", "-p", "weir-tests", "--bin", "fuzz"])?;
    let frames = root().join("target/release/fuzz");
    let directory = root().join("target/fuzz");
    run(Command::new(&frames).arg("--seeds").arg(directory.join("corpus")))?;
    let programs = build(&directory)?;
    if options.inputs > 0 {
        let inputs = options.inputs.div_ceil(TARGETS.len() as u64);
        for pair in TARGETS.chunks(2) {
            let results: Vec<Result<()>> = thread::scope(|scope| {
                let target = |&name| {
                    let (programs, directory) = (&programs, &directory);
                    scope.spawn(move || target(name, programs, directory, inputs, seed))
                };
                let running: Vec<_> = pair.iter().map(target).collect();
                let ended = running.into_iter().map(|thread| thread.join());
                ended.map(|result| result.unwrap_or_else(|_| Err(anyhow!("a panic")))).collect()
            });
            results.into_iter().collect::<Result<()>>()?;
        }
    }
    if options.frames == 0 {
        return Ok(());
    }
    let mut command = Command::new(frames);
    command.args(["--frames", &options.frames.to_string(), "--seed", &seed.to_string()]);
    run(&mut command)
}

/// Builds the targets, with coverage; where they are.
fn build(directory: &Path) -> Result<PathBuf> {
    let host = toolchain::output(Command::new("rustc").args(["--print", "host-tuple"]))?;
    let mut command = Command::new("cargo");
    // With a target, so that build scripts are built without coverage.
    command.args(["build", "--release", "--locked", "--target", &host, "--target-dir"]);
    command.arg(directory).current_dir(root().join("fuzz"));
    // Sections of coverage that belong together must not be split.
    command.env("CARGO_INCREMENTAL", "0");
    run(command.env("CARGO_ENCODED_RUSTFLAGS", COVERAGE.join("\x1f")))?;
    Ok(directory.join(host).join("release"))
}

/// Runs a target over its corpus, which grows; says how it went.
fn target(name: &str, programs: &Path, directory: &Path, inputs: u64, seed: u32) -> Result<()> {
    let (corpus, log) =
        (directory.join("corpus").join(name), directory.join(format!("{name}.log")));
    let mut command = Command::new(programs.join(name));
    command.arg(&corpus).arg(format!("-runs={inputs}")).arg(format!("-seed={seed}"));
    command.args(["-max_len=512", "-print_final_stats=1"]);
    command.arg(format!("-artifact_prefix={}/{name}-", directory.display()));
    let file = std::fs::File::create(&log).with_context(|| format!("{}", log.display()))?;
    let status = command.stdout(Stdio::null()).stderr(file).status();
    let status = status.with_context(|| format!("cannot run {command:?}"))?;
    let text = std::fs::read(&log).with_context(|| format!("{}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    if !status.success() {
        let end: Vec<_> = text.lines().rev().take(60).collect();
        let end: Vec<_> = end.into_iter().rev().collect();
        bail!("{name}: {status}; all of it is in {}\n{}", log.display(), end.join("\n"));
    }
    let figures = figures(&text).with_context(|| format!("no figures in {}", log.display()))?;
    println!("{name}: {figures}; differences between the shared code and the model: 0");
    Ok(())
}

/// What libFuzzer says at the end: inputs, coverage, corpus.
fn figures(log: &str) -> Option<String> {
    let after = |line: &str, word: &str| {
        Some(line.split_once(word)?.1.split_whitespace().next()?.trim_end_matches(',').to_owned())
    };
    let done = log.lines().rev().find(|line| line.contains("DONE"))?;
    let inputs = log.lines().find_map(|line| after(line, "number_of_executed_units: "))?;
    let edges = log.lines().find(|line| line.contains("inline 8-bit counters"))?;
    let edges = edges.split_once('(')?.1.split_whitespace().next()?.to_owned();
    let (covered, corpus) = (after(done, "cov: ")?, after(done, "corp: ")?);
    let seconds = after(log.lines().find(|line| line.starts_with("Done "))?, "runs in ")?;
    Some(format!(
        "{inputs} inputs in {seconds} s, {covered} of {edges} edges covered (those of the standard \
         library included), corpus {corpus}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_found_in_what_libfuzzer_says() {
        let log = "INFO: Loaded 1 modules   (3021 inline 8-bit counters): 3021 [0x1, 0x2),\n\
                   #200000\tDONE   cov: 131 ft: 154 corp: 66/3396b lim: 1600 exec/s: 2 rss: 27Mb\n\
                   Done 200000 runs in 7 second(s)\n\
                   stat::number_of_executed_units: 200000\n";
        let found = figures(log).unwrap();
        assert!(found.starts_with("200000 inputs in 7 s, 131 of 3021 edges covered"), "{found}");
        assert!(found.ends_with("corpus 66/3396b"), "{found}");
        assert_eq!(figures("Done 3 runs"), None);
    }

    #[test]
    fn every_target_is_run() {
        let mut found: Vec<_> = std::fs::read_dir(root().join("fuzz/src/bin"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        found.sort();
        let mut listed = TARGETS.to_vec();
        listed.sort_unstable();
        assert_eq!(found, listed);
    }
}
