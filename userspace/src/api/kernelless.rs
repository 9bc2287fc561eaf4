//! For tests: an agent with state directory, API and all, but without a kernel.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime};

use futures_util::stream;
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::server::{LIMITS, serve_with};
use super::types::{
    ApplyView, CandidateView, ChangeView, DocumentView, ExplainRequest, ExplainView, FlowQuery,
    FlowState, FlowView, OriginView, Protocol, SplitStatsView, SplitView, StatsQuery, StatsView,
    StatusView, SubsetStatsView, SubsetView,
};
use super::{Control, Failure, FlowStream, SocketFile};
use crate::access::Access;
use crate::desired::{Author, DesiredState, DrainGuard, Guard, Rejection, Step, Time};
use crate::http::RequestLimits;
use crate::model::{Key, Name, Split, total_weight};
use crate::resource::Declarations;
use crate::resource::Files;
use crate::store::Store;

/// What steers nothing.
pub(crate) struct Agent {
    inner: Mutex<Inner>,
    /// How many times flows were asked for, in thousands.
    batches: Arc<AtomicU64>,
}

struct Inner {
    store: Store,
    desired_state: DesiredState,
    clock: u64,
    /// How often counters were asked for.
    stats: u64,
}

impl Inner {
    fn now(&mut self) -> Time {
        self.clock += 1;
        (SystemTime::UNIX_EPOCH + Duration::from_secs(self.clock)).into()
    }

    fn carry_out(
        &mut self,
        step: Result<Step, Rejection>,
        dry: bool,
    ) -> Result<ApplyView, Failure> {
        let mut step = step?;
        let view = ApplyView::of(&step, dry);
        if !dry {
            let transaction = std::mem::take(&mut step.transaction);
            self.store.commit(transaction).map_err(|e| Failure::Internal(e.to_string()))?;
            self.desired_state.accept(step);
        }
        Ok(view)
    }

    /// Each second, each subset has as many new flows as its weight says.
    fn split_stats(&self, split: &Split) -> SplitStatsView {
        let sum = total_weight(split.subsets()) as f64;
        let subsets = split.subsets().iter().map(|subset| SubsetStatsView {
            name: subset.name.to_string(),
            weight: subset.weight,
            wanted_share: f64::from(subset.weight) / sum,
            new_flows_since_change: self.stats * u64::from(subset.weight),
            new_flows: self.stats * u64::from(subset.weight),
            completed: self.stats * u64::from(subset.weight),
            open_flows: Some(7),
            ..SubsetStatsView::default()
        });
        let version =
            OriginView::of(&self.desired_state, self.store.persisted(), split.name().as_str())
                .version;
        SplitStatsView::of(split, version, 0, subsets.collect())
    }

    fn view(&self, name: &str) -> Result<SplitView, Failure> {
        let split = self.desired_state.split_set().get(name);
        let split = split
            .ok_or_else(|| Failure::NotFound(self.desired_state.split_set().no_split(name)))?;
        let sum = total_weight(split.subsets()) as f64;
        let subsets = split.subsets().iter().map(|subset| SubsetView {
            name: subset.name.to_string(),
            weight: subset.weight,
            wanted_share: f64::from(subset.weight) / sum,
            observed_share: None,
            new_flows_since_change: 0,
            new_flows: 0,
            rejected: 0,
            endpoints: Vec::new(),
        });
        Ok(SplitView {
            name: split.name().to_string(),
            address: split.address().ip,
            port: split.address().port,
            protocol: split.address().protocol.into(),
            settings: split.settings(),
            changed: 0,
            origin: OriginView::of(&self.desired_state, self.store.persisted(), name),
            subsets: subsets.collect(),
            draining: Vec::new(),
        })
    }
}

impl Agent {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}

impl Control for Agent {
    async fn splits(&self) -> Result<Vec<SplitView>, Failure> {
        let inner = self.lock();
        inner
            .desired_state
            .split_set()
            .splits()
            .map(Split::name)
            .map(|n| inner.view(n.as_str()))
            .collect()
    }

    async fn split(&self, name: String) -> Result<SplitView, Failure> {
        self.lock().view(&name)
    }

    async fn documents(&self) -> Result<Vec<DocumentView>, Failure> {
        let inner = self.lock();
        Ok(DocumentView::all(&inner.desired_state, inner.store.persisted()))
    }

    async fn apply(
        &self,
        documents: Declarations,
        dry_run: bool,
        author: Author,
    ) -> Result<ApplyView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step = inner.desired_state.apply(inner.store.persisted(), documents, now);
        inner.carry_out(step.map(|step| step.by(&author)), dry_run)
    }

    async fn delete(
        &self,
        objects: Vec<Key>,
        dry_run: bool,
        author: Author,
    ) -> Result<ApplyView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step = inner.desired_state.delete(inner.store.persisted(), &objects, now);
        inner.carry_out(step.map(|step| step.by(&author)), dry_run)
    }

    async fn set_weights(
        &self,
        name: String,
        weights: BTreeMap<Name, u32>,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step =
            inner.desired_state.set_weights(inner.store.persisted(), &name, &weights, &guard, now);
        inner.carry_out(step.map(|step| step.by(&author)), false)?;
        inner.view(&name)
    }

    async fn reset_weights(
        &self,
        name: String,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step = inner.desired_state.reset(inner.store.persisted(), &name, &guard, now);
        inner.carry_out(step.map(|step| step.by(&author)), false)?;
        inner.view(&name)
    }

    async fn rollback(
        &self,
        name: String,
        to: Option<u64>,
        guard: Guard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step = inner.desired_state.rollback(inner.store.persisted(), &name, to, &guard, now);
        inner.carry_out(step.map(|step| step.by(&author)), false)?;
        inner.view(&name)
    }

    async fn drain(
        &self,
        name: String,
        endpoint: String,
        guard: DrainGuard,
        author: Author,
    ) -> Result<SplitView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let persisted = inner.store.persisted();
        let step = inner.desired_state.drain(persisted, &name, &endpoint, guard, now);
        inner.carry_out(step.map(|step| step.by(&author)), false)?;
        inner.view(&name)
    }

    async fn undrain(
        &self,
        name: String,
        endpoint: String,
        author: Author,
    ) -> Result<SplitView, Failure> {
        let inner = &mut *self.lock();
        let now = inner.now();
        let step = inner.desired_state.undrain(inner.store.persisted(), &name, &endpoint, now);
        inner.carry_out(step.map(|step| step.by(&author)), false)?;
        inner.view(&name)
    }

    async fn history(&self, name: String) -> Result<Vec<ChangeView>, Failure> {
        let inner = self.lock();
        super::control::history(inner.desired_state.split_set(), inner.store.persisted(), &name)
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainView, Failure> {
        let ExplainRequest { from, to, protocol } = request;
        let (split, subset) = (format!("{from} {to} {protocol}"), "v1".into());
        Ok(ExplainView {
            split,
            subset,
            endpoint: None,
            hash: ExplainView::hash_text(u64::MAX),
            candidates: vec![
                CandidateView::new("v1", 90, 3 << 23, true),
                CandidateView::new("v2", 0, 1 << 24, false),
            ],
            note: None,
        })
    }

    async fn flows(self: Arc<Self>, query: FlowQuery) -> Result<FlowStream, Failure> {
        let asked = Arc::clone(&self.batches);
        let all = (0..query.limit.unwrap_or(u64::MAX)).step_by(1000).map(move |first| {
            asked.fetch_add(1, Ordering::SeqCst);
            let last = query.limit.unwrap_or(u64::MAX).min(first + 1000);
            Ok((first..last).map(flow).collect())
        });
        Ok(Box::pin(stream::iter(all)))
    }

    async fn stats(self: Arc<Self>, query: StatsQuery) -> Result<StatsView, Failure> {
        let mut inner = self.lock();
        inner.stats += 1;
        let splits = inner.desired_state.split_set().splits().map(|split| inner.split_stats(split));
        let splits = splits.filter(|split| query.split.as_ref().is_none_or(|n| *n == split.name));
        let splits: Vec<_> = splits.collect();
        match query.split {
            Some(name) if splits.is_empty() => {
                Err(Failure::NotFound(inner.desired_state.split_set().no_split(&name)))
            }
            _ => Ok(StatsView {
                time: Time::from(SystemTime::UNIX_EPOCH).to_string(),
                uptime_nanos: inner.stats * 1_000_000_000,
                open_flows_age: Some(0),
                splits,
            }),
        }
    }

    async fn unload(&self, _: Author) -> Result<(), Failure> {
        Err(Failure::Conflict("there is nothing to unload".into()))
    }

    async fn status(&self) -> Result<StatusView, Failure> {
        Err(Failure::Internal("broken".into()))
    }
}

/// The flow of that number, of an agent that has endlessly many.
pub(crate) fn flow(number: u64) -> FlowView {
    let client = Ipv4Addr::from_bits(0xc000_0200 + (number / 60_000) as u32);
    FlowView {
        protocol: Protocol::Tcp,
        client: SocketAddr::new(client.into(), 1024 + (number % 60_000) as u16),
        service: "10.0.0.1:80".parse().unwrap(),
        split: Some("reviews".into()),
        subset: Some("v1".into()),
        endpoint: "10.1.0.1:80".parse().unwrap(),
        state: FlowState::Established,
        idle_seconds: number,
        age_seconds: number,
    }
}

/// A server of the API, and the directory of its socket and state.
pub(crate) struct Running {
    pub socket: PathBuf,
    /// Its file goes with it.
    _bound: SocketFile,
    pub stop: oneshot::Sender<()>,
    pub task: JoinHandle<std::io::Result<()>>,
    /// How many times flows were asked for, in thousands.
    pub batches: Arc<AtomicU64>,
    pub directory: TempDir,
}

/// Starts an agent whose one file, `weir.yaml`, says this.
pub(crate) fn start(file: &str) -> Running {
    start_with(file, LIMITS, Access::default())
}

/// [`start`], within other limits and for others.
pub(crate) fn start_with(file: &str, limits: RequestLimits, access: Access) -> Running {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/weir.sock");
    let (stop, stopped) = oneshot::channel();
    let agent = agent(directory.path(), file);
    let batches = Arc::clone(&agent.batches);
    let (listener, bound) = SocketFile::bind(&socket, &access).unwrap();
    let server = serve_with(limits, listener, access, agent, async move {
        let _ = stopped.await;
    });
    Running { task: tokio::spawn(server), socket, _bound: bound, stop, batches, directory }
}

fn agent(directory: &Path, file: &str) -> Arc<Agent> {
    let (store, notices) = Store::open(&directory.join("state")).unwrap();
    assert_eq!(notices, []);
    let mut inner = Inner {
        desired_state: DesiredState::start(store.persisted(), []),
        store,
        clock: 0,
        stats: 0,
    };
    let now = inner.now();
    let files = Files::of((!file.is_empty()).then_some(("weir.yaml", file)));
    let step = inner.desired_state.load_files(inner.store.persisted(), &files, now);
    inner.carry_out(Ok(step), false).expect("a good file");
    assert_eq!(inner.desired_state.problems(), []);
    Arc::new(Agent { inner: Mutex::new(inner), batches: Arc::default() })
}
