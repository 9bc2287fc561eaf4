//! `kubectl`, run in the namespace of the control plane.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::netns::Netns;

/// How long anything may take to become so.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked: each look is a process.
const POLL: Duration = Duration::from_millis(200);

/// `kubectl` of somebody.
#[derive(Debug, Clone)]
pub struct Kubectl {
    ns: Arc<Netns>,
    program: PathBuf,
    kubeconfig: PathBuf,
    cache: PathBuf,
}

impl Kubectl {
    /// That of who is named in a kubeconfig; `cache` is a directory of its own.
    #[must_use]
    pub fn new(ns: Arc<Netns>, program: PathBuf, kubeconfig: PathBuf, cache: PathBuf) -> Self {
        Self { ns, program, kubeconfig, cache }
    }

    /// The same for somebody else.
    #[must_use]
    pub fn of(&self, kubeconfig: &Path) -> Self {
        Self { kubeconfig: kubeconfig.to_owned(), ..self.clone() }
    }

    /// Runs it and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails, with all that it wrote, unless it exits with 0.
    pub fn try_run(&self, arguments: &[&str], input: &str) -> Result<String> {
        let mut command = self.ns.command(self.program.to_str().context("not UTF-8")?);
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(&self.cache);
        command.args(arguments).env_remove("KUBECONFIG");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("start kubectl")?;
        let mut stdin = child.stdin.take().context("standard input is piped")?;
        let output = std::thread::scope(|scope| {
            // Beside reading, or both sides may wait for each other. Who ends early says why on
            // standard error.
            scope.spawn(move || stdin.write_all(input.as_bytes()));
            child.wait_with_output()
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !output.status.success() {
            bail!(
                "kubectl {}: {}\n{}{}{}{input}",
                arguments.join(" "),
                output.status,
                text(&output.stderr),
                text(&output.stdout),
                if input.is_empty() { "" } else { "for:\n" },
            );
        }
        Ok(text(&output.stdout))
    }

    /// Runs it and returns its standard output.
    ///
    /// # Panics
    ///
    /// With all that it wrote, unless it exits with 0.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments, "").unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// Applies documents, by server-side apply.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`].
    #[track_caller]
    pub fn apply(&self, yaml: &str) {
        let arguments = ["apply", "--server-side", "--force-conflicts", "-f", "-"];
        self.try_run(&arguments, yaml).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Applies all documents of a file or directory, by server-side apply.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`].
    #[track_caller]
    pub fn apply_file(&self, path: &Path) {
        let path = path.to_str().expect("a path in UTF-8");
        self.run(&["apply", "--server-side", "--force-conflicts", "-f", path]);
    }

    /// Deletes what documents name, and waits until it is gone.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`].
    #[track_caller]
    pub fn delete(&self, yaml: &str) {
        let deleted = self.try_run(&["delete", "-f", "-"], yaml);
        deleted.unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// `kubectl get ARGUMENTS -o json`: an object, or a list with `items`.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`].
    #[track_caller]
    pub fn get(&self, arguments: &[&str]) -> Value {
        self.try_get(arguments).unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// As [`Kubectl::get`].
    ///
    /// # Errors
    ///
    /// As [`Kubectl::try_run`].
    pub fn try_get(&self, arguments: &[&str]) -> Result<Value> {
        let arguments = [&["get", "-o", "json"], arguments].concat();
        Ok(serde_json::from_str(&self.try_run(&arguments, "")?)?)
    }

    /// `kubectl patch WHAT --type TYPE -p PATCH`; `what` is a kind and a name, and `-n` with a
    /// namespace, `kind` one of `merge`, `json` and `strategic`.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`].
    #[track_caller]
    pub fn patch(&self, what: &[&str], kind: &str, patch: &Value) {
        let patch = patch.to_string();
        self.run(&[&["patch"], what, &["--type", kind, "-p", &patch]].concat());
    }

    /// `kubectl wait WHAT --for=CONDITION`.
    ///
    /// # Panics
    ///
    /// As [`Kubectl::run`], after two minutes at the latest.
    #[track_caller]
    pub fn wait(&self, what: &[&str], condition: &str) {
        let condition = format!("--for={condition}");
        let timeout = format!("--timeout={}s", TIMEOUT.as_secs());
        self.run(&[&["wait"], what, &[&condition, &timeout]].concat());
    }

    /// Gets until `done` says so of what was got, and returns that.
    ///
    /// # Panics
    ///
    /// With `what` after two minutes.
    #[track_caller]
    pub fn until(&self, arguments: &[&str], what: &str, done: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let got = self.try_get(arguments);
            match got {
                Ok(got) if done(&got) => return got,
                _ if Instant::now() > deadline => panic!("{what}: not so, but {got:#?}"),
                _ => std::thread::sleep(POLL),
            }
        }
    }
}
