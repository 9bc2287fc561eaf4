//! The node's files with documents: a directory of YAML files is read ([`load_files`]), and
//! [`Watcher`] tells when to read it again. What the texts say is the matter of
//! [`crate::resource`].

mod watch;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

pub use watch::Watcher;

use crate::directory::{names, open_beneath};
use crate::model::SplitSet;
use crate::resource::{FileRead, Files, Resolved, resolve_all};
use crate::source::{Problem, decode};

/// The largest file that is read, in bytes.
pub const MAX_FILE_SIZE: u64 = 8 << 20;

/// What the files of a directory (see [`list`]) want together, or everything
/// that is wrong with them.
pub fn load(dir: &Path) -> Result<SplitSet, Vec<Problem>> {
    let resolved = load_all(dir);
    if resolved.problems.is_empty() { Ok(resolved.desired) } else { Err(resolved.problems) }
}

/// What the files of a directory (see [`list`]) say. A file that is as it was
/// `before` is not parsed again, and its documents are the same ones.
pub fn load_files(dir: &Path, before: &Files) -> Files {
    let mut found = Files::default();
    let listed = match read_all(dir) {
        Ok(listed) => listed,
        Err(error) => {
            let problem = unlisted(dir, &error);
            found.failed = Some(problem.clone());
            found.problems.push(problem);
            found.unlisted = true;
            return found;
        }
    };
    let known: HashMap<&str, &FileRead> =
        before.files.iter().map(|file| (file.name.as_str(), file)).collect();
    for Listed { path, text } in listed {
        let name = path.display().to_string();
        match text {
            Ok(text) => found.files.push(match known.get(name.as_str()) {
                Some(&file) if file.text() == text => file.clone(),
                _ => FileRead::new(name, text),
            }),
            Err(Unread { problem, by_system }) => {
                if by_system {
                    found.failed = Some(problem.clone());
                }
                found.problems.push(problem);
                found.unreadable.insert(name);
            }
        }
    }
    found
}

fn unlisted(dir: &Path, error: &io::Error) -> Problem {
    let message = format!("cannot list the directory: {error}");
    Problem::of_file(&dir.display().to_string(), message)
}

/// What the files of a directory (see [`list`]) come to together. What cannot
/// be read is among the problems.
pub fn load_all(dir: &Path) -> Resolved {
    let listed = match read_all(dir) {
        Ok(listed) => listed,
        Err(error) => {
            let problems = vec![unlisted(dir, &error)];
            return Resolved { problems, ..Resolved::default() };
        }
    };
    let mut texts = Vec::new();
    let mut problems = Vec::new();
    for Listed { path, text } in listed {
        match text {
            Ok(text) => texts.push((path.display().to_string(), text)),
            Err(unread) => problems.push(unread.problem),
        }
    }
    let mut resolved = resolve_all(&texts);
    resolved.problems.extend(problems);
    resolved.problems.sort_by(|a, b| a.file.cmp(&b.file));
    resolved
}

/// A file of a directory.
struct Listed {
    path: PathBuf,
    text: Result<String, Unread>,
}

/// Why a file was not read.
struct Unread {
    problem: Problem,
    /// The system rejected: it may do better later, though the file is the same.
    by_system: bool,
}

/// Whether a directory's file of that name is one of its resources: `*.yaml` and
/// `*.yml`, but for names that start with '.', which editors and ConfigMap mounts
/// use for their own.
fn is_resource(name: &OsStr) -> bool {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    !hidden && Path::new(name).extension().is_some_and(|ext| ext == "yaml" || ext == "yml")
}

/// The resources of a directory, sorted; not of its subdirectories. For whoever
/// may read them: links are followed.
pub fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let names = sorted(File::open(dir)?)?.into_iter();
    Ok(names.map(|name| dir.join(name)).filter(|path| !path.is_dir()).collect())
}

fn sorted(directory: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut names = names(directory)?;
    names.retain(|name| is_resource(name));
    names.sort();
    Ok(names)
}

/// Reads what [`list`] names. A file that is a symbolic link is read if that leads
/// to another place within the directory, as those of a ConfigMap mount do.
fn read_all(dir: &Path) -> io::Result<Vec<Listed>> {
    let directory = Dir::from_std_file(File::open(dir)?);
    let mut listed = Vec::new();
    for name in sorted(&directory)? {
        let path = dir.join(&name);
        let text = match open_beneath(&directory, &name) {
            Ok(None) => continue,
            Ok(Some(file)) => text(&path, file),
            Err(error) => Err(unreadable(&path, &error)),
        };
        listed.push(Listed { path, text });
    }
    Ok(listed)
}

fn unreadable(path: &Path, error: &io::Error) -> Unread {
    let by_system = error.raw_os_error().is_some();
    let message = match error.kind() {
        io::ErrorKind::Other if !by_system => error.to_string(),
        _ => format!("cannot read the file: {error}"),
    };
    Unread { problem: Problem::of_file(&path.display().to_string(), message), by_system }
}

/// The text of a regular file of at most [`MAX_FILE_SIZE`].
pub fn read(path: &Path) -> Result<String, Problem> {
    // Checked before it is opened: to open a FIFO would wait for who writes to it.
    let rejected = |error: io::Error| unreadable(path, &error).problem;
    let found = std::fs::metadata(path).map_err(rejected)?;
    if !found.is_file() {
        return Err(Problem::of_file(&path.display().to_string(), "not a regular file"));
    }
    text(path, File::open(path).map_err(rejected)?).map_err(|unread| unread.problem)
}

/// The text of what somebody names, of at most [`MAX_FILE_SIZE`]: a file, or a pipe such as a
/// shell's `<(...)`, of which all is waited for.
pub fn read_named(path: &Path) -> Result<String, Problem> {
    let opened = File::open(path).map_err(|error| unreadable(path, &error));
    opened.and_then(|file| text(path, file)).map_err(|unread| unread.problem)
}

fn text(path: &Path, file: File) -> Result<String, Unread> {
    let problem = |message: String| Unread {
        problem: Problem::of_file(&path.display().to_string(), message),
        by_system: false,
    };
    let mut bytes = Vec::new();
    let read = file.take(MAX_FILE_SIZE + 1).read_to_end(&mut bytes);
    read.map_err(|error| unreadable(path, &error))?;
    if bytes.len() as u64 > MAX_FILE_SIZE {
        return Err(problem(format!("larger than {MAX_FILE_SIZE} bytes")));
    }
    decode(bytes).map_err(|what| problem(what.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPLIT: &str = "{apiVersion: weir.dev/v1alpha1, kind: TrafficSplit, metadata: {name: N}, \
        spec: {address: 10.0.0.1, port: 80, subsets: [{name: a, weight: 1, endpoints: []}]}}";

    #[test]
    fn reads_sorted_yaml_files_only() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("b.yaml", &SPLIT.replace('N', "b"));
        write("c.yml", "");
        write(".hidden.yaml", "[");
        write("notes.txt", "[");
        std::fs::create_dir(dir.path().join("sub.yaml")).unwrap();
        assert_eq!(load(dir.path()).unwrap().splits().len(), 1);
        write("a.yml", &SPLIT.replace('N', "a"));
        write("z.yaml", "\n[\n");
        std::fs::write(dir.path().join("x.yaml"), [0xff]).unwrap();
        let big = File::create(dir.path().join("big.yaml")).unwrap();
        big.set_len(MAX_FILE_SIZE + 1).unwrap();
        let prefix = format!("{}/", dir.path().display());
        let problems = load(dir.path()).unwrap_err();
        let problems: Vec<_> =
            problems.iter().map(|p| p.to_string().replace(&prefix, "")).collect();
        assert_eq!(problems.len(), 4, "{problems:?}");
        assert_eq!(
            problems[0],
            "b.yaml:1: spec.address: service address 10.0.0.1:80/TCP is already taken by split \
             \"a\" (first at a.yml:1)"
        );
        assert_eq!(problems[1], "big.yaml: larger than 8388608 bytes");
        assert_eq!(problems[2], "x.yaml: not UTF-8 text");
        assert!(problems[3].starts_with("z.yaml:3: invalid YAML: "), "{}", problems[3]);
    }

    #[test]
    fn links_are_read_only_within_the_directory() {
        use std::os::unix::fs::symlink;
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("resources.d");
        let data = dir.join("..2024_1");
        std::fs::create_dir_all(&data).unwrap();
        // As Kubernetes mounts a ConfigMap.
        std::fs::write(data.join("a.yaml"), SPLIT.replace('N', "a")).unwrap();
        symlink("..2024_1", dir.join("..data")).unwrap();
        symlink("..data/a.yaml", dir.join("a.yaml")).unwrap();
        symlink("..data", dir.join("directory.yaml")).unwrap();
        assert_eq!(load(&dir).unwrap().splits().len(), 1);
        std::fs::write(root.path().join("secret"), "secret").unwrap();
        symlink("../secret", dir.join("b.yaml")).unwrap();
        let files = load_files(&dir, &Files::default());
        let read: Vec<&str> = files.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(read, [dir.join("a.yaml").to_str().unwrap()]);
        let problems: Vec<String> = files.problems.iter().map(Problem::to_string).collect();
        let expected = format!(
            "{}: cannot read the file: a symbolic link that is absolute or leads out of the \
             directory is not followed",
            dir.join("b.yaml").display()
        );
        assert_eq!(problems, [expected]);
    }

    #[test]
    fn a_missing_directory_is_a_problem() {
        let problems = load(Path::new("/nonexistent/resources.d")).unwrap_err();
        assert_eq!(
            problems[0].to_string(),
            "/nonexistent/resources.d: cannot list the directory: No such file or directory (os error 2)"
        );
    }
}
