//! The columns of the view, and which of them there is room for. What says that something fails
//! is never left out.

use crate::api::types::TimeView;
use crate::rates::{Failing, SubsetRates, percent, short, times};

/// A column.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Its title.
    pub title: &'static str,
    /// Whether it is at the right: a number.
    pub right: bool,
    /// In which order columns go where there is no room, the lowest first; None never.
    goes: Option<u8>,
    /// Whether a subset needs it: it is left out if none does.
    shown: fn(&SubsetRates) -> bool,
    /// What it says, for `?`.
    pub help: &'static str,
    /// Its text.
    text: fn(&SubsetRates) -> String,
    /// Its colour.
    pub mark: fn(&SubsetRates) -> Mark,
}

/// What a cell says beside its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    /// Nothing.
    Plain,
    /// It is as it should be.
    Good,
    /// It may not be.
    Doubtful,
    /// Something fails.
    Bad,
}

const fn column(
    title: &'static str,
    goes: Option<u8>,
    help: &'static str,
    text: fn(&SubsetRates) -> String,
) -> Column {
    Column { title, right: true, goes, shown: |_| true, help, text, mark: |_| Mark::Plain }
}

/// All columns, in order.
pub const COLUMNS: [Column; 16] = [
    Column {
        right: false,
        ..column("SUBSET", None, "the version", |subset| subset.subset.clone())
    },
    column("WEIGHT", Some(3), "its weight in force", |subset| subset.weight.to_string()),
    column("WANTED", None, "the share of new flows that its weight gives", |subset| {
        percent(subset.wanted_share)
    }),
    Column {
        mark: |subset| match subset.is_as_wanted() {
            Some(true) => Mark::Good,
            Some(false) => Mark::Doubtful,
            None => Mark::Plain,
        },
        ..column("OBSERVED", None, "the share that it got since the last change", |subset| {
            subset.observed_share.map_or_else(dash, percent)
        })
    },
    column("95%", Some(5), "the shares that go with what was observed, at 95 %", |subset| {
        match subset.interval {
            Some([low, high]) => format!("{:.1}-{:.1}", low * 100.0, high * 100.0),
            None => dash(),
        }
    }),
    column("NEW/S", Some(7), "new flows in each second", |subset| {
        subset.rates.map_or_else(dash, |rates| short(rates.new_flows_per_second))
    }),
    column("OPEN", Some(6), "live flows at the last count", |subset| {
        subset.open_flows.map_or_else(dash, |flows| short(flows as f64))
    }),
    Column {
        mark: |subset| failing(subset.failures.refused),
        ..column(
            "REFUSED",
            None,
            "refused by the endpoint, of new flows since the change",
            |subset| share(subset.failures.refused),
        )
    },
    Column {
        mark: |subset| failing(subset.failures.unanswered),
        ..column("NO ANS", None, "neither completed nor refused, of these", |subset| {
            share(subset.failures.unanswered)
        })
    },
    Column {
        mark: |subset| failing(subset.failures.reset),
        ..column("RESET", None, "reset by the endpoint after the handshake, of these", |subset| {
            share(subset.failures.reset)
        })
    },
    Column {
        shown: |subset| subset.failures.rejected > 0,
        mark: |subset| if subset.failures.rejected > 0 { Mark::Bad } else { Mark::Plain },
        ..column(
            "REJECTED",
            None,
            "packets rejected for want of an endpoint since then, if any were",
            |subset| short(subset.failures.rejected as f64),
        )
    },
    Column {
        shown: |subset| subset.handshake.is_some(),
        mark: |subset| slow(subset.handshake),
        ..column(
            "SYN P50/99",
            Some(8),
            "SYN to SYN-ACK since the change: half took at most so long; 99 %",
            |subset| took(subset.handshake),
        )
    },
    Column {
        shown: |subset| subset.reply.is_some(),
        mark: |subset| slow(subset.reply),
        ..column(
            "REPLY P50/99",
            Some(4),
            "from what a client asked to the first data that it got, likewise",
            |subset| took(subset.reply),
        )
    },
    column("PKT/S", Some(1), "packets of both directions in each second", |subset| {
        subset.rates.map_or_else(dash, |rates| short(rates.packets_per_second))
    }),
    column("BIT/S", Some(2), "bits of these, link layer included", |subset| {
        subset.rates.map_or_else(dash, |rates| short(rates.bits_per_second))
    }),
    column("FLOWS", Some(4), "new flows since the last change", |subset| {
        short(subset.new_flows_since_change as f64)
    }),
];

/// Between two columns, where there is room for all, and else.
const GAPS: [usize; 2] = [2, 1];
/// Before the first one: subsets are below the name of their split.
const INDENT: usize = 2;

fn dash() -> String {
    "-".to_owned()
}

fn share(failing: Failing) -> String {
    let mark = if failing.is_worse { "!" } else { "" };
    failing.share.map_or_else(dash, |share| format!("{}{mark}", percent(share)))
}

fn took(time: Option<TimeView>) -> String {
    time.map_or_else(dash, |time| format!("{}{}", times(&time), if time.slower { "!" } else { "" }))
}

fn slow(time: Option<TimeView>) -> Mark {
    if time.is_some_and(|time| time.slower) { Mark::Bad } else { Mark::Plain }
}

fn failing(failing: Failing) -> Mark {
    match failing {
        Failing { is_worse: true, .. } => Mark::Bad,
        Failing { share: Some(share), .. } if share > 0.0 => Mark::Doubtful,
        Failing { .. } => Mark::Plain,
    }
}

/// The columns for which there is room, and how wide each is with what is between it and the one
/// before.
pub fn fitting(subsets: &[&SubsetRates], room: usize) -> Vec<(Column, usize)> {
    let wide = |column: &Column| {
        let cells = subsets.iter().map(|subset| (column.text)(subset).chars().count());
        cells.max().unwrap_or(0).max(column.title.len())
    };
    let needed = COLUMNS.iter().filter(|column| subsets.iter().any(|one| (column.shown)(one)));
    let mut columns: Vec<(Column, usize)> = needed.map(|column| (*column, wide(column))).collect();
    // The first column has its own.
    let before = |at: usize, gap: usize| if at == 0 { INDENT } else { gap };
    let width = |columns: &[(Column, usize)], gap: usize| -> usize {
        columns.iter().enumerate().map(|(at, (_, width))| before(at, gap) + width).sum()
    };
    let [wide_gap, gap] = GAPS;
    while width(&columns, gap) > room {
        let first = columns.iter().enumerate().filter_map(|(at, (c, _))| Some((c.goes?, at))).min();
        let Some((_, at)) = first else { break };
        columns.remove(at);
    }
    let gap = if width(&columns, wide_gap) > room { gap } else { wide_gap };
    let placed = columns.into_iter().enumerate();
    placed.map(|(at, (column, width))| (column, before(at, gap) + width)).collect()
}

impl Column {
    /// A cell, in its width.
    pub fn cell(&self, subset: &SubsetRates, width: usize) -> String {
        self.place(&(self.text)(subset), width)
    }

    /// The title, likewise.
    pub fn head(&self, width: usize) -> String {
        self.place(self.title, width)
    }

    fn place(&self, text: &str, width: usize) -> String {
        if self.right {
            return format!("{text:>width$}");
        }
        let width = width - INDENT;
        format!("{:INDENT$}{text:<width$}", "")
    }
}
