//! etcd, API server and controllers in a network namespace of their own.
//!
//! The namespace has a bridge, `lan`, to which the nodes are connected; at its address the API
//! server listens.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::api::Api;
use super::certificates::{Authority, Identity, keys};
use super::kubectl::Kubectl;
use super::process::Process;
use super::{phase, programs};
use crate::netns::Netns;

/// Where the API server listens, and who the nodes' default route leads to.
pub const ADDRESS: &str = "10.0.0.1";
/// Its address for IPv6.
pub const ADDRESS_V6: &str = "2001:db8:0:a::1";
/// Its port.
pub const PORT: u16 = 6443;
/// The Services' addresses.
pub const SERVICES: &str = "10.96.0.0/16,2001:db8:96::/112";
/// How long anything may take; generous, since other tests run too.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How often is looked.
const POLL: Duration = Duration::from_millis(50);

/// What runs in the place of all that `kube-controller-manager` has. So nothing takes endpoints
/// away because a node seems to be gone: nodes do not report.
const CONTROLLERS: &str = "endpointslice-controller,deployment-controller,replicaset-controller,\
    daemonset-controller,namespace-controller,garbage-collector-controller,\
    serviceaccount-controller,serviceaccount-token-controller,\
    root-ca-certificate-publisher-controller";

/// A running control plane; all of it ends on drop.
#[derive(Debug)]
pub struct ControlPlane {
    api_server: Option<Process>,
    _controllers: Process,
    _proxy: Process,
    _etcd: Process,
    api: Api,
    kubectl: Kubectl,
    ns: Arc<Netns>,
    authority: Authority,
    directory: TempDir,
}

impl ControlPlane {
    /// Starts it and waits until the API is ready.
    ///
    /// # Errors
    ///
    /// Needs root, and the programs to be built; shows what the API server wrote if it does not
    /// get ready.
    pub fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-cluster-").tempdir()?;
        let at = directory.path();
        let ns = Arc::new(Netns::new()?);
        ns.ip(&[
            "link add lan type bridge".to_owned(),
            format!("address add {ADDRESS}/16 dev lan"),
            format!("address add {ADDRESS_V6}/64 dev lan nodad"),
            "link set lan up".to_owned(),
        ])?;
        let authority = Authority::new()?;
        let names = [ADDRESS, "10.96.0.1", "127.0.0.1", "localhost", "kubernetes.default.svc"];
        write(at, "ca.crt", authority.certificate())?;
        write_identity(at, "server", &authority.server(&names)?)?;
        let [private, public] = keys()?;
        write(at, "tokens.key", &private)?;
        write(at, "tokens.pub", &public)?;
        let admin = authority.user("admin", Some("system:masters"))?;
        let admin = write_user(at, "admin", &admin)?;
        let manager = "system:kube-controller-manager";
        let manager = write_user(at, "manager", &authority.user(manager, None)?)?;

        let start = |name: &str, command| {
            Process::start(name, command, &at.join(format!("{}.log", name.replace(' ', "-"))))
        };
        let etcd = start("etcd", etcd(&ns, at)?)?;
        let (program, socket) = (programs::kubernetes("kubectl")?, at.join("api.sock"));
        let kubectl = Kubectl::new(Arc::clone(&ns), program, admin.clone(), at.join("cache"));
        let mut command = command(&ns, "kubectl")?;
        command.arg("proxy").arg(flag("kubeconfig", &admin)).arg(flag("unix-socket", &socket));
        let proxy = start("kubectl proxy", command)?;
        let controllers = start("kube-controller-manager", controllers(&ns, at, &manager)?)?;
        let mut it = Self {
            api_server: None,
            _controllers: controllers,
            _proxy: proxy,
            _etcd: etcd,
            api: Api::new(socket),
            kubectl,
            ns,
            authority,
            directory,
        };
        phase("API server ready", || it.start_api_server())?;
        phase("ServiceAccounts there", || {
            it.await_answer("/api/v1/namespaces/default/serviceaccounts/default")
        })?;
        Ok(it)
    }

    /// Starts the API server, unless it runs, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::start`].
    pub fn start_api_server(&mut self) -> Result<()> {
        if self.api_server.is_none() {
            let at = self.directory.path();
            let command = api_server(&self.ns, at)?;
            let log = at.join("kube-apiserver.log");
            self.api_server = Some(Process::start("kube-apiserver", command, &log)?);
        }
        self.await_answer("/readyz")
    }

    /// Kills the API server: nobody gets a last word, and connections to it are refused.
    pub fn stop_api_server(&mut self) {
        self.api_server = None;
    }

    /// The API server's process while it runs, to be stopped and continued by signals.
    #[must_use]
    pub fn api_server(&self) -> Option<&Process> {
        self.api_server.as_ref()
    }

    /// Waits until a GET succeeds.
    fn await_answer(&self, path: &str) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let Err(error) = self.api.get(path) else { return Ok(()) };
            let ended = self.api_server.as_ref().and_then(Process::status);
            if ended.is_some() || Instant::now() > deadline {
                let tail = self.api_server.as_ref().map(Process::tail).unwrap_or_default();
                bail!("the API server is not ready ({ended:?}): {error:#}\n{tail}");
            }
            std::thread::sleep(POLL);
        }
    }

    /// `kubectl` as administrator.
    #[must_use]
    pub fn kubectl(&self) -> &Kubectl {
        &self.kubectl
    }

    /// The API as administrator, without a process for each request.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// The namespace in which it runs.
    #[must_use]
    pub fn ns(&self) -> &Netns {
        &self.ns
    }

    /// Where its files are; others may lie beside them, and end with them.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The certificate by which its server is known, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        self.authority.certificate()
    }

    /// The kubeconfig of its administrator.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("admin.kubeconfig")
    }

    /// A kubeconfig of a user with a certificate, such as `system:kube-proxy`.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn kubeconfig_of_user(&self, name: &str) -> Result<PathBuf> {
        let file = name.replace(':', "-");
        write_user(self.directory.path(), &file, &self.authority.user(name, None)?)
    }

    /// A token of a ServiceAccount, which must be there, for an hour.
    ///
    /// # Errors
    ///
    /// Fails with what `kubectl` wrote.
    pub fn token(&self, namespace: &str, account: &str) -> Result<String> {
        let arguments = ["create", "token", account, "-n", namespace, "--duration=1h"];
        Ok(self.kubectl.try_run(&arguments, "")?.trim().to_owned())
    }

    /// The same, bound to a node, as the kubelet binds those of a node's Pods.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::token`].
    pub fn token_of_node(&self, namespace: &str, account: &str, node: &str) -> Result<String> {
        let bound = ["--bound-object-kind=Node", "--bound-object-name", node];
        let arguments = ["create", "token", account, "-n", namespace, "--duration=1h"];
        Ok(self.kubectl.try_run(&[&arguments[..], &bound].concat(), "")?.trim().to_owned())
    }

    /// A kubeconfig with a token; `name` is the file's.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn kubeconfig_with(&self, name: &str, token: &str) -> Result<PathBuf> {
        write_kubeconfig(self.directory.path(), name, &json!({ "token": token }))
    }

    /// A kubeconfig of a ServiceAccount, which must be there, with a token for an hour.
    ///
    /// # Errors
    ///
    /// As [`ControlPlane::token`].
    pub fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let token = self.token(namespace, account)?;
        self.kubeconfig_with(&format!("{namespace}-{account}"), &token)
    }
}

/// A command of Kubernetes in a namespace.
pub(super) fn command(ns: &Netns, name: &str) -> Result<std::process::Command> {
    let program = programs::kubernetes(name)?;
    Ok(ns.command(program.to_str().context("the path of Kubernetes is not UTF-8")?))
}

/// `--name=path`.
pub(super) fn flag(name: &str, path: &Path) -> String {
    format!("--{name}={}", path.display())
}

fn etcd(ns: &Netns, at: &Path) -> Result<std::process::Command> {
    let program = programs::etcd()?;
    let mut command = ns.command(program.to_str().context("the path of etcd is not UTF-8")?);
    command.arg(flag("data-dir", &at.join("etcd")));
    command.args(["--listen-client-urls=http://127.0.0.1:2379"]);
    command.args(["--advertise-client-urls=http://127.0.0.1:2379"]);
    command.args(["--listen-peer-urls=http://127.0.0.1:2380"]);
    // What it holds ends with the test.
    command.args(["--unsafe-no-fsync", "--log-level=warn"]);
    Ok(command)
}

fn api_server(ns: &Netns, at: &Path) -> Result<std::process::Command> {
    let mut command = command(ns, "kube-apiserver")?;
    command.args(["--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0"]);
    command.arg(format!("--advertise-address={ADDRESS}")).arg(format!("--secure-port={PORT}"));
    command.arg(format!("--service-cluster-ip-range={SERVICES}"));
    command.arg("--service-account-issuer=https://kubernetes.default.svc");
    command.args(["--authorization-mode=RBAC", "--allow-privileged=true", "--profiling=false"]);
    for (name, file) in [
        ("cert-dir", "."),
        ("tls-cert-file", "server.crt"),
        ("tls-private-key-file", "server.key"),
        ("client-ca-file", "ca.crt"),
        ("service-account-key-file", "tokens.pub"),
        ("service-account-signing-key-file", "tokens.key"),
    ] {
        command.arg(flag(name, &at.join(file)));
    }
    Ok(command)
}

fn controllers(ns: &Netns, at: &Path, kubeconfig: &Path) -> Result<std::process::Command> {
    let mut command = command(ns, "kube-controller-manager")?;
    command.arg(flag("kubeconfig", kubeconfig)).arg(format!("--controllers={CONTROLLERS}"));
    command.arg(flag("service-account-private-key-file", &at.join("tokens.key")));
    command.arg(flag("root-ca-file", &at.join("ca.crt")));
    command.arg(format!("--service-cluster-ip-range={SERVICES}"));
    command.args(["--use-service-account-credentials", "--leader-elect=false"]);
    // Nobody asks it anything; and it is not to hold tests up.
    command.args(["--secure-port=0", "--kube-api-qps=300", "--kube-api-burst=600"]);
    Ok(command)
}

fn write(at: &Path, name: &str, text: &str) -> Result<()> {
    std::fs::write(at.join(name), text).with_context(|| name.to_owned())
}

fn write_identity(at: &Path, name: &str, identity: &Identity) -> Result<()> {
    write(at, &format!("{name}.crt"), &identity.certificate)?;
    write(at, &format!("{name}.key"), &identity.key)
}

fn write_user(at: &Path, name: &str, identity: &Identity) -> Result<PathBuf> {
    write_identity(at, name, identity)?;
    let file = |extension: &str| at.join(format!("{name}.{extension}"));
    let user = json!({ "client-certificate": file("crt"), "client-key": file("key") });
    write_kubeconfig(at, name, &user)
}

fn write_kubeconfig(at: &Path, name: &str, user: &Value) -> Result<PathBuf> {
    let cluster = json!({
        "server": format!("https://{ADDRESS}:{PORT}"),
        "certificate-authority": at.join("ca.crt"),
    });
    let mut text = String::new();
    // JSON is YAML.
    write!(
        text,
        "{:#}",
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{ "name": "test", "cluster": cluster }],
            "users": [{ "name": name, "user": user }],
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": name } }],
            "current-context": "test",
        })
    )?;
    let path = at.join(format!("{name}.kubeconfig"));
    std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    Ok(path)
}
