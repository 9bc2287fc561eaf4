//! Steps that take endpoints out, though documents have them, and put them back.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::outcome::effective_with;
use super::persisted::{Drain, Drains};
use super::sources::{DesiredState, Intent};
use super::{Cause, PersistedState, Rejection, Step, Time};
use crate::model::{Name, Split, hint, total_weight};

/// What may be when an endpoint is taken out; by default nothing of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DrainGuard {
    /// A subset with a weight may have no endpoint any more.
    pub force: bool,
    /// This node may differ from the others, of a split of the cluster.
    pub this_node: bool,
}

impl DesiredState {
    /// Takes an endpoint out of a split: no new flows go there, and live ones keep it for the
    /// split's drain time. It stays out until it is put back, or the definition does not have it
    /// any more. `endpoint` is ADDRESS:PORT, or ADDRESS where that is enough.
    ///
    /// # Errors
    ///
    /// If there is no such endpoint; unless it is forced, if a subset with a weight would have no
    /// endpoint any more; and, unless it is meant for this node, if the split is the cluster's.
    pub fn drain(
        &self,
        persisted: &PersistedState,
        name: &str,
        endpoint: &str,
        guard: DrainGuard,
        now: Time,
    ) -> Result<Step, Rejection> {
        let defined = self.definition(name)?;
        let there: BTreeSet<SocketAddr> =
            defined.subsets().iter().flat_map(|subset| &subset.endpoints).copied().collect();
        let endpoint = find(endpoint, &there).map_err(|no| {
            Rejection::NotFound(format!("split \"{name}\" has no endpoint \"{endpoint}\"{no}"))
        })?;
        let instead = "the readiness of the Pod, or its labels";
        self.alike_on_all_nodes(defined.name(), guard.this_node, instead)?;
        let mut drains = persisted.drains_of(name).cloned().unwrap_or_default();
        drains.entry(endpoint).or_insert_with(|| {
            let has = |subset: &&crate::model::Subset| subset.endpoints.contains(&endpoint);
            let subsets = defined.subsets().iter().filter(has).map(|s| s.name.clone()).collect();
            Drain { subsets, since: now, author: None }
        });
        if !guard.force {
            let after = effective_with(defined, persisted, &drains);
            let before = self.desired.get(name);
            emptied(before.unwrap_or(defined), &after, endpoint)?;
        }
        Ok(self.drain_step(persisted, Cause::Drain, defined.name(), endpoint, drains, now))
    }

    /// Puts an endpoint back that was taken out.
    ///
    /// # Errors
    ///
    /// If it was not.
    pub fn undrain(
        &self,
        persisted: &PersistedState,
        name: &str,
        endpoint: &str,
        now: Time,
    ) -> Result<Step, Rejection> {
        let defined = self.definition(name)?;
        let mut drains = persisted.drains_of(name).cloned().unwrap_or_default();
        let out = drains.keys().copied().collect();
        let endpoint = find(endpoint, &out).map_err(|no| {
            Rejection::NotFound(format!(
                "split \"{name}\" has no endpoint \"{endpoint}\" that `weir drain` took out{no}"
            ))
        })?;
        drains.remove(&endpoint);
        Ok(self.drain_step(persisted, Cause::Undrain, defined.name(), endpoint, drains, now))
    }

    fn definition(&self, name: &str) -> Result<&Arc<Split>, Rejection> {
        let none = || Rejection::NotFound(self.desired.no_split(name));
        self.defined.get(name).ok_or_else(none)
    }

    fn drain_step(
        &self,
        persisted: &PersistedState,
        cause: Cause,
        name: &Name,
        endpoint: SocketAddr,
        drains: Drains,
        now: Time,
    ) -> Step {
        let mut intent = Intent::new(cause, now);
        intent.drains.insert(name.clone(), (endpoint, drains));
        self.step(persisted, intent)
    }
}

/// The endpoint that was typed, of those; or what to add to the message that there is none.
fn find(typed: &str, of: &BTreeSet<SocketAddr>) -> Result<SocketAddr, String> {
    if let Ok(address) = typed.parse::<SocketAddr>()
        && of.contains(&address)
    {
        return Ok(address);
    }
    if let Ok(ip) = typed.trim_matches(['[', ']']).parse::<IpAddr>() {
        let mut found = of.iter().filter(|address| address.ip() == ip);
        match (found.next(), found.next()) {
            (Some(one), None) => return Ok(*one),
            (Some(one), Some(_)) => {
                return Err(format!(": there are more at that address, such as {one}"));
            }
            (None, _) => {}
        }
    }
    let known: Vec<String> = of.iter().map(ToString::to_string).collect();
    Err(hint(typed, known.iter().map(String::as_str)))
}

/// Rejects what takes the last endpoint of a subset that gets new flows.
fn emptied(before: &Split, after: &Split, endpoint: SocketAddr) -> Result<(), Rejection> {
    let had = |name: &Name| {
        before.subsets().iter().any(|subset| subset.name == *name && !subset.endpoints.is_empty())
    };
    let mut left = after.subsets().iter().filter(|subset| subset.endpoints.is_empty());
    let Some(subset) = left.find(|subset| subset.weight > 0 && had(&subset.name)) else {
        return Ok(());
    };
    let (split, name) = (after.name(), &subset.name);
    let share = f64::from(subset.weight) / total_weight(after.subsets()) as f64 * 100.0;
    Err(Rejection::Conflict(format!(
        "split \"{split}\": without {endpoint} subset \"{name}\" would have no endpoint, and \
         {share:.2}% of new connections would be rejected: give it weight 0 first \
         (weir weights {split} {name}=0), or say --force"
    )))
}
