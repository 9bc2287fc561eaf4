//! Programs that run until they are dropped.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// How often is looked.
const POLL: Duration = Duration::from_millis(10);
/// How much of what it wrote is shown when a test fails.
const SHOWN: usize = 25;

/// A running program; killed on drop, and with the process that started it, however that ends.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    pid: Pid,
    /// How it ended. Who holds the lock while this is `None` knows that the process id is its.
    ended: Arc<Mutex<Option<ExitStatus>>>,
    thread: Option<JoinHandle<()>>,
}

impl Process {
    /// Starts a command that adds what it writes to the file `log`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be started; not if it ends at once.
    pub fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::options().append(true).create(true).open(log);
        let file = file.with_context(|| log.display().to_string())?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        // SAFETY: a system call is all that is made between fork and exec.
        unsafe { command.pre_exec(|| set_pdeathsig(Signal::SIGKILL).map_err(Into::into)) };
        let ended = Arc::new(Mutex::new(None));
        let (sender, receiver) = channel();
        // The kernel's signal comes when the thread ends that started the process: so one that
        // lives as long as the process does.
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn({
            let ended = Arc::clone(&ended);
            move || {
                let mut child = match command.spawn() {
                    Ok(child) => child,
                    Err(error) => return drop(sender.send(Err(error))),
                };
                let pid = Pid::from_raw(child.id().cast_signed());
                let _ = sender.send(Ok(pid));
                let exited = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
                while waitid(Id::Pid(pid), exited) == Err(Errno::EINTR) {}
                *ended.lock().unwrap_or_else(PoisonError::into_inner) = child.wait().ok();
            }
        })?;
        let pid = receiver.recv()?.with_context(|| format!("start {name}"))?;
        Ok(Self { name: name.to_owned(), log: log.to_owned(), pid, ended, thread: Some(thread) })
    }

    /// How it ended, if it did.
    #[must_use]
    pub fn status(&self) -> Option<ExitStatus> {
        *self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends it a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none()
            && let Err(error) = kill(self.pid, signal)
        {
            eprintln!("{}: {signal}: {error}", self.name);
        }
    }

    /// Whether it ends in that time.
    #[must_use]
    pub fn ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.status().is_none() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(POLL);
        }
        true
    }

    /// The last lines that it wrote.
    #[must_use]
    pub fn tail(&self) -> String {
        let text = std::fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- {} ({:?}) wrote:\n{}\n----", self.name, self.status(), self.tail());
        }
        self.signal(Signal::SIGKILL);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
