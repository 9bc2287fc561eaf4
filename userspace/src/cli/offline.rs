//! Commands about files that need no agent.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use super::args::{Format, TranslateArgs, ValidateArgs};
use super::{EXIT_DONE, EXIT_FAILED, files};
use crate::model::Split;
use crate::resource::{self, Kind, Resolved};
use crate::source::Problem;

/// What `weir validate` found.
#[derive(Debug, Default, Serialize)]
struct Report {
    /// How many files there were.
    files: usize,
    /// How many splits they come to.
    splits: usize,
    /// What is wrong.
    problems: Vec<Problem>,
    /// What is right, and perhaps not meant.
    warnings: Vec<String>,
    /// What has no effect, or another one than in a mesh.
    notes: Vec<Problem>,
}

/// Checks files: all that is wrong with them goes to `errors`, or everything to
/// `out` as JSON or YAML. The exit code.
pub fn validate(args: &ValidateArgs, out: &mut impl Write, errors: &mut impl Write) -> Result<u8> {
    let paths: Vec<PathBuf> = args.files.iter().chain(&args.more).cloned().collect();
    let (texts, resolved) = resolve(&paths);
    let report = Report {
        files: texts,
        splits: resolved.desired.splits().len(),
        warnings: warnings(&resolved),
        problems: resolved.problems,
        notes: resolved.notes,
    };
    let code = if report.problems.is_empty() { EXIT_DONE } else { EXIT_FAILED };
    if args.output.format != Format::Table {
        out.write_all(super::show(args.output, &report, |_| String::new())?.as_bytes())?;
        return Ok(code);
    }
    report.notes.iter().try_for_each(|note| writeln!(errors, "note: {note}"))?;
    report.warnings.iter().try_for_each(|warning| writeln!(errors, "warning: {warning}"))?;
    report.problems.iter().try_for_each(|problem| writeln!(errors, "error: {problem}"))?;
    if code == EXIT_DONE {
        let (splits, files) = (counted(report.splits, "split"), counted(report.files, "file"));
        let are = if report.splits == 1 { "is" } else { "are" };
        writeln!(out, "{splits} in {files} {are} valid")?;
    }
    Ok(code)
}

/// Prints the splits that files become. The exit code.
pub fn translate(
    args: &TranslateArgs,
    out: &mut impl Write,
    errors: &mut impl Write,
) -> Result<u8> {
    let (_, resolved) = resolve(&args.files);
    resolved.notes.iter().try_for_each(|note| writeln!(errors, "note: {note}"))?;
    resolved.problems.iter().try_for_each(|problem| writeln!(errors, "error: {problem}"))?;
    if !resolved.problems.is_empty() {
        return Ok(EXIT_FAILED);
    }
    out.write_all(resource::translate(&resolved).as_bytes())?;
    Ok(EXIT_DONE)
}

fn counted(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// How many files there are, and what they come to together; what cannot be read is
/// among the problems.
fn resolve(paths: &[PathBuf]) -> (usize, Resolved) {
    let (texts, mut problems) = files::read_all(paths);
    let texts: Vec<(String, String)> = texts.into_iter().map(|f| (f.name, f.text)).collect();
    let mut resolved = resource::resolve_all(&texts);
    for (name, _) in texts.iter().filter(|(_, text)| is_configuration(text)) {
        resolved.problems.retain(|problem| problem.file != *name);
        let message = "the configuration of an agent, which `weir agent --config` checks; \
                       expected documents with apiVersion and kind";
        problems.push(Problem::of_file(name, message));
    }
    resolved.problems.splice(0..0, problems);
    (texts.len(), resolved)
}

/// Whether a text is an agent.yaml.
fn is_configuration(text: &str) -> bool {
    let Ok(serde_yaml::Value::Mapping(fields)) = serde_yaml::from_str(text) else { return false };
    let has = |key: &str| fields.contains_key(key);
    has("interfaces") && !has("kind") && !has("apiVersion")
}

/// What is right in TrafficSplits, and perhaps not meant. Documents of other kinds
/// have notes about such things.
fn warnings(resolved: &Resolved) -> Vec<String> {
    let mut found = Vec::new();
    for split in resolved.desired.splits() {
        let origins = resolved.provenance.get(split.name()).map(Vec::as_slice);
        let Some([origin]) =
            origins.filter(|all| all.iter().all(|o| o.id.kind == Kind::TrafficSplit))
        else {
            continue;
        };
        found.extend(warn(split).into_iter().map(|text| format!("{}: {text}", origin.at)));
    }
    found
}

fn warn(split: &Split) -> Vec<String> {
    let name = split.name();
    let mut found = Vec::new();
    let mut owners: BTreeMap<SocketAddr, &str> = BTreeMap::new();
    for subset in split.subsets() {
        if subset.weight > 0 && subset.endpoints.is_empty() {
            found.push(format!(
                "split \"{name}\": subset \"{}\" has weight {} and no endpoint: its share is rejected",
                subset.name, subset.weight
            ));
        }
        for &endpoint in &subset.endpoints {
            if let Some(other) = owners.insert(endpoint, subset.name.as_str()) {
                found.push(format!(
                    "split \"{name}\": endpoint {endpoint} is in subset \"{other}\" and in \"{}\"",
                    subset.name
                ));
            }
        }
    }
    if split.address().ip.is_loopback() {
        found.push(format!(
            "split \"{name}\": packets to {} never pass an interface that weir is at",
            split.address().ip
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::Output;

    const SPLIT: &str = "apiVersion: weir.dev/v1alpha1\nkind: TrafficSplit\nmetadata: {name: a}\n\
        spec:\n  address: 192.0.2.1\n  port: 80\n  subsets:\n  \
        - {name: v1, weight: 1, endpoints: ['198.51.100.1:80']}\n  \
        - {name: v2, weight: 1, endpoints: []}\n";

    fn run(texts: &[(&str, &str)], format: Format) -> (u8, String, String) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in texts {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let output = Output { format };
        let args = ValidateArgs { files: vec![directory.path().into()], more: Vec::new(), output };
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        let code = validate(&args, &mut out, &mut errors).unwrap();
        let here = format!("{}/", directory.path().display());
        let text = |bytes| String::from_utf8(bytes).unwrap().replace(&here, "");
        (code, text(out), text(errors))
    }

    #[test]
    fn everything_that_is_wrong_or_odd_is_said_at_once() {
        let (code, out, errors) = run(&[("a.yaml", SPLIT)], Format::Table);
        let warning = "warning: a.yaml:3: split \"a\": subset \"v2\" has weight 1 and no endpoint: \
                       its share is rejected\n";
        let valid = "1 split in 1 file is valid\n";
        assert_eq!((code, out.as_str(), errors.as_str()), (EXIT_DONE, valid, warning));
        let shared = SPLIT.replace("[]", "['198.51.100.1:80']").replace("name: a", "name: b");
        let texts = [("a.yaml", SPLIT), ("b.yaml", &shared.replace("2.1", "2.2"))];
        let (code, out, errors) = run(&texts, Format::Table);
        assert_eq!((code, out.as_str()), (EXIT_DONE, "2 splits in 2 files are valid\n"));
        let expected =
            "b.yaml:3: split \"b\": endpoint 198.51.100.1:80 is in subset \"v1\" and in \"v2\"";
        assert!(errors.contains(expected), "{errors}");
        let both = format!("{SPLIT}---\n{shared}").replacen("2.1", "2.2", 1);
        let (_, out, _) = run(&[("a.yaml", &both)], Format::Table);
        assert_eq!(out, "2 splits in 1 file are valid\n");
        let wrong = SPLIT.replace("weight: 1", "weight: -1");
        let texts = [("a.yaml", wrong.as_str()), ("agent.yaml", "interfaces: [{match: eth0}]\n")];
        let (code, out, errors) = run(&texts, Format::Table);
        assert_eq!((code, out.as_str()), (EXIT_FAILED, ""));
        assert_eq!(errors.matches("error: a.yaml:").count(), 2, "{errors}");
        assert_eq!(errors.matches("error: agent.yaml: the configuration of an agent").count(), 1);
        let (code, out, _) = run(&texts, Format::Json);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, json["problems"].as_array().unwrap().len()), (EXIT_FAILED, 3), "{out}");
        assert_eq!(json["files"], 2);
    }

    #[test]
    fn nothing_at_all_is_an_error() {
        for text in ["", "# only a comment\n---\n"] {
            let (code, out, errors) = run(&[("a.yaml", text)], Format::Table);
            assert_eq!((code, out.as_str()), (EXIT_FAILED, ""));
            assert_eq!(errors, "error: a.yaml: no document is in it\n");
        }
    }
}
