//! The command line: what can be typed, and the commands that ask the agent.
//!
//! `weir agent`, `weir validate` and `weir translate` do not ask a running
//! agent; `main` gets them as [`Action`]s of their own.

mod args;
mod render;

use std::io::{self, Write};
use std::path::Path;

pub use args::{
    Action, AgentArgs, Cli, ExplainArgs, Format, GetArgs, Resource, TranslateArgs, ValidateArgs,
    WeightsArgs,
};

use crate::api::Client;
use crate::api::types::ExplainRequest;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// Failed. (2, a mistake in the command line, is clap's.)
pub const EXIT_FAILED: u8 = 1;

/// A command for a running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `weir weights`.
    Weights(WeightsArgs),
    /// `weir get`.
    Get(GetArgs),
    /// `weir explain`.
    Explain(ExplainArgs),
    /// `weir status`.
    Status,
}

/// Asks the agent that listens at `socket` and writes its answer to `out`.
pub async fn ask(socket: &Path, question: Question, out: &mut impl Write) -> anyhow::Result<()> {
    let client = Client::new(socket);
    let text = match question {
        Question::Weights(args) => {
            let weights = args.weights.into_iter().collect();
            render::splits(&[client.set_weights(&args.name, weights).await?])
        }
        Question::Get(GetArgs { resource: Resource::Splits { name: Some(name), output } }) => {
            let split = client.split(&name).await?;
            match output {
                Format::Table => render::splits(&[split]),
                Format::Yaml => serde_yaml::to_string(&split)?,
                Format::Json => serde_json::to_string_pretty(&split)? + "\n",
            }
        }
        Question::Get(GetArgs { resource: Resource::Splits { name: None, output } }) => {
            let splits = client.splits().await?;
            match output {
                Format::Table => render::splits(&splits),
                Format::Yaml => serde_yaml::to_string(&splits)?,
                Format::Json => serde_json::to_string_pretty(&splits)? + "\n",
            }
        }
        Question::Explain(ExplainArgs { from, to, protocol }) => {
            render::explain(&client.explain(ExplainRequest { from, to, protocol }).await?)
        }
        Question::Status => render::status(&client.status().await?),
    };
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        // `weir get splits | head` has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => Ok(result?),
    }
}

/// [`ask`], for a thin `main`: answers on standard output, errors on standard
/// error as "weir: ...", and the exit code.
pub fn run(socket: &Path, question: Question) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = runtime
        .map_err(anyhow::Error::from)
        .and_then(|runtime| runtime.block_on(ask(socket, question, &mut io::stdout().lock())));
    match result {
        Ok(()) => EXIT_DONE,
        Err(error) => {
            eprintln!("weir: {error:#}");
            EXIT_FAILED
        }
    }
}
