//! What can be typed.

mod changes;
mod target;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use super::amounts::{self, Amount};
use super::completion::{self, Known, known};
use super::seeing::{DoctorArgs, FlowsArgs, TopArgs, WatchArgs};
use crate::api::DEFAULT_SOCKET;
use crate::api::types::Protocol;
use crate::config::DEFAULT_FILE;
use crate::desired;
use crate::model::{Key, Name, hint, is_label};
use crate::resource::{Id, Kind};

pub use changes::{
    ApplyArgs, DeleteArgs, DiffArgs, DrainArgs, Expected, HistoryArgs, RollbackArgs, UndrainArgs,
    WeightsArgs,
};
pub use target::ClusterArgs;

/// What a plugin of kubectl has to be called.
const PLUGIN: &str = "kubectl-weir";

/// Shifts traffic between the versions of a service, in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "weir", version, propagate_version = true)]
pub struct Cli {
    /// The socket at which the agent answers.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "WEIR_SOCKET",
        default_value = DEFAULT_SOCKET,
        value_parser = OsStringValueParser::new().map(socket)
    )]
    pub socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

/// The commands: each is declared here, and carried out by [`Command::run`].
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Run the agent of this node.
    Agent(AgentArgs),
    /// Say in the status of a cluster's TrafficSplits on which nodes they are in force. Of several
    /// that run, one writes.
    Controller(ControllerArgs),
    /// Take weir out of the kernel: detach its programs, drop its maps and flows. An
    /// agent that runs is asked to, and steers nothing until it is restarted.
    Unload(UnloadArgs),
    /// Give what lives back to an earlier build, before that is installed: maps of
    /// its layout and its programs take the place of this build's, and no
    /// connection is lost. The agent must be stopped.
    Downgrade(DowngradeArgs),
    /// Check files without applying them.
    Validate(ValidateArgs),
    /// Print the traffic splits that resources become.
    Translate(TranslateArgs),
    /// Apply documents: all, or none of them.
    Apply(ApplyArgs),
    /// Delete what was applied: all of it, or none.
    Delete(DeleteArgs),
    /// Show what `weir apply` would do, and how many flows would move. Exits with 0
    /// if that is nothing, with 1 if it is something, and with 2 if it fails.
    Diff(DiffArgs),
    /// Give subsets of a split other weights, until they are reset or those in
    /// the split's definition change.
    Weights(WeightsArgs),
    /// Take an endpoint out of a split: no new flows go there, and live ones keep it for
    /// the split's drain time. It stays out, also over restarts, until `weir undrain`,
    /// or until the split's definition does not have it any more.
    Drain(DrainArgs),
    /// Put an endpoint back that `weir drain` took out.
    Undrain(UndrainArgs),
    /// Show the last changes of a split's weights, and endpoints that were taken out,
    /// with what still goes to those that drain.
    History(HistoryArgs),
    /// Give a split weights that it had before.
    Rollback(RollbackArgs),
    /// Show what the agent steers.
    Get(GetArgs),
    /// Show where a new flow would go, and why.
    Explain(ExplainArgs),
    /// Show the flows in the flow table.
    Flows(FlowsArgs),
    /// Show what happens to the splits, live, and shift weights by keys.
    Top(TopArgs),
    /// Print what happens to the splits, in each second, as lines.
    Watch(WatchArgs),
    /// Check the node, and say what to do about what is found. Exits with 1 if
    /// a problem is found.
    Doctor(DoctorArgs),
    /// Show how the agent is: first the verdict, then what it follows from. Exits with
    /// 1 unless the verdict is OK.
    Status(StatusArgs),
    /// Print the completions of a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Write the man pages into a directory.
    Manual {
        /// The directory, which must exist.
        directory: PathBuf,
    },
}

/// `weir agent`. At SIGHUP it reads the resources again.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AgentArgs {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Take weir out of the kernel when the agent is told to stop, as `weir
    /// unload` does. Without this the programs go on steering.
    #[arg(long)]
    pub unload_on_exit: bool,
    /// Start with empty maps where the pinned ones cannot be adopted or converted (a
    /// layout that this build does not know, or maps that are damaged), or should not
    /// be: live flows are steered anew. Other sizes, and the layout before, need none of
    /// this.
    #[arg(long)]
    pub replace: bool,
}

/// `weir controller`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ControllerArgs {
    /// The agents' configuration: what of the cluster counts is the same for both.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// The namespace of the lease by which one of several controllers writes.
    #[arg(long, value_name = "NAMESPACE", default_value = "weir-system")]
    pub namespace: String,
    /// The name of the lease.
    #[arg(long, value_name = "NAME", default_value = "weir-controller")]
    pub lease: String,
    /// Where /healthz and /readyz are served.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465")]
    pub health: SocketAddr,
}

/// `weir unload`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct UnloadArgs {
    /// The agent's configuration, which says where its maps are pinned. Where the
    /// default file is not there, they are where they are by default.
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE)]
    pub config: PathBuf,
    /// Do not ask whether to. Needed where there is nobody to answer, such as in scripts.
    #[arg(long, short = 'y')]
    pub yes: bool,
    /// Why, in a line, for the log and `weir status` of an agent that runs.
    #[arg(long, value_name = "TEXT", value_parser = desired::reason)]
    pub reason: Option<String>,
}

/// `weir downgrade`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct DowngradeArgs {
    /// The agent's configuration, which says where its maps are pinned.
    #[arg(long, value_name = "FILE", default_value = "/etc/weir/agent.yaml")]
    pub config: PathBuf,
    /// The layout of the earlier build's maps: its `weir agent` names it when it
    /// rejects those of this build.
    #[arg(long, value_name = "LAYOUT")]
    pub to: u32,
}

/// `weir validate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ValidateArgs {
    /// Files, directories of *.yaml and *.yml files, or - for standard input.
    #[arg(required_unless_present = "more", value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
    /// The same, as other commands take it.
    #[arg(short = 'f', long = "file", value_name = "FILE|DIR|-")]
    pub more: Vec<PathBuf>,
    /// How to show what was found.
    #[command(flatten)]
    pub output: Output,
}

/// `weir translate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TranslateArgs {
    /// Files of Istio, Gateway API, Kubernetes and weir resources, directories of
    /// them, or - for standard input.
    #[arg(short = 'f', long = "file", required = true, num_args = 1.., value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
}

/// How to show an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct Output {
    /// How to show it.
    #[arg(short = 'o', long = "output", value_name = "FORMAT", default_value = "table")]
    pub format: Format,
}

/// Files with documents.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct Files {
    /// Files, directories of *.yaml and *.yml files, or - for standard input.
    #[arg(short = 'f', long = "file", required = true, value_name = "FILE|DIR|-")]
    pub files: Vec<PathBuf>,
}

/// `weir status`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct StatusArgs {
    /// Only the verdict, in one line.
    #[arg(long, conflicts_with_all = ["all", "format"])]
    pub brief: bool,
    /// Show counters that are zero as well.
    #[arg(long)]
    pub all: bool,
    /// Wait until the verdict is OK, also for an agent that does not answer yet.
    #[arg(long)]
    pub wait: bool,
    /// How long to wait, such as 30s or 2m.
    #[arg(long, value_name = "TIME", default_value = "1m", requires = "wait", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// How to show it.
    #[command(flatten)]
    pub output: Output,
}

/// `weir get`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct GetArgs {
    /// What to show.
    #[command(subcommand)]
    pub resource: Option<Resource>,
    /// A split, for short; without it, all of them.
    #[arg(value_parser = name, add = known(Known::Splits))]
    pub name: Option<String>,
    /// Whom to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to show it.
    #[command(flatten)]
    pub output: Output,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Resource {
    /// Traffic splits, with their shares.
    #[command(alias = "split")]
    Splits {
        /// Only this one.
        #[arg(value_parser = name, add = known(Known::Splits))]
        name: Option<String>,
        /// Whom to ask.
        #[command(flatten)]
        cluster: ClusterArgs,
        /// How to show it.
        #[command(flatten)]
        output: Output,
    },
    /// Documents of files and those that were applied.
    #[command(alias = "document")]
    Documents {
        /// Only those that were applied.
        #[arg(long)]
        applied: bool,
        /// How to show them.
        #[command(flatten)]
        output: Output,
    },
    /// Routes of the Gateway API, with their conditions.
    #[command(alias = "route")]
    Routes {
        /// How to show them.
        #[command(flatten)]
        output: Output,
    },
}

/// How to show things.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Aligned columns.
    Table,
    /// YAML, with everything.
    Yaml,
    /// JSON, with everything.
    Json,
}

/// `weir explain`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExplainArgs {
    /// The client's address and port.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub from: SocketAddr,
    /// The service's address and port.
    #[arg(long, value_name = "ADDRESS:PORT", value_parser = address)]
    pub to: SocketAddr,
    /// TCP or UDP.
    #[arg(long, default_value_t = Protocol::Tcp)]
    pub protocol: Protocol,
    /// The `hashSeed` of the agents, which the cluster does not say; needed to ask it.
    #[arg(long, value_name = "SEED", help_heading = "Cluster")]
    pub hash_seed: Option<u64>,
    /// Whom to ask.
    #[command(flatten)]
    pub cluster: ClusterArgs,
    /// How to show the choice.
    #[command(flatten)]
    pub output: Output,
}

pub(super) fn subset_name(text: &str) -> Result<String, String> {
    Name::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

pub(super) fn name(text: &str) -> Result<String, String> {
    Name::of_object(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn namespace(text: &str) -> Result<String, String> {
    let no = || format!("\"{text}\" is not a namespace");
    is_label(text).then(|| text.to_owned()).ok_or_else(no)
}

/// The objects that words name: `KIND/NAME`, `KIND/NAMESPACE/NAME`, or a kind
/// and after it names.
fn objects(words: &[String], namespace: &str) -> Result<Vec<Key>, String> {
    let kind = |word: &str| {
        Kind::of_word(word).ok_or_else(|| {
            let known: Vec<String> = Kind::words().collect();
            let meant = hint(word, known.iter().map(String::as_str));
            format!("\"{word}\" is no kind, expected one such as split or virtualservice{meant}")
        })
    };
    let object = |kind: Kind, namespace: &str, text: &str| {
        let namespace = if kind.is_namespaced() { namespace } else { "" };
        let id = Id { kind, namespace: namespace.to_owned(), name: name(text)? };
        Ok::<Key, String>(id.key())
    };
    match words {
        [first, names @ ..] if !first.contains('/') => {
            let kind = kind(first).map_err(|no| match names {
                [] => format!("{no}; as a name it takes a kind: split/{first}"),
                _ => no,
            })?;
            if names.is_empty() {
                return Err(format!("no name, expected one after \"{first}\""));
            }
            names.iter().map(|name| object(kind, namespace, name)).collect()
        }
        words => words
            .iter()
            .map(|word| match word.split('/').collect::<Vec<_>>().as_slice() {
                [kind_, name] => object(kind(kind_)?, namespace, name),
                [kind_, own, name] if kind(kind_)?.is_namespaced() => {
                    object(kind(kind_)?, &self::namespace(own)?, name)
                }
                _ => Err(format!("\"{word}\" is not KIND/NAME or KIND/NAMESPACE/NAME")),
            })
            .collect(),
    }
}

/// A variable that is set to nothing is as one that is not set.
fn socket(text: OsString) -> PathBuf {
    if text.is_empty() { PathBuf::from(DEFAULT_SOCKET) } else { PathBuf::from(text) }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => format!("it has no port: expected ADDRESS:PORT, such as {ip}:80"),
        Ok(IpAddr::V6(ip)) => format!("it has no port: expected [ADDRESS]:PORT, such as [{ip}]:80"),
        Err(_) => {
            "expected ADDRESS:PORT, such as 192.0.2.10:80 or [2001:db8::1]:80, with a port of \
                   0 to 65535"
                .to_owned()
        }
    })
}

fn amount(text: &str) -> Result<(String, Amount), String> {
    let (subset, amount) =
        text.split_once('=').ok_or("expected SUBSET=WEIGHT or SUBSET=PERCENT%")?;
    Ok((subset_name(subset)?, amount.parse()?))
}

fn weight(text: &str) -> Result<(String, u32), String> {
    match amount(text)? {
        (subset, Amount::Weight(weight)) => Ok((subset, weight)),
        (_, Amount::Part(_)) => Err("expected SUBSET=WEIGHT, not a percentage".to_owned()),
    }
}

/// Rejects a subset that is given two weights.
fn once<T>(weights: &[(String, T)]) -> Result<(), clap::Error> {
    let mut seen = BTreeSet::new();
    match weights.iter().find(|(name, _)| !seen.insert(name)) {
        None => Ok(()),
        Some((twice, _)) => {
            let message = format!("subset \"{twice}\" is given two weights");
            Err(Cli::command().error(ErrorKind::ArgumentConflict, message))
        }
    }
}

impl GetArgs {
    /// Whom to ask.
    pub fn cluster(&self) -> &ClusterArgs {
        match &self.resource {
            Some(Resource::Splits { cluster, .. }) => cluster,
            _ => &self.cluster,
        }
    }
}

impl Command {
    /// Typed as a command of kubectl, it asks the cluster.
    ///
    /// # Errors
    ///
    /// If only the agent of a node can answer it.
    fn of_kubectl(&mut self) -> Result<(), clap::Error> {
        let cluster = match self {
            Self::Weights(WeightsArgs { this_node: true, .. })
            | Self::Rollback(RollbackArgs { this_node: true, .. })
            | Self::Drain(DrainArgs { this_node: true, .. }) => return Ok(()),
            Self::Weights(args) if !args.reset => &mut args.cluster,
            Self::Rollback(args) => &mut args.cluster,
            Self::History(args) => &mut args.cluster,
            Self::Explain(args) => &mut args.cluster,
            Self::Get(GetArgs { resource: None, cluster, .. }) => cluster,
            Self::Get(GetArgs { resource: Some(Resource::Splits { cluster, .. }), .. }) => cluster,
            Self::Agent(_)
            | Self::Validate(_)
            | Self::Translate(_)
            | Self::Completions { .. }
            | Self::Manual { .. } => return Ok(()),
            _ => {
                let message = "only the agent of a node can do this, and `kubectl weir` asks the \
                               cluster: use `weir` on the node, or `kubectl -n weir-system exec \
                               POD -- weir`, with a Pod of the node's agent";
                return Err(Cli::command().error(ErrorKind::InvalidSubcommand, message));
            }
        };
        cluster.by_kubectl = true;
        Ok(())
    }

    /// Checks what the declaration of the arguments cannot.
    fn check(&self) -> Result<(), clap::Error> {
        let mistake = |message| Cli::command().error(ErrorKind::ValueValidation, message);
        match self {
            Self::Delete(args) => args.keys().map(drop).map_err(mistake),
            Self::Weights(args) => {
                args.cluster.check().map_err(mistake)?;
                if args.reset && args.cluster.is_meant() {
                    let message = "--reset ends the override of one node; of the cluster, see \
                                   `weir rollback`";
                    return Err(mistake(message.to_owned()));
                }
                once(&args.weights)?;
                once(&args.expected.expect)?;
                amounts::fit(&args.weights).map_err(mistake)
            }
            Self::Rollback(args) => {
                args.cluster.check().map_err(mistake)?;
                once(&args.expected.expect)
            }
            Self::History(args) => args.cluster.check().map_err(mistake),
            Self::Get(args) => args.cluster().check().map_err(mistake),
            Self::Explain(args) => args.cluster.check().map_err(mistake),
            _ => Ok(()),
        }
    }
}

impl Cli {
    /// The socket at which the agent answers, and the command.
    pub fn checked(self) -> Result<(PathBuf, Command), clap::Error> {
        self.command.check()?;
        Ok((self.socket, self.command))
    }

    /// The process's arguments. A mistake ends the process, with code 2; and a shell that asks
    /// for completions gets them, and no more.
    pub fn from_process() -> (PathBuf, Command) {
        completion::answer();
        Self::of(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// What was typed; called as a plugin of kubectl, by its name, it is about a cluster.
    pub(super) fn of(
        arguments: impl IntoIterator<Item = OsString>,
    ) -> Result<(PathBuf, Command), clap::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let called = arguments.first().and_then(|first| Path::new(first).file_name());
        if called != Some(OsStr::new(PLUGIN)) {
            return Self::try_parse_from(arguments)?.checked();
        }
        let matches = Self::command().bin_name("kubectl weir").try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.command.of_kubectl()?;
        cli.checked()
    }
}

#[cfg(test)]
mod tests;
