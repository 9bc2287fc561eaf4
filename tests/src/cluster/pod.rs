//! What runs of a pod on its node: a namespace, and the programs of its containers.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use super::api::Api;
use super::container::{self, Container, Place};
use super::node::Node;
use super::process::Process;
use super::sandbox::Sandbox;
use crate::netns::Netns;
use crate::server::Server;

/// The image of the built-in servers. A container of it has one at each of its ports: for TCP the
/// one that its first argument names, `tcp` ([`Server::tcp`]) unless it names `bulk` or `lines`;
/// for UDP [`Server::udp`]. All say the pod's name.
pub const IDENTIFY: &str = "identify";

/// What images stand for, by name.
pub type Images = BTreeMap<String, Image>;

/// What an image stands for.
#[derive(Debug, Clone)]
pub enum Image {
    /// A program of this machine.
    Program(PathBuf),
    /// A root file system, of which an OCI runtime makes containers.
    Unpacked(PathBuf),
    /// The built-in servers, of the first kind at each TCP port, whatever its arguments say.
    Identify,
}

/// A pod that runs.
#[derive(Debug)]
pub struct Pod {
    /// Its namespace in the API.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its node.
    pub node: Arc<Node>,
    programs: Mutex<Vec<Program>>,
    /// None with `hostNetwork`.
    sandbox: Option<Sandbox>,
}

/// What a container runs.
#[derive(Debug)]
enum Program {
    Server(Server),
    Process(Process),
    Container(Container),
}

impl Pod {
    /// Starts what the object describes; logs of processes go to `logs`.
    ///
    /// # Errors
    ///
    /// Fails if an image stands for nothing, or a program cannot be started.
    pub fn start(
        object: &Value,
        node: &Arc<Node>,
        images: &Images,
        api: &Api,
        logs: &Path,
    ) -> Result<Self> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of_node = object["spec"]["hostNetwork"] == true;
        let pod = Self {
            namespace: text(&object["metadata"]["namespace"]),
            name: text(&object["metadata"]["name"]),
            node: Arc::clone(node),
            programs: Mutex::default(),
            sandbox: if of_node { None } else { Some(node.sandbox()?) },
        };
        for container in object["spec"]["containers"].as_array().into_iter().flatten() {
            let image = text(&container["image"]);
            let own = container["args"][0].as_str();
            match images.get(&image) {
                _ if image == IDENTIFY => pod.serve(container, own.unwrap_or("tcp"))?,
                Some(Image::Identify) => pod.serve(container, "tcp")?,
                Some(Image::Program(program)) => pod.execute(object, container, program, logs)?,
                Some(Image::Unpacked(root)) => {
                    let place = Place { node: &pod.node, ns: pod.ns(), api, logs };
                    let started = Container::start(object, container, root, &place)?;
                    pod.programs().push(Program::Container(started));
                }
                None => anyhow::bail!("no image {image}"),
            }
        }
        Ok(pod)
    }

    fn serve(&self, container: &Value, kind: &str) -> Result<()> {
        let start = match kind {
            "tcp" => Server::tcp,
            "bulk" => Server::bulk,
            "lines" => Server::lines,
            other => anyhow::bail!("{IDENTIFY} has no server {other}"),
        };
        for port in container["ports"].as_array().into_iter().flatten() {
            let number = port["containerPort"].as_u64().context("a port without a number")?;
            let at = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), u16::try_from(number)?);
            let udp = port["protocol"] == "UDP";
            let start = if udp { Server::udp } else { start };
            self.programs().push(Program::Server(start(self.ns(), at, &self.name)?));
        }
        Ok(())
    }

    fn execute(&self, object: &Value, it: &Value, program: &Path, logs: &Path) -> Result<()> {
        let mut command = self.ns().command(program.to_str().context("not UTF-8")?);
        let words = |value: &Value| -> Vec<String> {
            let words = value.as_array().into_iter().flatten();
            words.filter_map(|word| Some(word.as_str()?.to_owned())).collect()
        };
        command.args(words(&it["args"]));
        for variable in it["env"].as_array().into_iter().flatten() {
            let name = variable["name"].as_str().context("a variable without a name")?;
            let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                None => variable["value"].as_str().unwrap_or_default().to_owned(),
                Some("status.podIP" | "status.podIPs") => self.v4().to_string(),
                Some("status.hostIP") => self.node.v4.to_string(),
                Some(path) => {
                    let pointer = format!("/{}", path.replace('.', "/"));
                    let value = object.pointer(&pointer).and_then(Value::as_str);
                    value.with_context(|| format!("no field {path}"))?.to_owned()
                }
            };
            command.env(name, value);
        }
        let name = format!("{}/{}", self.name, it["name"].as_str().unwrap_or_default());
        let log = logs.join(format!("{}-{}.log", self.namespace, name.replace('/', "-")));
        self.programs().push(Program::Process(Process::start(&name, command, &log)?));
        Ok(())
    }

    fn programs(&self) -> MutexGuard<'_, Vec<Program>> {
        self.programs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The network namespace that its programs run in.
    #[must_use]
    pub fn ns(&self) -> &Netns {
        self.sandbox.as_ref().map_or(&self.node.ns, |sandbox| &sandbox.ns)
    }

    /// Its address.
    #[must_use]
    pub fn v4(&self) -> Ipv4Addr {
        self.sandbox.as_ref().map_or(self.node.v4, |sandbox| sandbox.v4)
    }

    /// Its address.
    #[must_use]
    pub fn v6(&self) -> Ipv6Addr {
        self.sandbox.as_ref().map_or(self.node.v6, |sandbox| sandbox.v6)
    }

    /// Its address in the family of `like`.
    #[must_use]
    pub fn ip(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.v4().into() } else { self.v6().into() }
    }

    /// The node's interface towards it; `None` with `hostNetwork`.
    #[must_use]
    pub fn node_ifname(&self) -> Option<&str> {
        Some(&self.sandbox.as_ref()?.node_ifname)
    }

    /// Connections and datagrams that its built-in servers have taken.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.servers(Server::served)
    }

    /// Connections to its built-in servers that are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.servers(|server| server.open() as u64)
    }

    fn servers(&self, count: impl Fn(&Server) -> u64) -> u64 {
        let of = |program: &Program| match program {
            Program::Server(server) => count(server),
            Program::Process(_) | Program::Container(_) => 0,
        };
        self.programs().iter().map(of).sum()
    }

    /// Asks its programs to end, as SIGTERM does.
    pub fn terminate(&self) {
        for program in self.programs().iter() {
            match program {
                Program::Server(_) => {}
                Program::Process(process) => process.signal(Signal::SIGTERM),
                Program::Container(container) => container.signal(Signal::SIGTERM),
            }
        }
    }

    /// Whether, having been asked, they have ended. A built-in server ends when it has no
    /// connection any more, and takes new ones until then.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.programs().iter().all(|program| match program {
            Program::Server(server) => server.open() == 0,
            Program::Process(process) => process.status().is_some(),
            Program::Container(container) => container.process().status().is_some(),
        })
    }

    /// Whether the readiness probes of its containers succeed, as far as these are such that an
    /// OCI runtime runs; others are ready.
    pub(super) fn is_ready(&self, object: &Value) -> Result<bool> {
        let programs = self.programs();
        if !programs.iter().any(|program| matches!(program, Program::Container(_))) {
            return Ok(true);
        }
        for it in object["spec"]["containers"].as_array().into_iter().flatten() {
            if !container::is_ready(it, self.ns(), &self.v4().to_string())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Runs a command in its first container that an OCI runtime runs.
    ///
    /// # Errors
    ///
    /// Fails, with what it wrote, if it has none, or the command fails.
    pub fn exec(&self, arguments: &[&str]) -> Result<String> {
        self.contained(|container| {
            let output = container.exec(arguments);
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            if !output.status.success() {
                let (said, shown) = (text(&output.stderr), text(&output.stdout));
                anyhow::bail!("{}: {}\n{said}{shown}", arguments.join(" "), output.status);
            }
            Ok(text(&output.stdout))
        })
    }

    /// Of its first container that an OCI runtime runs: see [`Container::memory`].
    ///
    /// # Errors
    ///
    /// As [`Container::memory`].
    pub fn memory(&self) -> Result<(u64, u64)> {
        self.contained(Container::memory)
    }

    fn contained<T>(&self, of: impl FnOnce(&Container) -> Result<T>) -> Result<T> {
        let programs = self.programs();
        let container = programs.iter().find_map(|program| match program {
            Program::Container(container) => Some(container),
            Program::Server(_) | Program::Process(_) => None,
        });
        of(container.with_context(|| format!("{} has no container", self.name))?)
    }

    /// Ends its programs, connections included.
    pub fn kill(&self) {
        let programs = std::mem::take(&mut *self.programs());
        drop(programs);
    }

    /// Its status once it runs.
    pub(super) fn status(&self, object: &Value, now: &str) -> Value {
        let types = ["PodScheduled", "Initialized", "ContainersReady", "Ready"];
        let conditions =
            types.map(|of| json!({ "type": of, "status": "True", "lastTransitionTime": now }));
        let containers: Vec<Value> = object["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| {
                json!({
                    "name": container["name"],
                    "image": container["image"],
                    "imageID": "",
                    "ready": true,
                    "started": true,
                    "restartCount": 0,
                    "state": { "running": { "startedAt": now } },
                })
            })
            .collect();
        json!({
            "phase": "Running",
            "startTime": now,
            "podIP": self.v4(),
            "podIPs": [{ "ip": self.v4() }, { "ip": self.v6() }],
            "hostIP": self.node.v4,
            "hostIPs": self.node.host_ips(),
            "conditions": conditions,
            "containerStatuses": containers,
        })
    }
}
