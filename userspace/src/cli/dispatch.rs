//! What each command does, in one match.

use std::io::Write;

use anyhow::Result;

use super::answers::{self, Answer};
use super::args::Command;
use super::{
    EXIT_DONE, EXIT_FAILED, EXIT_NO_DIFF, EXIT_USAGE, cluster, doctor, drain, flows, generated,
    kernel, offline, unload, watch,
};
use crate::api::Client;
use crate::top;

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    /// Who says so, which the message begins with.
    pub by: &'static str,
    /// What failed.
    pub error: anyhow::Error,
    /// The exit code.
    pub code: u8,
}

impl Failure {
    /// A mistake in the command line.
    pub(super) const fn of_usage(error: anyhow::Error) -> Self {
        Self { by: "error", error, code: EXIT_USAGE }
    }

    pub(super) const fn of_agent(error: anyhow::Error) -> Self {
        Self { by: "weir", error, code: EXIT_FAILED }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { by: "error", error, code: EXIT_FAILED }
    }
}

impl Command {
    /// Does what was typed, on a thread without a runtime. What is printed goes to `out`, and
    /// what is to be known beside it to `errors`. The exit code.
    pub fn run(
        self,
        client: &Client,
        out: &mut impl Write,
        errors: &mut impl Write,
    ) -> Result<u8, Failure> {
        match self {
            Self::Agent(args) => done(kernel::agent(args)),
            Self::Controller(args) => done(kernel::controller(args)),
            Self::Unload(args) => unload::run(client, &args, out, errors),
            Self::Downgrade(args) => done(kernel::downgrade(&args, out)),
            Self::Validate(args) => Ok(offline::validate(&args, out, errors)?),
            Self::Translate(args) => Ok(offline::translate(&args, out, errors)?),
            Self::Completions { shell } => done(generated::completions(shell, out)),
            Self::Manual { directory } => done(generated::manual(&directory)),
            Self::Apply(args) => ask(answers::apply(client, args), out),
            Self::Delete(args) => ask(answers::delete(client, args), out),
            Self::Diff(args) => ask(answers::diff(client, args), out)
                .map_err(|failure| Failure { code: EXIT_NO_DIFF, ..failure }),
            Self::Weights(args) if args.cluster.is_meant() => ask(cluster::weights(args), out),
            Self::Rollback(args) if args.cluster.is_meant() => ask(cluster::rollback(args), out),
            Self::History(args) if args.cluster.is_meant() => ask(cluster::history(args), out),
            Self::Get(args) if args.cluster().is_meant() => ask(cluster::get(args), out),
            Self::Explain(args) if args.cluster.is_meant() => ask(cluster::explain(args), out),
            Self::Weights(args) => ask(answers::weights(client, args), out),
            Self::Drain(args) => ask(drain::drain(client, args), out),
            Self::Undrain(args) => ask(drain::undrain(client, args), out),
            Self::History(args) => ask(answers::history(client, args), out),
            Self::Rollback(args) => ask(answers::rollback(client, args), out),
            Self::Get(args) => ask(answers::get(client, args), out),
            Self::Explain(args) => ask(answers::explain(client, args), out),
            Self::Status(args) => ask(answers::status(client, args), out),
            Self::Doctor(args) => ask(doctor::run(client, args), out),
            Self::Flows(args) => follow(flows::show(client, args, out)),
            Self::Watch(args) => follow(watch::show(client, args, out)),
            Self::Top(args) => follow(top::run(client.clone(), args.split, args.interval)),
        }
    }
}

fn done(result: Result<()>) -> Result<u8, Failure> {
    Ok(result.map(|()| EXIT_DONE)?)
}

/// Waits for an answer, and prints it.
fn ask(answer: impl Future<Output = Result<Answer>>, out: &mut impl Write) -> Result<u8, Failure> {
    let asked = async {
        let (text, code) = answer.await?;
        out.write_all(text.as_bytes())?;
        out.flush()?;
        Ok(code)
    };
    wait(asked).map_err(Failure::of_agent)
}

/// Waits for the end of what comes bit by bit.
fn follow(seen: impl Future<Output = Result<()>>) -> Result<u8, Failure> {
    wait(seen).map(|()| EXIT_DONE).map_err(Failure::of_agent)
}

pub(super) fn wait<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}
