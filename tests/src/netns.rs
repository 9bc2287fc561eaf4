//! Network namespaces which go away by themselves.

use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, write};

/// Numbers the namespaces of this process.
static NEXT: AtomicU32 = AtomicU32::new(0);

/// A named network namespace (`/run/netns/weir-<pid>-<n>`), deleted on drop.
///
/// Dropping it also kills the processes started through [`Netns::command`] that are still running,
/// and no others. They are not reaped: that stays with the `Child` that the test holds.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: Arc<File>,
    /// Each child writes its process id here before it turns into the program.
    started: (PipeReader, Arc<PipeWriter>),
}

impl Netns {
    /// Creates a namespace with `lo` up, duplicate address detection and `rp_filter` off.
    ///
    /// # Errors
    ///
    /// Needs root and the `ip` program.
    pub fn new() -> Result<Self> {
        let name = loop {
            let name = format!("weir-{}-{}", getpid(), NEXT.fetch_add(1, Ordering::Relaxed));
            // One that was left by a killed process which had our process id.
            if !PathBuf::from("/run/netns").join(&name).exists() {
                break name;
            }
        };
        check(Command::new("ip").args(["netns", "add", &name]), "")?;
        let open = || -> Result<Self> {
            let path = format!("/run/netns/{name}");
            let file = Arc::new(File::open(&path).context(path)?);
            let (reader, writer) = std::io::pipe()?;
            // Neither side may ever block: the children write, drop reads.
            fcntl(&reader, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            fcntl(&writer, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            Ok(Self { name: name.clone(), file, started: (reader, Arc::new(writer)) })
        };
        let ns = open().inspect_err(|_| delete(&name))?;
        for conf in ["all", "default"] {
            ns.sysctl(&format!("net/ipv4/conf/{conf}/rp_filter"), "0")?;
            ns.sysctl(&format!("net/ipv6/conf/{conf}/accept_dad"), "0")?;
        }
        ns.ip(&["link set lo up"])?;
        Ok(ns)
    }

    /// The name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace, for `nsenter --net=`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// Runs a closure inside the namespace, on a fresh thread, and returns its value.
    ///
    /// Sockets and threads made by the closure belong to the namespace for good.
    ///
    /// # Panics
    ///
    /// Passes on the closure's panic; panics if the namespace cannot be entered.
    pub fn run<T: Send>(&self, f: impl FnOnce() -> T + Send) -> T {
        let fd = self.file.as_fd();
        let thread = std::thread::current().name().unwrap_or("netns").to_owned();
        std::thread::scope(|scope| {
            let handle = std::thread::Builder::new()
                .name(thread)
                .spawn_scoped(scope, move || {
                    setns(fd, CloneFlags::CLONE_NEWNET).expect("enter network namespace");
                    f()
                })
                .expect("spawn thread");
            handle.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// A command whose process will run inside the namespace.
    ///
    /// Only the network namespace differs: mounts, and so bpffs, are those of the test
    /// (`ip netns exec` would hide them).
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let (file, writer) = (Arc::clone(&self.file), Arc::clone(&self.started.1));
        let enter = move || {
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET)?;
            // A full pipe only means that drop will not know this child.
            let _ = write(writer.as_fd(), &getpid().as_raw().to_ne_bytes());
            Ok(())
        };
        // Ctrl-C is for the program that started it, which then ends its children in good order.
        command.process_group(0);
        // SAFETY: between fork and exec only system calls are made (setns, getpid, write); nothing
        // allocates or locks, and the descriptors live as long as the closure.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a program in the namespace to its end and returns its standard output.
    ///
    /// # Errors
    ///
    /// Fails, with what it printed on standard error, unless it exits with 0.
    pub fn output(&self, program: &str, args: &[&str]) -> Result<String> {
        check(self.command(program).args(args), "")
    }

    /// Runs lines of `ip` commands ("link set lo up") in the namespace, in order.
    ///
    /// # Errors
    ///
    /// Stops at the first line that fails and shows what `ip` said.
    pub fn ip<S: AsRef<str>>(&self, lines: &[S]) -> Result<()> {
        let batch: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        check(self.command("ip").args(["-batch", "-"]), &batch).with_context(|| batch.clone())?;
        Ok(())
    }

    /// Writes a network sysctl of the namespace; `key` is a path such as `net/ipv4/ip_forward`.
    ///
    /// # Errors
    ///
    /// Fails if the kernel has no such key or rejects the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = format!("/proc/sys/{key}");
        self.run(|| std::fs::write(&path, value)).with_context(|| format!("{path} = {value}"))
    }

    /// Kills the children that were started in this namespace and still run in it.
    fn end_children(&mut self) {
        let Ok(own) = self.file.metadata().map(|m| (m.dev(), m.ino())) else { return };
        let mut pid = [0; 4];
        while self.started.0.read_exact(&mut pid).is_ok() {
            let pid = Pid::from_raw(i32::from_ne_bytes(pid));
            let exited = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            // A child that we have not waited for keeps its process id: no mix-up is possible.
            if waitid(Id::Pid(pid), exited | WaitPidFlag::WNOHANG) != Ok(WaitStatus::StillAlive) {
                continue;
            }
            // The id of a child that ended may have gone to a child in another namespace.
            let current = std::fs::metadata(format!("/proc/{pid}/ns/net"));
            if current.is_ok_and(|m| (m.dev(), m.ino()) == own)
                && kill(pid, Signal::SIGKILL).is_ok()
            {
                while waitid(Id::Pid(pid), exited) == Err(Errno::EINTR) {}
            }
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        self.end_children();
        delete(&self.name);
    }
}

/// Deletes a namespace; a failure is shown, not raised, since this runs while panicking too.
fn delete(name: &str) {
    if let Err(error) = check(Command::new("ip").args(["netns", "del", name]), "") {
        eprintln!("network namespace {name} stays behind: {error:#}");
    }
}

/// Runs a command to its end with the given standard input; its standard output if it succeeds.
fn check(command: &mut Command, input: &str) -> Result<String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Ctrl-C must not end a clean-up half-way.
    command.process_group(0);
    let mut child = command.spawn().with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    // A command that ends early says why on standard error.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output()?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, stderr.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
