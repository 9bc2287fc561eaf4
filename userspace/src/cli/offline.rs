//! Commands about files that need no agent.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;
use serde_yaml::Value;

use super::args::{Format, TranslateArgs, ValidateArgs};
use super::{EXIT_DONE, EXIT_FAILED, files};
use crate::api::types::FileText;
use crate::model::{counted, nowhere};
use crate::resource::{self, Resolved};
use crate::source::{self, FieldPath, Node, Problem};

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
    let (texts, mut resolved) = resolve(&paths);
    let known: Vec<String> = resolved.problems.iter().map(|found| found.file.clone()).collect();
    let blank = files::blank(&texts).filter(|found| !known.contains(&found.file));
    resolved.problems.extend(blank);
    let report = Report {
        files: texts.len(),
        splits: resolved.desired.splits().len(),
        warnings: warnings(&texts),
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

/// The files that there are, and what they come to together; what cannot be read is
/// among the problems.
fn resolve(paths: &[PathBuf]) -> (Vec<FileText>, Resolved) {
    let (texts, mut problems) = files::read_all(paths);
    let pairs: Vec<(&str, &str)> = texts.iter().map(|f| (&*f.name, &*f.text)).collect();
    let mut resolved = resource::resolve_all(&pairs);
    for FileText { name, .. } in texts.iter().filter(|file| is_configuration(&file.text)) {
        resolved.problems.retain(|problem| problem.file != *name);
        let message = "the configuration of an agent, which `weir agent --config` checks; \
                       expected documents with apiVersion and kind";
        problems.push(Problem::of_file(name, message));
    }
    resolved.problems.splice(0..0, problems);
    (texts, resolved)
}

/// Whether a text is an agent.yaml.
fn is_configuration(text: &str) -> bool {
    let Ok(Value::Mapping(fields)) = serde_yaml::from_str(text) else { return false };
    let has = |key: &str| fields.contains_key(key);
    has("interfaces") && !has("kind") && !has("apiVersion")
}

/// What is perhaps not meant in TrafficSplits, whatever else is wrong with them. Documents of
/// other kinds have notes about such things.
fn warnings(texts: &[FileText]) -> Vec<String> {
    let mut found = Vec::new();
    for file in texts {
        let (nodes, _) = source::documents(&file.name, &file.text);
        for node in nodes.iter().filter(|node| is_split(node)) {
            found.extend(warn(node).iter().map(ToString::to_string));
        }
    }
    found
}

fn is_split(node: &Node<'_>) -> bool {
    node.value.get("kind").and_then(Value::as_str) == Some(source::KIND)
}

fn warn(node: &Node<'_>) -> Vec<Problem> {
    let at = |path: &[&str]| path.iter().try_fold(&node.value, |value, key| value.get(*key));
    let split = at(&["metadata", "name"]).and_then(Value::as_str).unwrap_or_default();
    let mut found = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let subsets = at(&["spec", "subsets"]).and_then(Value::as_sequence);
    for (index, subset) in subsets.into_iter().flatten().enumerate() {
        let here = FieldPath::of("spec.subsets").index(index).key("endpoints");
        let name = subset.get("name").and_then(Value::as_str).unwrap_or_default();
        let weight = subset.get("weight").and_then(Value::as_f64).unwrap_or_default();
        let Some(endpoints) = subset.get("endpoints").and_then(Value::as_sequence) else {
            continue;
        };
        if weight > 0.0 && endpoints.is_empty() {
            let message = format!(
                "split \"{split}\": subset \"{name}\" has weight {weight} and no endpoint: its share is rejected"
            );
            found.push(node.problem(&here, &message));
        }
        for (index, endpoint) in endpoints.iter().filter_map(Value::as_str).enumerate() {
            // Others at which nobody is reached are rejected.
            if let Ok(SocketAddr::V4(address)) = endpoint.parse()
                && address.ip().is_link_local()
                && let Some(why) = nowhere((*address.ip()).into())
            {
                let message = format!("split \"{split}\": endpoint {endpoint} is {why}");
                found.push(node.problem(&here.index(index), &message));
            }
            if let Some(other) = owners.insert(endpoint, name) {
                let message = format!(
                    "split \"{split}\": endpoint {endpoint} is in subset \"{other}\" and in \"{name}\""
                );
                found.push(node.problem(&here.index(index), &message));
            }
        }
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
        let warning = "warning: a.yaml:9: spec.subsets[1].endpoints: split \"a\": subset \"v2\" has \
                       weight 1 and no endpoint: its share is rejected\n";
        let valid = "1 split in 1 file is valid\n";
        assert_eq!((code, out.as_str(), errors.as_str()), (EXIT_DONE, valid, warning));
        let shared = SPLIT.replace("[]", "['198.51.100.1:80']").replace("name: a", "name: b");
        let texts = [("a.yaml", SPLIT), ("b.yaml", &shared.replace("2.1", "2.2"))];
        let (code, out, errors) = run(&texts, Format::Table);
        assert_eq!((code, out.as_str()), (EXIT_DONE, "2 splits in 2 files are valid\n"));
        let expected = "b.yaml:9: spec.subsets[1].endpoints[0]: split \"b\": endpoint 198.51.100.1:80 is in subset \"v1\" and in \"v2\"";
        assert!(errors.contains(expected), "{errors}");
        let both = format!("{SPLIT}---\n{shared}").replacen("2.1", "2.2", 1);
        let (_, out, _) = run(&[("a.yaml", &both)], Format::Table);
        assert_eq!(out, "2 splits in 1 file are valid\n");
        let wrong = SPLIT.replace("weight: 1", "weight: -1");
        let texts = [("a.yaml", wrong.as_str()), ("agent.yaml", "interfaces: [{match: eth0}]\n")];
        let (code, out, errors) = run(&texts, Format::Table);
        assert_eq!((code, out.as_str()), (EXIT_FAILED, ""));
        assert_eq!(errors.matches("error: a.yaml:").count(), 2, "{errors}");
        assert_eq!(errors.matches("subset \"v2\" has").count(), 0, "its weight is wrong: {errors}");
        assert_eq!(errors.matches("error: agent.yaml: the configuration of an agent").count(), 1);
        let (code, out, _) = run(&texts, Format::Json);
        let json: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, json["problems"].as_array().unwrap().len()), (EXIT_FAILED, 3), "{out}");
        assert_eq!(json["files"], 2);
    }

    #[test]
    fn an_endpoint_that_no_other_host_reaches_is_odd_or_wrong_and_said_once() {
        let at = |address: &str| SPLIT.replace("198.51.100.1:80", address);
        let (code, _, errors) = run(&[("a.yaml", &at("169.254.7.7:80"))], Format::Table);
        let warning = "warning: a.yaml:8: spec.subsets[0].endpoints[0]: split \"a\": endpoint \
                       169.254.7.7:80 is a link-local address";
        assert_eq!((code, errors.matches(warning).count()), (EXIT_DONE, 1), "{errors}");
        for wrong in ["127.0.0.1:80", "239.1.1.1:80"] {
            let (code, _, errors) = run(&[("a.yaml", &at(wrong))], Format::Table);
            assert_eq!((code, errors.matches(wrong).count()), (EXIT_FAILED, 1), "{errors}");
        }
    }

    #[test]
    fn nothing_at_all_is_an_error() {
        for text in ["", "# only a comment\n---\n"] {
            let (code, out, errors) = run(&[("a.yaml", text)], Format::Table);
            assert_eq!((code, out.as_str()), (EXIT_FAILED, ""));
            assert_eq!(errors, "error: a.yaml: no document is in it\n");
            let (code, _, errors) = run(&[("a.yaml", text), ("b.yaml", SPLIT)], Format::Table);
            assert_eq!((code, errors.matches("error: ").count()), (EXIT_FAILED, 1), "{errors}");
        }
    }

    #[test]
    fn what_is_odd_is_said_of_a_document_that_is_wrong_too() {
        let wrong = SPLIT.replace("port: 80\n", "port: 0\n");
        let (code, _, errors) = run(&[("a.yaml", &wrong)], Format::Table);
        assert_eq!(
            (code, errors.matches("error: a.yaml:6: spec.port: ").count()),
            (EXIT_FAILED, 1)
        );
        assert!(errors.contains("warning: a.yaml:9: "), "{errors}");
    }
}
