//! Scheduler and kubelet of all nodes: what makes pods out of Pod objects.
//!
//! A thread watches Pods, binds those that have no node, starts what they describe, and says so in
//! their status. Of one that is deleted it lets the `preStop` sleep pass, asks the programs to
//! end, waits for them at most for the pod's grace, and then removes the object. While the API is
//! away, pods run on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::api::{Api, Watch};
use super::node::Node;
use super::pod::{Image, Images, Pod};

/// How long it waits before it asks once more an API that did not answer.
const AGAIN: Duration = Duration::from_millis(200);

/// A running stand-in; it ends on drop, and all pods with it.
#[derive(Debug)]
pub struct Kubelet {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    images: Mutex<Images>,
    /// By namespace and name.
    pods: Mutex<BTreeMap<(String, String), Arc<Pod>>>,
}

impl Shared {
    fn pods(&self) -> MutexGuard<'_, BTreeMap<(String, String), Arc<Pod>>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn images(&self) -> MutexGuard<'_, Images> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kubelet {
    /// Starts it for these nodes; logs of pods go to `logs`.
    ///
    /// # Errors
    ///
    /// Fails if there can be no thread.
    pub fn start(api: Api, nodes: Vec<Arc<Node>>, logs: PathBuf) -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let worker = Worker {
            api,
            nodes,
            logs,
            shared: Arc::clone(&shared),
            objects: BTreeMap::new(),
            local: BTreeMap::new(),
            turn: 0,
        };
        let thread = std::thread::Builder::new().name("kubelet".to_owned());
        let thread = thread.spawn(move || worker.work())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Has an image stand for a program of this machine.
    pub fn image(&self, name: &str, program: PathBuf) {
        self.shared.images().insert(name.to_owned(), Image::Program(program));
    }

    /// Has an image of somebody else's stand for the built-in servers.
    pub fn identify(&self, name: &str) {
        self.shared.images().insert(name.to_owned(), Image::Identify);
    }

    /// Has an image stand for an unpacked root file system, whose containers an OCI runtime runs
    /// as their Pods describe them.
    pub fn unpacked(&self, name: &str, root: PathBuf) {
        self.shared.images().insert(name.to_owned(), Image::Unpacked(root));
    }

    /// The pod that runs under that name, if one does.
    #[must_use]
    pub fn pod(&self, namespace: &str, name: &str) -> Option<Arc<Pod>> {
        self.shared.pods().get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    /// All pods of a namespace that run.
    #[must_use]
    pub fn pods(&self, namespace: &str) -> Vec<Arc<Pod>> {
        let pods = self.shared.pods();
        pods.values().filter(|pod| pod.namespace == namespace).cloned().collect()
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What is here of a Pod object.
#[derive(Debug, Default)]
struct Local {
    bound: bool,
    failed: bool,
    /// Whether its status is in the API.
    reported: bool,
    pod: Option<Arc<Pod>>,
    ending: Option<Ending>,
}

#[derive(Debug)]
struct Ending {
    /// When the programs are asked to end.
    terminate: Instant,
    /// When they are killed.
    kill: Instant,
    asked: bool,
}

struct Worker {
    api: Api,
    nodes: Vec<Arc<Node>>,
    logs: PathBuf,
    shared: Arc<Shared>,
    /// Pod objects as the API had them last, by their uid.
    objects: BTreeMap<String, Value>,
    local: BTreeMap<String, Local>,
    /// Whose turn it is to get a pod.
    turn: usize,
}

impl Worker {
    fn work(mut self) {
        let mut watch: Option<Watch> = None;
        while !self.shared.stop.load(Ordering::Relaxed) {
            let seen = match &mut watch {
                Some(watch) => watch.event().map(|event| self.take(event)),
                None => self.list().map(|begun| watch = Some(begun)),
            };
            if seen.is_err() {
                watch = None;
                std::thread::sleep(AGAIN);
            }
            self.reconcile();
        }
        self.shared.pods().clear();
    }

    /// Lists all pods and begins to watch them.
    fn list(&mut self) -> Result<Watch> {
        let list = self.api.get("/api/v1/pods")?;
        let items = list["items"].as_array().context("no list of pods")?;
        self.objects = items.iter().map(|pod| (uid(pod), pod.clone())).collect();
        let version = list["metadata"]["resourceVersion"].as_str().context("no version")?;
        self.api.watch(&format!("/api/v1/pods?watch=true&resourceVersion={version}"))
    }

    fn take(&mut self, event: Option<Value>) {
        let Some(event) = event else { return };
        let pod = &event["object"];
        match event["type"].as_str() {
            Some("ADDED" | "MODIFIED") => drop(self.objects.insert(uid(pod), pod.clone())),
            Some("DELETED") => drop(self.objects.remove(&uid(pod))),
            // The version is too old: the watch ends after this.
            _ => {}
        }
    }

    /// Does what is due for each pod. What fails is tried again the next time.
    fn reconcile(&mut self) {
        let objects = std::mem::take(&mut self.objects);
        self.local.retain(|uid, local| {
            if let Some(pod) = &local.pod
                && !objects.contains_key(uid)
            {
                let key = (pod.namespace.clone(), pod.name.clone());
                let mut pods = self.shared.pods();
                // Another of the same name may run already.
                if pods.get(&key).is_some_and(|found| Arc::ptr_eq(found, pod)) {
                    pods.remove(&key);
                }
            }
            objects.contains_key(uid)
        });
        for (uid, object) in &objects {
            let mut local = self.local.remove(uid).unwrap_or_default();
            if let Err(error) = self.advance(uid, object, &mut local) {
                // The API may be away on purpose; else a test that waits tells more.
                if !local.failed {
                    eprintln!("kubelet: {}: {error:#}", object["metadata"]["name"]);
                }
                local.failed = true;
            } else {
                local.failed = false;
            }
            self.local.insert(uid.clone(), local);
        }
        self.objects = objects;
    }

    fn advance(&mut self, uid: &str, object: &Value, local: &mut Local) -> Result<()> {
        if matches!(object["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            return Ok(());
        }
        if object["metadata"]["deletionTimestamp"].is_string() {
            return self.end(uid, object, local);
        }
        let Some(node) = object["spec"]["nodeName"].as_str() else {
            return if local.bound { Ok(()) } else { self.bind(object, local) };
        };
        let Some(node) = self.nodes.iter().find(|found| found.name == node) else {
            return Ok(());
        };
        if local.pod.is_none() {
            let images = self.shared.images().clone();
            let pod = Arc::new(Pod::start(object, node, &images, &self.api, &self.logs)?);
            let key = (pod.namespace.clone(), pod.name.clone());
            self.shared.pods().insert(key, Arc::clone(&pod));
            local.pod = Some(pod);
        }
        if let Some(pod) = &local.pod
            && !local.reported
            && pod.is_ready(object)?
        {
            let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
            let status = json!({ "status": pod.status(object, &now) });
            self.api.patch(&format!("{}/status", path(object)), &status)?;
            local.reported = true;
        }
        Ok(())
    }

    /// Gives a pod to a node: the one that it asks for, or else the next.
    fn bind(&mut self, object: &Value, local: &mut Local) -> Result<()> {
        let wanted = wanted_node(&object["spec"]);
        let index = match &wanted {
            Some(wanted) => self.nodes.iter().position(|node| node.name == *wanted),
            None => (!self.nodes.is_empty()).then(|| self.turn % self.nodes.len()),
        };
        let node = &self.nodes[index.with_context(|| format!("no node for {wanted:?}"))?];
        let target = json!({ "apiVersion": "v1", "kind": "Node", "name": node.name });
        let binding = json!({
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": { "name": object["metadata"]["name"] },
            "target": target,
        });
        self.api.post(&format!("{}/binding", path(object)), &binding)?;
        self.turn += usize::from(wanted.is_none());
        local.bound = true;
        Ok(())
    }

    fn end(&self, uid: &str, object: &Value, local: &mut Local) -> Result<()> {
        if let Some(pod) = &local.pod {
            let ending = local.ending.get_or_insert_with(|| {
                let seconds = |value: &Value| Duration::from_secs(value.as_u64().unwrap_or(0));
                let now = Instant::now();
                let containers = object["spec"]["containers"].as_array();
                let sleeps = containers.into_iter().flatten();
                let sleeps =
                    sleeps.map(|c| seconds(&c["lifecycle"]["preStop"]["sleep"]["seconds"]));
                Ending {
                    terminate: now + sleeps.max().unwrap_or_default(),
                    kill: now + seconds(&object["metadata"]["deletionGracePeriodSeconds"]),
                    asked: false,
                }
            });
            let now = Instant::now();
            if now < ending.terminate.min(ending.kill) {
                return Ok(());
            }
            if !ending.asked {
                pod.terminate();
                ending.asked = true;
            }
            if !pod.has_ended() && now < ending.kill {
                return Ok(());
            }
            pod.kill();
        }
        let body = json!({
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": 0,
            "preconditions": { "uid": uid },
        });
        let answer = self.api.call("DELETE", &path(object), Some(("application/json", &body)))?;
        match answer.0 {
            200 | 202 | 404 | 409 => Ok(()),
            status => bail!("DELETE: {status}: {}", answer.1),
        }
    }
}

/// The node that a pod has to be on: by its selector, or as DaemonSets have it.
fn wanted_node(spec: &Value) -> Option<String> {
    let by_label = &spec["nodeSelector"]["kubernetes.io/hostname"];
    let affinity = &spec["affinity"]["nodeAffinity"];
    let required = &affinity["requiredDuringSchedulingIgnoredDuringExecution"];
    let by_name = &required["nodeSelectorTerms"][0]["matchFields"][0]["values"][0];
    by_label.as_str().or_else(|| by_name.as_str()).map(str::to_owned)
}

fn uid(pod: &Value) -> String {
    pod["metadata"]["uid"].as_str().unwrap_or_default().to_owned()
}

fn path(pod: &Value) -> String {
    let text = |key: &str| pod["metadata"][key].as_str().unwrap_or_default().to_owned();
    format!("/api/v1/namespaces/{}/pods/{}", text("namespace"), text("name"))
}
