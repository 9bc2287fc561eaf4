//! What a pod with a ServiceAccount finds: where the API is, and who it is itself.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::control_plane::{ADDRESS, ControlPlane, PORT};
use crate::agent::Setup;

/// Where all programs in clusters look for it.
const PLACE: &str = "/run/secrets/kubernetes.io/serviceaccount";

/// Files of a ServiceAccount, which an agent sees at their usual place, and nobody else does.
#[derive(Debug)]
pub struct InCluster {
    directory: TempDir,
    namespace: String,
    account: String,
    /// The node to which its tokens are bound, and of which it says that it is there.
    node: Option<String>,
}

impl InCluster {
    /// Those of an account, which must be there.
    ///
    /// # Errors
    ///
    /// Fails with what `kubectl` wrote.
    pub fn new(control: &ControlPlane, namespace: &str, account: &str) -> Result<Self> {
        Self::made(control, (namespace, account), None)
    }

    /// Those of an account on a node, as a Pod there has them.
    ///
    /// # Errors
    ///
    /// As [`InCluster::new`].
    pub fn on_node(control: &ControlPlane, of: (&str, &str), node: &str) -> Result<Self> {
        Self::made(control, of, Some(node.to_owned()))
    }

    fn made(
        control: &ControlPlane,
        (namespace, account): (&str, &str),
        node: Option<String>,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-account-").tempdir()?;
        let (namespace, account) = (namespace.to_owned(), account.to_owned());
        let it = Self { directory, namespace, account, node };
        std::fs::create_dir(it.files())?;
        std::fs::write(it.files().join("ca.crt"), control.certificate())?;
        std::fs::write(it.files().join("namespace"), &it.namespace)?;
        it.renew(control)?;
        it.write_launcher()?;
        Ok(it)
    }

    /// Puts a new token in place of the one that is there, as the kubelet does.
    ///
    /// # Errors
    ///
    /// As [`InCluster::new`].
    pub fn renew(&self, control: &ControlPlane) -> Result<()> {
        let token = match &self.node {
            Some(node) => control.token_of_node(&self.namespace, &self.account, node),
            None => control.token(&self.namespace, &self.account),
        };
        self.set_token(&token?)
    }

    /// Puts any token there, say one that is not valid.
    ///
    /// # Errors
    ///
    /// Fails if it cannot be written.
    pub fn set_token(&self, token: &str) -> Result<()> {
        let aside = self.files().join("token.new");
        std::fs::write(&aside, token)?;
        Ok(std::fs::rename(aside, self.files().join("token"))?)
    }

    /// Has an agent find these files, and the environment that belongs to them.
    #[must_use]
    pub fn setup(&self, setup: Setup) -> Setup {
        let setup = match &self.node {
            Some(node) => setup.environment("WEIR_NODE_NAME", node),
            None => setup,
        };
        setup
            .launcher(&self.launcher())
            .environment("KUBERNETES_SERVICE_HOST", ADDRESS)
            .environment("KUBERNETES_SERVICE_PORT", &PORT.to_string())
    }

    /// The directory of `token`, `ca.crt` and `namespace`.
    #[must_use]
    pub fn files(&self) -> PathBuf {
        self.directory.path().join("serviceaccount")
    }

    /// What gives a program mounts of its own, and these files in them.
    #[must_use]
    pub fn launcher(&self) -> PathBuf {
        self.directory.path().join("launcher")
    }

    /// A script that turns into the program: the process id stays the same.
    fn write_launcher(&self) -> Result<()> {
        let (files, path) = (self.files(), self.launcher());
        // An empty /run, since the place may not exist on this machine.
        let script = format!(
            "#!/bin/sh\nexec unshare --mount --propagation private -- sh -c '\n\
             mount -t tmpfs none /run && mkdir -p {PLACE} &&\n\
             mount --bind {} {PLACE} && exec \"$@\"' sh \"$@\"\n",
            files.display(),
        );
        std::fs::write(&path, script).with_context(|| path.display().to_string())?;
        Ok(std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?)
    }
}
