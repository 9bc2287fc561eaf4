//! What the agent knows and owns.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use anyhow::{Context as _, Result};
use probe_common::map::CHUNK;

use crate::api::types::InterfaceView;
use crate::config::{self, AgentConfig, InterfaceMatch};
use crate::datapath::{Counters, Forward, Object, PublishError, Publisher, Settings, attach};
use crate::model::{Desired, Name, Split};
use crate::source;

/// The agent's state, behind one lock: changes are rare, and packets do not wait for it.
pub struct State {
    inner: Mutex<Inner>,
}

/// What the lock guards.
pub(super) struct Inner {
    pub seed: u64,
    resources: PathBuf,
    matches: Vec<InterfaceMatch>,
    object: Object,
    publisher: Publisher,
    pub counters: Counters,
    /// What runs.
    pub desired: Desired,
    /// What the files said last, before weights that were set live.
    files: Desired,
    pub changes: BTreeMap<Name, Change>,
    pub interfaces: BTreeMap<u32, InterfaceView>,
    pub last_error: Vec<String>,
}

/// The last change of a split.
pub(super) struct Change {
    pub at: Instant,
    /// Flows of each subset before it.
    pub flows: HashMap<Name, u64>,
}

impl State {
    /// Loads the object; nothing is attached yet.
    pub fn load(config: &AgentConfig) -> Result<Self> {
        let settings = Settings {
            flows: config.flows.max,
            splits: config.limits.splits,
            endpoints: config.limits.endpoints,
            chunks: config.limits.table_slots.div_ceil(CHUNK as u32),
            tcp_idle: config.flows.tcp_idle,
            udp_idle: config.flows.udp_idle,
            hash_seed: config.hash_seed,
        };
        let mut object = Object::load(&settings)?;
        let publisher = Publisher::new(object.ebpf())?;
        let counters = Counters::new(object.ebpf())?;
        let inner = Inner {
            seed: config.hash_seed,
            resources: config.resources.clone(),
            matches: config.interfaces.clone(),
            object,
            publisher,
            counters,
            desired: Desired::default(),
            files: Desired::default(),
            changes: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            last_error: Vec::new(),
        };
        Ok(Self { inner: Mutex::new(inner) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Reads the resources again. What is wrong is said, and changes nothing.
    pub fn reload(&self) {
        self.lock().reload();
    }

    /// An interface came up or was renamed.
    pub fn appeared(&self, index: u32, name: &str, kind: Option<&str>, ethernet: bool) {
        self.lock().appeared(index, name, kind, ethernet);
    }

    /// An interface is gone, and its programs with it.
    pub fn gone(&self, index: u32) {
        self.lock().interfaces.remove(&index);
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
            eprintln!("weir: not applied: {line}");
        }
    }

    /// Puts what changed in the files into force. A split whose definition did
    /// not change keeps weights that were set live.
    fn adopt(&mut self, files: Desired) -> Result<()> {
        let gone: Vec<Split> = self
            .desired
            .splits()
            .filter(|old| {
                files.get(old.name().as_str()).is_none_or(|s| s.address() != old.address())
            })
            .cloned()
            .collect();
        for split in gone {
            self.publisher.withdraw(split.name())?;
            self.desired.remove(split.name().as_str());
        }
        for split in files.splits() {
            let name = split.name().as_str();
            if self.desired.get(name).is_none() || self.files.get(name) != Some(split) {
                self.put(split.clone()).with_context(|| format!("split {name}"))?;
            }
        }
        self.files = files;
        Ok(())
    }

    /// Puts a split into force.
    pub fn put(&mut self, split: Split) -> Result<(), PublishError> {
        self.publisher.publish(&split)?;
        let flows = self.flows(&split);
        self.changes.insert(split.name().clone(), Change { at: Instant::now(), flows });
        self.desired.replace(split);
        Ok(())
    }

    fn flows(&self, split: &Split) -> HashMap<Name, u64> {
        let subsets = split.subsets().iter().enumerate();
        subsets
            .map(|(at, subset)| (subset.name.clone(), self.subset_stats(split, at).flows))
            .collect()
    }

    /// Counters of a subset; zero if they cannot be read.
    pub fn subset_stats(&self, split: &Split, at: usize) -> probe_common::map::SubsetStats {
        let id = self.publisher.subset_id(split.name(), at);
        id.and_then(|id| self.counters.subset(id).ok()).unwrap_or_default()
    }

    /// Counters of an endpoint; zero if they cannot be read.
    pub fn endpoint_stats(
        &self,
        split: &Split,
        at: usize,
        endpoint: std::net::SocketAddr,
    ) -> probe_common::map::EndpointStats {
        let id = self.publisher.id_of(split.name(), &split.subsets()[at].name, endpoint);
        id.and_then(|id| self.counters.endpoint(id).ok()).unwrap_or_default()
    }

    fn appeared(&mut self, index: u32, name: &str, kind: Option<&str>, ethernet: bool) {
        let Some(fit) = self.matches.iter().find(|m| m.matches(name)) else { return };
        if self.interfaces.get(&index).is_some_and(|known| known.error.is_none()) {
            return;
        }
        let (hook, forward) = match fit.forward() {
            config::Forward::Tc => ("tc", Forward::Tc),
            config::Forward::Xdp => ("xdp", Forward::Xdp { virtual_device: kind.is_some() }),
        };
        let result = if ethernet {
            attach(&mut self.object, name, forward)
                .map_err(|e| format!("{:#}", anyhow::Error::from(e)))
        } else {
            Err("not an Ethernet interface".to_owned())
        };
        let (mode, error) = match result {
            Ok(mode) => (mode.name(), None),
            Err(error) => ("", Some(error)),
        };
        match &error {
            None => eprintln!("weir: {name}: forward at {hook} ({mode})"),
            Some(error) => eprintln!("weir: {name}: {error}"),
        }
        let (name, hook, mode) = (name.to_owned(), hook.to_owned(), mode.to_owned());
        self.interfaces.insert(index, InterfaceView { name, index, hook, mode, error });
    }
}
