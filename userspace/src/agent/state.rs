//! What the agent knows and owns.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use imbl::OrdMap;
use tokio::sync::{Notify, watch};
use tracing::{error, info, warn};

use super::admission::admitted;
use super::census::Census;
use super::cluster::Cluster;
use super::detours::Detours;
use super::gate::Gate;
use super::interfaces::Interfaces;
use super::recent::Recent;
use super::stats::Counted;
use super::steering::{Steering, SteeringError};
use super::troubles::{Troubles, Work};
use crate::api::types::FastPathView;
use crate::config::{self, AgentConfig, Kubernetes, Mode};
use crate::datapath::{Claim, Clock, Counters, Feature, Flows, Idle, Pins};
use crate::desired::{Author, Batch, DesiredState, SplitChange, Step, Time};
use crate::fast_path::Choice;
use crate::files;
use crate::interfaces::Event;
use crate::model::{Name, Split, SplitSet};
use crate::plan::Change;
use crate::resource::Files;
use crate::source::Problem;
use crate::store::Store;

/// The agent's state, behind one lock: changes are rare, and packets do not wait for it.
pub struct State {
    inner: Mutex<Inner>,
    /// The flow tables: read and swept without the lock.
    pub(super) flows: Flows,
    /// The programs' counters: read without the lock.
    pub(super) counters: Counters,
    /// How many flows there are, counted now and then.
    pub(super) census: Census,
    /// What was counted before the last minute.
    pub(super) recent: Recent,
    /// The clock of the flow tables.
    pub(super) clock: Clock,
    /// When flows are over.
    pub(super) idle: Idle,
    /// What the kernel has.
    pub(super) features: Vec<Feature>,
    /// When the agent started.
    pub(super) started: SystemTime,
    /// The file of its configuration.
    pub(super) config: String,
    /// The directory of resources.
    resources: PathBuf,
    /// What its files said last: read without the other lock.
    files: Mutex<Files>,
    /// Something came out of force: the janitor has work.
    pub(super) changed: Notify,
    /// What fails for now.
    pub(super) troubles: Troubles,
    /// The cluster that is followed.
    pub(super) cluster: Option<Cluster>,
    /// Endpoints whose answers to some clients go round the node.
    pub(super) detours: Detours,
    /// Who told the agent to unload.
    unload: watch::Sender<Option<Author>>,
}

/// What the lock guards.
pub(super) struct Inner {
    pub seed: u64,
    pub steering: Steering,
    pub interfaces: Interfaces,
    /// What runs.
    pub desired: Arc<SplitSet>,
    /// What is to run, and where that is defined.
    pub desired_state: Arc<DesiredState>,
    pub store: Store,
    pub last_changes: OrdMap<Name, LastChange>,
    /// What is wrong with documents, or why the last change of files failed.
    pub last_error: Vec<String>,
    /// What is wrong with objects of the cluster.
    pub rejected: BTreeSet<String>,
    /// Who may open the way past the stack; None unless weir decides that by itself.
    pub gate: Option<Gate>,
    /// Whether steered packets go past the stack; None before it was looked.
    pub fast_path: Option<Choice>,
    fast_path_setting: config::FastPath,
    /// What was last to be said about the resources.
    noted: BTreeSet<Problem>,
    /// When files were last put into force without anything wrong.
    pub reloaded: Option<SystemTime>,
}

/// Gives memory back to the system. Adopting and loading thousands of splits
/// takes several times what is kept of them, in pieces that the allocator
/// would hold on to.
fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes no pointer, and may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The time, as it is written down.
pub(super) fn now() -> Time {
    SystemTime::now().into()
}

/// What splits that are not to be what they were are to the planner.
pub(crate) fn change(splits: &[SplitChange]) -> Change {
    let mut change = Change::default();
    for SplitChange { name, after, .. } in splits {
        match after {
            Some(split) => change.put.push(Arc::clone(split)),
            None => change.remove.push(name.clone()),
        }
    }
    change
}

/// What a step took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    /// Until it was on the disk.
    pub disk: Duration,
    /// Writes to maps.
    pub writes: usize,
}

/// The last change of a split, or the start of an agent that found it.
#[derive(Clone)]
pub(super) struct LastChange {
    pub at: Instant,
    /// Counters of each subset before it.
    pub counters: HashMap<Name, Counted>,
}

impl State {
    /// Loads the programs and adopts what is pinned; attaches nothing yet.
    pub fn load(config: &AgentConfig, claim: Arc<Claim>, replace: bool) -> Result<Self> {
        if replace && claim.pins().are_there() {
            warn!("starting with empty maps, as told: flows that live now are steered anew");
            super::steering::unload(&claim)?;
            Pins::make(&config.bpffs)?;
        }
        let (steering, flows) = Steering::load(config, claim)?;
        let mut desired = SplitSet::default();
        for split in steering.ledger().splits() {
            desired.replace(split.clone());
        }
        if desired.splits().len() > 0 {
            info!("adopted {} splits from {}", desired.splits().len(), config.bpffs.display());
        }
        let (store, notices) = Store::open(&config.state)?;
        for notice in notices {
            warn!("{notice}");
        }
        let adopted = desired.all_shared().cloned();
        let desired_state = match &config.kubernetes {
            None => DesiredState::start(store.persisted(), adopted),
            Some(Kubernetes { policy, mode, .. }) => {
                DesiredState::start(store.persisted(), adopted)
                    .awaiting_cluster(policy.clone(), *mode == Mode::Observe)
            }
        };
        for (_, problem) in desired_state.rejected() {
            error!("not in force: {problem}");
        }
        let gate = match config.fast_path {
            config::FastPath::Auto => Some(Gate::new(steering.pins())?),
            config::FastPath::On | config::FastPath::Off => None,
        };
        let mut inner = Inner {
            seed: config.hash_seed,
            steering,
            interfaces: Interfaces::new(config.interfaces.clone()),
            desired: Arc::new(desired),
            desired_state: Arc::new(desired_state),
            store,
            last_changes: OrdMap::new(),
            last_error: Vec::new(),
            rejected: BTreeSet::new(),
            gate,
            fast_path: None,
            fast_path_setting: config.fast_path,
            noted: BTreeSet::new(),
            reloaded: None,
        };
        // What was counted before is not of this agent's weights, perhaps.
        for split in inner.desired.splits() {
            let last = LastChange { at: Instant::now(), counters: inner.counters(split) };
            inner.last_changes.insert(split.name().clone(), last);
        }
        let clock = Clock::new();
        let ticks = |time| clock.ticks(time);
        let idle = Idle { tcp: ticks(config.flows.tcp_idle), udp: ticks(config.flows.udp_idle) };
        Ok(Self {
            counters: Counters::pinned(inner.steering.pins())?,
            features: inner.steering.features(&flows),
            started: SystemTime::now(),
            config: config.file.display().to_string(),
            inner: Mutex::new(inner),
            flows,
            resources: config.resources.clone(),
            files: Mutex::default(),
            census: Census::new(config.flows.max),
            recent: Recent::default(),
            clock,
            idle,
            changed: Notify::new(),
            troubles: Troubles::default(),
            cluster: Cluster::of(config),
            detours: Detours::default(),
            unload: watch::Sender::default(),
        })
    }

    /// Has the agent unload.
    pub(super) fn unload_for(&self, author: Author) {
        self.unload.send_replace(Some(author));
    }

    /// Waits until somebody tells it to unload, and says who.
    pub(super) async fn told_to_unload(&self) -> Author {
        let mut told = self.unload.subscribe();
        loop {
            if let Some(author) = told.borrow_and_update().clone() {
                return author;
            }
            // The sender lives as long as this.
            let _ = told.changed().await;
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows what happened to an interface.
    pub fn follow(&self, event: Event) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.interfaces.follow(event, &mut inner.steering);
    }

    /// Follows a list of all interfaces that are there.
    pub fn list_interfaces(&self, events: Vec<Event>) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.interfaces.list(events, &mut inner.steering);
        self.troubles.note(Work::Detach, inner.interfaces.unreleased());
    }

    /// Looks whether what was attached and pinned is still there.
    pub fn verify_interfaces(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        let verified = inner.interfaces.verify(&mut inner.steering);
        self.troubles.of(Work::Attachments, verified);
        self.troubles.of(Work::Pins, inner.steering.check_pins());
    }

    /// Tries again where the programs could not be attached or detached.
    pub fn retry_interfaces(&self) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.interfaces.retry(&mut inner.steering);
        self.troubles.note(Work::Detach, inner.interfaces.unreleased());
    }

    /// Puts into force what the cluster says. What is wrong with that is said, and changes nothing.
    pub fn observe(&self, batch: Batch) -> Result<()> {
        let is_complete = batch.complete;
        let result = self.lock().observe(batch);
        if is_complete {
            give_back();
        }
        self.changed.notify_one();
        result
    }

    /// Reads the resources again. What is wrong is said, and changes nothing. An
    /// error if another attempt may do better, though nobody changes a file.
    pub fn reload(&self) -> Result<()> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        // Megabytes take a second: nobody waits for the lock meanwhile.
        *files = files::load_files(&self.resources, &files);
        let result = self.lock().reload(&files);
        give_back();
        self.changed.notify_one();
        result?;
        match &files.failed {
            Some(problem) => Err(anyhow::anyhow!("{problem}")),
            None => Ok(()),
        }
    }
}

impl Inner {
    /// For status.
    pub fn fast_path_view(&self) -> FastPathView {
        let setting = self.fast_path_setting.name().to_owned();
        match &self.fast_path {
            Some(choice) => {
                FastPathView { used: choice.open, setting, reason: choice.reason.clone() }
            }
            None => FastPathView { setting, ..FastPathView::default() },
        }
    }

    fn reload(&mut self, files: &Files) -> Result<()> {
        let step = self.desired_state.load_files(self.store.persisted(), files, now());
        if let Err(error) = self.carry_out(step) {
            let lines = format!("{error:#}").lines().map(str::to_owned).collect();
            let before = std::mem::replace(&mut self.last_error, lines);
            for line in self.last_error.iter().filter(|line| !before.contains(line)) {
                error!("no change of files is in force: {line}");
            }
            return Err(error);
        }
        if self.last_error.is_empty() {
            self.reloaded = Some(SystemTime::now());
        }
        self.note(files);
        Ok(())
    }

    fn observe(&mut self, batch: Batch) -> Result<()> {
        let (observed, now) = (self.desired_state.observe(batch), now());
        let (desired_state, persisted) = (&self.desired_state, self.store.persisted());
        let step = admitted(desired_state, self.steering.ledger(), |excess| {
            desired_state.step_of(persisted, &observed, excess, now)
        });
        self.carry_out(step).map(|_| ())
    }

    /// Says what is new of what is to be said about documents.
    fn note(&mut self, files: &Files) {
        let passed = files.files.iter().flat_map(|file| &file.documents.notes);
        let all = self.desired_state.notes();
        let notes: BTreeSet<Problem> = all.iter().chain(passed).cloned().collect();
        for note in notes.difference(&self.noted) {
            info!("note: {note}");
        }
        self.noted = notes;
    }

    /// Says what is new of what is wrong with documents: those of the node's operator, and
    /// those that others have in a cluster.
    fn complain(&mut self) {
        let problems = self.desired_state.problems();
        let (of_cluster, own): (Vec<_>, Vec<_>) =
            problems.iter().partition(|problem| problem.is_of_cluster());
        let own = own.iter().map(ToString::to_string).collect();
        let before = std::mem::replace(&mut self.last_error, own);
        for line in self.last_error.iter().filter(|line| !before.contains(line)) {
            error!("not in force: {line}");
        }
        let of_cluster = of_cluster.iter().map(ToString::to_string).collect();
        let before = std::mem::replace(&mut self.rejected, of_cluster);
        for line in self.rejected.difference(&before) {
            warn!("not in force: {line}");
        }
    }

    /// Makes a step happen: in the kernel, in the state directory and in the
    /// truth; or, after an error, in none of them.
    pub fn carry_out(&mut self, mut step: Step) -> Result<Spent> {
        let change = if self.desired_state.is_complete() || !step.completes() {
            change(&step.changes)
        } else {
            // What was adopted may be anything: what is not in the truth goes now.
            let mut after = DesiredState::clone(&self.desired_state);
            after.accept(step.clone());
            Change::towards(after.split_set(), self.steering.ledger())
        };
        let before = self.before(&change);
        let writes = self.apply(&change)?;
        let begun = Instant::now();
        if let Err(error) = self.store.commit(std::mem::take(&mut step.transaction)) {
            return Err(match self.apply(&before) {
                Ok(_) => error.into(),
                Err(second) => anyhow::anyhow!("{error}; and what runs is as if not: {second}"),
            });
        }
        let disk = begun.elapsed();
        for event in &step.events {
            info!("{event}");
        }
        let about_documents = step.is_about_documents();
        // Whoever looks goes on looking at what was.
        Arc::make_mut(&mut self.desired_state).accept(step);
        if about_documents {
            self.complain();
        }
        Ok(Spent { disk, writes })
    }

    /// What takes a change back.
    fn before(&self, change: &Change) -> Change {
        let names = change.put.iter().map(|split| split.name()).chain(&change.remove);
        let mut back = Change::default();
        for name in names {
            match self.desired.shared(name.as_str()) {
                Some(split) => back.put.push(Arc::clone(split)),
                None => back.remove.push(name.clone()),
            }
        }
        back
    }

    /// Puts a change into force; how many writes to maps that took.
    pub fn apply(&mut self, change: &Change) -> Result<usize, SteeringError> {
        if let Some(gate) = &mut self.gate {
            gate.admit(change)?;
        }
        let writes = self.steering.change(change)?;
        let desired = Arc::make_mut(&mut self.desired);
        for name in &change.remove {
            desired.remove(name.as_str());
            self.last_changes.remove(name);
            info!("split {name}: removed, its flows drain");
        }
        for split in &change.put {
            let counters = self.counters(split);
            let last = LastChange { at: Instant::now(), counters };
            self.last_changes.insert(split.name().clone(), last);
            Arc::make_mut(&mut self.desired).replace(split.clone());
            let weights: Vec<String> =
                split.subsets().iter().map(|s| format!("{}={}", s.name, s.weight)).collect();
            info!("split {}: {}", split.name(), weights.join(" "));
        }
        Ok(writes)
    }

    fn counters(&self, split: &Split) -> HashMap<Name, Counted> {
        let subsets = split.subsets().iter().enumerate();
        let counters = |(at, subset): (usize, &crate::model::Subset)| {
            (subset.name.clone(), self.steering.subset_counters(split, at))
        };
        subsets.map(counters).collect()
    }
}
