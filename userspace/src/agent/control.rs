//! What the API can do to the agent.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use tracing::{debug, info};

use crate::api::types::{
    ApplyView, CandidateView, ChangeView, DocumentView, ExplainRequest, ExplainView, FlowQuery,
    SplitView, StatsQuery, StatsView, StatusView,
};
use crate::api::{Control, Failure, FlowStream, history};
use crate::desired::{Author, DesiredState, DrainGuard, Guard, PersistedState, Rejection, Step};
use crate::explain::explain;
use crate::model::{Key, Name, Split, SplitSet};
use crate::resource::Declarations;

use super::state::{Inner, Spent, State, now};
use super::{listing, stats, status};

/// Says what a change took.
fn tell(begun: Instant, Spent { disk, writes }: Spent) {
    let agent = begun.elapsed().saturating_sub(disk);
    let (agent_us, disk_us) = (agent.as_micros() as u64, disk.as_micros() as u64);
    debug!("changed agent_us={agent_us} disk_us={disk_us} map_writes={writes}");
}

/// So many splits are named to who asks for one that is not there.
const FEW: usize = 8;

/// The splits at other ports of an address, or for the other protocol; if there
/// are none, all of them if they are few.
fn at_other_port(desired: &SplitSet, ip: IpAddr) -> String {
    let has = |split: &Split| format!("split {} has {}", split.name(), split.address());
    let there = desired.splits().filter(|split| split.address().ip == ip).map(has);
    let mut named: Vec<String> = there.take(FEW).collect();
    if named.is_empty() && desired.splits().len() <= FEW {
        named = desired.splits().map(has).collect();
    }
    if named.is_empty() { String::new() } else { format!("; {}", named.join(", ")) }
}

/// Whether an address is one of this node's interfaces.
fn is_own(ip: IpAddr) -> bool {
    let own = nix::ifaddrs::getifaddrs().into_iter().flatten();
    own.filter_map(|interface| interface.address).any(|address| {
        let v4 = address.as_sockaddr_in().map(|found| found.ip().into());
        let v6 = address.as_sockaddr_in6().map(|found| found.ip().into());
        v4.or(v6) == Some(ip)
    })
}

impl State {
    fn carry_out(&self, inner: &mut Inner, step: Step, author: &Author) -> Result<Spent, Failure> {
        let shifted = step.shifted();
        let spent = inner.carry_out(step.by(author));
        let spent = spent.map_err(|error| Failure::Internal(format!("{error:#}")))?;
        for name in shifted {
            info!("split {name}: changed by {author}");
        }
        self.changed.notify_one();
        if let Some(cluster) = &self.cluster {
            cluster.touch();
        }
        Ok(spent)
    }

    /// Makes a step about objects happen, or only says what it would do.
    fn objects(
        &self,
        how: impl FnOnce(&DesiredState, &PersistedState) -> Result<Step, Rejection>,
        dry: bool,
        author: &Author,
    ) -> Result<ApplyView, Failure> {
        let mut inner = self.lock();
        let begun = Instant::now();
        let step = how(&inner.desired_state, inner.store.persisted())?;
        let view = ApplyView::of(&step, dry);
        if !dry {
            let spent = self.carry_out(&mut inner, step, author)?;
            tell(begun, spent);
        }
        Ok(view)
    }

    /// Makes a step about a split's weights happen.
    fn shift(
        &self,
        name: &str,
        author: &Author,
        how: impl FnOnce(&DesiredState, &PersistedState) -> Result<Step, Rejection>,
    ) -> Result<SplitView, Failure> {
        let mut inner = self.lock();
        let begun = Instant::now();
        let step = how(&inner.desired_state, inner.store.persisted())?;
        let spent = self.carry_out(&mut inner, step, author)?;
        let after = self.snapshot_of(&inner);
        drop(inner);
        tell(begun, spent);
        after.split(name, &self.counters)
    }
}

impl Control for State {
    async fn splits(&self) -> Result<Vec<SplitView>, Failure> {
        Ok(self.snapshot().splits(&self.counters))
    }

    async fn split(&self, name: String) -> Result<SplitView, Failure> {
        self.snapshot().split(&name, &self.counters)
    }

    async fn documents(&self) -> Result<Vec<DocumentView>, Failure> {
        let now = self.snapshot();
        Ok(DocumentView::all(&now.desired_state, &now.persisted))
    }

    async fn apply(
        &self,
        documents: Declarations,
        dry_run: bool,
        author: Author,
    ) -> Result<ApplyView, Failure> {
        self.objects(
            |desired_state, persisted| desired_state.apply(persisted, documents, now()),
            dry_run,
            &author,
        )
    }

    async fn delete(
        &self,
        keys: Vec<Key>,
        dry_run: bool,
        author: Author,
    ) -> Result<ApplyView, Failure> {
        self.objects(
            |desired_state, persisted| desired_state.delete(persisted, &keys, now()),
            dry_run,
            &author,
        )
    }

    async fn set_weights(
        &self,
        name: String,
        weights: BTreeMap<Name, u32>,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        self.shift(&name, &author, |desired_state, persisted| {
            desired_state.set_weights(persisted, &name, &weights, &guard, now())
        })
    }

    async fn reset_weights(
        &self,
        name: String,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        self.shift(&name, &author, |desired_state, persisted| {
            desired_state.reset(persisted, &name, &guard, now())
        })
    }

    async fn rollback(
        &self,
        name: String,
        to: Option<u64>,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        self.shift(&name, &author, |desired_state, persisted| {
            desired_state.rollback(persisted, &name, to, &guard, now())
        })
    }

    async fn drain(
        &self,
        name: String,
        endpoint: String,
        guard: DrainGuard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        self.shift(&name, &author, |desired_state, persisted| {
            desired_state.drain(persisted, &name, &endpoint, guard, now())
        })
    }

    async fn undrain(
        &self,
        name: String,
        endpoint: String,
        author: Author,
    ) -> Result<SplitView, Failure> {
        self.shift(&name, &author, |desired_state, persisted| {
            desired_state.undrain(persisted, &name, &endpoint, now())
        })
    }

    async fn history(&self, name: String) -> Result<Vec<ChangeView>, Failure> {
        let now = self.snapshot();
        history(&now.desired, &now.persisted, &name)
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainView, Failure> {
        let (seed, now) = {
            let inner = self.lock();
            (inner.seed, self.snapshot_of(&inner))
        };
        let desired = &now.desired;
        let protocol = request.protocol.into();
        let split = desired
            .splits()
            .find(|s| s.address().socket() == request.to && s.address().protocol == protocol)
            .ok_or_else(|| {
                let (to, near) = (request.to, at_other_port(desired, request.to.ip()));
                Failure::NotFound(format!("{to}/{protocol} is no split's address{near}"))
            })?;
        let found = explain(seed, split, request.from).ok_or_else(|| {
            Failure::Invalid(format!("{} and {} differ in family", request.from, request.to))
        })?;
        let differs = now.desired_state.is_of_this_node(&now.persisted, split.name());
        let of_this_node = differs.then(|| {
            format!(
                "on this node alone split {} is not what the cluster says: see `weir get {}`",
                split.name(),
                split.name()
            )
        });
        let candidates = split.subsets().iter().zip(&found.draws).map(|(subset, &draw)| {
            let chosen = subset.name == found.subset.name;
            CandidateView::new(subset.name.as_str(), subset.weight, draw, chosen)
        });
        Ok(ExplainView {
            split: split.name().to_string(),
            subset: found.subset.name.to_string(),
            endpoint: found.endpoint,
            hash: ExplainView::hash_text(found.hash),
            candidates: candidates.collect(),
            note: of_this_node.or_else(|| {
                is_own(request.from.ip()).then(|| {
                format!(
                    "{} is an address of this node: connections that the node makes itself do not \
                     come in at an interface, and are not steered; this is what a client elsewhere \
                     with that address gets",
                    request.from.ip()
                )
            })
            }),
        })
    }

    async fn flows(self: Arc<Self>, query: FlowQuery) -> Result<FlowStream, Failure> {
        listing::known(self.lock().steering.ledger(), &query)?;
        Ok(listing::stream(self, query))
    }

    async fn stats(self: Arc<Self>, query: StatsQuery) -> Result<StatsView, Failure> {
        let read = move || stats::stats(&self, &query);
        let read = tokio::task::spawn_blocking(read).await;
        read.map_err(|error| Failure::Internal(error.to_string()))?
    }

    async fn unload(&self, author: Author) -> Result<(), Failure> {
        self.unload_for(author);
        Ok(())
    }

    async fn status(&self) -> Result<StatusView, Failure> {
        status::status(self)
    }
}
