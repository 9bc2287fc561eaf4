//! What a shell completes that the agent knows: splits, their subsets and endpoints. Without an
//! agent, or one that takes long, there is nothing, and no word about it.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::CompleteEnv;

use super::Cli;
use crate::api::types::SplitView;
use crate::api::{Client, DEFAULT_SOCKET};

/// The variable by which the script of a shell asks for completions.
pub(super) const VARIABLE: &str = "WEIR_COMPLETE";
/// Who has pressed a key does not wait longer.
const PATIENCE: Duration = Duration::from_millis(500);

/// What is completed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// Names of splits.
    Splits,
    /// Names of subsets, of the split that was typed before, or of all.
    Subsets,
    /// Beginnings of SUBSET=WEIGHT, likewise.
    Weights,
    /// Endpoints, likewise.
    Endpoints,
    /// Endpoints that were taken out, likewise.
    Drained,
}

/// Answers the script of a shell, if that is what runs this process, and ends it then.
pub fn answer() {
    CompleteEnv::with_factory(Cli::command).var(VARIABLE).complete();
}

/// For the declaration of an argument.
pub fn known(what: Known) -> ArgValueCandidates {
    ArgValueCandidates::new(move || {
        let words = words(std::env::args_os());
        let found = candidates(&splits(&socket(&words)), &words, what);
        let candidate = |(text, help): (String, String)| {
            CompletionCandidate::new(text).help((!help.is_empty()).then(|| help.into()))
        };
        found.into_iter().map(candidate).collect()
    })
}

/// The line that is completed: what comes after the arguments of the script.
fn words(arguments: impl Iterator<Item = OsString>) -> Vec<String> {
    let line = arguments.skip_while(|word| word != "--").skip(1);
    line.map(|word| word.to_string_lossy().into_owned()).collect()
}

/// The socket that the line names, or the environment.
fn socket(words: &[String]) -> PathBuf {
    let named = words.iter().position(|word| word == "--socket");
    let named = named.and_then(|at| words.get(at + 1)).map(String::as_str);
    let joined = words.iter().find_map(|word| word.strip_prefix("--socket="));
    let typed = joined.or(named).map(OsString::from).or_else(|| std::env::var_os("WEIR_SOCKET"));
    typed.filter(|path| !path.is_empty()).map_or_else(|| DEFAULT_SOCKET.into(), PathBuf::from)
}

fn splits(socket: &PathBuf) -> Vec<SplitView> {
    let client = Client::new(socket);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let asked = runtime.map(|runtime| {
        runtime.block_on(async { tokio::time::timeout(PATIENCE, client.splits()).await })
    });
    match asked {
        Ok(Ok(Ok(splits))) => splits,
        _ => Vec::new(),
    }
}

/// What fits, with a word about each.
pub(super) fn candidates(
    splits: &[SplitView],
    words: &[String],
    what: Known,
) -> Vec<(String, String)> {
    if what == Known::Splits {
        let service = |split: &SplitView| {
            format!("{} {}", SocketAddr::new(split.address, split.port), split.protocol)
        };
        return splits.iter().map(|split| (split.name.clone(), service(split))).collect();
    }
    let typed = splits.iter().find(|split| words.contains(&split.name));
    let of: Vec<&SplitView> = typed.map_or_else(|| splits.iter().collect(), |split| vec![split]);
    let subsets = of.iter().flat_map(|split| &split.subsets);
    let found: Vec<(String, String)> = match what {
        Known::Splits => Vec::new(),
        Known::Subsets => subsets.map(|subset| (subset.name.clone(), String::new())).collect(),
        Known::Weights => subsets
            .map(|subset| (format!("{}=", subset.name), format!("now {}", subset.weight)))
            .collect(),
        Known::Endpoints => subsets
            .flat_map(|subset| {
                subset.endpoints.iter().map(|one| (one.address.to_string(), subset.name.clone()))
            })
            .collect(),
        Known::Drained => of
            .iter()
            .flat_map(|split| &split.origin.drained)
            .map(|drained| (drained.address.to_string(), drained.since.clone()))
            .collect(),
    };
    let mut seen = std::collections::BTreeSet::new();
    found.into_iter().filter(|(text, _)| seen.insert(text.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Vec<String> {
        words(["weir", "--"].into_iter().chain(text.split(' ')).map(OsString::from))
    }

    #[test]
    fn the_socket_is_that_of_the_line() {
        assert_eq!(socket(&line("weir --socket /a/b get")), PathBuf::from("/a/b"));
        assert_eq!(socket(&line("weir get --socket=/a/b")), PathBuf::from("/a/b"));
    }

    #[test]
    fn without_an_agent_there_is_nothing() {
        assert_eq!(splits(&PathBuf::from("/nonexistent/sock")), []);
    }
}
