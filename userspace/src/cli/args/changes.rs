//! Commands that change something, or show what was changed.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{ClusterArgs, Files, Output, amount, name, namespace, objects, weight};
use crate::cli::amounts::Amount;
use crate::cli::completion::{Known, known};
use crate::desired;
use crate::model::Key;
use crate::resource::DEFAULT_NAMESPACE;

/// `weir apply`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ApplyArgs {
    /// What to apply.
    #[command(flatten)]
    pub files: Files,
    /// Only show what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// How to show what happened.
    #[command(flatten)]
    pub output: Output,
}

/// `weir diff`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DiffArgs {
    /// What would be applied.
    #[command(flatten)]
    pub files: Files,
    /// How to show what would happen.
    #[command(flatten)]
    pub output: Output,
}

/// `weir delete`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DeleteArgs {
    /// What to delete: KIND/NAME, KIND/NAMESPACE/NAME, or a kind and names.
    #[arg(value_name = "KIND/NAME", required_unless_present = "files", conflicts_with = "files")]
    pub objects: Vec<String>,
    /// The namespace of objects that are named without one.
    #[arg(short = 'n', long, default_value = DEFAULT_NAMESPACE, value_parser = namespace)]
    pub namespace: String,
    /// Delete what the documents of these are about: files, directories, or -
    /// for standard input.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// Only show what would happen.
    #[arg(long)]
    pub dry_run: bool,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// How to show what happened.
    #[command(flatten)]
    pub output: Output,
}

impl DeleteArgs {
    /// The objects that are named, or which of the words is none.
    pub fn keys(&self) -> Result<Vec<Key>, String> {
        objects(&self.objects, &self.namespace)
    }
}

/// What must be so for a change to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct Expected {
    /// Reject unless these weights are in force, such as v1=90,v3=10.
    #[arg(long, value_name = "SUBSET=WEIGHT,...", value_delimiter = ',', value_parser = weight)]
    pub expect: Vec<(String, u32)>,
    /// Reject unless this is the version of the split's last change; in a cluster, the
    /// generation of the object that divides it.
    #[arg(long, value_name = "VERSION")]
    pub expect_version: Option<u64>,
}

/// `weir weights`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WeightsArgs {
    /// The split.
    #[arg(value_parser = shifted, add = known(Known::Splits))]
    pub name: String,
    /// Subsets and their weights, such as v1=80 v2=20, while others keep theirs; or
    /// their parts of new connections, such as v3=10%, while others share the rest
    /// in the proportions that they have.
    #[arg(
        required_unless_present = "reset",
        conflicts_with = "reset",
        value_name = "SUBSET=WEIGHT|PERCENT%",
        value_delimiter = ',',
        value_parser = amount,
        add = known(Known::Weights)
    )]
    pub weights: Vec<(String, Amount)>,
    /// Go back to the weights of the split's definition.
    #[arg(long)]
    pub reset: bool,
    /// Also of a split of the cluster, on this node alone: it differs from the others then.
    #[arg(long, conflicts_with_all = ["cluster", "kubeconfig", "context"])]
    pub this_node: bool,
    /// Only show what would happen.
    #[arg(long, conflicts_with = "reset")]
    pub dry_run: bool,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// What must be so.
    #[command(flatten)]
    pub expected: Expected,
    /// Whom to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to show the split.
    #[command(flatten)]
    pub output: Output,
}

/// `weir drain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DrainArgs {
    /// The split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub name: String,
    /// The endpoint: ADDRESS:PORT, or ADDRESS where that is enough.
    #[arg(value_name = "ENDPOINT", add = known(Known::Endpoints))]
    pub endpoint: String,
    /// Also if a subset with a weight has no endpoint then, and its share of new
    /// connections is rejected.
    #[arg(long)]
    pub force: bool,
    /// Also of a split of the cluster, on this node alone: it differs from the others then.
    #[arg(long)]
    pub this_node: bool,
    /// Wait until the endpoint has no live flow any more, or its drain time is over.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait at most, such as 30s or 2m. The endpoint drains on after that.
    #[arg(long, value_name = "DURATION", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Option<Duration>,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// How to show the split.
    #[command(flatten)]
    pub output: Output,
}

/// `weir undrain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UndrainArgs {
    /// The split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub name: String,
    /// The endpoint: ADDRESS:PORT, or ADDRESS where that is enough.
    #[arg(value_name = "ENDPOINT", add = known(Known::Drained))]
    pub endpoint: String,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// How to show the split.
    #[command(flatten)]
    pub output: Output,
}

/// `weir history`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HistoryArgs {
    /// The split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub name: String,
    /// Whom to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to show its changes.
    #[command(flatten)]
    pub output: Output,
}

/// `weir rollback`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct RollbackArgs {
    /// The split.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub name: String,
    /// The version of the change to whose weights to return, as `weir history`
    /// shows it; without it, to the weights before the last change.
    #[arg(long, value_name = "VERSION")]
    pub to: Option<u64>,
    /// Also of a split of the cluster, on this node alone: it differs from the others then.
    #[arg(long, conflicts_with_all = ["cluster", "kubeconfig", "context"])]
    pub this_node: bool,
    /// Why, in a line, for `weir history` and the log.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
    /// What must be so.
    #[command(flatten)]
    pub expected: Expected,
    /// Whom to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to show the split.
    #[command(flatten)]
    pub output: Output,
}

/// The split whose weights are given, which comes before them.
fn shifted(text: &str) -> Result<String, String> {
    if text.contains('=') {
        return Err(format!("expected a split before the weights: weir weights SPLIT {text}"));
    }
    name(text)
}
