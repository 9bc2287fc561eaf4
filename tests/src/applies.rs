//! What the program `applier` writes to a state directory, and whether it is there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use weir::desired::DesiredState;
use weir::store::{Notice, Store};

/// The size from which the journal is rewritten, in bytes.
pub const WORTH_COMPACTING: u64 = 256 << 10;

/// Some pages each, so that a write can end in the middle.
const ENDPOINTS: u8 = 200;

/// The documents of the nth apply.
#[must_use]
pub fn documents(n: u32) -> String {
    let mut text = String::new();
    for split in 1..=3 {
        let endpoints: Vec<String> =
            (1..=ENDPOINTS).map(|e| format!("192.0.2.{e}:{split}")).collect();
        // Infallible: a String takes all.
        let _ = write!(
            text,
            "---\napiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {{name: s{split}}}\n\
             spec:\n  address: 198.51.100.{split}\n  port: 80\n  subsets:\n  \
             - {{name: v1, weight: {n}, endpoints: ['{}']}}\n",
            endpoints.join("', '")
        );
    }
    text
}

/// What a state directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The last apply.
    pub last: u32,
    /// Whether the beginning of another was cut off.
    pub torn: bool,
}

/// Opens a state directory in which `acknowledged` is the last apply that was
/// acknowledged, and makes sure that it holds that one or the next, whole.
///
/// # Errors
///
/// Says what is there instead.
pub fn check(directory: &Path, acknowledged: u32) -> Result<Found> {
    let (store, notices) = Store::open(directory)?;
    let damaged: Vec<&Notice> =
        notices.iter().filter(|notice| matches!(notice, Notice::Damaged { .. })).collect();
    ensure!(damaged.is_empty(), "a crash is no damage: {damaged:?}");
    let desired_state = DesiredState::start(store.persisted(), []);
    ensure!(
        desired_state.rejected().len() == 0,
        "{:?}",
        desired_state.rejected().collect::<Vec<_>>()
    );
    let splits = desired_state.split_set().splits();
    let weights: BTreeSet<(u32, usize)> =
        splits.map(|s| (s.subsets()[0].weight, s.subsets()[0].endpoints.len())).collect();
    let count = desired_state.split_set().splits().len();
    let last = match (count, weights.first()) {
        (0, None) => 0,
        (3, Some(&(weight, endpoints))) if weights.len() == 1 => {
            ensure!(endpoints == usize::from(ENDPOINTS), "{endpoints} endpoints");
            weight
        }
        _ => anyhow::bail!("{count} splits of weights and endpoints {weights:?}: an apply is torn"),
    };
    ensure!(
        last == acknowledged || last == acknowledged + 1,
        "apply {last} is there, but {acknowledged} was acknowledged"
    );
    for name in ["s1", "s2", "s3"] {
        let change = store.persisted().changes(name).next_back();
        let weight = change.and_then(|change| change.to.get("v1")).unwrap_or(0);
        ensure!(weight == last, "the history of {name} ends with {weight}, its weight is {last}");
    }
    let torn = notices.iter().any(|notice| matches!(notice, Notice::Torn { .. }));
    Ok(Found { last, torn })
}

/// The last of the numbers that `applier` printed; `before` if it printed none.
///
/// # Errors
///
/// Fails if they do not count up by one.
pub fn last_acknowledged(before: u32, printed: &str) -> Result<u32> {
    let mut last = before;
    for line in printed.lines() {
        let n: u32 = line.parse().with_context(|| format!("\"{line}\" is no number"))?;
        ensure!(last == before || n == last + 1, "{n} after {last}");
        last = n;
    }
    Ok(last)
}
