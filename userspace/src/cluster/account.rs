//! Who asks, where a person does: by a kubeconfig, found as kubectl finds it.

use std::path::{Path, PathBuf};

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::client::loaded;
use super::failure::chain;

/// The variable that names kubeconfigs.
const VARIABLE: &str = "KUBECONFIG";

/// An account at an API server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Account {
    /// The kubeconfig; without one those of `$KUBECONFIG`, or `~/.kube/config`, or a Pod's
    /// service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it, if not its current one.
    pub context: Option<String>,
}

impl Account {
    /// How to reach the server. It blocks.
    ///
    /// # Errors
    ///
    /// In words, with the file where there is one.
    pub(super) fn configuration(&self) -> Result<Config, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..Default::default() };
        if let Some(path) = &self.kubeconfig {
            return loaded(&path.display().to_string(), Kubeconfig::read_from(path), &options);
        }
        if std::env::var_os(VARIABLE).is_some_and(|value| !value.is_empty()) {
            let read = Kubeconfig::from_env().transpose();
            return read.map_or_else(
                || Err(format!("${VARIABLE} names no file")),
                |read| loaded(&format!("${VARIABLE}"), read, &options),
            );
        }
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".kube/config"));
        if let Some(path) = home.filter(|path| path.exists()) {
            return loaded(&path.display().to_string(), Kubeconfig::read_from(&path), &options);
        }
        if let Some(context) = &self.context {
            return Err(format!("there is no kubeconfig to have the context \"{context}\""));
        }
        Config::incluster_env().map_err(|error| {
            format!(
                "no cluster: give --kubeconfig or ${VARIABLE}; there is no ~/.kube/config, nor \
                 the service account of a Pod: {}",
                chain(&error)
            )
        })
    }
}
