//! What the cluster's objects come to, by the resolver that agents have.

use std::collections::BTreeMap;

use crate::cluster::in_cluster;
use crate::config::{Kubernetes, Mode};
use crate::desired::{Batch, DesiredState, Deviation, PersistedState, Positions, Time};
use crate::model::{Name, total_weight};
use crate::resource::{Files, Id, Kind};

/// What is known, and up to where.
pub struct Resolution {
    desired_state: DesiredState,
    persisted: PersistedState,
    positions: Positions,
}

/// What became of an object.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resolved {
    /// Why it is not what it says, if it is not.
    pub deviation: Option<Deviation>,
    /// Its subsets, in their order.
    pub subsets: Vec<Subset>,
}

/// A subset of a split.
#[derive(Debug, Clone, PartialEq)]
pub struct Subset {
    /// Its name.
    pub name: Name,
    /// Its weight.
    pub weight: u32,
    /// Its part of new connections, from 0 to 1.
    pub share: f64,
    /// How many endpoints it has, of the address family that has most.
    pub endpoints: usize,
}

impl Resolution {
    /// One that knows nothing yet.
    pub fn new(config: &Kubernetes, now: Time) -> Self {
        let persisted = PersistedState::default();
        let observes = config.mode == Mode::Observe;
        let mut desired_state =
            DesiredState::start(&persisted, []).awaiting_cluster(config.policy.clone(), observes);
        // A controller has no files.
        let step = desired_state.load_files(&persisted, &Files::default(), now);
        desired_state.accept(step);
        Self { desired_state, persisted, positions: Positions::new() }
    }

    /// Takes over what the cluster says.
    pub fn take(&mut self, batch: Batch, now: Time) {
        let positions = batch.positions.clone();
        if !batch.is_empty() {
            let observed = self.desired_state.observe(batch);
            let none = BTreeMap::new();
            let step = self.desired_state.step_of(&self.persisted, &observed, none, now);
            self.desired_state.accept(step);
        }
        if let Some(positions) = positions {
            self.positions = positions;
        }
    }

    /// Whether all that there is was taken over once.
    pub fn is_complete(&self) -> bool {
        self.desired_state.is_complete()
    }

    /// Up to where everything of a kind was taken over.
    pub fn position(&self, kind: Kind) -> Option<u64> {
        self.positions.get(&kind).copied()
    }

    /// What became of the objects of a kind, by namespace and name, with a slash between.
    pub fn all(&self, kind: Kind) -> BTreeMap<String, Resolved> {
        let key = |id: &Id| {
            let (namespace, name) = in_cluster(id);
            format!("{namespace}/{name}")
        };
        let mut found = BTreeMap::<String, Resolved>::new();
        for deviation in self.desired_state.deviations(kind, &self.persisted) {
            let of = key(&deviation.id);
            found.entry(of).or_default().deviation = Some(deviation);
        }
        let resolver = self.desired_state.resolver();
        for (id, names) in resolver.splits_by(kind) {
            let resolved = found.entry(key(&id)).or_default();
            for name in names.iter().filter(|name| resolver.is_made_of(name, &id)) {
                let split = resolver.wanted(name).and_then(|wanted| wanted.split);
                let Some(split) = split else { continue };
                let sum = total_weight(split.subsets()) as f64;
                for subset in split.subsets() {
                    let endpoints = subset.endpoints.len();
                    let known = resolved.subsets.iter_mut().find(|one| one.name == subset.name);
                    match known {
                        Some(known) => known.endpoints = known.endpoints.max(endpoints),
                        None => resolved.subsets.push(Subset {
                            name: subset.name.clone(),
                            weight: subset.weight,
                            share: f64::from(subset.weight) / sum,
                            endpoints,
                        }),
                    }
                }
            }
        }
        found
    }
}
