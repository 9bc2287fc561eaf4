//! What must become of flows, by addresses alone: which endpoints a service
//! address has, and since when it has others no more. Names are only what is
//! counted for.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::cluster::Wanted;
use crate::model::{DEFAULT_DRAIN, Name, ServiceAddress, SplitSet};
use crate::plan::LINGER;

/// What becomes of a flow's packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// They reach the endpoint.
    Lives,
    /// The endpoint was removed, and its drain time is over.
    Rejected,
    /// The drain time may be over: an agent that died did not write down when it began.
    Either,
}

/// When the drain time of a removed endpoint ends: between these, in seconds.
#[derive(Debug, Clone, Copy)]
struct Removed {
    earliest: u64,
    latest: u64,
}

/// Flows that began and ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    pub begun: u64,
    pub ended: u64,
}

/// A split and one of its subsets.
pub type Label = (Name, Name);

/// A subset of which it is known since when it counts: the number is another one
/// when it comes back after it was away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    pub number: u64,
    pub counts: Counts,
}

#[derive(Debug, Clone, Default)]
struct Counted {
    subsets: BTreeMap<Name, Count>,
    /// In seconds.
    drain: u64,
    /// An agent died meanwhile, which may have begun to count anew.
    is_uncertain: bool,
    /// When it is forgotten, if it was removed.
    until: Option<u64>,
}

#[derive(Debug, Clone, Default)]
pub struct Model {
    now: u64,
    wanted: BTreeMap<ServiceAddress, Wanted>,
    removed: BTreeMap<(ServiceAddress, SocketAddr), Removed>,
    splits: BTreeMap<Name, Counted>,
    numbers: u64,
}

impl Model {
    /// Service addresses have these endpoints now, by splits that are called so.
    pub fn change(&mut self, wanted: BTreeMap<ServiceAddress, Wanted>, desired: &SplitSet) {
        for (&service, new) in &wanted {
            for &endpoint in &new.endpoints {
                self.removed.remove(&(service, endpoint));
            }
        }
        for (&service, old) in &self.wanted {
            let new = wanted.get(&service);
            let drain = new.unwrap_or(old).drain;
            let gone =
                old.endpoints.iter().filter(|e| new.is_none_or(|n| !n.endpoints.contains(e)));
            for &endpoint in gone {
                let until = self.now + drain;
                let removed = Removed { earliest: until, latest: until };
                self.removed.insert((service, endpoint), removed);
            }
        }
        self.wanted = wanted;
        let now = self.now;
        for (_, split) in self.splits.iter_mut().filter(|(n, _)| desired.get(n.as_str()).is_none())
        {
            split.until.get_or_insert(now + split.drain + LINGER);
        }
        for split in desired.splits() {
            let names = split.subsets().iter().map(|subset| &subset.name);
            self.put_split(split.name(), names, split.drain().as_secs());
        }
    }

    fn put_split<'n>(&mut self, name: &Name, subsets: impl Iterator<Item = &'n Name>, drain: u64) {
        let counted = self.splits.entry(name.clone()).or_default();
        counted.until = None;
        counted.drain = drain;
        let mut before = std::mem::take(&mut counted.subsets);
        for subset in subsets {
            let count = before.remove(subset).unwrap_or_else(|| {
                self.numbers += 1;
                Count { number: self.numbers, ..Count::default() }
            });
            counted.subsets.insert(subset.clone(), count);
        }
    }

    /// Time passes, and the agent does what is due then.
    pub fn pass(&mut self, seconds: u64) {
        self.now += seconds;
        let now = self.now;
        self.splits.retain(|_, counted| counted.until.is_none_or(|until| until > now));
    }

    /// An agent died among its writes: what it was about to remove it may have
    /// removed, without a word of how long it was to drain; and it may have begun to
    /// count anew.
    pub fn crashed(&mut self) {
        let now = self.now;
        for removed in self.removed.values_mut().filter(|removed| removed.latest > now) {
            removed.earliest = removed.earliest.min(now + DEFAULT_DRAIN.as_secs());
            removed.latest = removed.latest.max(now + DEFAULT_DRAIN.as_secs());
        }
        self.splits.values_mut().for_each(|split| split.is_uncertain = true);
    }

    /// Whether it is not known what a split's subsets count. Not twice.
    pub fn take_uncertainty(&mut self, split: &Name) -> bool {
        let found = self.splits.get_mut(split);
        found.is_some_and(|split| std::mem::take(&mut split.is_uncertain))
    }

    /// What a subset counts is this, under a new number.
    pub fn learn(&mut self, label: &Label, counts: Counts) -> u64 {
        self.numbers += 1;
        let number = self.numbers;
        if let Some(count) = self.count(label) {
            *count = Count { number, counts };
        }
        number
    }

    pub fn wanted(&self) -> &BTreeMap<ServiceAddress, Wanted> {
        &self.wanted
    }

    /// What becomes of the flows of an endpoint at a service address.
    pub fn fate(&self, service: ServiceAddress, endpoint: SocketAddr) -> Fate {
        if self.wanted.get(&service).is_some_and(|wanted| wanted.endpoints.contains(&endpoint)) {
            return Fate::Lives;
        }
        match self.removed.get(&(service, endpoint)) {
            Some(removed) if self.now < removed.earliest => Fate::Lives,
            Some(removed) if self.now < removed.latest => Fate::Either,
            _ => Fate::Rejected,
        }
    }

    /// What a subset counts; None if it is not known.
    pub fn count(&mut self, (split, subset): &Label) -> Option<&mut Count> {
        self.splits.get_mut(split)?.subsets.get_mut(subset)
    }
}
