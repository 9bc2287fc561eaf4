//! The `weir` command. Only wires.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use weir::cli::{self, Action, Cli};
use weir::{agent, source};

fn main() -> ExitCode {
    let (socket, action) = Cli::from_process();
    let result = match action {
        Action::Ask(question) => return cli::run(&socket, question).into(),
        Action::Agent(arguments) => run_agent(&arguments.config),
        Action::Validate(arguments) => validate(&arguments.files),
    };
    match result {
        Ok(()) => cli::EXIT_DONE.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            cli::EXIT_FAILED.into()
        }
    }
}

fn run_agent(config: &std::path::Path) -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(agent::run(config))
}

fn validate(files: &[PathBuf]) -> Result<()> {
    let mut texts = Vec::new();
    for file in files {
        let text = source::read(file).map_err(|problem| agent::problems(&[problem]))?;
        texts.push((file.display().to_string(), text));
    }
    let desired = source::resolve(&texts).map_err(|found| agent::problems(&found))?;
    println!("{} splits in {} files are valid", desired.splits().len(), files.len());
    Ok(())
}
