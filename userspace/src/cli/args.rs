//! What can be typed.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum};

use super::Question;
use crate::api::DEFAULT_SOCKET;
use crate::api::types::Protocol;
use crate::model::Name;

/// Shifts traffic between the versions of a service, in the kernel.
#[derive(Debug, Clone, PartialEq, Eq, Parser)]
#[command(name = "weir", version, propagate_version = true)]
pub struct Cli {
    /// The socket at which the agent answers.
    #[arg(long, global = true, value_name = "PATH", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum Command {
    /// Run the agent of this node.
    Agent(AgentArgs),
    /// Check files without applying them.
    Validate(ValidateArgs),
    /// Print the traffic splits that resources become.
    Translate(TranslateArgs),
    /// Give subsets of a split other weights.
    Weights(WeightsArgs),
    /// Show what the agent steers.
    Get(GetArgs),
    /// Show where a new flow would go, and why.
    Explain(ExplainArgs),
    /// Show how the agent is.
    Status,
}

/// What `main` has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Be the agent.
    Agent(AgentArgs),
    /// Check files.
    Validate(ValidateArgs),
    /// Print what files become.
    Translate(TranslateArgs),
    /// Ask the agent: [`super::run`].
    Ask(Question),
}

/// `weir agent`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct AgentArgs {
    /// The agent's configuration.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Leave the programs steering when the agent is told to stop.
    #[arg(long)]
    pub keep_programs: bool,
}

/// `weir validate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ValidateArgs {
    /// The files.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `weir translate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TranslateArgs {
    /// Files of Istio, Gateway API, Kubernetes and weir resources.
    #[arg(short, long = "filename", required = true, num_args = 1.., value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// `weir weights`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct WeightsArgs {
    /// The split.
    #[arg(value_parser = name)]
    pub name: String,
    /// Subsets and their weights, such as v1=80 v2=20; others keep theirs.
    #[arg(required = true, value_name = "SUBSET=WEIGHT", value_parser = weight)]
    pub weights: Vec<(String, u32)>,
}

/// `weir get`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GetArgs {
    /// What to show.
    #[command(subcommand)]
    pub resource: Resource,
}

/// What there is to show.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Resource {
    /// Traffic splits, with their shares.
    #[command(alias = "split")]
    Splits {
        /// Only this one.
        #[arg(value_parser = name)]
        name: Option<String>,
        /// How to show it.
        #[arg(short, long, value_name = "FORMAT", default_value = "table")]
        output: Format,
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
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub from: SocketAddr,
    /// The service's address and port.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub to: SocketAddr,
    /// TCP or UDP.
    #[arg(long, default_value_t = Protocol::Tcp)]
    pub protocol: Protocol,
}

fn name(text: &str) -> Result<String, String> {
    Name::new(text).map(|name| name.as_str().to_owned()).map_err(|error| error.to_string())
}

fn weight(text: &str) -> Result<(String, u32), String> {
    let (subset, weight) = text.split_once('=').ok_or("expected SUBSET=WEIGHT")?;
    let weight = weight
        .parse()
        .map_err(|_| format!("\"{weight}\" is not a weight: expected 0 to {}", u32::MAX))?;
    Ok((name(subset)?, weight))
}

impl Cli {
    /// What to do, with what the declaration of the arguments cannot check checked.
    pub fn action(self) -> Result<Action, clap::Error> {
        Ok(match self.command {
            Command::Agent(args) => Action::Agent(args),
            Command::Validate(args) => Action::Validate(args),
            Command::Translate(args) => Action::Translate(args),
            Command::Weights(args) => {
                let mut seen = BTreeSet::new();
                if let Some((twice, _)) = args.weights.iter().find(|(name, _)| !seen.insert(name)) {
                    let message = format!("subset \"{twice}\" is given two weights");
                    return Err(Self::command().error(ErrorKind::ArgumentConflict, message));
                }
                Action::Ask(Question::Weights(args))
            }
            Command::Get(args) => Action::Ask(Question::Get(args)),
            Command::Explain(args) => Action::Ask(Question::Explain(args)),
            Command::Status => Action::Ask(Question::Status),
        })
    }

    /// The process's arguments. A mistake ends the process, with code 2.
    pub fn from_process() -> (PathBuf, Action) {
        let cli = Self::parse();
        (cli.socket.clone(), cli.action().unwrap_or_else(|error| error.exit()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<(PathBuf, Action), clap::Error> {
        let cli = Cli::try_parse_from(line.split(' '))?;
        Ok((cli.socket.clone(), cli.action()?))
    }

    #[test]
    fn commands_are_understood() {
        Cli::command().debug_assert();
        let (socket, action) = parse("weir weights --socket /tmp/s reviews v1=50 v3=0").unwrap();
        assert_eq!(socket, PathBuf::from("/tmp/s"));
        let weights = vec![("v1".to_owned(), 50), ("v3".to_owned(), 0)];
        let expected = WeightsArgs { name: "reviews".into(), weights };
        assert_eq!(action, Action::Ask(Question::Weights(expected)));

        let (socket, action) = parse("weir get splits reviews -o yaml").unwrap();
        assert_eq!(socket, PathBuf::from(DEFAULT_SOCKET));
        let resource = Resource::Splits { name: Some("reviews".into()), output: Format::Yaml };
        assert_eq!(action, Action::Ask(Question::Get(GetArgs { resource })));

        let line = "weir --socket /tmp/s explain --from [::1]:5 --to [fd00::1]:80 --protocol udp";
        let Action::Ask(Question::Explain(args)) = parse(line).unwrap().1 else { panic!() };
        assert_eq!((args.to.to_string().as_str(), args.protocol), ("[fd00::1]:80", Protocol::Udp));

        let (_, action) = parse("weir agent --config a.yaml --keep-programs").unwrap();
        let expected = AgentArgs { config: "a.yaml".into(), keep_programs: true };
        assert_eq!(action, Action::Agent(expected));
        let expected = ValidateArgs { files: vec!["a".into(), "b".into()] };
        assert_eq!(parse("weir validate a b").unwrap().1, Action::Validate(expected));
        let expected = TranslateArgs { files: vec!["a".into(), "b".into(), "c".into()] };
        let action = parse("weir translate -f a b -f c").unwrap().1;
        assert_eq!(action, Action::Translate(expected));
        assert_eq!(parse("weir status").unwrap().1, Action::Ask(Question::Status));
    }

    #[test]
    fn mistakes_end_with_code_2() {
        for line in [
            "weir",
            "weir agent",
            "weir validate",
            "weir translate",
            "weir translate a",
            "weir weights reviews",
            "weir weights reviews v1",
            "weir weights reviews v1=",
            "weir weights reviews v1=-1",
            "weir weights reviews v1=4294967296",
            "weir weights reviews v1=1 v1=2",
            "weir weights Reviews v1=1",
            "weir get",
            "weir get splits -o xml",
            "weir explain --from 1.2.3.4:5",
            "weir explain --from 1.2.3.4 --to 1.2.3.4:5",
            "weir explain --from 1.2.3.4:5 --to 1.2.3.4:5 --protocol sctp",
        ] {
            assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
        }
    }
}
