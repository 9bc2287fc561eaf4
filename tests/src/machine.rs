//! A machine to install packages on: this one's files and kernel, a systemd of its own.
//!
//! systemd runs as process 1 of new namespaces, in the network namespace of a node. It sees the
//! files of this machine under an overlay: what is written there is gone with the machine, dpkg's
//! database included. bpffs, cgroups and processes are its own. The kernel is not: it is as real
//! as everything that is loaded into it.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::NamedTempFile;

use crate::netns::Netns;

/// How long booting, or the end of all processes, may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);
/// What process 1 does before it turns into systemd.
const INIT: &str = include_str!("machine.sh");

/// Numbers the machines of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A running machine; switched off on drop, which ends all its processes.
#[derive(Debug)]
pub struct Machine {
    /// `unshare`, whose only child is the machine's process 1.
    unshare: Child,
    cgroup: Cgroup,
    /// What they wrote before systemd took over.
    errors: NamedTempFile,
}

impl Machine {
    /// Boots a machine in the network namespace of `node`.
    ///
    /// # Errors
    ///
    /// Needs root, systemd, overlayfs and cgroup2.
    pub fn boot(node: &Netns) -> Result<Self> {
        let (script, errors) = (NamedTempFile::new()?, NamedTempFile::new()?);
        fs::write(script.path(), INIT)?;
        let cgroup = Cgroup::new()?;
        let mut command = node.command("unshare");
        command.args(["--mount", "--pid", "--fork", "--ipc", "--uts"]);
        command.args(["--propagation", "private", "--kill-child", "--", "sh"]);
        command.arg(script.path()).arg(cgroup.path.join("cgroup.procs"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(errors.reopen()?);
        let unshare = command.spawn().context("start unshare")?;
        let mut machine = Self { unshare, cgroup, errors };
        machine.await_boot()?;
        Ok(machine)
    }

    fn await_boot(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.unshare.try_wait()? {
                let errors = fs::read_to_string(self.errors.path())?;
                bail!("the machine's process 1 ended, {status}: {}", errors.trim_end());
            }
            let active = self.init().is_some()
                && self.sh("systemctl is-active basic.target")?.stdout == b"active\n";
            if active {
                return Ok(());
            }
            if Instant::now() > deadline {
                let jobs = self.sh("systemctl list-jobs; systemctl --failed")?;
                bail!("the machine does not boot: {}", String::from_utf8_lossy(&jobs.stdout));
            }
            std::thread::sleep(POLL);
        }
    }

    /// The id outside of the machine's process 1.
    fn init(&self) -> Option<i32> {
        let id = self.unshare.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    }

    /// Runs a line of shell on the machine to its end.
    ///
    /// # Errors
    ///
    /// Fails if the machine is gone; not if the line fails.
    pub fn sh(&self, line: &str) -> Result<Output> {
        let init = self.init().context("the machine is gone")?;
        let mut command = Command::new("nsenter");
        command.args([&format!("--target={init}"), "--all", "--", "sh", "-c", line]);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C.UTF-8");
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
        command.output().context("start nsenter")
    }

    /// Runs a line of shell that must succeed and returns its standard output, without white
    /// space at the end.
    ///
    /// # Panics
    ///
    /// With all that was written, if it does not succeed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let (success, text, errors) = self.outcome(line);
        assert!(success, "{line}:\n{text}\n{errors}\n{}", self.journal());
        text
    }

    /// Runs a line of shell that must fail and returns what it wrote on standard error.
    ///
    /// # Panics
    ///
    /// If it succeeds.
    #[track_caller]
    pub fn rejects(&self, line: &str) -> String {
        let (success, text, errors) = self.outcome(line);
        assert!(!success, "{line} succeeds:\n{text}\n{errors}");
        errors
    }

    #[track_caller]
    fn outcome(&self, line: &str) -> (bool, String, String) {
        let output = self.sh(line).unwrap_or_else(|error| panic!("{line}: {error:#}"));
        assert_eq!(output.status.signal(), None, "{line}");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    }

    /// What the services wrote.
    #[must_use]
    pub fn journal(&self) -> String {
        let output = self.sh("journalctl --boot --output=cat --lines=40 --unit=weir");
        output.map_or_else(|e| e.to_string(), |o| String::from_utf8_lossy(&o.stdout).into_owned())
    }

    /// Where a path of the machine is, seen from here.
    ///
    /// # Panics
    ///
    /// If the machine is gone.
    #[must_use]
    pub fn path(&self, path: &str) -> PathBuf {
        let init = self.init().expect("the machine is gone");
        PathBuf::from(format!("/proc/{init}/root{path}"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- the machine's journal:\n{}----", self.journal());
        }
        // The kernel ends a process 1 only when all of its machine have ended.
        let ended = match self.init() {
            Some(init) => kill(Pid::from_raw(init), Signal::SIGKILL).map_err(Into::into),
            None => self.unshare.kill(),
        };
        if let Err(error) = ended.and_then(|()| self.unshare.wait()) {
            eprintln!("the machine stays behind: {error}");
        }
        self.cgroup.remove();
    }
}

/// A cgroup of the unified hierarchy.
#[derive(Debug)]
struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    fn new() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let at = mount.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2"));
        let at = at.context("no cgroup2 is mounted, which systemd needs")?[1];
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = Path::new(at).join(format!("weir-tests-{}-{number}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("{}", path.display()))?;
        Ok(Self { path })
    }

    /// Removes it with all below; those that have just lost their last process are busy for a
    /// moment.
    fn remove(&self) {
        let deadline = Instant::now() + TIMEOUT;
        while let Err(error) = remove_tree(&self.path) {
            if Instant::now() > deadline {
                return eprintln!("{} stays behind: {error}", self.path.display());
            }
            std::thread::sleep(POLL);
        }
    }
}

fn remove_tree(path: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}
