//! Documents to send: the agent reads them, so that it can say what is wrong where.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};

use crate::api::types::FileText;
use crate::source::{Problem, decode};
use crate::{files, resource};

/// What standard input is called.
const STANDARD_INPUT: &str = "<stdin>";

/// The text of files, of directories' `*.yaml` and `*.yml` files, and of
/// standard input for `-`.
pub(super) fn read(paths: &[PathBuf]) -> Result<Vec<FileText>> {
    let (texts, problems) = read_all(paths);
    if problems.is_empty() {
        return Ok(texts);
    }
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    bail!("{}", lines.join("\n"))
}

/// The same, with all that cannot be read. Where no document is in any of them, that
/// is a mistake.
pub(super) fn read_all(paths: &[PathBuf]) -> (Vec<FileText>, Vec<Problem>) {
    let (mut texts, mut problems) = (Vec::new(), Vec::new());
    for path in paths {
        match of_path(path) {
            Ok(found) => found.into_iter().for_each(|text| match text {
                Ok(text) => texts.push(text),
                Err(problem) => problems.push(problem),
            }),
            Err(problem) => problems.push(problem),
        }
    }
    if problems.is_empty() && texts.iter().all(|file| resource::is_blank(&file.text)) {
        problems.extend(blank(&texts));
    }
    (texts, problems)
}

/// What is wrong with files that hold no document.
pub(super) fn blank(texts: &[FileText]) -> impl Iterator<Item = Problem> {
    let blank = texts.iter().filter(|file| resource::is_blank(&file.text));
    blank.map(|file| Problem::of_file(&file.name, "no document is in it"))
}

fn of_path(path: &Path) -> Result<Vec<Result<FileText, Problem>>, Problem> {
    let name = path.display().to_string();
    if path.as_os_str() == "-" {
        return Ok(vec![standard_input()]);
    }
    if !path.is_dir() {
        let text = files::read_named(path).map(|text| FileText { name: name.clone(), text });
        return Ok(vec![text]);
    }
    let listed = files::list(path);
    let files = listed
        .map_err(|error| Problem::of_file(&name, format!("cannot list the directory: {error}")))?;
    if files.is_empty() {
        let message = "no *.yaml or *.yml file is in this directory";
        return Err(Problem::of_file(&name, message));
    }
    Ok(files.iter().map(|file| text(file)).collect())
}

fn text(path: &Path) -> Result<FileText, Problem> {
    Ok(FileText { name: path.display().to_string(), text: files::read(path)? })
}

fn standard_input() -> Result<FileText, Problem> {
    let problem = |message: String| Problem::of_file(STANDARD_INPUT, message);
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(files::MAX_FILE_SIZE + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| problem(format!("cannot read it: {error}")))?;
    if bytes.len() as u64 > files::MAX_FILE_SIZE {
        return Err(problem(format!("larger than {} bytes", files::MAX_FILE_SIZE)));
    }
    let text = decode(bytes).map_err(|what| problem(what.to_owned()))?;
    Ok(FileText { name: STANDARD_INPUT.to_owned(), text })
}
