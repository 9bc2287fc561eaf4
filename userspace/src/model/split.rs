//! Traffic splits.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Affinity, Family, Name, ServiceAddress, SplitSettings, hint};

/// The most subsets that a split may have.
pub const MAX_SUBSETS: usize = probe_common::MAX_SUBSETS;

/// A version of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subset {
    /// Unique in the split.
    pub name: Name,
    /// Its share of new flows is `weight` over the sum of the split's weights.
    pub weight: u32,
    /// Where its flows go, in equal shares. May be empty: the share is then rejected.
    pub endpoints: BTreeSet<SocketAddr>,
}

/// A service address and the subsets among which its new flows are divided.
///
/// Constructed only by [`Split::new`], so a split in hand has 1 to
/// [`MAX_SUBSETS`] subsets with unique names, endpoints of the VIP's family,
/// none of which is the service address itself, and weights that are not all 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    name: Name,
    address: ServiceAddress,
    settings: SplitSettings,
    subsets: Vec<Subset>,
}

/// Why parts do not make a [`Split`]. Indices are positions in the given subsets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitError {
    /// No subset at all.
    #[error("a split needs at least one subset")]
    NoSubsets,
    /// More than [`MAX_SUBSETS`].
    #[error("a split may have at most {MAX_SUBSETS} subsets, found {0}")]
    TooManySubsets(usize),
    /// Two subsets of one name.
    #[error("subset \"{name}\" is defined twice (first as subsets[{first}])")]
    DuplicateSubset {
        /// The first of the two.
        first: usize,
        /// The second of the two.
        second: usize,
        /// Their name.
        name: Name,
    },
    /// A sum of weights of 0 divides nothing.
    #[error("the weights of a split must not all be 0")]
    AllWeightsZero,
    /// An endpoint of another family than the VIP.
    #[error("endpoint {endpoint} is {found}, but the service address is {expected}")]
    MixedFamilies {
        /// Position of the subset.
        subset: usize,
        /// The endpoint.
        endpoint: SocketAddr,
        /// The endpoint's family.
        found: Family,
        /// The VIP's family.
        expected: Family,
    },
    /// A split that steers to itself.
    #[error("endpoint {endpoint} is the service address itself")]
    SelfReference {
        /// Position of the subset.
        subset: usize,
        /// The endpoint.
        endpoint: SocketAddr,
    },
}

impl Split {
    /// Checks what makes a split of its parts.
    pub fn new(
        name: Name,
        address: ServiceAddress,
        settings: impl Into<SplitSettings>,
        subsets: Vec<Subset>,
    ) -> Result<Self, SplitError> {
        check_subsets(&subsets, Some(address))?;
        Ok(Self { name, address, settings: settings.into(), subsets })
    }

    /// The same split with other weights, by subset name; a subset that is not
    /// named keeps its weight. `Err` names the subset that does not exist, or
    /// says what is wrong with the result.
    pub fn with_weights(&self, weights: &BTreeMap<Name, u32>) -> Result<Self, WeightsError> {
        let mut subsets = self.subsets.clone();
        for (name, &weight) in weights {
            match subsets.iter_mut().find(|s| s.name == *name) {
                Some(subset) => subset.weight = weight,
                None => return Err(WeightsError::UnknownSubset(name.clone())),
            }
        }
        Ok(Self::new(self.name.clone(), self.address, self.settings, subsets)?)
    }

    /// The same split without the endpoints that are `out`.
    #[must_use]
    pub fn without(&self, out: impl Fn(&SocketAddr) -> bool) -> Self {
        let mut split = self.clone();
        for subset in &mut split.subsets {
            subset.endpoints.retain(|endpoint| !out(endpoint));
        }
        split
    }

    /// The same split with an endpoint more, in the subsets of these names that it has: one that
    /// it had before.
    #[must_use]
    pub fn with(&self, endpoint: SocketAddr, subsets: &[Name]) -> Self {
        let mut split = self.clone();
        for subset in split.subsets.iter_mut().filter(|subset| subsets.contains(&subset.name)) {
            subset.endpoints.insert(endpoint);
        }
        split
    }

    /// Unique on the node.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// What clients connect to.
    pub fn address(&self) -> ServiceAddress {
        self.address
    }

    /// What it is set to.
    pub fn settings(&self) -> SplitSettings {
        self.settings
    }

    /// What makes flows belong together.
    pub fn affinity(&self) -> Affinity {
        self.settings.affinity
    }

    /// How long live flows keep an endpoint that was removed.
    pub fn drain(&self) -> Duration {
        self.settings.drain()
    }

    /// In the order in which they were written.
    pub fn subsets(&self) -> &[Subset] {
        &self.subsets
    }

    /// What to add to the message that it has no subset of that name; see [`hint`].
    pub fn hint(&self, subset: &Name) -> String {
        hint(subset.as_str(), self.subsets.iter().map(|subset| subset.name.as_str()))
    }
}

/// Checks subsets: their number, names and weights, and that endpoints fit the service address, if
/// that is known.
///
/// # Errors
///
/// What is wrong with the first of them that is.
pub fn check_subsets(
    subsets: &[Subset],
    address: Option<ServiceAddress>,
) -> Result<(), SplitError> {
    if subsets.is_empty() {
        return Err(SplitError::NoSubsets);
    }
    if subsets.len() > MAX_SUBSETS {
        return Err(SplitError::TooManySubsets(subsets.len()));
    }
    for (at, subset) in subsets.iter().enumerate() {
        if let Some(first) = subsets[..at].iter().position(|s| s.name == subset.name) {
            let name = subset.name.clone();
            return Err(SplitError::DuplicateSubset { first, second: at, name });
        }
        let Some(address) = address else { continue };
        let expected = Family::of(address.ip);
        for &endpoint in &subset.endpoints {
            let found = Family::of(endpoint.ip());
            if found != expected {
                return Err(SplitError::MixedFamilies { subset: at, endpoint, found, expected });
            }
            if endpoint == address.socket() {
                return Err(SplitError::SelfReference { subset: at, endpoint });
            }
        }
    }
    if total_weight(subsets) == 0 {
        return Err(SplitError::AllWeightsZero);
    }
    Ok(())
}

/// Why weights do not fit a split.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeightsError {
    /// No such subset.
    #[error("there is no subset \"{0}\"")]
    UnknownSubset(Name),
    /// The result is no split.
    #[error(transparent)]
    Split(#[from] SplitError),
}

/// The sum of the weights.
pub fn total_weight(subsets: &[Subset]) -> u64 {
    subsets.iter().map(|s| u64::from(s.weight)).sum()
}

/// All the splits of a node: names and service addresses are unique. Splits
/// are shared, so that a copy of it all costs little.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SplitSet {
    splits: BTreeMap<Name, Arc<Split>>,
    /// Who has which.
    addresses: BTreeMap<ServiceAddress, Name>,
}

/// Why a split cannot be added to a [`SplitSet`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SplitSetError {
    /// The name is taken.
    #[error("split \"{0}\" is defined twice")]
    DuplicateName(Name),
    /// The service address is taken.
    #[error("service address {address} is already taken by split \"{owner}\"")]
    DuplicateAddress {
        /// The contested address.
        address: ServiceAddress,
        /// Who has it.
        owner: Name,
    },
}

impl SplitSet {
    /// Adds a split.
    pub fn insert(&mut self, split: impl Into<Arc<Split>>) -> Result<(), SplitSetError> {
        let split = split.into();
        if self.splits.contains_key(split.name()) {
            return Err(SplitSetError::DuplicateName(split.name.clone()));
        }
        if let Some(owner) = self.addresses.get(&split.address) {
            let (address, owner) = (split.address, owner.clone());
            return Err(SplitSetError::DuplicateAddress { address, owner });
        }
        self.replace(split);
        Ok(())
    }

    /// Puts a split in place of the one of its name, or adds it. For one whose
    /// address is known to be no other's.
    pub fn replace(&mut self, split: impl Into<Arc<Split>>) {
        let split = split.into();
        self.remove(split.name.as_str());
        self.addresses.insert(split.address, split.name.clone());
        self.splits.insert(split.name.clone(), split);
    }

    /// Adds splits whose names and addresses are known to be no other's.
    pub fn extend(&mut self, splits: impl IntoIterator<Item = Arc<Split>>) {
        for split in splits {
            self.replace(split);
        }
    }

    /// Removes the split of that name, if there is one.
    pub fn remove(&mut self, name: &str) {
        if let Some(split) = self.splits.remove(name)
            && self.addresses.get(&split.address) == Some(&split.name)
        {
            self.addresses.remove(&split.address);
        }
    }

    /// The message that there is no split of that name, with the one that is meant.
    pub fn no_split(&self, name: &str) -> String {
        let known = self.all_shared().map(|split| split.name().as_str());
        format!("there is no split \"{name}\"{}", hint(name, known))
    }

    /// The split of that name.
    pub fn get(&self, name: &str) -> Option<&Split> {
        self.shared(name).map(|split| &**split)
    }

    /// The split of that name, to be shared.
    pub fn shared(&self, name: &str) -> Option<&Arc<Split>> {
        self.splits.get(name)
    }

    /// The split that has a service address.
    pub fn at(&self, address: &ServiceAddress) -> Option<&Split> {
        self.addresses.get(address).and_then(|name| self.get(name.as_str()))
    }

    /// All splits, by name, to be shared.
    pub fn all_shared(&self) -> impl ExactSizeIterator<Item = &Arc<Split>> {
        self.splits.values()
    }

    /// All splits, by name.
    pub fn splits(&self) -> impl ExactSizeIterator<Item = &Split> {
        self.splits.values().map(|split| &**split)
    }
}
