//! A cluster whose nodes have agents that follow it, and clients that count who answers.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use weir::api::types::{KubernetesView, SplitView};
use weir::model::Protocol;

use super::in_cluster::InCluster;
use super::kubectl::Kubectl;
use super::node::{Node, ProxyMode};
use super::programs::Definitions;
use super::sandbox::Sandbox;
use super::{Cluster, phase};
use crate::agent::{Agent, Setup};
use crate::client::{Answer, ports, survey, tally};
use crate::netns::Netns;
use crate::stats::assert_shares;

/// The rights of agents, as they are installed.
const RBAC: &str = "deploy/kubernetes/agent-rbac.yaml";
/// The definitions of weir's own kinds.
const DEFINITIONS: &str = "deploy/kubernetes/crds";
/// The definition of weir's own resource.
const TRAFFIC_SPLIT: &str = "deploy/kubernetes/crds/trafficsplit.yaml";
/// The namespace of agents.
pub const NAMESPACE: &str = "weir-system";
/// Their ServiceAccount.
pub const ACCOUNT: &str = "weir";
/// Their ClusterRole.
pub const ROLE: &str = "weir-agent";
/// What agents are started with.
pub const FOLLOW: &str = "hashSeed: 0x5eed\nkubernetes: {}\n";
/// How long a change may take to be steered by: other tests run too.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);
/// A client's first port.
const FIRST_PORT: u16 = 10_000;

/// Such a cluster. Agents end first.
#[derive(Debug)]
pub struct Steered {
    /// One for each node, in the order of nodes.
    pub agents: Vec<Agent>,
    /// Who agents are.
    pub account: InCluster,
    /// Who they are on each node, if they report.
    pub accounts: Vec<InCluster>,
    /// The cluster.
    pub cluster: Cluster,
}

impl Steered {
    /// A cluster of so many nodes with kube-proxy and an agent on each, whose `agent.yaml` ends
    /// in `config`, such as [`FOLLOW`].
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn start(nodes: u8, definitions: &[Definitions], config: &str) -> Result<Self> {
        let cluster = phase("cluster", || Cluster::start(nodes))?;
        cluster.start_proxies(ProxyMode::Nftables)?;
        for &which in definitions {
            phase("definitions", || cluster.define(which))?;
        }
        cluster.kubectl().apply_file(&repository(RBAC));
        let account = InCluster::new(&cluster.control, NAMESPACE, ACCOUNT)?;
        let setup = account.setup(Setup::default().config(config));
        let agents = phase("agents", || {
            cluster.nodes.iter().map(|node| node.agent(&setup)).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { agents, account, accounts: Vec::new(), cluster }.complete())
    }

    /// The same without kube-proxy, with weir's own definitions, and with agents that report of
    /// their nodes.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub fn reporting(nodes: u8, config: &str) -> Result<Self> {
        let cluster = phase("cluster", || Cluster::start(nodes))?;
        let kubectl = cluster.kubectl();
        kubectl.apply_file(&repository(DEFINITIONS));
        kubectl.wait(&["crd", "--all"], "condition=Established");
        kubectl.apply_file(&repository(RBAC));
        let account = InCluster::new(&cluster.control, NAMESPACE, ACCOUNT)?;
        let on = |node: &Arc<Node>| {
            InCluster::on_node(&cluster.control, (NAMESPACE, ACCOUNT), &node.name)
        };
        let accounts = cluster.nodes.iter().map(on).collect::<Result<Vec<_>>>()?;
        let agents = phase("agents", || {
            let all = cluster.nodes.iter().zip(&accounts);
            let start = |(node, account): (&Arc<Node>, &InCluster)| {
                node.agent(&account.setup(Setup::default().config(config)))
            };
            all.map(start).collect::<Result<Vec<_>>>()
        })?;
        Ok(Self { agents, account, accounts, cluster }.complete())
    }

    /// The same, when all agents know all that there is.
    fn complete(self) -> Self {
        let it = self;
        for agent in &it.agents {
            agent.await_status("all that there is was listed", |status| {
                status.kubernetes.as_ref().is_some_and(|view| view.complete && view.connected)
            });
        }
        it
    }

    /// `kubectl` as administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        self.cluster.kubectl()
    }

    /// Installs the definition of weir's own resource.
    ///
    /// # Panics
    ///
    /// With what `kubectl` wrote.
    pub fn define_traffic_splits(&self) {
        self.kubectl().apply_file(&repository(TRAFFIC_SPLIT));
        self.kubectl().wait(&["crd/trafficsplits.weir.dev"], "condition=Established");
    }

    /// Waits until all agents say that a split has these subsets, each with so many endpoints.
    ///
    /// # Panics
    ///
    /// If that is not so after a minute.
    #[track_caller]
    pub fn await_split(&self, name: &str, subsets: &[(&str, u32, usize)]) {
        for agent in &self.agents {
            let deadline = Instant::now() + TIMEOUT;
            loop {
                let split = agent.split(name);
                if split.as_ref().is_ok_and(|split| shape(split) == subsets) {
                    break;
                }
                if Instant::now() > deadline {
                    let split = split.as_ref().map(shape);
                    let of = agent.status().map(|status| status.kubernetes);
                    panic!("{name} is not {subsets:?}, but {split:?}; {of:#?}");
                }
                std::thread::sleep(POLL);
            }
        }
    }

    /// Waits until no agent has a split of which that is the name, or the beginning of it.
    ///
    /// # Panics
    ///
    /// If that is not so after a minute.
    #[track_caller]
    pub fn await_no_split(&self, name: &str) {
        for agent in &self.agents {
            let deadline = Instant::now() + TIMEOUT;
            loop {
                let splits = agent.splits();
                let is = |split: &SplitView| split.name.starts_with(name);
                if splits.as_ref().is_ok_and(|splits| !splits.iter().any(is)) {
                    break;
                }
                assert!(Instant::now() < deadline, "{name}: {splits:?}");
                std::thread::sleep(POLL);
            }
        }
    }

    /// Waits until the first agent says so of the cluster.
    ///
    /// # Panics
    ///
    /// If that is not so after a minute.
    #[track_caller]
    pub fn await_view(&self, what: &str, done: impl Fn(&KubernetesView) -> bool) -> KubernetesView {
        let status = self.agents[0]
            .await_status(what, |status| status.kubernetes.as_ref().is_some_and(&done));
        status.kubernetes.unwrap_or_default()
    }

    /// A client in a sandbox of that node, whose interface has its programs.
    ///
    /// # Panics
    ///
    /// If that is not so after a minute.
    #[must_use]
    pub fn client(&self, node: usize) -> Client {
        let client = Client::new(&self.cluster.nodes[node]).expect("a sandbox");
        await_programs(&self.agents[node], client.node_ifname());
        client
    }

    /// The addresses of a Service, of each family, with its first port.
    ///
    /// # Panics
    ///
    /// If there is no such Service.
    #[must_use]
    pub fn addresses(&self, namespace: &str, name: &str) -> Vec<SocketAddr> {
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let service = self.cluster.control.api().get(&path).expect("the Service");
        let port = service["spec"]["ports"][0]["port"].as_u64().expect("a port");
        let port = u16::try_from(port).expect("a port");
        let ips = service["spec"]["clusterIPs"].as_array().expect("addresses").iter();
        let ip = |ip: &serde_json::Value| ip.as_str()?.parse::<IpAddr>().ok();
        ips.map(|text| SocketAddr::new(ip(text).expect("an address"), port)).collect()
    }
}

/// The names, weights and numbers of endpoints of a split's subsets.
#[must_use]
pub fn shape(split: &SplitView) -> Vec<(&str, u32, usize)> {
    let of = |subset: &'_ weir::api::types::SubsetView| (subset.weight, subset.endpoints.len());
    let subsets = split.subsets.iter();
    subsets.map(|s| (s.name.as_str(), of(s).0, of(s).1)).collect()
}

/// Waits until an interface has the agent's programs.
#[track_caller]
fn await_programs(agent: &Agent, name: &str) {
    agent.await_status(name, |status| {
        let mut interfaces = status.interfaces.iter();
        interfaces.any(|it| it.name == name && it.error.is_none() && !it.mode.is_empty())
    });
}

/// A file of this repository.
#[must_use]
pub fn repository(path: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A client, whose connections come from another port each.
#[derive(Debug)]
pub struct Client {
    sandbox: Sandbox,
    node: Arc<Node>,
    next: u16,
}

impl Client {
    /// One in a sandbox of that node, whatever steers there.
    ///
    /// # Errors
    ///
    /// As [`Node::sandbox`].
    pub fn new(node: &Arc<Node>) -> Result<Self> {
        Ok(Self { sandbox: node.sandbox()?, node: Arc::clone(node), next: FIRST_PORT })
    }

    /// The node's interface towards it.
    #[must_use]
    pub fn node_ifname(&self) -> &str {
        &self.sandbox.node_ifname
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &Netns {
        &self.sandbox.ns
    }

    /// Its node.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Its address in the family of `like`.
    #[must_use]
    pub fn ip(&self, like: IpAddr) -> IpAddr {
        if like.is_ipv4() { self.sandbox.v4.into() } else { self.sandbox.v6.into() }
    }

    /// So many addresses to connect from that were not used yet.
    ///
    /// # Panics
    ///
    /// If none are left.
    pub fn sources(&mut self, like: IpAddr, count: u16) -> Vec<SocketAddr> {
        let first = self.next;
        self.next = first.checked_add(count).expect("ports are left");
        ports(self.ip(like), first..self.next)
    }

    /// Who answers so many new connections.
    #[must_use]
    pub fn survey(&mut self, to: SocketAddr, count: u16) -> Vec<Answer> {
        let sources = self.sources(to.ip(), count);
        survey(&self.sandbox.ns, Protocol::Tcp, to, &sources)
    }

    /// How many of new connections are answered by pods whose names begin like that, all of them
    /// by some of these.
    ///
    /// # Panics
    ///
    /// If one fails, or somebody else answers.
    #[track_caller]
    pub fn counts(&mut self, to: SocketAddr, count: u16, prefixes: &[&str]) -> Vec<u64> {
        let answers = tally(&self.survey(to, count));
        let answers = answers.unwrap_or_else(|error| panic!("{to}: {error}"));
        let mut counts = vec![0; prefixes.len()];
        for (name, count) in &answers {
            let fits = (0..prefixes.len()).filter(|&at| name.starts_with(prefixes[at]));
            // The longest, where one begins like another.
            if let Some(at) = fits.max_by_key(|&at| prefixes[at].len()) {
                counts[at] += count;
            }
        }
        assert_eq!(counts.iter().sum::<u64>(), u64::from(count), "{prefixes:?}: {answers:?}");
        counts
    }

    /// Asserts that new connections are answered in proportion to weights by pods whose names
    /// begin like that.
    ///
    /// # Panics
    ///
    /// If they are not.
    #[track_caller]
    pub fn assert_shares(&mut self, what: &str, to: SocketAddr, count: u16, of: &[(&str, u64)]) {
        let (prefixes, weights): (Vec<&str>, Vec<u64>) = of.iter().copied().unzip();
        let counts = self.counts(to, count, &prefixes);
        let mut text = format!("{what}: {to}:");
        for (prefix, count) in prefixes.iter().zip(&counts) {
            let _ = write!(text, " {prefix} {count}");
        }
        eprintln!("{text}");
        assert_shares(&counts, &weights, what);
    }

    /// Waits until new connections are answered, say by the rules that kube-proxy writes.
    ///
    /// # Panics
    ///
    /// If they are not after a minute.
    #[track_caller]
    pub fn await_answer(&mut self, to: SocketAddr) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let ask = || crate::server::tcp_identity(to, Duration::from_secs(1));
            let answer = self.sandbox.ns.run(ask);
            if answer.is_ok() {
                return;
            }
            assert!(Instant::now() < deadline, "{to}: {answer:?}");
            std::thread::sleep(POLL);
        }
    }
}

/// Deployments and their Services, as text for `kubectl apply`.
#[must_use]
pub fn deployment(name: &str, app: &str, labels: &BTreeMap<&str, &str>, replicas: u32) -> String {
    let labels: String =
        labels.iter().map(|(key, value)| format!(", {key}: \"{value}\"")).collect();
    format!(
        "
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {app}{labels}}}}}
  template:
    metadata: {{labels: {{app: {app}{labels}}}}}
    spec:
      containers: [{{name: {app}, image: identify, ports: [{{containerPort: 8080}}]}}]
---"
    )
}

/// A Service of both families, TCP port 80, for pods with these labels.
#[must_use]
pub fn service(name: &str, selector: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  ipFamilyPolicy: RequireDualStack
  selector: {{{selector}}}
  ports: [{{name: tcp, port: 80, targetPort: 8080}}]
---"
    )
}

/// Deployments `NAME-v1` and `NAME-v2` of so many replicas each, and a Service of them all.
#[must_use]
pub fn versions(name: &str, replicas: u32) -> String {
    let of = |version: &str| {
        let labels = [("version", version)].into();
        deployment(&format!("{name}-{version}"), name, &labels, replicas)
    };
    of("v1") + &of("v2") + &service(name, &format!("app: {name}"))
}

/// A DestinationRule with subsets v1 and v2.
#[must_use]
pub fn rule(name: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {name}}}
spec:
  host: {name}
  subsets:
  - {{name: v1, labels: {{version: v1}}}}
  - {{name: v2, labels: {{version: v2}}}}
---"
    )
}

/// A VirtualService that divides TCP connections to a Service.
#[must_use]
pub fn virtual_service(name: &str, weights: &[(&str, u32)]) -> String {
    let routes: String = weights
        .iter()
        .map(|(subset, weight)| {
            format!("\n    - {{destination: {{host: {name}, subset: {subset}}}, weight: {weight}}}")
        })
        .collect();
    format!(
        "
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  tcp:
  - route:{routes}
---"
    )
}
