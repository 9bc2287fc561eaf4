//! What can be typed to look at what happens.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, ValueEnum};

use super::args::{Output, name, subset_name};
use super::completion::{Known, known};
use crate::api::types::{FlowQuery, FlowState, Party};
use crate::config::DEFAULT_FILE;
use crate::doctor::CHECKS;

/// How to show what comes bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LineFormat {
    /// Aligned columns.
    Table,
    /// A line of JSON for each, with everything.
    Json,
}

/// How to show what comes bit by bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct LineOutput {
    /// How to show it.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub format: LineFormat,
}

/// `weir flows`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct FlowsArgs {
    /// Only flows of this split.
    #[arg(long, value_parser = name, add = known(Known::Splits))]
    pub split: Option<String>,
    /// Only flows of subsets of this name.
    #[arg(long, value_parser = subset_name, add = known(Known::Subsets))]
    pub subset: Option<String>,
    /// Only flows to this endpoint.
    #[arg(long, value_name = "ADDRESS[:PORT]", add = known(Known::Endpoints))]
    pub endpoint: Option<Party>,
    /// Only flows from this client.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    pub client: Option<Party>,
    /// Only flows in this state: pending, established, closing, closed, reset
    /// or expired.
    #[arg(long)]
    pub state: Option<FlowState>,
    /// Show so many flows at most.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// How to show them.
    #[command(flatten)]
    pub output: LineOutput,
}

/// `weir watch`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WatchArgs {
    /// Only this split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub split: Option<String>,
    /// The time between two samples, such as 500ms or 10s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// End after so many samples.
    #[arg(long, value_name = "N")]
    pub count: Option<u64>,
    /// How to show them.
    #[command(flatten)]
    pub output: LineOutput,
}

/// `weir top`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TopArgs {
    /// Only this split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub split: Option<String>,
    /// The time between two samples, such as 500ms or 10s.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
}

/// `weir doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DoctorArgs {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Leave out a check, by its name.
    #[arg(long, value_name = "CHECK", value_parser = PossibleValuesParser::new(CHECKS))]
    pub ignore: Vec<String>,
    /// How to show what was found.
    #[command(flatten)]
    pub output: Output,
}

/// The shortest time between two samples: counters are read by the agent, on
/// the node that has other things to do.
const SHORTEST: Duration = Duration::from_millis(100);

fn interval(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= SHORTEST => Ok(time),
        Ok(_) => Err(format!("expected {} or more", humantime::format_duration(SHORTEST))),
        Err(error) => Err(format!("{error}: expected a time such as 500ms or 10s")),
    }
}

impl FlowsArgs {
    /// What to ask the agent for.
    pub(super) fn query(&self) -> FlowQuery {
        FlowQuery {
            split: self.split.clone(),
            subset: self.subset.clone(),
            endpoint: self.endpoint,
            client: self.client,
            state: self.state,
            // One more, to know whether there are more.
            limit: self.limit.map(|limit| limit.saturating_add(1)),
        }
    }
}
