//! A history: agent and model side by side.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;

use proptest::test_runner::TestCaseError;

use super::agent::{Agent, Course, Flow, state};
use super::cluster::{Cluster, Form, SITES, Wanted};
use super::manifest::{self, Manifest};
use super::model::{Fate, Model};
use super::step::Step;
use crate::datapath::Memory;
use crate::model::{Name, ServiceAddress};
use crate::plan::EndpointState;

/// What histories had in them, so that a test that looks at nothing is noticed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    steps: usize,
    flows: usize,
    /// Flows that lived through a change of what their endpoint's split is called, or
    /// of the subset that it is in.
    renamed: usize,
    rejected: usize,
    writes: usize,
}

impl Seen {
    pub fn add(&mut self, other: Self) {
        self.steps += other.steps;
        self.flows += other.flows;
        self.renamed += other.renamed;
        self.rejected += other.rejected;
        self.writes += other.writes;
    }

    /// Fails where little of what is to be looked at was there.
    pub fn is_enough(&self) {
        assert!(self.flows > self.steps / 10, "few flows: {self}");
        assert!(self.renamed > self.flows / 20, "few flows live through a change: {self}");
        assert!(self.rejected > self.flows / 100, "few flows end with their endpoint: {self}");
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, flows, renamed, rejected, writes } = self;
        write!(
            f,
            "{steps} steps, {writes} writes, {flows} flows, {renamed} of them through other names, \
             {rejected} rejected with their endpoint"
        )
    }
}

pub struct History {
    cluster: Cluster,
    agent: Agent,
    model: Model,
    flows: Vec<Flow>,
    seen: Seen,
}

type Result<T = ()> = std::result::Result<T, String>;

impl History {
    pub fn new() -> Self {
        let (agent, model) = (Agent::new(), Model::default());
        let mut cluster = Cluster::default();
        cluster.sites.iter_mut().for_each(|site| site.form = Form::Nothing);
        Self { cluster, agent, model, flows: Vec::new(), seen: Seen::default() }
    }

    pub fn seen(&self) -> Seen {
        Seen { writes: self.agent.maps.writes, ..self.seen }
    }

    pub fn run(&mut self, steps: &[Step]) -> std::result::Result<(), TestCaseError> {
        self.change(Cluster::default(), Course::Done).map_err(TestCaseError::fail)?;
        for (at, step) in steps.iter().enumerate() {
            let result = self.step(step).and_then(|()| self.check());
            result.map_err(|error| TestCaseError::fail(format!("step {at}, {step:?}: {error}")))?;
            self.seen.steps += 1;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result {
        match step {
            Step::Change(edits, course) => {
                let mut cluster = self.cluster.clone();
                edits.iter().for_each(|(site, edit)| edit.make(&mut cluster, *site));
                self.change(cluster, *course)
            }
            Step::Open(choices) => choices.iter().try_for_each(|choice| self.open(*choice)),
            Step::End(choices) => choices.iter().try_for_each(|choice| self.end(*choice)),
            Step::Pass(seconds) => {
                self.model.pass(*seconds);
                self.agent.pass(*seconds, &mut whole(&self.model, &self.flows))?;
                self.reject()
            }
            Step::Sweep => self.agent.sweep(&mut self.flows, &mut |_| Ok(())),
            Step::Grace => {
                self.agent.grace();
                Ok(())
            }
            Step::Restart => {
                let files = manifest::files(&self.cluster);
                self.agent.restart(&files, &mut whole(&self.model, &self.flows))
            }
            Step::Weigh(choice, weights) => self.weigh(*choice, weights),
            Step::Break(fault, file, restart) => {
                let mut files = manifest::files(&self.cluster);
                fault.spoil(&mut files[*file].1);
                self.load(&self.cluster.clone(), &files, Course::Done)?;
                if *restart {
                    self.agent.restart(&files, &mut whole(&self.model, &self.flows))?;
                    self.check()?;
                }
                let files = manifest::files(&self.cluster);
                self.load(&self.cluster.clone(), &files, Course::Done)
            }
        }
    }

    /// From one cluster to the next: by one reading of files where nothing was
    /// applied, else by several steps.
    fn change(&mut self, next: Cluster, course: Course) -> Result {
        let before = std::mem::replace(&mut self.cluster, next.clone());
        let documents = |cluster: &Cluster, site: usize| match cluster.sites[site].applied {
            true => manifest::of(cluster, site),
            false => Manifest::new(),
        };
        let changed = |site: &usize| documents(&before, *site) != documents(&next, *site);
        let applied: Vec<usize> = (0..SITES).filter(changed).collect();
        let in_files = manifest::files(&before) != manifest::files(&next);
        let all = |cluster: &Cluster| -> Manifest {
            applied.iter().flat_map(|&site| documents(cluster, site)).collect()
        };
        let (old, new) = (all(&before), all(&next));
        let stay = old.keys().all(|key| new.contains_key(key)) && !in_files;
        let mut wanted = before.clone();
        if !old.is_empty() && !stay {
            for &site in applied.iter().filter(|&&site| before.sites[site].applied) {
                wanted.sites[site].form = Form::Nothing;
            }
            self.make(&wanted, |agent, watch| agent.delete(&old, watch))?;
        }
        if in_files {
            for (site, next) in wanted.sites.iter_mut().zip(&next.sites) {
                match (site.applied, next.applied) {
                    (_, false) => site.clone_from(next),
                    // Gone from the files, and not applied yet.
                    (false, true) => site.form = Form::Nothing,
                    (true, true) => {}
                }
            }
            self.load(&wanted, &manifest::files(&next), course)?;
        }
        if !new.is_empty() {
            self.make(&next, |agent, watch| agent.apply(&new, watch))?;
        }
        let complaints = self.agent.complaints();
        if complaints.is_empty() { Ok(()) } else { Err(format!("{complaints:?}")) }
    }

    /// A change that comes to these sites.
    fn make(
        &mut self,
        sites: &Cluster,
        change: impl FnOnce(&mut Agent, super::agent::Watch<'_>) -> Result,
    ) -> Result {
        change(&mut self.agent, &mut whole(&self.model, &self.flows))?;
        self.follow(sites.wanted());
        self.check()
    }

    fn load(&mut self, sites: &Cluster, files: &[(String, String)], course: Course) -> Result {
        let desired = self.agent.desired().clone();
        self.agent.load(files, course, &mut whole(&self.model, &self.flows))?;
        match course {
            Course::Done => self.follow(sites.wanted()),
            Course::TakenBack => {
                // What was in force for a moment, and what is again.
                let back = self.model.wanted().clone();
                let wanted = sites.wanted();
                self.agent.load(files, Course::Done, &mut whole(&self.model, &self.flows))?;
                let made = self.agent.desired().clone();
                self.model.change(wanted.clone(), &made);
                self.model.change(back, &desired);
                self.model.change(wanted, &made);
            }
            Course::Killed(_) => {
                self.follow(sites.wanted());
                self.model.crashed();
            }
        }
        self.check()
    }

    fn follow(&mut self, wanted: BTreeMap<ServiceAddress, Wanted>) {
        self.model.change(wanted, self.agent.desired());
    }

    /// A connection to something that is in force, to any endpoint that it may get.
    fn open(&mut self, choice: u16) -> Result {
        let mut choice = usize::from(choice);
        let mut draw = |count: usize| {
            let drawn = choice % count;
            choice /= count;
            drawn
        };
        let services: BTreeSet<ServiceAddress> = self.agent.maps.services.keys().copied().collect();
        if services.is_empty() {
            return Ok(());
        }
        let at = draw(services.len());
        let Some(&service) = services.iter().nth(at) else { return Ok(()) };
        let found = self.agent.maps.in_force(service).ok_or("a service leads nowhere")?;
        let subsets = &found.subsets[..found.count as usize];
        let usable: Vec<_> = subsets.iter().filter(|s| s.weight > 0 && s.len > 0).collect();
        if usable.is_empty() {
            return Ok(());
        }
        let subset = usable[draw(usable.len())];
        let ids: BTreeSet<u32> = self.agent.maps.table(subset).into_iter().collect();
        let at = draw(ids.len());
        let Some(&endpoint) = ids.iter().nth(at) else { return Ok(()) };
        let (address, _) = self.agent.maps.endpoints[&endpoint];
        let label = self.agent.ledger.subset_names(subset.id).ok_or("a subset has no name")?;
        let label = (label.0.clone(), label.1.clone());
        let count = self.model.count(&label).ok_or_else(|| format!("{label:?} is unknown"))?;
        count.counts.begun += 1;
        let number = count.number;
        let flow =
            Flow { service, address, endpoint, subset: subset.id, label, number, moved: false };
        self.agent.count(&flow, |counts| counts.begun += 1);
        self.flows.push(flow);
        self.seen.flows += 1;
        Ok(())
    }

    fn end(&mut self, choice: u16) -> Result {
        if self.flows.is_empty() {
            return Ok(());
        }
        let flow = self.flows.swap_remove(usize::from(choice) % self.flows.len());
        self.over(&flow);
        Ok(())
    }

    /// Counts the end of a flow, for the subset that it was steered to.
    fn over(&mut self, flow: &Flow) {
        self.agent.count(flow, |counts| counts.ended += 1);
        if let Some(count) = self.model.count(&flow.label)
            && count.number == flow.number
        {
            count.counts.ended += 1;
        }
    }

    /// Every flow sends a packet: those of endpoints that are gone are reset.
    fn reject(&mut self) -> Result {
        let mut index = 0;
        while let Some(flow) = self.flows.get(index) {
            if state(&self.agent.maps, flow)? == EndpointState::Gone {
                let flow = self.flows.swap_remove(index);
                if self.model.fate(flow.service, flow.address) == Fate::Lives {
                    return Err(format!("{flow:?} is reset, though its endpoint is there"));
                }
                self.over(&flow);
                self.seen.rejected += 1;
            } else {
                index += 1;
            }
        }
        Ok(())
    }

    fn weigh(&mut self, choice: u16, weights: &[u8]) -> Result {
        let splits: Vec<_> = self.agent.desired().splits().cloned().collect();
        let Some(split) = splits.get(usize::from(choice) % splits.len().max(1)) else {
            return Ok(());
        };
        let subsets = split.subsets().iter().zip(weights);
        let weights: BTreeMap<Name, u32> =
            subsets.map(|(subset, &weight)| (subset.name.clone(), u32::from(weight % 4))).collect();
        let mut watch = whole(&self.model, &self.flows);
        self.agent.weigh(split.name().as_str(), &weights, &mut watch)
    }

    /// Agent and model say the same.
    fn check(&mut self) -> Result {
        self.endpoints()?;
        self.fates()?;
        self.counts()
    }

    /// New flows go to the endpoints that are wanted, and to no others.
    fn endpoints(&self) -> Result {
        let mut found = BTreeMap::new();
        for &service in self.agent.maps.services.keys() {
            let version = self.agent.maps.in_force(service).ok_or("a service leads nowhere")?;
            let mut endpoints: BTreeSet<SocketAddr> = BTreeSet::new();
            for subset in &version.subsets[..version.count as usize] {
                for id in self.agent.maps.table(subset) {
                    let (address, state) = self.agent.maps.endpoints[&id];
                    if state != EndpointState::Live {
                        return Err(format!("new flows go to {address}, which is {state:?}"));
                    }
                    endpoints.insert(address);
                }
            }
            found.insert(service, endpoints);
        }
        let wanted: BTreeMap<_, _> =
            self.model.wanted().iter().map(|(&s, wanted)| (s, wanted.endpoints.clone())).collect();
        if found == wanted {
            return Ok(());
        }
        Err(format!("in force {found:?}\nwanted {wanted:?}\n{:?}", self.agent.complaints()))
    }

    fn fates(&mut self) -> Result {
        for flow in &mut self.flows {
            let state = state(&self.agent.maps, flow)?;
            let split = self.agent.ledger.split_at(flow.service);
            let split = split.filter(|name| **name == flow.label.0);
            let split = split.and_then(|name| self.agent.ledger.split(name));
            let own = |s: &&crate::model::Subset| s.name == flow.label.1;
            let subset = split.and_then(|split| split.subsets().iter().find(own));
            if state == EndpointState::Live
                && !flow.moved
                && subset.is_none_or(|subset| !subset.endpoints.contains(&flow.address))
            {
                flow.moved = true;
                self.seen.renamed += 1;
            }
            match (self.model.fate(flow.service, flow.address), state) {
                (Fate::Lives, EndpointState::Live | EndpointState::Draining)
                | (Fate::Rejected, EndpointState::Gone)
                | (Fate::Either, EndpointState::Draining | EndpointState::Gone) => {}
                (fate, state) => return Err(format!("{flow:?}: {fate:?} wanted, is {state:?}")),
            }
        }
        Ok(())
    }

    fn counts(&mut self) -> Result {
        let splits: Vec<_> = self.agent.desired().splits().cloned().collect();
        for split in splits {
            let uncertain = self.model.take_uncertainty(split.name());
            for subset in split.subsets() {
                let label = (split.name().clone(), subset.name.clone());
                let id = self.agent.ledger.subset_id(split.name(), &subset.name);
                let id = id.ok_or_else(|| format!("{label:?} has no id"))?;
                let counted = self.agent.counted(id);
                if uncertain {
                    let number = self.model.learn(&label, counted);
                    self.flows
                        .iter_mut()
                        .filter(|f| f.subset == id)
                        .for_each(|f| f.number = number);
                    continue;
                }
                let wanted = self.model.count(&label).map(|count| count.counts);
                if wanted != Some(counted) {
                    return Err(format!("{label:?} counts {counted:?}, expected {wanted:?}"));
                }
            }
        }
        Ok(())
    }
}

/// After each write: flows that are to live do.
fn whole<'a>(model: &'a Model, flows: &'a [Flow]) -> impl FnMut(&Memory) -> Result + 'a {
    move |maps| {
        for flow in flows {
            let lives = model.fate(flow.service, flow.address) == Fate::Lives;
            if lives && state(maps, flow)? == EndpointState::Gone {
                return Err(format!("{flow:?} is reset among the writes of a change"));
            }
        }
        Ok(())
    }
}
