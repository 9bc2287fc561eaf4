//! The real `weir agent` in a namespace, and its command line.

use std::fmt;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::net::if_::if_nameindex;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use weir::api::Client;
use weir::api::types::{
    ExplainRequest, ExplainView, SplitStatsView, SplitView, StatsQuery, StatusView,
};
use weir::config::AgentConfig;
use weir::datapath::Pins;

use crate::netns::Netns;

/// How long the agent may take for anything; generous, since other tests run too.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(5);
/// The file of [`Setup::resource`] that is written unless another is named.
pub const SPLITS: &str = "splits.yaml";

/// The `weir` program that lies beside, or above, the running executable; or `WEIR_BIN`.
///
/// # Errors
///
/// Fails if there is none: building a test does not build the programs of other packages.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("WEIR_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    let found = own.ancestors().skip(1).take(2).map(|dir| dir.join("weir")).find(|p| p.is_file());
    found.with_context(|| format!("no `weir` near {}; build it (cargo xtask build)", own.display()))
}

/// What an agent is started with.
#[derive(Clone, Debug)]
pub struct Setup {
    interfaces: Vec<(String, &'static str)>,
    lines: String,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    resources: Vec<(String, String)>,
    program: Option<PathBuf>,
    launcher: Option<PathBuf>,
}

impl Default for Setup {
    /// Forward at TC on `veth-*`, hash seed 0x5eed, no resources.
    fn default() -> Self {
        let lines = "hashSeed: 0x5eed\n".to_owned();
        let interfaces = vec![("veth-*".to_owned(), "tc")];
        let (arguments, environment, resources, program, launcher) = Default::default();
        Self { interfaces, lines, arguments, environment, resources, program, launcher }
    }
}

impl Setup {
    /// The hook of the forward direction on `veth-*`: "tc" or "xdp".
    #[must_use]
    pub fn forward(self, hook: &'static str) -> Self {
        self.interfaces(&[("veth-*", hook)])
    }

    /// Which interfaces (globs), and the hook of the forward direction on each.
    #[must_use]
    pub fn interfaces(mut self, interfaces: &[(&str, &'static str)]) -> Self {
        self.interfaces = interfaces.iter().map(|&(m, hook)| (m.to_owned(), hook)).collect();
        self
    }

    /// In place of `hashSeed`, these lines at the end of `agent.yaml`.
    #[must_use]
    pub fn config(mut self, lines: &str) -> Self {
        lines.clone_into(&mut self.lines);
        self
    }

    /// Adds an argument to `weir agent --config FILE`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// Sets a variable of the agent's environment.
    #[must_use]
    pub fn environment(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Another build than [`program`].
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// Has the agent be started by another program, whose arguments are the agent's command line,
    /// and which must turn into it.
    #[must_use]
    pub fn launcher(mut self, launcher: &Path) -> Self {
        self.launcher = Some(launcher.to_owned());
        self
    }

    /// Adds a document to [`SPLITS`].
    #[must_use]
    pub fn split(mut self, document: &str) -> Self {
        match self.resources.iter_mut().find(|(name, _)| name == SPLITS) {
            Some((_, text)) => text.push_str(&format!("---\n{document}")),
            None => self.resources.push((SPLITS.to_owned(), document.to_owned())),
        }
        self
    }

    /// Adds a resource file.
    #[must_use]
    pub fn resource(mut self, file: &str, text: &str) -> Self {
        self.resources.push((file.to_owned(), text.to_owned()));
        self
    }

    /// Starts the agent and waits until it is ready: its API answers, and each matching interface
    /// of the namespace has been taken (with success or not: see [`Agent::status`]).
    ///
    /// # Errors
    ///
    /// Shows what the agent wrote if it ends before that.
    pub fn start(&self, node: &Netns) -> Result<Agent> {
        let directory = tempfile::Builder::new().prefix("weir-").tempdir()?;
        let path = directory.path();
        std::fs::create_dir(path.join("resources.d"))?;
        for (name, text) in &self.resources {
            std::fs::write(path.join("resources.d").join(name), text)?;
        }
        let mut config = String::from("interfaces:\n");
        for (pattern, hook) in &self.interfaces {
            config.push_str(&format!("- match: \"{pattern}\"\n  forward: {hook}\n"));
        }
        for (key, name) in [("resources", "resources.d"), ("state", "state"), ("socket", "sock")] {
            config.push_str(&format!("{key}: {}\n", path.join(name).display()));
        }
        let pins = Pins::of(&pins_of(path));
        config.push_str(&format!("bpffs: {}\n", pins.dir().display()));
        config.push_str(&self.lines);
        std::fs::write(path.join("agent.yaml"), config)?;
        let mut agent = Agent {
            arguments: self.arguments.clone(),
            environment: self.environment.clone(),
            process: None,
            stderr: Arc::default(),
            program: self.program.clone().map_or_else(program, Ok)?,
            launcher: self.launcher.clone(),
            directory,
            pins,
        };
        agent.start_again(node)?;
        Ok(agent)
    }
}

/// A user of the node who need not be in its lists.
#[derive(Clone, Debug, Default)]
pub struct Somebody {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
    /// Whether file permissions do not count for this one.
    pub overrides_permissions: bool,
}

impl Somebody {
    /// A command that they run.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args([format!("--reuid={}", self.uid), format!("--regid={}", self.gid)]);
        let groups: Vec<String> = self.groups.iter().map(u32::to_string).collect();
        match groups.as_slice() {
            [] => command.arg("--clear-groups"),
            groups => command.arg(format!("--groups={}", groups.join(","))),
        };
        if self.overrides_permissions {
            command.args(["--inh-caps=+dac_override", "--ambient-caps=+dac_override"]);
        }
        command.arg("--").arg(program);
        command
    }
}

/// The agent's process and how its standard error is read.
struct Process {
    child: Child,
    reader: JoinHandle<()>,
}

/// The agent's directory on bpffs, of the name of its own, which is unique.
fn pins_of(directory: &Path) -> PathBuf {
    // bpffs takes no name with a dot.
    let name = directory.file_name().unwrap_or_default().to_string_lossy().replace('.', "_");
    Path::new("/sys/fs/bpf").join(name)
}

/// A running agent, with a directory of its own; both end on drop, and what it
/// pinned in the kernel is removed.
///
/// If the test panics, what the agent wrote on standard error is shown.
pub struct Agent {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Process>,
    stderr: Arc<Mutex<String>>,
    program: PathBuf,
    launcher: Option<PathBuf>,
    directory: TempDir,
    pins: Pins,
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("pid", &self.process.as_ref().map(|process| process.child.id()))
            .field("directory", &self.directory.path())
            .finish_non_exhaustive()
    }
}

impl Agent {
    /// Starts an agent that has ended once more, in the same directory, and waits as
    /// [`Setup::start`] does.
    ///
    /// # Errors
    ///
    /// As [`Setup::start`].
    pub fn start_again(&mut self, node: &Netns) -> Result<()> {
        self.spawn(node)?;
        self.await_ready(node)
    }

    /// Starts it once more, and kills it after that time, wherever it is by then.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started.
    pub fn start_for(&mut self, node: &Netns, time: Duration) -> Result<()> {
        self.spawn(node)?;
        std::thread::sleep(time);
        self.end(Signal::SIGKILL).map(drop)
    }

    /// The build that is started.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Has another build be started from now on.
    pub fn becomes(&mut self, program: PathBuf) {
        self.program = program;
    }

    fn spawn(&mut self, node: &Netns) -> Result<()> {
        if self.process.is_some() {
            bail!("the agent is running");
        }
        let first = self.launcher.as_ref().unwrap_or(&self.program);
        let mut command = node.command(first.to_str().context("the path of weir is not UTF-8")?);
        command
            .args(self.launcher.iter().map(|_| &self.program))
            .arg("agent")
            .arg("--config")
            .arg(self.directory.path().join("agent.yaml"));
        command.envs(self.environment.iter().cloned());
        command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().context("start weir")?;
        let pipe = child.stderr.take().context("standard error is piped")?;
        let text = Arc::clone(&self.stderr);
        let reader = std::thread::Builder::new()
            .name("weir agent".to_owned())
            .spawn(move || collect(pipe, &text))?;
        self.process = Some(Process { child, reader });
        Ok(())
    }

    /// Waits until the API answers and knows of all interfaces that match.
    fn await_ready(&mut self, node: &Netns) -> Result<()> {
        let config = AgentConfig::load(&self.directory.path().join("agent.yaml")).ok();
        let config = config.context("the agent's configuration is not valid")?;
        let names = node.run(interface_names)?;
        let wanted: Vec<String> =
            names.into_iter().filter(|name| config.forward_for(name).is_some()).collect();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(process) = &mut self.process
                && let Some(status) = process.child.try_wait()?
            {
                self.reap()?;
                bail!("weir agent ended at once, {status}:\n{}", self.stderr());
            }
            let status = self.interfaces();
            if let Ok(status) = &status
                && wanted.iter().all(|name| status.contains(name.as_str()))
            {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("weir agent is not ready: {status:?}, wanted {wanted:?}\n{}", self.stderr());
            }
            std::thread::sleep(POLL);
        }
    }

    /// A text that names the interfaces that it knows of.
    fn interfaces(&self) -> Result<String> {
        if self.program != program()? {
            // Its own command line knows what its API says.
            return self.ask(&["status"]);
        }
        let interfaces = self.status()?.interfaces.into_iter();
        Ok(interfaces.map(|interface| interface.name).collect::<Vec<_>>().join(" "))
    }

    /// Runs `weir` with these arguments, for this agent, to its end.
    ///
    /// # Panics
    ///
    /// If the program cannot be started.
    #[must_use]
    pub fn weir(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.program);
        command.arg("--socket").arg(self.socket()).args(arguments).stdin(Stdio::null());
        // Who runs the tests makes no change.
        command.env_remove("SUDO_USER");
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs `weir` as [`Agent::weir`] does, as somebody else. Whoever that is may reach the
    /// directory of the agent from then on.
    ///
    /// # Panics
    ///
    /// If the program cannot be started.
    #[must_use]
    pub fn weir_as(&self, who: &Somebody, arguments: &[&str]) -> Output {
        let directory = self.directory.path();
        // The build directory may be nobody else's business.
        let program = directory.join("weir");
        if !program.exists() {
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))
                .and_then(|()| std::fs::copy(&self.program, &program))
                .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        }
        let mut command = who.command(&program);
        command.arg("--socket").arg(self.socket()).args(arguments).stdin(Stdio::null());
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Runs `weir` as [`Agent::weir`] does and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails, with what it wrote on standard error, unless it exits with 0.
    pub fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = self.weir(arguments);
        if !output.status.success() {
            let stderr = String::from_utf8_lossy(&output.stderr);
            bail!("weir {}: {}: {}", arguments.join(" "), output.status, stderr.trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What `weir` prints, whatever its exit code.
    pub fn printed(&self, arguments: &[&str]) -> String {
        String::from_utf8_lossy(&self.weir(arguments).stdout).into_owned()
    }

    /// `weir weights SPLIT SUBSET=WEIGHT...`.
    ///
    /// # Errors
    ///
    /// As [`Agent::ask`].
    pub fn weights(&self, split: &str, weights: &[(&str, u32)]) -> Result<()> {
        let weights: Vec<String> = weights.iter().map(|(name, w)| format!("{name}={w}")).collect();
        let head = ["weights", split];
        let arguments: Vec<&str> =
            head.into_iter().chain(weights.iter().map(String::as_str)).collect();
        self.ask(&arguments).map(drop)
    }

    /// The agent's answer to GET `/v1/status`.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer.
    pub fn status(&self) -> Result<StatusView> {
        self.call(async |client| client.status().await)
    }

    /// The agent's answer to GET `/v1/splits/NAME`.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer or has no such split.
    pub fn split(&self, name: &str) -> Result<SplitView> {
        self.call(async |client| client.split(name).await)
    }

    /// The agent's answer to GET `/v1/stats`, of that split.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer or has no such split.
    pub fn stats(&self, split: &str) -> Result<SplitStatsView> {
        let query = StatsQuery { split: Some(split.to_owned()), ..StatsQuery::default() };
        let view = self.call(async |client| client.stats(&query).await)?;
        view.splits.into_iter().next().context("no split in the answer")
    }

    /// The agent's answer to GET `/v1/splits`.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer.
    pub fn splits(&self) -> Result<Vec<SplitView>> {
        self.call(async |client| client.splits().await)
    }

    /// The agent's answer to POST `/v1/explain`.
    ///
    /// # Errors
    ///
    /// Fails if it does not answer or steers no such connection.
    pub fn explain(&self, request: ExplainRequest) -> Result<ExplainView> {
        self.call(async |client| client.explain(request).await)
    }

    fn call<T, E: std::error::Error + Send + Sync + 'static>(
        &self,
        question: impl AsyncFnOnce(&Client) -> Result<T, E>,
    ) -> Result<T> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = Client::new(self.socket());
        Ok(runtime.block_on(question(&client))?)
    }

    /// Waits until `done` says so of the agent's status, and returns that.
    ///
    /// # Panics
    ///
    /// With `what` after a minute.
    #[track_caller]
    pub fn await_status(&self, what: &str, done: impl Fn(&StatusView) -> bool) -> StatusView {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let status = self.status();
            match status {
                Ok(status) if done(&status) => return status,
                _ if Instant::now() > deadline => panic!("{what}: not so, but {status:?}"),
                _ => std::thread::sleep(POLL),
            }
        }
    }

    /// Writes a resource file in place, as most editors do.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.resources().join(file);
        std::fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }

    /// Writes a new resource file and renames it over the old one.
    ///
    /// # Panics
    ///
    /// If it cannot be written.
    pub fn replace(&self, file: &str, text: &str) {
        let aside = format!(".{file}.new");
        self.write(&aside, text);
        let result = std::fs::rename(self.resources().join(aside), self.resources().join(file));
        result.unwrap_or_else(|e| panic!("{file}: {e}"));
    }

    /// The directory of resources.
    #[must_use]
    pub fn resources(&self) -> PathBuf {
        self.directory.path().join("resources.d")
    }

    /// Where its maps and links are pinned.
    #[must_use]
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The API's socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("sock")
    }

    /// Where the agent's configuration and all its files are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// What the agent has written on standard error so far, earlier runs included.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Its process id while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(|process| process.child.id())
    }

    /// Sends a signal and waits for the agent to end.
    ///
    /// # Errors
    ///
    /// Fails if it does not run, or goes on for a minute.
    pub fn end(&mut self, signal: Signal) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("the agent does not run")?;
        kill(Pid::from_raw(process.child.id().cast_signed()), signal)?;
        let deadline = Instant::now() + TIMEOUT;
        while process.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                bail!("weir agent goes on after {signal}:\n{}", self.stderr());
            }
            std::thread::sleep(POLL);
        }
        self.reap()
    }

    /// The status of a process that has ended, once all that it wrote has been read.
    fn reap(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("the agent does not run")?;
        let status = process.child.wait()?;
        let _ = process.reader.join();
        Ok(status)
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if self.process.is_some()
            && let Err(error) = self.end(Signal::SIGTERM)
        {
            eprintln!("{error:#}");
            let _ = self.end(Signal::SIGKILL);
        }
        if let Err(error) = self.pins.remove() {
            eprintln!("{error}");
        }
        if std::thread::panicking() {
            eprintln!("---- weir agent wrote:\n{}----", self.stderr());
        }
    }
}

/// The names of all interfaces of the current namespace.
fn interface_names() -> Result<Vec<String>> {
    let list = if_nameindex()?;
    Ok(list.iter().map(|interface| interface.name().to_string_lossy().into_owned()).collect())
}

/// Reads a pipe to its end.
fn collect(mut pipe: ChildStderr, text: &Mutex<String>) {
    let mut buffer = [0; 4096];
    loop {
        match pipe.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                let part = String::from_utf8_lossy(&buffer[..length]);
                text.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push_str(&part);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
