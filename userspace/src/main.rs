//! The `weir` command. Only wires.

use std::process::ExitCode;

use weir::cli::{self, Cli};

fn main() -> ExitCode {
    let (socket, command) = Cli::from_process();
    cli::run(&socket, command).into()
}
