//! Generated frames over the loaded programs: TC, XDP and the [`model`](crate::model) see the
//! same, and must say the same.
//!
//! * [`world`]: the splits, and how they change;
//! * [`talk`]: clients and endpoints that talk, which makes frames;
//! * [`damage`]: frames that are damaged;
//! * [`node`]: the loaded programs and maps;
//! * [`filter`]: what its filter of addresses cannot tell;
//! * [`mod@history`]: what happens to a node, and what must come of it;
//! * [`shrink`]: the least that still differs;
//! * [`seeds`]: what fuzzing of the shared code alone begins with.

pub mod damage;
pub mod filter;
pub mod history;
pub mod node;
pub mod seeds;
pub mod shrink;
pub mod talk;
pub mod world;

use std::fmt::{self, Write as _};
use std::ops::AddAssign;

use anyhow::{Result, bail};

use crate::model::Outcome;
use history::{Bench, Step, hex};
use talk::Talks;

/// Frames of a history.
const LENGTH: usize = 400;

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Frames that were compared.
    pub frames: u64,
    /// Of these, changed ones.
    pub changed: u64,
    /// Answered ones.
    pub answered: u64,
    /// Dropped ones.
    pub dropped: u64,
    /// Of all, damaged ones.
    pub damaged: u64,
    /// Frames that were not sent, since the model leaves open what they do.
    pub open: u64,
    /// Changes of splits.
    pub changes: u64,
    /// Histories.
    pub histories: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.frames += other.frames;
        self.changed += other.changed;
        self.answered += other.answered;
        self.dropped += other.dropped;
        self.damaged += other.damaged;
        self.open += other.open;
        self.changes += other.changes;
        self.histories += other.histories;
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, changed, answered, dropped, damaged, open, changes, histories } = self;
        write!(
            f,
            "{frames} frames in {histories} histories, {damaged} of them damaged: {changed} \
             changed, {answered} answered, {dropped} dropped, the others untouched; \
             {changes} changes of splits; {open} frames left out that the \
             model leaves open"
        )
    }
}

/// Nodes that pass what is for no split, and nodes that answer it.
pub struct Benches {
    passing: Bench,
    answering: Bench,
}

impl Benches {
    /// Loads all; needs root.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn new() -> Result<Self> {
        Ok(Self { passing: Bench::new(false)?, answering: Bench::new(true)? })
    }

    /// Those of the history that follows from a number.
    fn of(&mut self, seed: u64) -> &mut Bench {
        if seed % 4 == 3 { &mut self.answering } else { &mut self.passing }
    }
}

/// Runs the history that follows from a number.
///
/// # Errors
///
/// A difference, shrunk; or as the kernel's.
pub fn history(benches: &mut Benches, seed: u64, figures: &mut Figures) -> Result<()> {
    let bench = benches.of(seed);
    bench.reset(&vec![0; bench.services.len()])?;
    let mut talks = Talks::new(bench, seed);
    let shapes = bench.shapes.clone();
    let mut steps = Vec::with_capacity(LENGTH);
    for _ in 0..LENGTH {
        let step = talks.next(bench);
        let skipped = bench.skipped;
        let difference = bench.take(&step)?;
        if bench.skipped > skipped {
            figures.open += 1;
        } else if let Step::Frame(sent) = &step {
            figures.frames += 1;
            figures.changed += u64::from(bench.out != sent.frame);
            figures.damaged += u64::from(sent.whole != sent.frame);
            figures.answered += u64::from(bench.outcome == Outcome::Answer);
            figures.dropped += u64::from(bench.outcome == Outcome::Drop);
            talks.learn(sent, &bench.out);
        } else {
            figures.changes += 1;
        }
        steps.push(step);
        if let Some(difference) = difference {
            bail!("{}", case(bench, seed, &shapes, &steps, &difference.to_string()));
        }
    }
    if let Some(difference) = bench.check_counts()? {
        bail!("{}", case(bench, seed, &shapes, &steps, &difference.to_string()));
    }
    figures.histories += 1;
    Ok(())
}

/// The case, as somebody would want it who has to find out why.
fn case(bench: &mut Bench, seed: u64, shapes: &[usize], steps: &[Step], first: &str) -> String {
    let mut text = format!("seed {seed:#x}: a difference after {} steps\n", steps.len());
    let (steps, difference) = match shrink::shrink(bench, shapes, steps) {
        Ok((steps, difference)) => (steps, difference.to_string()),
        Err(error) => {
            _ = writeln!(text, "cannot be made smaller: {error:#}");
            (steps.to_vec(), first.to_owned())
        }
    };
    for step in &steps {
        _ = match step {
            Step::Frame(sent) => {
                let xdp = if sent.virtual_device { ", virtual device" } else { "" };
                let seen = crate::model::sight::look(&sent.frame);
                writeln!(text, "{:?}{xdp} {}\n    {seen:?}", sent.side, hex(&sent.frame))
            }
            Step::Shape(service, shape) => {
                writeln!(text, "{:?}", bench.services[*service].split(*shape))
            }
            Step::Gone(service, endpoint, gone) => {
                let address = bench.services[*service].endpoints[*endpoint];
                writeln!(text, "endpoint {address} of service {service}, gone: {gone}")
            }
            Step::Foreign(service, client) => {
                writeln!(text, "{client} to service {service} is of before")
            }
        };
    }
    text + &difference
}
