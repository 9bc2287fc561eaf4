//! What the agent tells of itself: metrics and readiness.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use probe_common::map::CHUNK;
use tokio::net::TcpListener;
use tracing::warn;

use super::state::State;
use crate::config::AgentConfig;
use crate::datapath::{Clock, Counters, DatapathError, Idle, pending_flows};
use crate::metrics::{
    self, Configuration, EndpointSample, FlowTables, InterfaceSample, Limit, Limits, Sample,
    Source, SplitSample, SubsetSample, TableName,
};
use crate::model::{Name, Split, total_weight};
use crate::plan::{Ledger, Phase};

/// The shortest time between two counts of the flow tables.
const PAUSE: Duration = Duration::from_secs(10);
/// Counting takes at most one part in so many of a CPU's time.
const SPARING: u32 = 50;

/// Reads the agent's state and the programs' counters.
pub(super) struct Observer {
    state: Arc<State>,
    counters: Counters,
    clock: Clock,
    idle: Idle,
    /// Flows for which the tables have room.
    room: BTreeMap<TableName, u64>,
    count: Mutex<Option<Arc<Count>>>,
}

/// The flows in the tables, at some time.
struct Count {
    at: SystemTime,
    /// Active ones and those that are over.
    tables: BTreeMap<TableName, [u64; 2]>,
    /// Live ones that are not over, by the endpoint's id.
    active: HashMap<u32, u64>,
}

/// Copied under the agent's lock, to be worked on without it.
struct Picture {
    ledger: Ledger,
    interfaces: Vec<InterfaceSample>,
    configuration: Configuration,
}

impl Observer {
    /// Observes a state whose maps are pinned.
    pub fn new(state: Arc<State>, config: &AgentConfig) -> Result<Self> {
        let counters = Counters::pinned(state.lock().steering.pins())?;
        let clock = Clock::new();
        let ticks = |time| clock.ticks(time);
        let idle = Idle { tcp: ticks(config.flows.tcp_idle), udp: ticks(config.flows.udp_idle) };
        let sizes = [("live", config.flows.max), ("pending", pending_flows(config.flows.max))];
        let families = ["ipv4", "ipv6"].into_iter();
        let room = families
            .flat_map(|family| sizes.map(|(table, flows)| ((family, table), flows.into())))
            .collect();
        Ok(Self { state, counters, clock, idle, room, count: Mutex::default() })
    }

    /// Answers scrapes, if there is where to, for as long as it is polled.
    pub async fn run(self, listener: Option<TcpListener>) -> Infallible {
        let Some(listener) = listener else { return pending().await };
        let observer = Arc::new(self);
        let counting = Arc::clone(&observer).count_again_and_again();
        tokio::select! {
            never = metrics::serve(listener, observer, Limits::default()) => never,
            never = counting => never,
        }
    }

    async fn count_again_and_again(self: Arc<Self>) -> Infallible {
        loop {
            let (observer, begun) = (Arc::clone(&self), Instant::now());
            match tokio::task::spawn_blocking(move || observer.count_flows()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => warn!("counting flows: {error}"),
                Err(error) => warn!("counting flows: {error}"),
            }
            tokio::time::sleep(PAUSE.max(begun.elapsed() * SPARING)).await;
        }
    }

    fn count_flows(&self) -> Result<(), DatapathError> {
        let mut tables: BTreeMap<_, _> = self.room.keys().map(|&table| (table, [0; 2])).collect();
        let mut active = HashMap::<u32, u64>::new();
        let (at, now) = (SystemTime::now(), self.clock.now());
        self.state.flows.walk(|flow| {
            let family = if flow.client.is_ipv4() { "ipv4" } else { "ipv6" };
            let table = if flow.is_pending() { "pending" } else { "live" };
            let over = flow.is_over(now, self.idle);
            tables.entry((family, table)).or_default()[usize::from(over)] += 1;
            if table == "live" && !over {
                *active.entry(flow.endpoint_id).or_default() += 1;
            }
        })?;
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        *count = Some(Arc::new(Count { at, tables, active }));
        Ok(())
    }

    fn counted(&self) -> Option<Arc<Count>> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn picture(&self) -> Picture {
        let inner = self.state.lock();
        let interfaces = inner.interfaces.views().into_iter().map(|view| InterfaceSample {
            interface: view.name,
            hook: view.hook,
            mode: view.mode,
        });
        let problems = inner.last_error.len() + inner.truth.set_aside().len();
        Picture {
            ledger: inner.steering.ledger().clone(),
            interfaces: interfaces.collect(),
            configuration: Configuration { problems: problems as u64, reloaded: inner.reloaded },
        }
    }

    /// The endpoints that have an id, in order.
    fn endpoints(
        &self,
        ledger: &Ledger,
        count: Option<&Count>,
    ) -> Result<Vec<EndpointSample>, DatapathError> {
        let mut all: Vec<_> = ledger.endpoint_ids().collect();
        all.sort_unstable_by_key(|&(_, split, subset, address, _)| (split, subset, address));
        let sample = |(id, split, subset, address, phase): (_, &Name, &Name, _, _)| {
            Ok(EndpointSample {
                split: split.clone(),
                subset: subset.clone(),
                endpoint: std::net::SocketAddr::to_string(&address),
                phase: match phase {
                    Phase::Live => "live",
                    Phase::Draining { .. } => "draining",
                    Phase::Gone { .. } => "gone",
                },
                stats: self.counters.endpoint(id)?,
                active: count.map(|count| count.active.get(&id).copied().unwrap_or_default()),
            })
        };
        all.into_iter().map(sample).collect()
    }

    /// The subsets of the splits in force, with the active flows of `endpoints`.
    fn subsets(
        &self,
        ledger: &Ledger,
        endpoints: &[EndpointSample],
        counted: bool,
    ) -> Result<Vec<SubsetSample>, DatapathError> {
        let mut active = HashMap::<_, u64>::new();
        for one in endpoints {
            *active.entry((&one.split, &one.subset)).or_default() += one.active.unwrap_or_default();
        }
        let mut all = Vec::new();
        for split in ledger.splits() {
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
                    stats: self.counters.subset(id)?,
                    active: counted.then(|| active.get(&key).copied().unwrap_or_default()),
                });
            }
        }
        Ok(all)
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

fn limits(ledger: &Ledger) -> Vec<Limit> {
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
        let Picture { ledger, interfaces, configuration } = self.picture();
        let count = self.counted();
        let endpoints = self.endpoints(&ledger, count.as_deref())?;
        Ok(Sample {
            splits: ledger.splits().map(|known| split(known)).collect(),
            subsets: self.subsets(&ledger, &endpoints, count.is_some())?,
            endpoints,
            interfaces,
            reasons: self.counters.reasons()?,
            limits: limits(&ledger),
            flows: FlowTables {
                limits: self.room.clone(),
                counted: count.map(|count| (count.at, count.tables.clone())),
            },
            configuration,
            tick: self.clock.tick(),
        })
    }

    fn unready(&self) -> Vec<String> {
        let inner = self.state.lock();
        let mut reasons = Vec::new();
        if !inner.truth.was_faultless() {
            reasons
                .push("the resources were not put into force since the agent started".to_owned());
            reasons.extend(inner.last_error.iter().cloned());
        }
        let failed = inner.interfaces.views().into_iter();
        reasons.extend(failed.filter_map(|i| Some(format!("{}: {}", i.name, i.error?))));
        reasons
    }
}
