//! `weir watch`: what happens to the splits, a line for each subset and time.

use std::io::Write;

use serde::Serialize;

use super::columns::{Align, Columns};
use super::seeing::{LineFormat, WatchArgs};
use crate::api::Client;
use crate::rates::{COLUMNS, Sample, Sampler, SubsetRates, cells};

/// Cells before those of a subset.
const BEFORE: usize = 2;
const ALL: usize = BEFORE + COLUMNS.len();

/// A line of JSON.
#[derive(Serialize)]
struct Line<'a> {
    time: &'a str,
    split: &'a str,
    version: u64,
    #[serde(flatten)]
    subset: &'a SubsetRates,
}

/// Writes a sample in each interval, until there were enough.
pub(super) async fn show(
    client: &Client,
    args: WatchArgs,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let mut sampler = Sampler::new(client.clone(), args.split);
    let mut ticks = tokio::time::interval(args.interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Without a sample before it, it has no rates.
    ticks.tick().await;
    sampler.sample().await?;
    let mut absent = false;
    let mut table = Columns::new(columns());
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        ticks.tick().await;
        let sample = match sampler.sample().await {
            Ok(sample) => sample,
            // Of an agent that is restarted, there will be more to see.
            Err(error) if error.is_absence() => {
                if !std::mem::replace(&mut absent, true) {
                    eprintln!("weir: {error}; waiting for it");
                }
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        absent = false;
        let text = match args.output.format {
            LineFormat::Table => table.lines(&rows(&sample)),
            LineFormat::Json => json(&sample)?,
        };
        out.write_all(text.as_bytes())?;
        out.flush()?;
        left -= 1;
    }
    Ok(())
}

fn columns() -> [(&'static str, Align); ALL] {
    std::array::from_fn(|at| match at.checked_sub(BEFORE) {
        None => (["TIME", "SPLIT"][at], Align::Left),
        Some(at) => {
            let (title, number) = COLUMNS[at];
            (title, if number { Align::Right } else { Align::Left })
        }
    })
}

fn rows(sample: &Sample) -> Vec<[String; ALL]> {
    let subsets =
        sample.splits.iter().flat_map(|s| s.subsets.iter().map(move |subset| (s, subset)));
    let row = |(split, subset): (&crate::rates::SplitRates, &SubsetRates)| {
        let mut cells = cells(subset).into_iter();
        std::array::from_fn(|at| match at {
            0 => sample.time.clone(),
            1 => split.name.clone(),
            _ => cells.next().unwrap_or_default(),
        })
    };
    subsets.map(row).collect()
}

fn json(sample: &Sample) -> anyhow::Result<String> {
    let mut text = String::new();
    for split in &sample.splits {
        for subset in &split.subsets {
            let (time, version) = (sample.time.as_str(), split.version);
            let line = Line { time, split: &split.name, version, subset };
            text.push_str(&serde_json::to_string(&line)?);
            text.push('\n');
        }
    }
    Ok(text)
}
