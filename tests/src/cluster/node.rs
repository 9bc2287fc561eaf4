//! A node: a network namespace on the control plane's bridge, and its Node object.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::control_plane::{ADDRESS, ADDRESS_V6, ControlPlane, command, flag};
use super::process::Process;
use super::sandbox::Sandbox;
use crate::agent::{Agent, Setup};
use crate::netns::Netns;
use crate::prometheus;
use crate::topology::ETH;

/// The addresses of all pods.
pub const PODS: &str = "10.128.0.0/9,2001:db8:1::/48";
/// How long kube-proxy may take to write its rules.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(50);
/// Where kube-proxy says, in the node's namespace, that it has written its rules.
const PROXY_HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);

/// The BPF file system of this machine, and of each node.
const BPFFS: &str = "/sys/fs/bpf";

/// How kube-proxy has packets translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyMode {
    /// By `nft`.
    Nftables,
    /// By `iptables`, which must be installed.
    Iptables,
}

/// A node. Interfaces towards its pods are called `veth-` and a number, the one towards the other
/// nodes and the control plane `eth0`.
#[derive(Debug)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its address.
    pub v4: Ipv4Addr,
    /// Its address.
    pub v6: Ipv6Addr,
    /// From 1.
    number: u8,
    /// How many sandboxes it has had.
    sandboxes: AtomicU16,
    proxy: Mutex<Option<Process>>,
    /// Its directories, but for [`BPFFS`].
    directory: TempDir,
    /// Where agents and kube-proxy run.
    pub ns: Netns,
}

impl Node {
    /// Connects a node to the control plane and creates its object. Its name is `node-` and the
    /// number; routes to the pods of other nodes come by [`Node::connect`].
    ///
    /// # Errors
    ///
    /// Needs root and the `ip` program.
    pub fn new(control: &ControlPlane, number: u8) -> Result<Self> {
        let ns = Netns::new()?;
        let (v4, v6) = (
            Ipv4Addr::new(10, 0, 1, number),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0xa, 0, 0, 1, number.into()),
        );
        control.ns().ip(&[
            format!("link add node-{number} type veth peer name {ETH} netns {}", ns.name()),
            format!("link set node-{number} master lan"),
            format!("link set node-{number} up"),
        ])?;
        ns.sysctl("net/ipv4/ip_forward", "1")?;
        ns.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        ns.ip(&[
            format!("address add {v4}/16 dev {ETH}"),
            format!("address add {v6}/64 dev {ETH} nodad"),
            format!("link set {ETH} up"),
            // Packets to service addresses need a route before kube-proxy translates them.
            format!("route add default via {ADDRESS}"),
            format!("route add default via {ADDRESS_V6}"),
        ])?;
        // The control plane's answers to pods, which have no other way back.
        let pods = [
            (format!("10.{}.0.0/16", 128 + number), v4.to_string()),
            (format!("2001:db8:1:{number:x}::/64"), v6.to_string()),
        ];
        control.ns().ip(&pods.map(|(range, via)| format!("route add {range} via {via}")))?;
        let (name, sandboxes, proxy) =
            (format!("node-{number}"), AtomicU16::new(0), Mutex::default());
        let directory = tempfile::Builder::new().prefix("weir-node-").tempdir()?;
        let node = Self { name, v4, v6, number, sandboxes, proxy, directory, ns };
        node.register(control)?;
        Ok(node)
    }

    /// Creates the Node object.
    fn register(&self, control: &ControlPlane) -> Result<()> {
        let [v4, v6] = self.pod_ranges();
        let condition = json!([{ "type": "Ready", "status": "True", "reason": "KubeletReady" }]);
        let labels = json!({
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "topology.kubernetes.io/zone": format!("zone-{}", self.number),
        });
        control.api().post(
            "/api/v1/nodes",
            &json!({
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": { "name": self.name, "labels": labels },
                "spec": { "podCIDR": v4, "podCIDRs": [v4, v6] },
            }),
        )?;
        // The API server has it begin with a taint, which nobody else here would remove.
        let path = format!("/api/v1/nodes/{}", self.name);
        control.api().patch(&path, &json!({ "spec": { "taints": null } }))?;
        let addresses = json!([
            { "type": "InternalIP", "address": self.v4 },
            { "type": "InternalIP", "address": self.v6 },
            { "type": "Hostname", "address": self.name },
        ]);
        let status = json!({ "addresses": addresses, "conditions": condition });
        control.api().patch(&format!("{path}/status"), &json!({ "status": status }))?;
        Ok(())
    }

    /// Routes the pods of another node by way of that node.
    ///
    /// # Errors
    ///
    /// Needs the `ip` program.
    pub fn connect(&self, other: &Self) -> Result<()> {
        let [v4, v6] = other.pod_ranges();
        self.ns.ip(&[
            format!("route add {v4} via {}", other.v4),
            format!("route add {v6} via {}", other.v6),
        ])
    }

    /// The addresses of its pods.
    #[must_use]
    pub fn pod_ranges(&self) -> [String; 2] {
        let n = self.number;
        [format!("10.{}.0.0/16", 128 + n), format!("2001:db8:1:{n:x}::/64")]
    }

    /// Plugs a namespace into the node as a pod would be, of which the API knows nothing: say, for
    /// a client. Its addresses are never given again.
    ///
    /// # Errors
    ///
    /// Needs root and the `ip` program.
    pub fn sandbox(&self) -> Result<Sandbox> {
        let n = self.sandboxes.fetch_add(1, Ordering::Relaxed) + 2;
        let [high, low] = n.to_be_bytes();
        let v4 = Ipv4Addr::new(10, 128 + self.number, high, low);
        let gateway = Ipv4Addr::new(10, 128 + self.number, 0, 1);
        let v6 = Ipv6Addr::new(0x2001, 0xdb8, 1, self.number.into(), 0, 0, 0, n);
        Sandbox::new(&self.ns, format!("veth-{n}"), (v4, v6), gateway)
    }

    /// Where on this machine a directory of the node is; it is made if it is not there. What is
    /// below `BPFFS` is removed from the kernel with the node.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be made.
    pub fn host_path(&self, path: &str) -> Result<PathBuf> {
        let place = match Path::new(path).strip_prefix(BPFFS) {
            Ok(below) => self.pins().join(below),
            Err(_) => self.directory.path().join(path.trim_start_matches('/')),
        };
        std::fs::create_dir_all(&place).with_context(|| place.display().to_string())?;
        Ok(place)
    }

    fn pins(&self) -> PathBuf {
        // bpffs takes no name with a dot.
        let name = self.directory.path().file_name().unwrap_or_default().to_string_lossy();
        Path::new(BPFFS).join(name.replace('.', "_"))
    }

    /// Starts a weir agent on the node; all of `agent.yaml` that is not of its own directory comes
    /// from `setup`, whose interfaces are `veth-*` unless it says otherwise.
    ///
    /// # Errors
    ///
    /// As [`Setup::start`].
    pub fn agent(&self, setup: &Setup) -> Result<Agent> {
        setup.start(&self.ns)
    }

    /// Starts kube-proxy on the node, in place of one that runs, and waits until it has written
    /// its rules. It ends with the node.
    ///
    /// # Errors
    ///
    /// Needs `nft` or `iptables`; shows what it wrote if it does not get so far.
    pub fn start_proxy(&self, control: &ControlPlane, mode: ProxyMode) -> Result<()> {
        let mut running = self.proxy.lock().unwrap_or_else(PoisonError::into_inner);
        *running = None;
        let kubeconfig = control.kubeconfig_of_user("system:kube-proxy")?;
        let mut command = command(&self.ns, "kube-proxy")?;
        command.arg(flag("kubeconfig", &kubeconfig));
        command.arg(format!("--hostname-override={}", self.name));
        command.arg(match mode {
            ProxyMode::Nftables => "--proxy-mode=nftables",
            ProxyMode::Iptables => "--proxy-mode=iptables",
        });
        command.arg(format!("--cluster-cidr={PODS}"));
        command.arg(format!("--healthz-bind-address={PROXY_HEALTH}"));
        command.arg("--metrics-bind-address=127.0.0.1:10249");
        // These are settings of the whole machine.
        command.args(["--conntrack-max-per-core=0", "--conntrack-min=0"]);
        command.args(["--conntrack-tcp-timeout-established=0s"]);
        command.args(["--conntrack-tcp-timeout-close-wait=0s"]);
        let log = control.directory().join(format!("kube-proxy-{}.log", self.name));
        let proxy = Process::start("kube-proxy", command, &log)?;
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let health = prometheus::get(&self.ns, PROXY_HEALTH, "/healthz");
            if health.as_ref().is_ok_and(|(status, _)| *status == 200) {
                *running = Some(proxy);
                return Ok(());
            }
            if proxy.status().is_some() || Instant::now() > deadline {
                let tail = proxy.tail();
                bail!("kube-proxy is not ready ({:?}, {health:?}):\n{tail}", proxy.status());
            }
            std::thread::sleep(POLL);
        }
    }

    /// Kills kube-proxy; its rules stay.
    pub fn stop_proxy(&self) {
        *self.proxy.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Its address in a form for pods' status.
    pub(super) fn host_ips(&self) -> Value {
        json!([{ "ip": self.v4 }, { "ip": self.v6 }])
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let pins = self.pins();
        if pins.is_dir()
            && let Err(error) = std::fs::remove_dir_all(&pins)
        {
            eprintln!("{}: {error}", pins.display());
        }
    }
}
