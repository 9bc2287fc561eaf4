//! From what documents come to, to what splits are defined as: what cannot be
//! leaves things as they were.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::DesiredState;
use super::sources::Base;
use crate::model::{Name, ServiceAddress, Split};
use crate::source::Problem;

/// Definitions that change.
#[derive(Debug, Default)]
pub(super) struct Reconciled {
    /// Splits to be defined otherwise, or no more.
    pub definitions: BTreeMap<Name, Option<Arc<Split>>>,
    /// Those that have to wait, since their address is still another's.
    pub waiting: BTreeMap<Name, Problem>,
}

impl DesiredState {
    /// What these splits, and those that wait, are to be defined as.
    pub(super) fn reconcile(&self, base: &Base, mut names: BTreeSet<Name>) -> Reconciled {
        names.extend(self.base.waiting.keys().cloned());
        let mut new = BTreeMap::new();
        // What goes on as it was when the agent started.
        let mut held = BTreeMap::new();
        for name in names {
            let old = self.defined.get(&name);
            if base.unsure.contains_key(&name) || base.excess.contains_key(&name) {
                if let (None, Some(running)) = (old, self.adopted.get(&name)) {
                    held.insert(name, Arc::clone(running));
                }
                continue;
            }
            let is_shown = base.observes && base.resolver.is_of_cluster(&name);
            match base.resolver.wanted(&name).filter(|_| !is_shown) {
                None if old.is_some() => _ = new.insert(name, None),
                None => {}
                Some(wanted) => match (wanted.failed, old, self.adopted.get(&name), wanted.split) {
                    (true, Some(_), _, _) => {}
                    (true, None, Some(old), _) => _ = held.insert(name, Arc::clone(old)),
                    (_, _, _, Some(split)) => _ = new.insert(name, Some(shared(old, split))),
                    (_, _, _, None) => {}
                },
            }
        }
        let mut waiting = BTreeMap::new();
        // One that has to wait keeps its own address, for which another may have to.
        while let Some((name, owner, address)) = self.in_the_way(&new, &held) {
            let message = format!(
                "service address {address} is still that of split \"{owner}\", which goes on as it was"
            );
            let problem = base.resolver.address_problem(&name, &message);
            new.remove(&name);
            if let (None, Some(old)) = (self.defined.get(&name), self.adopted.get(&name)) {
                held.insert(name.clone(), Arc::clone(old));
            }
            waiting.insert(name, problem.unwrap_or_else(|| Problem::of_file("", message)));
        }
        new.extend(held.into_iter().map(|(name, split)| (name, Some(split))));
        Reconciled { definitions: new, waiting }
    }

    /// A new definition with an address that another split goes on to have.
    fn in_the_way(
        &self,
        new: &BTreeMap<Name, Option<Arc<Split>>>,
        held: &BTreeMap<Name, Arc<Split>>,
    ) -> Option<(Name, Name, ServiceAddress)> {
        let held: BTreeMap<ServiceAddress, &Name> =
            held.values().map(|split| (split.address(), split.name())).collect();
        new.values().flatten().find_map(|split| {
            let address = split.address();
            let running = self.desired.at(&address).map(Split::name);
            let running = running.filter(|owner| !new.contains_key(*owner));
            let owner = held.get(&address).copied().or(running)?;
            Some((split.name().clone(), owner.clone(), address))
        })
    }
}

/// The split that is there, if it is the same.
fn shared(old: Option<&Arc<Split>>, new: Arc<Split>) -> Arc<Split> {
    old.filter(|old| **old == new).map_or(new, Arc::clone)
}
