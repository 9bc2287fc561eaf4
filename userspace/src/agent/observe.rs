//! What the agent tells of itself: metrics and readiness.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;
use probe_common::map::CHUNK;
use tokio::net::TcpListener;

use super::backoff::Backoff;
use super::census::Count;
use super::cluster::Cluster;
use super::state::State;
use super::troubles::Work;
use crate::datapath::DatapathError;
use crate::metrics::{
    self, ClusterSample, Configuration, EndpointSample, FlowTables, InterfaceSample, Limit, Sample,
    Source, SplitSample, SubsetSample,
};
use crate::model::{Split, total_weight};
use crate::plan::{EndpointView, Ledger, Phase};

/// Reads the agent's state and the programs' counters.
pub(super) struct Observer {
    state: Arc<State>,
}

/// Where metrics are served.
pub(super) struct Scrapes {
    address: SocketAddr,
    /// The first attempt to listen there, with all the capabilities of the start: low ports take
    /// one.
    first: Result<std::net::TcpListener>,
}

impl Scrapes {
    /// Tries to listen.
    pub fn at(address: SocketAddr) -> Self {
        Self { address, first: metrics::bind(address) }
    }

    /// Where it listens, for who goes on in its place; None if it does not, or cannot say.
    pub fn listener(&self) -> Option<std::net::TcpListener> {
        self.first.as_ref().ok()?.try_clone().ok()
    }
}

/// Copied under the agent's lock, to be worked on without it.
struct Picture {
    ledger: Ledger,
    interfaces: Vec<InterfaceSample>,
    configuration: Configuration,
    /// What is wrong with objects of the cluster, in lines.
    rejected: u64,
}

impl Observer {
    /// Observes a state.
    pub fn new(state: Arc<State>) -> Self {
        Self { state }
    }

    /// Answers scrapes, if there is where to, for as long as it is polled. If the first attempt to
    /// listen there has failed, there are more: whoever else listens there may end, and the address
    /// may come.
    pub async fn run(self, scrapes: Option<Scrapes>) {
        let Some(Scrapes { address, first }) = scrapes else { return pending().await };
        let mut backoff = Backoff::default();
        let mut listener = first;
        loop {
            let ready = listener.and_then(|listener| Ok(TcpListener::from_std(listener)?));
            if let Some(listener) = self.state.troubles.of(Work::Metrics, ready) {
                return metrics::serve(listener, Arc::new(self), metrics::LIMITS).await;
            }
            tokio::time::sleep(backoff.pause()).await;
            listener = metrics::bind(address);
        }
    }

    fn picture(&self) -> Picture {
        let inner = self.state.lock();
        let carriers = inner.interfaces.views().into_iter().filter(|v| v.passed_over.is_none());
        let interfaces = carriers.map(|view| InterfaceSample {
            interface: view.name,
            hook: view.hook,
            mode: view.mode,
            detached: view.detached,
        });
        let problems = inner.last_error.len() + inner.desired_state.rejected().len();
        Picture {
            ledger: inner.steering.ledger().clone(),
            interfaces: interfaces.collect(),
            rejected: inner.rejected.len() as u64,
            configuration: Configuration { problems: problems as u64, reloaded: inner.reloaded },
        }
    }
}

impl State {
    /// The endpoints that have an id, of all splits or of one, in order.
    pub(super) fn endpoints(
        &self,
        ledger: &Ledger,
        count: Option<&Count>,
        only: Option<&str>,
    ) -> Result<Vec<EndpointSample>, DatapathError> {
        let mut all: Vec<_> = ledger.endpoint_views(only).collect();
        all.sort_unstable_by_key(|view| (view.split, view.subset, view.address));
        // Of one that was in two subsets, the live one is shown where both have a name.
        all.dedup_by_key(|view| (view.split, view.subset, view.address));
        let sample = |view: EndpointView<'_>| {
            let id = view.id;
            Ok(EndpointSample {
                split: view.split.clone(),
                subset: view.subset.clone(),
                endpoint: view.address,
                phase: match view.phase {
                    Phase::Live => "live",
                    Phase::Draining { .. } => "draining",
                    Phase::Gone { .. } => "gone",
                },
                counters: self.counters.endpoint(id)?,
                open_flows: count.map(|count| count.active.get(&id).copied().unwrap_or_default()),
            })
        };
        all.into_iter().map(sample).collect()
    }

    /// The subsets of the splits in force, or of one.
    pub(super) fn subsets(
        &self,
        ledger: &Ledger,
        count: Option<&Count>,
        only: Option<&str>,
    ) -> Result<Vec<SubsetSample>, DatapathError> {
        let mut all = Vec::new();
        let wanted = |split: &&Arc<Split>| only.is_none_or(|only| only == split.name().as_str());
        for split in ledger.splits().filter(wanted) {
            let sum = total_weight(split.subsets()) as f64;
            for subset in split.subsets() {
                let key = (split.name(), &subset.name);
                let id =
                    ledger.subset_id(key.0, key.1).ok_or(DatapathError::Missing("a subset"))?;
                all.push(SubsetSample {
                    split: key.0.clone(),
                    subset: key.1.clone(),
                    weight: subset.weight,
                    wanted_share: f64::from(subset.weight) / sum,
                    counters: self.counters.subset(id)?,
                    times: self.counters.times(id)?.map(Arc::new),
                    open_flows: count
                        .map(|count| count.by_subset.get(&id).copied().unwrap_or_default()),
                });
            }
        }
        Ok(all)
    }
}

fn cluster_sample(cluster: &Cluster, rejected: u64) -> ClusterSample {
    let view = cluster.health().view();
    let kinds = view.kinds.iter().map(|(name, kind)| (name.clone(), kind.objects as u64));
    let failing = view.kinds.iter().filter(|(_, kind)| kind.standing.error().is_some());
    ClusterSample {
        connected: view.connected,
        stale_since: view.stale_since,
        objects: kinds.collect(),
        failing: failing.map(|(name, _)| name.clone()).collect(),
        requests: view.requests.into_iter().map(|(verb, n)| (verb.to_owned(), n)).collect(),
        bytes: view.bytes,
        outages: view.outages,
        rejected,
    }
}

fn split(split: &Split) -> SplitSample {
    SplitSample {
        split: split.name().clone(),
        address: split.address().socket().to_string(),
        protocol: split.address().protocol.to_string(),
        affinity: split.affinity().to_string(),
    }
}

pub(super) fn limits(ledger: &Ledger) -> Vec<Limit> {
    let (used, all) = (ledger.used(), ledger.capacity());
    let slots = |chunks: u32| u64::from(chunks) * CHUNK as u64;
    vec![
        Limit { kind: "splits", used: used.splits.into(), limit: all.splits.into() },
        Limit { kind: "endpoints", used: used.endpoints.into(), limit: all.endpoints.into() },
        Limit { kind: "table_slots", used: slots(used.chunks), limit: slots(all.chunks) },
    ]
}

impl Source for Observer {
    fn sample(&self) -> Result<Sample> {
        let Picture { ledger, interfaces, configuration, rejected } = self.picture();
        let count = self.state.census.latest();
        let endpoints = self.state.endpoints(&ledger, count.as_deref(), None)?;
        Ok(Sample {
            splits: ledger.splits().map(|known| split(known)).collect(),
            subsets: self.state.subsets(&ledger, count.as_deref(), None)?,
            endpoints,
            interfaces,
            reasons: self.state.counters.reasons()?,
            limits: limits(&ledger),
            flows: FlowTables {
                limits: self.state.census.room.clone(),
                full: count.iter().flat_map(|count| count.full.keys().copied()).collect(),
                counted: count.map(|count| (count.at, count.tables.clone())),
            },
            configuration,
            unloaded: false,
            tick: self.state.clock.tick(),
            cluster: self.state.cluster.as_ref().map(|cluster| cluster_sample(cluster, rejected)),
        })
    }

    fn unready(&self) -> Vec<String> {
        let inner = self.state.lock();
        let mut reasons = Vec::new();
        if !inner.desired_state.was_faultless() {
            reasons
                .push("the resources were not put into force since the agent started".to_owned());
            reasons.extend(inner.last_error.iter().cloned());
            let awaited =
                self.state.cluster.as_ref().filter(|_| !inner.desired_state.is_complete());
            reasons.extend(awaited.and_then(|cluster| cluster.health().view().error));
        }
        let failed = inner.interfaces.views().into_iter();
        reasons.extend(failed.filter_map(|i| Some(format!("{}: {}", i.name, i.error?))));
        let unseen = self.state.troubles.error(Work::Interfaces);
        reasons.extend(unseen.map(|error| format!("{}: {error}", Work::Interfaces.name())));
        reasons
    }
}
