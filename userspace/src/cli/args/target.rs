//! Whom a command asks: the agent of this node, or a cluster.

use std::path::PathBuf;

use clap::Args;

use super::namespace;
use crate::cluster::Account;

/// A cluster to ask, instead of the agent of this node. It is asked only if one of these is
/// given, or `weir` was called as `kubectl weir`: `$KUBECONFIG` alone decides nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub struct ClusterArgs {
    /// Ask the cluster instead of the agent of this node, by the kubeconfig that kubectl
    /// takes, and with the rights of its user.
    #[arg(long, help_heading = "Cluster")]
    pub cluster: bool,
    /// Ask the cluster of this kubeconfig.
    #[arg(long, value_name = "FILE", help_heading = "Cluster")]
    pub kubeconfig: Option<PathBuf>,
    /// Ask the cluster of this context of the kubeconfig.
    #[arg(long, value_name = "NAME", help_heading = "Cluster")]
    pub context: Option<String>,
    /// The namespace of a split that is named without one, in a cluster.
    #[arg(
        short = 'n',
        long,
        value_name = "NAME",
        value_parser = namespace,
        help_heading = "Cluster"
    )]
    pub namespace: Option<String>,
    /// Whether the command was typed as one of kubectl.
    #[arg(skip)]
    pub by_kubectl: bool,
}

impl ClusterArgs {
    /// Whether a cluster is meant.
    pub fn is_meant(&self) -> bool {
        self.cluster || self.by_kubectl || self.kubeconfig.is_some() || self.context.is_some()
    }

    /// A namespace without a cluster means nothing.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.namespace.is_some() && !self.is_meant() {
            return Err(
                "--namespace is of a cluster: expected --cluster, --kubeconfig or --context \
                        beside it"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Who asks.
    pub fn account(&self) -> Account {
        Account { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// Another command for the same cluster, as it is typed.
    pub fn command(&self, what: &str) -> String {
        let mut text = if self.by_kubectl { "kubectl weir " } else { "weir " }.to_owned() + what;
        if let Some(path) = &self.kubeconfig {
            text += &format!(" --kubeconfig {}", path.display());
        }
        if let Some(context) = &self.context {
            text += &format!(" --context {context}");
        }
        if !self.by_kubectl && self.kubeconfig.is_none() && self.context.is_none() {
            text += " --cluster";
        }
        text
    }
}
