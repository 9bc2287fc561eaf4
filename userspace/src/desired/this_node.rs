//! Splits of a cluster, and what one node does otherwise with them than the others: it has to be
//! asked for by name, since nobody who looks at the cluster sees it.

use super::Rejection;
use super::persisted::PersistedState;
use super::sources::{DesiredState, Source};
use crate::model::Name;
use crate::resource::{Document, Origin};

impl DesiredState {
    /// The cluster's objects that say how the connections of a split are divided, on all nodes
    /// alike; none if this node's operator says so.
    pub fn divided_by_cluster(&self, split: &Name) -> Vec<&Document> {
        let dividers = self.resolver().dividers(split).into_iter();
        dividers.filter(|document| document.origin() == Origin::Cluster).collect()
    }

    /// Whether this node steers a split of the cluster otherwise than the others: by weights that
    /// were overridden here, or without an endpoint that was taken out.
    pub fn is_of_this_node(&self, persisted: &PersistedState, split: &Name) -> bool {
        let name = split.as_str();
        let differs = persisted.override_of(name).is_some() || persisted.drains_of(name).is_some();
        differs && !self.divided_by_cluster(split).is_empty()
    }

    /// The splits of the cluster that this node steers otherwise than the others, by name.
    pub fn of_this_node(&self, persisted: &PersistedState) -> Vec<Name> {
        let changed = persisted.overrides().map(|(name, _)| name);
        let mut all: Vec<Name> = changed
            .chain(persisted.drains().map(|(name, _)| name))
            .filter(|name| self.split_set().get(name.as_str()).is_some())
            .filter(|name| self.is_of_this_node(persisted, name))
            .cloned()
            .collect();
        all.sort();
        all.dedup();
        all
    }

    /// Rejects what would change a split of the cluster on this node alone, unless just that is
    /// wanted. `instead` is the command for all nodes.
    pub(super) fn alike_on_all_nodes(
        &self,
        split: &Name,
        this_node: bool,
        instead: &str,
    ) -> Result<(), Rejection> {
        if this_node {
            return Ok(());
        }
        if let Some(document) = self.divided_by_cluster(split).first() {
            let edit = document.object().map(|(namespace, name)| {
                let kind = document.id().kind.resource();
                format!(", or kubectl -n {namespace} edit {kind}/{name}")
            });
            let (id, edit) = (document.id(), edit.unwrap_or_default());
            return Err(Rejection::Conflict(format!(
                "split \"{split}\" is the cluster's ({id}), and this node alone would differ from \
                 the others: use {instead}{edit}; --this-node does it here all the same"
            )));
        }
        let is_unheard = self.source(split.as_str()) == Some(Source::Adopted)
            && self.base.awaited.contains(&Origin::Cluster);
        if is_unheard {
            return Err(Rejection::Conflict(format!(
                "split \"{split}\" runs since before the agent started, and the cluster, which may \
                 define it, was not heard of yet: try again soon; --this-node does it here all the \
                 same"
            )));
        }
        Ok(())
    }
}
