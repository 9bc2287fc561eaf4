//! Proxies: a process on the node accepts connections to the service address, and makes one to
//! an endpoint for each.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use weir_tests::netns::Netns;
use weir_tests::topology::Topology;

use super::{Installed, service};

/// How long a proxy may take to start, or to end.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);

/// A running proxy and its files; both end on drop.
struct Proxy {
    child: Child,
    directory: TempDir,
}

/// What is run.
pub struct Program<'a> {
    /// From the root of the workspace, where the benchmark runs.
    pub path: &'a str,
    /// What brings it.
    pub package: &'a str,
}

/// Starts a proxy on the node, with `config` in a file whose path follows `arguments`, and waits
/// until it listens. It runs in a directory of its own.
pub fn start(
    topology: &Topology,
    program: &Program<'_>,
    arguments: &[&str],
    config: &str,
) -> Result<Installed> {
    let node = &topology.node;
    // The proxy runs elsewhere.
    let path = std::path::absolute(program.path)?;
    ensure!(path.is_file(), "{} is missing: it is in {}", program.path, program.package);
    // The node has the service address, and enough ports for connections to endpoints.
    node.ip(&[format!("address add {}/32 dev lo", service().ip())])?;
    node.sysctl("net/ipv4/ip_local_port_range", "10000 65535")?;
    let directory = tempfile::Builder::new().prefix("weir-proxy-").tempdir()?;
    let file = directory.path().join("config.yaml");
    std::fs::write(&file, config)?;
    let log = File::create(directory.path().join("log"))?;
    let mut command = node.command(path.to_str().context("a path that is not UTF-8")?);
    command.args(arguments).arg(&file).current_dir(directory.path());
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let child = command.spawn().with_context(|| format!("cannot start {}", program.path))?;
    let mut proxy = Proxy { child, directory };
    proxy.await_listening(node)?;
    Ok(Installed::service(proxy))
}

impl Proxy {
    fn await_listening(&mut self, node: &Netns) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        while !node.run(listens)? {
            if let Some(status) = self.child.try_wait()? {
                bail!("it ended at once, {status}:\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!("it does not listen:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    fn end(&mut self) -> Result<()> {
        if self.child.try_wait()?.is_some() {
            return Ok(());
        }
        // To be asked first: nginx has processes of its own to end.
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM)?;
        let deadline = Instant::now() + TIMEOUT;
        while self.child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                self.child.kill()?;
                self.child.wait()?;
                bail!("it went on after SIGTERM:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("a proxy did not end well: {error:#}");
        }
    }
}

/// Whether somebody in this thread's namespace listens at the service's port. To connect would
/// tell, too, but a proxy may take it amiss when an endpoint does not answer yet.
fn listens() -> Result<bool> {
    let path = "/proc/thread-self/net/tcp";
    let table = std::fs::read_to_string(path).context(path)?;
    Ok(listens_in(&table, service().port()))
}

/// Columns: number, local address, remote address, state (0A: listening).
fn listens_in(table: &str, port: u16) -> bool {
    let port = format!(":{port:04X}");
    table.lines().any(|line| {
        let mut words = line.split_whitespace().skip(1);
        words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some("0A")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_of_the_port_is_no_listener() {
        let table = "  sl  local_address rem_address   st\n\
                     0: 0A7100CB:2378 00000000:0000 0A 0\n\
                     1: 0A7100CB:2379 C80200C0:2711 01 0\n";
        assert!(listens_in(table, 0x2378));
        assert!(!listens_in(table, 0x2379));
        assert!(!listens_in(table, 0x2711));
    }
}
