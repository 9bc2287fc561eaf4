//! A container that an OCI runtime runs of an unpacked image, as its Pod describes it: mounts,
//! capabilities, seccomp, memory. Needs `runc`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::Api;
use super::node::Node;
use super::process::Process;
use super::programs;
use crate::netns::Netns;
use crate::prometheus;

/// The Service by which Pods reach the API server.
const API: [(&str, &str); 2] =
    [("KUBERNETES_SERVICE_HOST", "10.96.0.1"), ("KUBERNETES_SERVICE_PORT", "443")];
/// How many containers this process has started.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// A container; on drop it is killed.
#[derive(Debug)]
pub struct Container {
    id: String,
    process: Process,
    /// The runtime's configuration and state, and the files of volumes.
    directory: TempDir,
}

/// Where a container is run.
pub(super) struct Place<'a> {
    pub node: &'a Node,
    pub ns: &'a Netns,
    pub api: &'a Api,
    pub logs: &'a Path,
}

impl Container {
    /// Starts a container of a Pod's object, of the root file system `root`.
    pub(super) fn start(pod: &Value, it: &Value, root: &Path, place: &Place<'_>) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-container-").tempdir()?;
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let id = format!("weir-{}-{number}", std::process::id());
        let config = config(pod, it, root, place, directory.path())?;
        std::fs::write(directory.path().join("config.json"), config.to_string())?;
        let mut command = runc(directory.path());
        // Its process group is not the terminal's: who ends the test ends what it started.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.args(["run", "--bundle"]).arg(directory.path()).arg(&id);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let name = format!("{}-{}", text(&pod["metadata"]["name"]), text(&it["name"]));
        let process = Process::start(&name, command, &place.logs.join(format!("{name}.log")))?;
        Ok(Self { id, process, directory })
    }

    /// Runs a command in it, as `kubectl exec` does.
    ///
    /// # Panics
    ///
    /// If the runtime cannot be run.
    #[must_use]
    pub fn exec(&self, arguments: &[&str]) -> Output {
        let mut command = runc(self.directory.path());
        command.arg("exec").arg(&self.id).args(arguments);
        command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"))
    }

    /// Bytes of memory: the most that it had, and how often it wanted more than it may have.
    ///
    /// # Errors
    ///
    /// Fails if it does not run.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let mut command = runc(self.directory.path());
        command.args(["events", "--stats"]).arg(&self.id);
        let output = command.output()?;
        let stats: Value = serde_json::from_slice(&output.stdout)
            .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
        let usage = &stats["data"]["memory"]["usage"];
        let number = |key: &str| usage[key].as_u64().unwrap_or(0);
        Ok((number("max").max(number("usage")), number("failcnt")))
    }

    /// What it runs, as its Pod has it.
    pub(super) fn process(&self) -> &Process {
        &self.process
    }

    /// Sends its program a signal.
    pub(super) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        let mut command = runc(self.directory.path());
        // Nothing is left to kill if it has ended.
        let _ = command.args(["delete", "--force"]).arg(&self.id).output();
    }
}

/// Whether the readiness probe of a container succeeds; without one it does.
pub(super) fn is_ready(it: &Value, ns: &Netns, own: &str) -> Result<bool> {
    let probe = &it["readinessProbe"]["httpGet"];
    if probe.is_null() {
        return Ok(true);
    }
    let host = probe["host"].as_str().unwrap_or(own);
    let mut ports = it["ports"].as_array().into_iter().flatten();
    let port = match &probe["port"] {
        Value::Number(number) => number.as_u64(),
        name => ports.find(|port| port["name"] == *name).and_then(|p| p["containerPort"].as_u64()),
    };
    let port = u16::try_from(port.context("a probe of no port")?)?;
    let path = probe["path"].as_str().unwrap_or("/");
    let answer = prometheus::get(ns, SocketAddr::new(host.parse()?, port), path);
    Ok(answer.is_ok_and(|(status, _)| (200..400).contains(&status)))
}

fn runc(directory: &Path) -> Command {
    let mut command = Command::new("runc");
    command.arg("--root").arg(directory.join("state"));
    command
}

/// The runtime's configuration, as the kubelet and containerd make it.
fn config(
    pod: &Value,
    it: &Value,
    root: &Path,
    place: &Place<'_>,
    directory: &Path,
) -> Result<Value> {
    let security = &it["securityContext"];
    if security["privileged"] == true {
        bail!("a privileged container, which is not played here");
    }
    let capabilities = capabilities(security)?;
    let words = |key: &str| -> Vec<&Value> { it[key].as_array().into_iter().flatten().collect() };
    let arguments = [words("command"), words("args")].concat();
    let mut environment = vec!["PATH=/usr/bin".to_owned()];
    environment.extend(API.map(|(name, value)| format!("{name}={value}")));
    for variable in it["env"].as_array().into_iter().flatten() {
        environment.push(self::variable(pod, variable)?);
    }
    let mut linux = json!({
        "namespaces": [
            { "type": "pid" }, { "type": "ipc" }, { "type": "mount" },
            { "type": "network", "path": place.ns.path() },
        ],
        "maskedPaths": ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys"],
        "resources": { "devices": [{ "allow": false, "access": "rwm" }] },
    });
    if let Some(limit) = it["resources"]["limits"]["memory"].as_str() {
        linux["resources"]["memory"] = json!({ "limit": bytes(limit)? });
    }
    if security["seccompProfile"]["type"] == "RuntimeDefault" {
        let output = Command::new(programs::seccomp()?).args(&capabilities).output()?;
        linux["seccomp"] = serde_json::from_slice(&output.stdout).context("seccomp profile")?;
    }
    Ok(json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": { "uid": security["runAsUser"], "gid": security["runAsGroup"] },
            "args": arguments,
            "env": environment,
            "cwd": "/",
            "capabilities": {
                "bounding": capabilities, "effective": capabilities, "permitted": capabilities,
            },
            "noNewPrivileges": security["allowPrivilegeEscalation"] == false,
        },
        "root": { "path": root, "readonly": security["readOnlyRootFilesystem"] == true },
        "mounts": mounts(pod, it, place, directory)?,
        "linux": linux,
    }))
}

/// A variable of a container, `NAME=value`.
fn variable(pod: &Value, variable: &Value) -> Result<String> {
    let name = variable["name"].as_str().context("a variable without a name")?;
    let value = match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
        Some("spec.nodeName") => &pod["spec"]["nodeName"],
        Some(other) => bail!("a variable of {other}, which is not played here"),
        None => &variable["value"],
    };
    Ok(format!("{name}={}", value.as_str().unwrap_or_default()))
}

/// What `capabilities` come to, where all of the runtime's own are dropped.
fn capabilities(security: &Value) -> Result<Vec<String>> {
    let of = |key: &str| -> Vec<&str> {
        let list = security["capabilities"][key].as_array().into_iter().flatten();
        list.filter_map(Value::as_str).collect()
    };
    if of("drop") != ["ALL"] {
        bail!("expected that all capabilities are dropped: {security}");
    }
    Ok(of("add").into_iter().map(|name| format!("CAP_{name}")).collect())
}

/// A quantity of memory, such as `640Mi`.
fn bytes(quantity: &str) -> Result<u64> {
    let (number, unit) = match quantity.strip_suffix("Mi") {
        Some(number) => (number, 1 << 20),
        None => (quantity.strip_suffix("Gi").context("expected Mi or Gi")?, 1 << 30),
    };
    Ok(number.parse::<u64>()? * unit)
}

fn mounts(pod: &Value, it: &Value, place: &Place<'_>, directory: &Path) -> Result<Vec<Value>> {
    let mut mounts = vec![
        json!({ "destination": "/proc", "type": "proc", "source": "proc" }),
        json!({
            "destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        }),
        json!({
            "destination": "/sys", "type": "sysfs", "source": "sysfs",
            "options": ["nosuid", "noexec", "nodev", "ro"],
        }),
    ];
    for wanted in it["volumeMounts"].as_array().into_iter().flatten() {
        let mut volumes = pod["spec"]["volumes"].as_array().into_iter().flatten();
        let volume = volumes.find(|volume| volume["name"] == wanted["name"]);
        let volume = volume.with_context(|| format!("no volume {}", wanted["name"]))?;
        let source = source(pod, volume, place, directory)?;
        let access = if wanted["readOnly"] == true { "ro" } else { "rw" };
        let propagation = match wanted["mountPropagation"].as_str() {
            Some("HostToContainer") => "rslave",
            None | Some("None") => "rprivate",
            Some(other) => bail!("a container that is not privileged cannot have {other}"),
        };
        mounts.push(json!({
            "destination": wanted["mountPath"], "type": "bind", "source": source,
            "options": ["rbind", propagation, access],
        }));
    }
    Ok(mounts)
}

/// Where on this machine a volume is.
fn source(pod: &Value, volume: &Value, place: &Place<'_>, directory: &Path) -> Result<PathBuf> {
    if let Some(path) = volume["hostPath"]["path"].as_str() {
        return place.node.host_path(path);
    }
    let name = volume["name"].as_str().context("a volume without a name")?;
    let to = directory.join("volumes").join(name);
    std::fs::create_dir_all(&to)?;
    let namespace = pod["metadata"]["namespace"].as_str().context("no namespace")?;
    let alone = json!([volume]);
    let sources = match &volume["projected"]["sources"] {
        Value::Null => &alone,
        sources => sources,
    };
    for source in sources.as_array().into_iter().flatten() {
        if let Some(token) = source.get("serviceAccountToken") {
            let file = token["path"].as_str().context("a token of no path")?;
            std::fs::write(to.join(file), self::token(pod, namespace, token, place.api)?)?;
        } else if let Some(map) = source.get("configMap") {
            let of = map["name"].as_str().context("a ConfigMap without a name")?;
            let path = format!("/api/v1/namespaces/{namespace}/configmaps/{of}");
            let map = place.api.get(&path)?;
            for (key, text) in map["data"].as_object().context("no data")? {
                std::fs::write(to.join(key), text.as_str().unwrap_or_default())?;
            }
        } else if source.get("downwardAPI").is_some() {
            std::fs::write(to.join("namespace"), namespace)?;
        } else {
            bail!("a volume that is not played here: {source}");
        }
    }
    Ok(to)
}

/// A token of the Pod's ServiceAccount, bound to the Pod.
fn token(pod: &Value, namespace: &str, wanted: &Value, api: &Api) -> Result<String> {
    let account = pod["spec"]["serviceAccountName"].as_str().context("no account")?;
    let path = format!("/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token");
    let of = &pod["metadata"];
    let bound = json!({
        "kind": "Pod", "apiVersion": "v1", "name": of["name"], "uid": of["uid"],
    });
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "spec": { "expirationSeconds": wanted["expirationSeconds"], "boundObjectRef": bound },
    });
    let answer = api.post(&path, &body)?;
    Ok(answer["status"]["token"].as_str().context("no token")?.to_owned())
}
