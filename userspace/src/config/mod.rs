//! What the agent is told by `agent.yaml`.

mod access;
mod kubernetes;
mod raw;
mod template;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use globset::{GlobBuilder, GlobMatcher};

use crate::access::{Access, Group};
use crate::files::read;
use crate::source::{FieldPath, Node, Problem, stream};

pub use kubernetes::{Kubernetes, Mode, Reports};
pub use template::{Setting, described};

use access::{Lookup, Written, lookup};

/// The shortest and the longest time that a flow may be idle.
const IDLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30 * 86400));

/// Where on an interface packets are steered.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Forward {
    /// In the traffic control hook.
    #[default]
    Tc,
    /// In the XDP hook.
    Xdp,
}

/// Whether steered packets go past the node's stack, and so past its firewall.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum FastPath {
    /// While nothing is on the node that would see forwarded packets.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

impl FastPath {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::On => "on",
            Self::Off => "off",
        }
    }
}

/// What becomes of what comes to a service address and is for no split: pings, and other ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OtherPorts {
    /// It is left to the node.
    #[default]
    Pass,
    /// Echo reply, RST or port unreachable, in the name of the service address.
    Answer,
}

/// What the programs in the kernel tell the agent's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KernelLog {
    /// Nothing.
    #[default]
    Off,
    /// Rare events: rejected flows, and entries that a flow table did not take.
    Rare,
}

/// Interfaces by a pattern of their names.
#[derive(Debug, Clone)]
pub struct InterfaceMatch {
    matcher: GlobMatcher,
    forward: Forward,
}

impl InterfaceMatch {
    /// The pattern as it was written.
    pub fn pattern(&self) -> &str {
        self.matcher.glob().glob()
    }

    /// Whether an interface is one of these.
    pub fn matches(&self, ifname: &str) -> bool {
        self.matcher.is_match(ifname)
    }

    /// Whether it is the name of an interface, and no pattern that fits any other.
    pub fn is_name(&self) -> bool {
        !self.pattern().contains(['*', '?', '[', ']', '{', '}', '\\'])
    }

    /// Where on them packets are steered.
    pub fn forward(&self) -> Forward {
        self.forward
    }
}

/// How many flows are remembered, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flows {
    /// The most flows.
    pub max: u32,
    /// How long a TCP flow may be idle.
    pub tcp_idle: Duration,
    /// How long a UDP flow may be idle.
    pub udp_idle: Duration,
}

/// The capacities of the maps in the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The most splits.
    pub splits: u32,
    /// The most endpoints of all splits.
    pub endpoints: u32,
    /// The most table slots of all splits.
    pub table_slots: u32,
    /// The most subsets whose times are measured.
    pub histograms: u32,
}

/// A valid configuration.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The file, without symbolic links; empty if it is in none.
    pub file: PathBuf,
    /// The interfaces; not empty.
    pub interfaces: Vec<InterfaceMatch>,
    /// The directory of the resources.
    pub resources: PathBuf,
    /// The directory of what outlives the agent.
    pub state: PathBuf,
    /// The directory of the pinned maps and links.
    pub bpffs: PathBuf,
    /// The path of the API's socket.
    pub socket: PathBuf,
    /// Who may use the API.
    pub access: Access,
    /// Where metrics are served; `None` turns that off.
    pub metrics: Option<SocketAddr>,
    /// Whether steered packets go past the node's stack.
    pub fast_path: FastPath,
    /// What becomes of what comes to a service address and is for no split.
    pub other_ports: OtherPorts,
    /// How many flows are remembered, and for how long.
    pub flows: Flows,
    /// The seed of the hash that divides flows.
    pub hash_seed: u64,
    /// What the programs tell the log.
    pub kernel_log: KernelLog,
    /// The capacities of the maps.
    pub limits: Limits,
    /// The cluster that the agent follows beside its files.
    pub kubernetes: Option<Kubernetes>,
}

/// The configuration of the packaged service.
pub const DEFAULT_FILE: &str = "/etc/weir/agent.yaml";

impl AgentConfig {
    /// Reads a file; None where [`DEFAULT_FILE`] is meant and not there.
    pub fn load_if_there(path: &Path) -> Result<Option<Self>, Vec<Problem>> {
        if path == Path::new(DEFAULT_FILE) && !path.exists() {
            return Ok(None);
        }
        Self::load(path).map(Some)
    }

    /// Where maps are pinned unless a configuration says otherwise.
    pub fn default_bpffs() -> PathBuf {
        raw::bpffs().into()
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = read(path).map_err(|problem| vec![problem])?;
        let config = Self::parse(&path.display().to_string(), &text)?;
        let file = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        Ok(Self { file, ..config })
    }

    /// The configuration that `text` is, or everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        Self::parse_with(file, text, &lookup)
    }

    fn parse_with(file: &str, text: &str, lookup: Lookup<'_>) -> Result<Self, Vec<Problem>> {
        let (nodes, problems) = stream(file, text);
        if !problems.is_empty() {
            return Err(problems);
        }
        match nodes.as_slice() {
            [node] => validate(node, lookup),
            [] => Err(vec![Problem::of_file(file, "empty, expected a configuration")]),
            [_, second, ..] => {
                let message = "more than one document, expected one configuration";
                Err(vec![second.problem(&FieldPath::root(), message)])
            }
        }
    }

    /// Where on the interface packets are steered, by the first entry that
    /// matches; `None` if the interface is left alone.
    pub fn forward_for(&self, ifname: &str) -> Option<Forward> {
        self.interfaces.iter().find(|entry| entry.matches(ifname)).map(InterfaceMatch::forward)
    }
}

fn validate(node: &Node<'_>, lookup: Lookup<'_>) -> Result<AgentConfig, Vec<Problem>> {
    let raw: raw::Agent = node.typed().map_err(|problem| vec![problem])?;
    let mut check = ConfigValidator { node, problems: Vec::new() };
    if raw.interfaces.is_empty() {
        let message = "no interfaces, expected at least one entry".to_owned();
        check.keep::<()>(&FieldPath::of("interfaces"), Err(message));
    }
    let mut interfaces = Vec::new();
    for (n, entry) in raw.interfaces.iter().enumerate() {
        let path = FieldPath::of("interfaces").index(n).key("match");
        if let Some(matcher) = check.keep(&path, pattern(&entry.pattern)) {
            interfaces.push(InterfaceMatch { matcher, forward: entry.forward });
        }
    }
    let resources = check.path("resources", raw.resources);
    let state = check.path("state", raw.state);
    let bpffs = check.path("bpffs", raw.bpffs);
    let socket = check.path("socket", raw.socket);
    let access = check.access(raw.access, lookup);
    let metrics = check.keep(&FieldPath::of("metrics"), listen(raw.metrics.as_deref()));
    let max = check.int("flows.max", raw.flows.max.get());
    let tcp_idle = check.idle("flows.tcpIdle", &raw.flows.tcp_idle.0);
    let udp_idle = check.idle("flows.udpIdle", &raw.flows.udp_idle.0);
    let hash_seed = check.keep(&FieldPath::of("hashSeed"), raw.hash_seed.get());
    let splits = check.int("limits.splits", raw.limits.splits.get());
    let endpoints = check.int("limits.endpoints", raw.limits.endpoints.get());
    let table_slots = check.int("limits.tableSlots", raw.limits.table_slots.get());
    let histograms = check.int("limits.histograms", raw.limits.histograms.get());
    let kubernetes = raw.kubernetes.map(|written| check.kubernetes(written));
    let mut problems = check.problems;
    problems.sort_by_key(|problem| problem.line);
    let config = || {
        Some(AgentConfig {
            file: PathBuf::new(),
            interfaces,
            resources: resources?,
            state: state?,
            bpffs: bpffs?,
            socket: socket?,
            access: access?,
            metrics: metrics?,
            fast_path: raw.fast_path,
            other_ports: raw.other_ports,
            flows: Flows { max: max?, tcp_idle: tcp_idle?, udp_idle: udp_idle? },
            hash_seed: hash_seed?,
            kernel_log: raw.kernel_log,
            limits: Limits {
                splits: splits?,
                endpoints: endpoints?,
                table_slots: table_slots?,
                histograms: histograms?,
            },
            kubernetes: match kubernetes {
                Some(kubernetes) => Some(kubernetes?),
                None => None,
            },
        })
    };
    if problems.is_empty() { config().ok_or(problems) } else { Err(problems) }
}

/// An address to listen at, unless that is turned off, by `off` or null.
fn listen(text: Option<&str>) -> Result<Option<SocketAddr>, String> {
    let Some(text) = text.filter(|text| *text != "off") else { return Ok(None) };
    match text.parse() {
        Ok(address) if SocketAddr::port(&address) != 0 => Ok(Some(address)),
        _ => Err(format!(
            "\"{text}\" is not an address with a port, expected one such as \"127.0.0.1:9464\" \
             or \"[::1]:9464\", or off"
        )),
    }
}

fn pattern(text: &str) -> Result<GlobMatcher, String> {
    if text.is_empty() {
        return Err("empty pattern, expected a glob such as \"veth-*\"".to_owned());
    }
    let glob = GlobBuilder::new(text).backslash_escape(true).build();
    glob.map(|glob| glob.compile_matcher()).map_err(|error| {
        format!("invalid pattern \"{text}\": {}, expected a glob such as \"veth-*\"", error.kind())
    })
}

/// Collects what is wrong with the configuration.
struct ConfigValidator<'a> {
    node: &'a Node<'a>,
    problems: Vec<Problem>,
}

impl ConfigValidator<'_> {
    fn keep<T>(&mut self, path: &FieldPath, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.problems.push(self.node.problem(path, &message))).ok()
    }

    fn int(&mut self, path: &str, value: Result<u64, String>) -> Option<u32> {
        let value = value.and_then(|value| u32::try_from(value).map_err(|e| e.to_string()));
        self.keep(&FieldPath::of(path), value)
    }

    fn path(&mut self, path: &str, value: String) -> Option<PathBuf> {
        let good = value.starts_with('/') && !value.contains('\0');
        let no =
            || format!("\"{value}\" is not an absolute path, expected one such as \"/run/weir\"");
        let result = if good { Ok(PathBuf::from(&value)) } else { Err(no()) };
        self.keep(&FieldPath::of(path), result)
    }

    fn access(&mut self, raw: raw::Access, lookup: Lookup<'_>) -> Option<Access> {
        let operators = self.group("access.operators", raw.operators, lookup);
        let viewers = self.group("access.viewers", raw.viewers, lookup);
        let (operators, viewers) = (operators?, viewers?);
        if let (Some(may_change), Some(may_look)) = (&operators, &viewers)
            && may_change.gid == may_look.gid
        {
            let message = format!(
                "{may_look} are the operators, who may look anyway; expected another group"
            );
            return self.keep(&FieldPath::of("access.viewers"), Err(message));
        }
        Some(Access { operators, viewers })
    }

    /// A group, if one is written; None if there is no such group.
    fn group(
        &mut self,
        path: &str,
        written: Option<Written>,
        lookup: Lookup<'_>,
    ) -> Option<Option<Group>> {
        let result = written.map(|written| written.resolve(lookup)).transpose();
        self.keep(&FieldPath::of(path), result)
    }

    fn idle(&mut self, path: &str, text: &str) -> Option<Duration> {
        let expected = format!("expected {}", raw::PERIOD);
        let result = match humantime::parse_duration(text) {
            Ok(idle) if idle >= IDLE.0 && idle <= IDLE.1 => Ok(idle),
            Ok(_) => Err(format!("\"{text}\" is out of range, {expected}")),
            Err(_) => Err(format!("\"{text}\" is not a duration, {expected}")),
        };
        self.keep(&FieldPath::of(path), result)
    }
}
