//! A Kubernetes cluster of network namespaces: a real control plane, nodes that are namespaces,
//! and pods that are namespaces plugged into these.
//!
//! ```text
//! control plane         node-1                                pod
//! lan 10.0.0.1 -------- eth0 10.0.1.1   veth-2 10.129.0.1 --- eth0 10.129.0.2
//!     2001:db8:0:a::1   2001:db8:0:a::1:1      fe80::1        2001:db8:1:1::2
//!        \              node-2
//!         ------------- eth0 10.0.1.2   veth-2 10.130.0.1 --- eth0 10.130.0.2 ...
//! ```
//!
//! Nodes route the pods of other nodes to these. Services' addresses are in 10.96.0.0/16 and
//! 2001:db8:96::/112; nobody serves them but kube-proxy, where it is started, and weir.

pub mod api;
pub mod certificates;
pub mod container;
pub mod control_plane;
pub mod controller;
pub mod helm;
pub mod history;
pub mod in_cluster;
pub mod kubectl;
pub mod kubelet;
pub mod live;
pub mod node;
pub mod pod;
pub mod process;
pub mod programs;
pub mod sandbox;
pub mod steered;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::json;

use control_plane::ControlPlane;
use kubectl::Kubectl;
use kubelet::Kubelet;
use node::{Node, ProxyMode};
use pod::Pod;
use programs::Definitions;

/// How long pods may take to become as they should be.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked.
const POLL: Duration = Duration::from_millis(20);

/// Does something, and tells how long it took.
pub fn phase<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let since = Instant::now();
    let result = run();
    eprintln!("{what}: {:.1} s", since.elapsed().as_secs_f64());
    result
}

/// A running cluster. Pods end first, the control plane last.
#[derive(Debug)]
pub struct Cluster {
    /// What runs pods.
    pub kubelet: Kubelet,
    /// The nodes, `node-1` first.
    pub nodes: Vec<Arc<Node>>,
    /// The control plane.
    pub control: ControlPlane,
}

impl Cluster {
    /// Starts a control plane with so many nodes, and waits until its API is ready.
    ///
    /// # Errors
    ///
    /// Needs root, and the programs to be built: `cargo xtask test cluster` does so.
    pub fn start(nodes: u8) -> Result<Self> {
        let control = ControlPlane::start()?;
        let nodes = phase("nodes there", || -> Result<Vec<_>> {
            let mut all: Vec<Arc<Node>> = Vec::new();
            for number in 1..=nodes {
                let node = Arc::new(Node::new(&control, number)?);
                for other in &all {
                    other.connect(&node)?;
                    node.connect(other)?;
                }
                all.push(node);
            }
            Ok(all)
        })?;
        let logs = control.directory().to_owned();
        let kubelet = Kubelet::start(control.api().clone(), nodes.clone(), logs)?;
        Ok(Self { kubelet, nodes, control })
    }

    /// `kubectl` as administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        self.control.kubectl()
    }

    /// The node of that name.
    ///
    /// # Panics
    ///
    /// If there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Arc<Node> {
        let found = self.nodes.iter().find(|node| node.name == name);
        found.unwrap_or_else(|| panic!("no node {name}"))
    }

    /// Starts kube-proxy on all nodes and waits until each has written its rules.
    ///
    /// # Errors
    ///
    /// As [`Node::start_proxy`].
    pub fn start_proxies(&self, mode: ProxyMode) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.start_proxy(&self.control, mode))
    }

    /// Installs resource definitions and waits until they are served.
    ///
    /// # Errors
    ///
    /// Fails if they were not fetched yet, or with what `kubectl` wrote.
    pub fn define(&self, which: Definitions) -> Result<()> {
        let directory = programs::definitions(which)?;
        let path = directory.to_string_lossy();
        let arguments = ["apply", "--server-side", "-f", &*path];
        self.kubectl().try_run(&arguments, "")?;
        let wait = ["wait", "crd", "--all", "--for=condition=Established", "--timeout=60s"];
        self.kubectl().try_run(&wait, "").map(drop)
    }

    /// Waits until so many pods with these labels (`app=web,version=v1`) are ready and there are
    /// no others, and returns them by name.
    ///
    /// # Panics
    ///
    /// If that is not so after two minutes.
    #[track_caller]
    pub fn await_pods(&self, namespace: &str, labels: &str, count: usize) -> Vec<Arc<Pod>> {
        let labels = labels.replace('=', "%3D").replace(',', "%2C");
        let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={labels}");
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let list = self.control.api().get(&path);
            let pods: Option<Vec<_>> = list.as_ref().ok().and_then(|list| {
                list["items"].as_array()?.iter().map(|pod| self.ready(namespace, pod)).collect()
            });
            match pods {
                Some(pods) if pods.len() == count => return pods,
                _ if Instant::now() > deadline => {
                    panic!("{namespace} has no {count} ready pods {labels}: {list:#?}")
                }
                _ => std::thread::sleep(POLL),
            }
        }
    }

    fn ready(&self, namespace: &str, object: &serde_json::Value) -> Option<Arc<Pod>> {
        let is = |of: &serde_json::Value| of["type"] == "Ready" && of["status"] == "True";
        let ready = object["status"]["conditions"].as_array()?.iter().any(is);
        let ends = object["metadata"]["deletionTimestamp"].is_string();
        let name = object["metadata"]["name"].as_str()?;
        if ready && !ends { self.kubelet.pod(namespace, name) } else { None }
    }

    /// Has a pod be ready or not, as its readiness probe would.
    ///
    /// # Errors
    ///
    /// Fails if there is no such pod.
    pub fn set_ready(&self, namespace: &str, name: &str, ready: bool) -> Result<()> {
        let status = if ready { "True" } else { "False" };
        let conditions =
            ["ContainersReady", "Ready"].map(|of| json!({ "type": of, "status": status }));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/status");
        let status = json!({ "status": { "conditions": conditions } });
        self.control.api().patch(&path, &status).map(drop)
    }
}
