//! What is shown of splits, from a picture of one moment: whoever looks holds up no change, since
//! only copying references takes the lock.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;

use super::census::Count;
use super::state::{Inner, LastChange, State};
use super::steering::uptime;
use crate::api::Failure;
use crate::api::types::{DrainingView, EndpointView, OriginView, SplitView, SubsetView};
use crate::datapath::Counters;
use crate::desired::{DesiredState, PersistedState};
use crate::model::{Name, Split, SplitSet, Subset, total_weight};
use crate::plan::{Ledger, Phase};

/// What was so at one moment.
pub(super) struct Snapshot {
    /// What runs.
    pub desired: Arc<SplitSet>,
    /// What is to run, and where that is defined.
    pub desired_state: Arc<DesiredState>,
    /// What outlives the agent.
    pub persisted: PersistedState,
    ledger: Ledger,
    last_changes: OrdMap<Name, LastChange>,
    count: Option<Arc<Count>>,
}

impl State {
    /// What is so now.
    pub(super) fn snapshot(&self) -> Snapshot {
        self.snapshot_of(&self.lock())
    }

    /// What is so while the lock is held.
    pub(super) fn snapshot_of(&self, inner: &Inner) -> Snapshot {
        Snapshot {
            desired: Arc::clone(&inner.desired),
            desired_state: Arc::clone(&inner.desired_state),
            persisted: inner.store.persisted().clone(),
            ledger: inner.steering.ledger().clone(),
            last_changes: inner.last_changes.clone(),
            count: self.census.latest(),
        }
    }
}

impl Snapshot {
    /// All splits, with what was counted by now.
    pub fn splits(&self, counters: &Counters) -> Vec<SplitView> {
        let mut draining = self.draining();
        let view = |split: &Split| {
            let draining = draining.remove(split.name()).unwrap_or_default();
            self.view(split, draining, counters)
        };
        self.desired.splits().map(view).collect()
    }

    /// One split.
    ///
    /// # Errors
    ///
    /// If there is none of that name.
    pub fn split(&self, name: &str, counters: &Counters) -> Result<SplitView, Failure> {
        let split = self.desired.get(name);
        let split = split.ok_or_else(|| Failure::NotFound(self.desired.no_split(name)))?;
        let draining = self.draining().remove(split.name()).unwrap_or_default();
        Ok(self.view(split, draining, counters))
    }

    /// Endpoints that drain, by split, with their live flows at the last count.
    fn draining(&self) -> BTreeMap<Name, Vec<DrainingView>> {
        let now = uptime();
        let active = |id| {
            let count = self.count.as_ref()?;
            Some(count.active.get(&id).copied().unwrap_or_default())
        };
        let mut found = BTreeMap::<Name, Vec<DrainingView>>::new();
        for endpoint in self.ledger.removed_endpoints() {
            let Phase::Draining { until } = endpoint.phase else { continue };
            found.entry(endpoint.split.clone()).or_default().push(DrainingView {
                subset: endpoint.subset.to_string(),
                address: endpoint.address,
                open_flows: active(endpoint.id),
                seconds_left: until.saturating_sub(now),
            });
        }
        found
    }

    fn view(&self, split: &Split, draining: Vec<DrainingView>, counters: &Counters) -> SplitView {
        let sum = total_weight(split.subsets());
        let change = self.last_changes.get(split.name().as_str());
        let counted: Vec<Counted> = split
            .subsets()
            .iter()
            .map(|subset| {
                let id = self.ledger.subset_id(split.name(), &subset.name);
                let stats = id.and_then(|id| counters.subset_stats(id).ok()).unwrap_or_default();
                let before = change.and_then(|change| change.counters.get(&subset.name));
                let before = before.map_or(0, |before| before.counters.stats.flows);
                let since_change = stats.flows - before.min(stats.flows);
                Counted { since_change, total: stats.flows, rejected: stats.rejected }
            })
            .collect();
        let fresh: u64 = counted.iter().map(|counted| counted.since_change).sum();
        let subset = |(subset, counted): (&Subset, &Counted)| SubsetView {
            name: subset.name.to_string(),
            weight: subset.weight,
            wanted_share: share(subset.weight.into(), sum).unwrap_or(0.0),
            observed_share: share(counted.since_change, fresh),
            new_flows_since_change: counted.since_change,
            new_flows: counted.total,
            rejected: counted.rejected,
            endpoints: self.endpoints(split, subset, counters),
        };
        SplitView {
            name: split.name().to_string(),
            address: split.address().ip,
            port: split.address().port,
            protocol: split.address().protocol.into(),
            settings: split.settings(),
            changed: change.map_or(0, |change| change.at.elapsed().as_secs()),
            origin: OriginView::of(&self.desired_state, &self.persisted, split.name().as_str()),
            subsets: split.subsets().iter().zip(&counted).map(subset).collect(),
            draining,
        }
    }

    fn endpoints(&self, split: &Split, subset: &Subset, counters: &Counters) -> Vec<EndpointView> {
        let view = |&address| {
            let id = self.ledger.endpoint(split.address(), address).map(|(id, _)| id);
            let stats = id.and_then(|id| counters.endpoint(id).ok()).unwrap_or_default().stats;
            EndpointView {
                address,
                new_flows: stats.flows,
                packets_forward: stats.forward_packets,
                bytes_forward: stats.forward_bytes,
                packets_reply: stats.reply_packets,
                bytes_reply: stats.reply_bytes,
            }
        };
        subset.endpoints.iter().map(view).collect()
    }
}

/// New flows of a subset, and what was rejected for want of an endpoint.
struct Counted {
    since_change: u64,
    total: u64,
    rejected: u64,
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}
