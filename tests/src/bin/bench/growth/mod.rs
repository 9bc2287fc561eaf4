//! How the cost of a packet grows: with splits, subsets, endpoints and live flows.

mod axis;
mod packets;
mod subject;

use anyhow::Result;
use serde::Serialize;

use self::axis::Axis;
use self::packets::Growth;
use crate::plot::{self, Figure};
use crate::report::Table;

/// What a run found.
#[derive(Serialize)]
pub struct Report {
    axes: Vec<Growth>,
}

/// Measures everything in each of the rounds.
pub fn run(rounds: usize) -> Result<Report> {
    let measure = |axis: Axis| {
        eprintln!("growing: {}", axis.name());
        packets::measure(axis, rounds)
    };
    Ok(Report { axes: Axis::ALL.into_iter().map(measure).collect::<Result<_>>()? })
}

impl Report {
    /// As tables for people.
    pub fn tables(&self) -> Vec<Table> {
        self.axes.iter().map(Growth::table).collect()
    }

    /// As diagrams.
    pub fn figures(&self) -> Result<Vec<Figure>> {
        let panels: Vec<_> = self.axes.iter().map(Growth::plot).collect();
        Ok(vec![Figure {
            name: "growth",
            caption: "Nanoseconds per packet by splits, subsets, endpoints and live flows".into(),
            svg: plot::lines(&panels)?,
        }])
    }
}
