//! The command line: what can be typed (`args`), and what each command does (`dispatch`). Most
//! commands ask a running agent.

mod amounts;
mod answers;
mod args;
mod cluster;
pub(crate) mod columns;
mod completion;
mod configuration;
mod difference;
mod dispatch;
mod doctor;
mod documents;
mod drain;
mod files;
mod flows;
mod generated;
mod kernel;
mod legend;
mod offline;
mod render;
mod seeing;
mod shifted;
mod status;
#[cfg(test)]
mod tests;
mod unload;
mod watch;

use std::io;
use std::path::Path;

use serde::Serialize;

pub use args::{Cli, Command, Format, Output};
pub use dispatch::Failure;

use crate::api::Client;

/// Done.
pub const EXIT_DONE: u8 = 0;
/// Failed. (2, a mistake in the command line, is clap's.)
pub const EXIT_FAILED: u8 = 1;
/// A mistake in the command line that the declaration of the arguments cannot tell.
const EXIT_USAGE: u8 = 2;
/// `weir diff` found differences: as that of kubectl and diff(1) itself.
const EXIT_DIFFERENT: u8 = 1;
/// `weir diff` failed.
const EXIT_NO_DIFF: u8 = 2;

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

/// [`Command::run`], for a thin `main`: answers on standard output, errors on standard error,
/// and the exit code.
pub fn run(socket: &Path, command: Command) -> u8 {
    match command.run(&client(socket), &mut io::stdout(), &mut io::stderr()) {
        Ok(code) => code,
        // `weir flows | head` has read enough.
        Err(Failure { error, .. }) if is_broken_pipe(&error) => EXIT_DONE,
        Err(Failure { by, error, code }) => {
            eprintln!("{by}: {error:#}");
            code
        }
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

/// Whether who reads what is printed has read enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref().map(io::Error::kind) == Some(io::ErrorKind::BrokenPipe)
}
