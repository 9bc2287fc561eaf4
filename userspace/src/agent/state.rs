//! What the agent knows and owns.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::sync::Notify;
use tracing::{error, info, warn};

use super::interfaces::Interfaces;
use super::steering::{Steering, SteeringError};
use crate::config::AgentConfig;
use crate::datapath::{Flows, Pins};
use crate::interfaces::{Event, Watch};
use crate::model::{Desired, Name, Split};
use crate::plan::Change;
use crate::source;

/// The agent's state, behind one lock: changes are rare, and packets do not wait for it.
pub struct State {
    inner: Mutex<Inner>,
    /// The flow tables: read and swept without the lock.
    pub(super) flows: Flows,
    /// Something came out of force: the janitor has work.
    pub(super) changed: Notify,
}

/// What the lock guards.
pub(super) struct Inner {
    pub seed: u64,
    resources: PathBuf,
    pub steering: Steering,
    pub interfaces: Interfaces,
    /// What runs.
    pub desired: Desired,
    /// What the files said last, before weights that were set live.
    files: Option<Desired>,
    pub last_changes: BTreeMap<Name, LastChange>,
    pub last_error: Vec<String>,
}

/// The last change of a split.
pub(super) struct LastChange {
    pub at: Instant,
    /// Flows of each subset before it.
    pub flows: HashMap<Name, u64>,
}

impl State {
    /// Loads the programs and adopts what is pinned; attaches nothing yet.
    pub fn load(config: &AgentConfig, replace: bool) -> Result<Self> {
        let pins = Pins::of(&config.bpffs);
        if replace && pins.are_there() {
            warn!("starting with empty maps, as told: flows that live now are steered anew");
            super::steering::unload(&pins)?;
        }
        let (steering, flows) = Steering::load(config, Pins::make(&config.bpffs)?)?;
        let mut desired = Desired::default();
        for split in steering.ledger().splits() {
            desired.replace(split.clone());
        }
        if desired.splits().len() > 0 {
            info!("adopted {} splits from {}", desired.splits().len(), config.bpffs.display());
        }
        let inner = Inner {
            seed: config.hash_seed,
            resources: config.resources.clone(),
            steering,
            interfaces: Interfaces::new(config.interfaces.clone()),
            desired,
            files: None,
            last_changes: BTreeMap::new(),
            last_error: Vec::new(),
        };
        Ok(Self { inner: Mutex::new(inner), flows, changed: Notify::new() })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Follows what happened to an interface.
    pub fn follow(&self, event: Event) {
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.interfaces.follow(event, &mut inner.steering);
    }

    /// Follows the events of the interfaces that are there, which come first.
    pub async fn list_interfaces(&self, watch: &mut Watch) -> Result<()> {
        for event in watch.listed().await.context("cannot list network interfaces")? {
            self.follow(event);
        }
        let mut inner = self.lock();
        let inner = &mut *inner;
        inner.interfaces.forget_others(&mut inner.steering);
        Ok(())
    }

    /// Reads the resources again. What is wrong is said, and changes nothing.
    pub fn reload(&self) {
        self.lock().reload();
        self.changed.notify_one();
    }
}

impl Inner {
    fn reload(&mut self) {
        let found = source::load(&self.resources);
        let result = match found {
            Ok(files) => self.adopt(files).map_err(|error| vec![format!("{error:#}")]),
            Err(problems) => Err(problems.iter().map(ToString::to_string).collect()),
        };
        self.last_error = result.err().unwrap_or_default();
        for line in &self.last_error {
            error!("not applied: {line}");
        }
    }

    /// Puts what changed in the files into force. A split whose definition did
    /// not change keeps weights that were set live.
    fn adopt(&mut self, files: Desired) -> Result<()> {
        let mut desired = Desired::default();
        for split in files.splits() {
            let name = split.name().as_str();
            let before = self.files.as_ref().and_then(|files| files.get(name));
            let live = self.desired.get(name).filter(|_| before == Some(split));
            desired.replace(live.unwrap_or(split).clone());
        }
        let change = Change::towards(&desired, self.steering.ledger());
        self.apply(&change).context("cannot put the files into force")?;
        self.files = Some(files);
        Ok(())
    }

    /// Puts a change into force.
    pub fn apply(&mut self, change: &Change) -> Result<(), SteeringError> {
        self.steering.change(change)?;
        for name in &change.remove {
            self.desired.remove(name.as_str());
            self.last_changes.remove(name);
            info!("split {name}: removed, its flows drain");
        }
        for split in &change.put {
            let flows = self.flows(split);
            let last = LastChange { at: Instant::now(), flows };
            self.last_changes.insert(split.name().clone(), last);
            self.desired.replace(split.clone());
            let weights: Vec<String> =
                split.subsets().iter().map(|s| format!("{}={}", s.name, s.weight)).collect();
            info!("split {}: {}", split.name(), weights.join(" "));
        }
        Ok(())
    }

    fn flows(&self, split: &Split) -> HashMap<Name, u64> {
        let subsets = split.subsets().iter().enumerate();
        let flows = |(at, subset): (usize, &crate::model::Subset)| {
            (subset.name.clone(), self.steering.subset_stats(split, at).flows)
        };
        subsets.map(flows).collect()
    }
}
