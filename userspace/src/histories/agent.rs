//! An agent without a kernel, a disk or a clock: documents become steps, steps
//! plans, and plans are written to maps that count flows as the programs do.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use probe_common::map::subset_index;

use super::manifest::Manifest;
use super::model::{Counts, Label};
use crate::agent::change as changed;
use crate::datapath::{Datapath as _, Memory};
use crate::desired::{DesiredState, Guard, PersistedState, Step, Time};
use crate::model::{Key, Name, ServiceAddress, SplitSet};
use crate::plan::{self, Capacity, Change, EndpointState, Ledger, Op, Plan};
use crate::resource::{self, DEFAULT_NAMESPACE};
use crate::source::{FileRead, Files};

const CAPACITY: Capacity = Capacity { splits: 64, endpoints: 512, chunks: 1024 };

/// A connection that was steered: what its entry holds, and what it was then.
#[derive(Debug, Clone)]
pub struct Flow {
    pub service: ServiceAddress,
    pub address: SocketAddr,
    pub endpoint: u32,
    pub subset: u32,
    pub label: Label,
    /// See [`super::model::Count::number`].
    pub number: u64,
    /// Whether its endpoint was of another subset, or of another split, since.
    pub moved: bool,
}

/// How far a change of files gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Course {
    /// It is made.
    Done,
    /// The disk rejects, and it is taken back.
    TakenBack,
    /// The agent dies after that many writes, and the next one reads the same files.
    Killed(usize),
}

/// What is looked at after each write.
pub type Watch<'a> = &'a mut dyn FnMut(&Memory) -> Result<(), String>;

pub struct Agent {
    pub desired_state: DesiredState,
    persisted: PersistedState,
    pub ledger: Ledger,
    pub maps: Memory,
    /// Flows that began and ended, by the index of a subset's id.
    subsets: HashMap<u32, Counts>,
    /// The same by endpoint id.
    endpoints: HashMap<u32, Counts>,
    now: u64,
    ticks: u64,
    /// Files that were read before.
    read: HashMap<(String, String), FileRead>,
    /// Endpoint ids of which the agent has yet to delete the flows.
    pub leaving: Vec<u32>,
}

impl Agent {
    pub fn new() -> Self {
        Self {
            desired_state: DesiredState::start(&PersistedState::default(), []),
            persisted: PersistedState::default(),
            ledger: Ledger::new(CAPACITY),
            maps: Memory::default(),
            subsets: HashMap::new(),
            endpoints: HashMap::new(),
            now: 1000,
            ticks: 0,
            read: HashMap::new(),
            leaving: Vec::new(),
        }
    }

    fn time(&mut self) -> Time {
        self.ticks += 1;
        (SystemTime::UNIX_EPOCH + Duration::from_secs(self.ticks)).into()
    }

    /// A file that says nothing any more is removed.
    fn files(&mut self, texts: &[(String, String)]) -> Files {
        let read = |(name, text): &(String, String)| {
            let known = self.read.entry((name.clone(), text.clone()));
            known.or_insert_with(|| Files::of([(name, text)]).files.remove(0)).clone()
        };
        let there = texts.iter().filter(|(_, text)| !text.is_empty());
        Files { files: there.map(read).collect(), ..Files::default() }
    }

    /// Files say this now.
    pub fn load(
        &mut self,
        texts: &[(String, String)],
        course: Course,
        watch: Watch<'_>,
    ) -> Result<(), String> {
        let files = self.files(texts);
        let time = self.time();
        let step = self.desired_state.load_files(&self.persisted, &files, time);
        let change = self.change(&step);
        match course {
            Course::Done => {
                self.put(&change, watch)?;
                self.accept(step);
            }
            Course::TakenBack => {
                let back = self.back(&change);
                self.put(&change, watch)?;
                self.put(&back, watch)?;
            }
            Course::Killed(writes) => {
                let mut plan = self.plan(&change)?;
                plan.ops.truncate(writes);
                self.write(&plan.ops, watch)?;
                self.restart(texts, watch)?;
            }
        }
        Ok(())
    }

    /// Another agent starts, which knows what the kernel and the disk have.
    pub fn restart(&mut self, texts: &[(String, String)], watch: Watch<'_>) -> Result<(), String> {
        let snapshot = self.maps.snapshot().map_err(|error| error.to_string())?;
        let (ledger, repairs) = plan::adopt(&snapshot, CAPACITY, self.now);
        self.write(&repairs, watch)?;
        self.ledger = ledger;
        self.leaving = self.ledger.leaving().collect();
        self.desired_state = DesiredState::start(&self.persisted, self.ledger.splits().cloned());
        self.load(texts, Course::Done, watch)
    }

    /// Applies documents. An error if they are rejected.
    pub fn apply(&mut self, documents: &Manifest, watch: Watch<'_>) -> Result<(), String> {
        let text: Vec<&str> = documents.values().map(String::as_str).collect();
        let declared = resource::declarations(&[("x", text.join("---\n"))]);
        let declared = declared.map_err(|problems| format!("{problems:?}"))?;
        let time = self.time();
        let step = self.desired_state.apply(&self.persisted, declared, time);
        let step = step.map_err(|rejection| rejection.to_string())?;
        self.put(&changed(&step.changes), watch)?;
        self.accept(step);
        Ok(())
    }

    /// Deletes what was applied. An error if something needs it.
    pub fn delete(&mut self, documents: &Manifest, watch: Watch<'_>) -> Result<(), String> {
        let keys: Vec<Key> = documents.keys().map(|(kind, name)| key(kind, name)).collect();
        let time = self.time();
        let step = self.desired_state.delete(&self.persisted, &keys, time);
        let step = step.map_err(|rejection| rejection.to_string())?;
        self.put(&changed(&step.changes), watch)?;
        self.accept(step);
        Ok(())
    }

    /// Overrides weights of a split. What is rejected changes nothing.
    pub fn weigh(
        &mut self,
        split: &str,
        weights: &BTreeMap<Name, u32>,
        watch: Watch<'_>,
    ) -> Result<(), String> {
        let time = self.time();
        let step = self.desired_state.set_weights(
            &self.persisted,
            split,
            weights,
            &Guard::default(),
            time,
        );
        let Ok(step) = step else { return Ok(()) };
        self.put(&changed(&step.changes), watch)?;
        self.accept(step);
        Ok(())
    }

    /// Time passes, and what is due is done, up to where flows are to be deleted.
    pub fn pass(&mut self, seconds: u64, watch: Watch<'_>) -> Result<(), String> {
        self.now += seconds;
        let plan = plan::expire(&self.ledger, self.now);
        self.execute(plan, watch)?;
        self.leaving = self.ledger.leaving().collect();
        Ok(())
    }

    /// Deletes the flows of endpoints that left.
    pub fn sweep(&mut self, flows: &mut Vec<Flow>, watch: Watch<'_>) -> Result<(), String> {
        let leaving: BTreeSet<u32> = std::mem::take(&mut self.leaving).into_iter().collect();
        flows.retain(|flow| !leaving.contains(&flow.endpoint));
        let ids: Vec<u32> = leaving.into_iter().collect();
        let plan = plan::swept(&self.ledger, &ids, self.now);
        self.execute(plan, watch)
    }

    /// Nothing that came out of force is read any more.
    pub fn grace(&mut self) {
        self.ledger.note_grace(self.ledger.epoch());
    }

    pub fn desired(&self) -> &SplitSet {
        self.desired_state.split_set()
    }

    /// What is wrong with documents.
    pub fn complaints(&self) -> Vec<String> {
        self.desired_state.problems().iter().map(ToString::to_string).collect()
    }

    /// Counts a flow as the programs do, if its subset still has its index.
    pub fn count(&mut self, flow: &Flow, what: impl Fn(&mut Counts)) {
        let index = subset_index(flow.subset);
        if self.maps.subset_ids.get(&index) == Some(&flow.subset) {
            what(self.subsets.entry(index).or_default());
        }
        what(self.endpoints.entry(flow.endpoint).or_default());
    }

    pub fn counted(&self, subset: u32) -> Counts {
        self.subsets.get(&subset_index(subset)).copied().unwrap_or_default()
    }

    /// What a step changes, as the agent sees it.
    fn change(&self, step: &Step) -> Change {
        if self.desired_state.is_complete() || !step.completes() {
            return changed(&step.changes);
        }
        let mut after = self.desired_state.clone();
        after.accept(step.clone());
        Change::towards(after.split_set(), &self.ledger)
    }

    /// What takes a change back.
    fn back(&self, change: &Change) -> Change {
        let mut back = Change::default();
        for name in change.put.iter().map(|split| split.name()).chain(&change.remove) {
            match self.ledger.splits().find(|split| split.name() == name) {
                Some(split) => back.put.push(Arc::clone(split)),
                None => back.remove.push(name.clone()),
            }
        }
        back
    }

    fn accept(&mut self, step: Step) {
        if !step.transaction.ops.is_empty() {
            self.persisted.accept(step.transaction.clone());
        }
        self.desired_state.accept(step);
    }

    fn plan(&self, change: &Change) -> Result<Plan, String> {
        plan::plan(&self.ledger, change, self.now).map_err(|error| error.to_string())
    }

    fn put(&mut self, change: &Change, watch: Watch<'_>) -> Result<(), String> {
        let plan = self.plan(change)?;
        self.execute(plan, watch)
    }

    fn execute(&mut self, plan: Plan, watch: Watch<'_>) -> Result<(), String> {
        self.write(&plan.ops, watch)?;
        self.ledger = plan.ledger;
        Ok(())
    }

    fn write(&mut self, ops: &[Op], watch: Watch<'_>) -> Result<(), String> {
        for op in ops {
            self.maps.execute(op).map_err(|error| error.to_string())?;
            match *op {
                Op::ResetSubset(id) => _ = self.subsets.remove(&subset_index(id)),
                Op::ResetEndpoint(id) => _ = self.endpoints.remove(&id),
                _ => {}
            }
            watch(&self.maps)?;
        }
        Ok(())
    }
}

/// What becomes of packets of a flow of that endpoint id.
pub fn state(maps: &Memory, flow: &Flow) -> Result<EndpointState, String> {
    match maps.endpoints.get(&flow.endpoint) {
        Some(&(address, state)) if address == flow.address => Ok(state),
        found => Err(format!("{flow:?} has an id that is now {found:?}")),
    }
}

fn key(kind: &str, name: &str) -> Key {
    let namespace = if kind == "TrafficSplit" { "" } else { DEFAULT_NAMESPACE };
    Key { kind: kind.to_owned(), namespace: namespace.to_owned(), name: name.to_owned() }
}
