//! Who has which name and service address, of all that ask for them.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::resolve::{Outcome, Planned, Rank};
use super::resolver::{Clash, Unit};
use crate::model::{Name, ServiceAddress};
use crate::source::Problem;

/// A split of a unit, which asks for its name and its address. The least one
/// of those that ask for the same is served first.
#[derive(Debug, Clone)]
pub(super) struct Claim {
    rank: Rank,
    order: u64,
    unit: Arc<Unit>,
    index: usize,
    pub outcome: Arc<Outcome>,
}

impl Claim {
    /// The claims of a unit.
    pub fn all(unit: &Arc<Unit>, order: u64, outcome: Arc<Outcome>) -> impl Iterator<Item = Self> {
        let unit = Arc::clone(unit);
        (0..outcome.splits.len()).map(move |index| {
            let (unit, outcome) = (Arc::clone(&unit), Arc::clone(&outcome));
            Self { rank: outcome.splits[index].rank, order, unit, index, outcome }
        })
    }

    /// The unit that it is of.
    pub fn unit(&self) -> &Unit {
        &self.unit
    }

    /// Which of several outcomes' splits it is.
    pub fn of<'a>(&self, outcome: &'a Outcome) -> Option<&'a Planned> {
        outcome.splits.get(self.index)
    }

    /// What it asks for.
    pub fn planned(&self) -> &Planned {
        &self.outcome.splits[self.index]
    }

    fn key(&self) -> (Rank, u64, &Unit, usize) {
        (self.rank, self.order, &self.unit, self.index)
    }
}

impl PartialEq for Claim {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Claim {}

impl PartialOrd for Claim {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Claim {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

/// What became of those that ask for a name.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// The one that has it.
    winner: Option<Claim>,
    /// Whether something cannot be that should have the name.
    pub failed: bool,
    /// Why others do not have it, or not their address.
    pub problems: Vec<Problem>,
}

impl Standing {
    /// What has the name.
    pub fn planned(&self) -> Option<&Planned> {
        self.winner.as_ref().map(Claim::planned)
    }
}

/// All claims, and who is served. A copy costs nothing.
#[derive(Debug, Clone, Default)]
pub(super) struct Placement {
    names: OrdMap<Name, OrdSet<Claim>>,
    addresses: OrdMap<ServiceAddress, OrdSet<Claim>>,
    standings: OrdMap<Name, Standing>,
    /// The names with problems.
    contested: OrdSet<Name>,
}

/// What a change of claims led to.
pub(super) struct Placed {
    /// The names that may have got something else.
    pub names: BTreeSet<Name>,
    /// The problems that they had before.
    pub before: Vec<Problem>,
}

impl Placement {
    pub fn standing(&self, name: &Name) -> Option<&Standing> {
        self.standings.get(name)
    }

    /// By name.
    pub fn standings(&self) -> impl Iterator<Item = (&Name, &Standing)> {
        self.standings.iter()
    }

    /// The claim of what has a name, or else of the first that asks for it.
    pub fn foremost_claim(&self, name: &Name) -> Option<&Claim> {
        let winner = self.standings.get(name)?.winner.as_ref();
        winner.or_else(|| self.claims(name).next())
    }

    /// What has a name, or else the first that asks for it.
    pub fn foremost(&self, name: &Name) -> Option<&Planned> {
        self.foremost_claim(name).map(Claim::planned)
    }

    /// The split that has a service address.
    pub fn owner(&self, address: &ServiceAddress) -> Option<&Planned> {
        let claims = self.addresses.get(address).into_iter().flatten();
        let standing = |claim: &Claim| self.standings.get(&claim.planned().name);
        let winners = claims.filter_map(|claim| standing(claim)?.planned());
        winners.into_iter().find(|planned| planned.address == *address)
    }

    /// Those that ask for a name.
    pub fn claims(&self, name: &Name) -> impl Iterator<Item = &Claim> {
        self.names.get(name).into_iter().flatten()
    }

    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        let standings = self.contested.iter().filter_map(|name| self.standings.get(name));
        standings.flat_map(|standing| &standing.problems)
    }

    /// Takes claims out (false) and in (true), and serves anew all that are
    /// concerned: those that ask for a name or an address of theirs, and so on.
    pub fn change(
        &mut self,
        claims: Vec<(Claim, bool)>,
        problem: impl Fn(&Claim, &Clash<'_>) -> Option<Problem>,
    ) -> Placed {
        let mut seeds = BTreeSet::new();
        for (claim, is_new) in claims {
            let planned = claim.planned();
            let (name, address) = (planned.name.clone(), planned.address);
            if is_new {
                self.names.entry(name.clone()).or_default().insert(claim.clone());
                self.addresses.entry(address).or_default().insert(claim);
            } else {
                take(&mut self.names, &name, &claim);
                take(&mut self.addresses, &address, &claim);
            }
            seeds.insert((name, address));
        }
        let (names, claims) = self.concerned(seeds);
        let mut before = Vec::new();
        for name in &names {
            self.contested.remove(name);
            before.extend(self.standings.remove(name).into_iter().flat_map(|s| s.problems));
        }
        for (name, standing) in serve(&claims, problem) {
            if !standing.problems.is_empty() {
                self.contested.insert(name.clone());
            }
            self.standings.insert(name, standing);
        }
        Placed { names, before }
    }

    fn concerned(
        &self,
        seeds: BTreeSet<(Name, ServiceAddress)>,
    ) -> (BTreeSet<Name>, BTreeSet<Claim>) {
        let (mut names, mut addresses, mut claims) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let mut open: Vec<(Name, ServiceAddress)> = seeds.into_iter().collect();
        while let Some((name, address)) = open.pop() {
            let of_name = names.insert(name.clone()).then(|| self.names.get(&name)).flatten();
            let of_address = addresses.insert(address).then(|| self.addresses.get(&address));
            for claim in of_name.into_iter().chain(of_address.flatten()).flatten() {
                if claims.insert(claim.clone()) {
                    let planned = claim.planned();
                    open.push((planned.name.clone(), planned.address));
                }
            }
        }
        (names, claims)
    }
}

fn take<K: Ord + Clone>(map: &mut OrdMap<K, OrdSet<Claim>>, key: &K, claim: &Claim) {
    if let Some(claims) = map.get_mut(key) {
        claims.remove(claim);
        if claims.is_empty() {
            map.remove(key);
        }
    }
}

/// Serves claims in their order.
fn serve(
    claims: &BTreeSet<Claim>,
    problem: impl Fn(&Claim, &Clash<'_>) -> Option<Problem>,
) -> BTreeMap<Name, Standing> {
    let mut standings: BTreeMap<Name, Standing> = BTreeMap::new();
    let mut taken: BTreeMap<ServiceAddress, &Planned> = BTreeMap::new();
    for claim in claims {
        let planned = claim.planned();
        let owner = taken.get(&planned.address).copied();
        // What is written, or goes through a gateway, takes the place of what no
        // route asks for.
        if planned.rank == Rank::Plain && owner.is_some_and(|o| o.rank < Rank::Routed) {
            continue;
        }
        let standing = standings.entry(planned.name.clone()).or_default();
        let clash = match (standing.planned(), owner) {
            (Some(first), _) => Some(Clash::Name(first)),
            (None, Some(first)) => Some(Clash::Address(first)),
            (None, None) => None,
        };
        if let Some(clash) = clash {
            let found = problem(claim, &clash);
            standing.problems.extend(found);
            standing.failed = true;
            continue;
        }
        taken.insert(planned.address, planned);
        standing.failed |= planned.split.is_none();
        standing.winner = Some(claim.clone());
    }
    standings
}
