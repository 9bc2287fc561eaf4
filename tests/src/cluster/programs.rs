//! Where the programs of Kubernetes and the definitions of other resources are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use xtask::cluster::Module;

/// A file or directory of a Go module, which `cargo xtask` builds.
fn built(module: Module, name: &str) -> Result<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("tests lie in weir")?;
    let path = module.directory(root)?.join(name);
    ensure!(path.exists(), "no {}: `cargo xtask test cluster` builds it", path.display());
    Ok(path)
}

/// A command of Kubernetes, such as `kubectl`.
///
/// # Errors
///
/// Fails if it was not built yet.
pub fn kubernetes(name: &str) -> Result<PathBuf> {
    built(Module::Kubernetes, name)
}

/// etcd.
///
/// # Errors
///
/// Fails if it was not built yet.
pub fn etcd() -> Result<PathBuf> {
    built(Module::Etcd, "etcd")
}

/// Helm.
///
/// # Errors
///
/// Fails if it was not built yet.
pub fn helm() -> Result<PathBuf> {
    built(Module::Helm, "helm")
}

/// What writes the default seccomp profile of containerd.
///
/// # Errors
///
/// Fails if it was not built yet.
pub fn seccomp() -> Result<PathBuf> {
    built(Module::Seccomp, "seccomp")
}

/// Definitions of resources that Kubernetes does not bring itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Definitions {
    /// Of the Gateway API, those of its standard channel.
    GatewayStandard,
    /// Of the Gateway API, those of its experimental channel.
    GatewayExperimental,
    /// Istio's.
    Istio,
}

/// The directory with these definitions.
///
/// # Errors
///
/// Fails if they were not fetched yet.
pub fn definitions(which: Definitions) -> Result<PathBuf> {
    built(
        Module::Definitions,
        match which {
            Definitions::GatewayStandard => "gateway-api/standard",
            Definitions::GatewayExperimental => "gateway-api/experimental",
            Definitions::Istio => "istio",
        },
    )
}
