//! The command line: what can be typed, and the commands that ask the agent.
//!
//! Some commands do not ask a running agent, such as `weir agent`; `main` gets
//! them as actions other than [`Action::Ask`].

mod amounts;
mod args;
pub(crate) mod columns;
mod difference;
mod doctor;
mod documents;
mod files;
mod flows;
mod generated;
mod offline;
mod render;
mod seeing;
mod shifted;
mod status;
#[cfg(test)]
mod tests;
mod watch;

use std::io::{self, Write};
use std::path::Path;

use anyhow::bail;
use serde::Serialize;

pub use amounts::Amount;
pub use args::{
    Action, AgentArgs, ApplyArgs, Cli, DeleteArgs, DiffArgs, Expected, ExplainArgs, Files, Format,
    GetArgs, HistoryArgs, Output, Resource, RollbackArgs, StatusArgs, TranslateArgs, UnloadArgs,
    ValidateArgs, WeightsArgs,
};
pub use generated::{completions, manual};
pub use offline::{translate, validate};
pub use seeing::{DoctorArgs, FlowsArgs, LineFormat, LineOutput, Seeing, TopArgs, WatchArgs};

use crate::api::Client;
use crate::api::types::{
    ApplyRequest, DeleteRequest, ExplainRequest, ObjectName, ResetQuery, RollbackRequest,
    WeightsRequest,
};
use crate::model::Key;
use crate::top;
use shifted::Shifted;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// Failed. (2, a mistake in the command line, is clap's.)
pub const EXIT_FAILED: u8 = 1;
/// `weir diff` found differences: as that of kubectl and diff(1) itself.
const EXIT_DIFFERENT: u8 = 1;
/// `weir diff` failed.
const EXIT_NO_DIFF: u8 = 2;

/// A command for a running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// One with an answer.
    Question(Question),
    /// One whose answer comes bit by bit.
    Seeing(Seeing),
}

/// A command for a running agent, which has an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// `weir apply`.
    Apply(ApplyArgs),
    /// `weir delete`, and what it names.
    Delete(DeleteArgs, Vec<Key>),
    /// `weir diff`.
    Diff(DiffArgs),
    /// `weir weights`.
    Weights(WeightsArgs),
    /// `weir history`.
    History(HistoryArgs),
    /// `weir rollback`.
    Rollback(RollbackArgs),
    /// `weir get`.
    Get(GetArgs),
    /// `weir explain`.
    Explain(ExplainArgs),
    /// `weir status`.
    Status(StatusArgs),
}

impl Question {
    /// Why it is asked, if somebody said.
    fn reason(&self) -> Option<&str> {
        match self {
            Self::Apply(args) => args.reason.as_deref(),
            Self::Delete(args, _) => args.reason.as_deref(),
            Self::Weights(args) => args.reason.as_deref(),
            Self::Rollback(args) => args.reason.as_deref(),
            Self::Diff(_)
            | Self::History(_)
            | Self::Get(_)
            | Self::Explain(_)
            | Self::Status(_) => None,
        }
    }
}

/// Asks the agent of `client` and writes its answer to `out`; the exit
/// code.
pub async fn ask(client: &Client, question: Question, out: &mut impl Write) -> anyhow::Result<u8> {
    let client =
        question.reason().map_or_else(|| client.clone(), |text| client.clone().because(text));
    let mut code = EXIT_DONE;
    let text = match question {
        Question::Apply(ApplyArgs { files, dry_run, output, .. }) => {
            let files = files::read(&files.files)?;
            let request = ApplyRequest { files, dry_run, in_place_of_files: false };
            show(output, &client.apply(&request).await?, difference::apply)?
        }
        Question::Diff(DiffArgs { files, output }) => {
            let files = files::read(&files.files)?;
            let request = ApplyRequest { files, dry_run: true, in_place_of_files: true };
            let view = client.apply(&request).await?;
            code = if view.changes_something() { EXIT_DIFFERENT } else { EXIT_DONE };
            show(output, &view, difference::apply)?
        }
        Question::Delete(DeleteArgs { files, dry_run, output, .. }, keys) => {
            let objects = keys.iter().map(ObjectName::from).collect();
            let request = DeleteRequest { objects, files: files::read(&files)?, dry_run };
            show(output, &client.delete(&request).await?, difference::apply)?
        }
        Question::Weights(args) => {
            let output = args.output;
            let shifted = weights(&client, args).await?;
            show(output, &shifted.after, |_| shifted.text())?
        }
        Question::History(HistoryArgs { name, output }) => {
            show(output, &client.history(&name).await?, |changes| render::history(changes))?
        }
        Question::Rollback(RollbackArgs { name, to, expected, output, .. }) => {
            let expect = expected.expect.into_iter().collect();
            let request = RollbackRequest { to, expect, version: expected.expect_version };
            let before = client.split(&name).await;
            let after = client.rollback(&name, &request).await?;
            let shifted = Shifted::of(before, after, Vec::new());
            show(output, &shifted.after, |_| shifted.text())?
        }
        Question::Get(args) => get(&client, args).await?,
        Question::Explain(ExplainArgs { from, to, protocol, output }) => {
            let explained = client.explain(ExplainRequest { from, to, protocol }).await?;
            show(output, &explained, render::explain)?
        }
        Question::Status(args) => {
            let (answer, answered) = status::ask(&client, &args).await?;
            code = answered;
            answer
        }
    };
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(code)
}

/// Writes to `out` what comes bit by bit from the agent of `client`.
pub async fn see(client: Client, seeing: Seeing, out: &mut impl Write) -> anyhow::Result<()> {
    match seeing {
        Seeing::Flows(args) => flows::show(&client, args, out).await,
        Seeing::Watch(args) => watch::show(&client, args, out).await,
        Seeing::Top(TopArgs { split, interval }) => top::run(client, split, interval).await,
    }
}

/// A client of the agent that listens at `socket`, of whoever runs this command.
fn client(socket: &Path) -> Client {
    let client = Client::new(socket);
    match std::env::var("SUDO_USER") {
        Ok(user) if !user.is_empty() => client.on_behalf_of(&user),
        _ => client,
    }
}

/// An answer as it is to be shown.
fn show<T: Serialize>(
    output: Output,
    answer: &T,
    table: impl FnOnce(&T) -> String,
) -> anyhow::Result<String> {
    Ok(match output.format {
        Format::Table => table(answer),
        Format::Yaml => serde_yaml::to_string(answer)?,
        Format::Json => serde_json::to_string_pretty(answer)? + "\n",
    })
}

async fn weights(client: &Client, args: WeightsArgs) -> anyhow::Result<Shifted> {
    let WeightsArgs { name, weights: typed, reset, dry_run, expected, .. } = args;
    let before = client.split(&name).await;
    let mut version = expected.expect_version;
    if reset {
        let pairs = expected.expect.iter().map(|(name, weight)| format!("{name}={weight}"));
        let pairs = pairs.collect::<Vec<_>>().join(",");
        let expect = (!pairs.is_empty()).then_some(pairs);
        let after = client.reset_weights(&name, &ResetQuery { expect, version }).await?;
        return Ok(Shifted::of(before, after, typed));
    }
    let weights = match (amounts::plain(&typed), &before) {
        // Whether they fit is for the agent to say, and whether who asks may change them.
        (Some(weights), _) if !dry_run => weights,
        (_, Ok(before)) => amounts::resolve(&typed, before)?,
        (_, Err(error)) => bail!("{error}"),
    };
    if let (true, Ok(before)) = (dry_run, &before) {
        shifted::expected(before, &expected)?;
        let after = shifted::proposed(before, &weights)?;
        return Ok(Shifted { before: before.clone(), after, typed, dry_run });
    }
    if let (None, Ok(before)) = (amounts::plain(&typed), &before) {
        // Percentages are of the weights that were read.
        version.get_or_insert(before.origin.version);
    }
    let expect = expected.expect.into_iter().collect();
    let after = client.set_weights(&name, &WeightsRequest { weights, expect, version }).await?;
    Ok(Shifted::of(before, after, typed))
}

async fn get(client: &Client, args: GetArgs) -> anyhow::Result<String> {
    let GetArgs { resource, name, output } = args;
    match resource.unwrap_or(Resource::Splits { name, output }) {
        Resource::Splits { name: Some(name), output } => {
            show(output, &client.split(&name).await?, render::split)
        }
        Resource::Splits { name: None, output } => {
            show(output, &client.splits().await?, |splits| render::splits(splits))
        }
        Resource::Documents { applied, output } => {
            let mut documents = client.documents().await?;
            documents.retain(|document| !applied || document.source == "applied");
            show(output, &documents, |documents| documents::table(documents))
        }
        Resource::Routes { output } => {
            let mut documents = client.documents().await?;
            documents.retain(|document| document.is_route());
            show(output, &documents, |routes| documents::routes(routes))
        }
    }
}

/// [`ask`] and [`see`], for a thin `main`: answers on standard output, errors
/// on standard error as "weir: ...", and the exit code.
pub fn run(socket: &Path, asked: Asked) -> u8 {
    let out = &mut io::stdout().lock();
    let failed = match &asked {
        Asked::Question(Question::Diff(_)) => EXIT_NO_DIFF,
        _ => EXIT_FAILED,
    };
    finish(failed, async {
        match asked {
            Asked::Question(question) => ask(&client(socket), question, out).await,
            Asked::Seeing(seeing) => see(client(socket), seeing, out).await.map(|()| EXIT_DONE),
        }
    })
}

/// Checks the node; the exit code is 1 if a problem was found.
pub fn doctor(socket: &Path, args: &DoctorArgs) -> u8 {
    finish(EXIT_FAILED, doctor::run(socket, args, &mut io::stdout().lock()))
}

/// Runs a command to its exit code; an error goes to standard error.
fn finish(failed: u8, command: impl Future<Output = anyhow::Result<u8>>) -> u8 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(command)) {
        Ok(code) => code,
        // `weir flows | head` has read enough.
        Err(error) if is_broken_pipe(&error) => EXIT_DONE,
        Err(error) => {
            eprintln!("weir: {error:#}");
            failed
        }
    }
}

/// Whether who reads what is printed has read enough.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe)
}
