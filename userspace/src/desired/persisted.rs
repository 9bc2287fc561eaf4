//! What outlives the agent, and the transactions that change it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::net::SocketAddr;

use imbl::OrdMap;

use serde::{Deserialize, Serialize};

use super::{Author, Time};
use crate::model::{Key, Name, Weights};

/// The most changes that are remembered of a split.
pub const MAX_CHANGES: usize = 100;
/// The most splits that are gone of which changes are still remembered.
const MAX_GONE: usize = 256;

/// An object that was applied through the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// What it is known by.
    pub key: Key,
    /// The version of the transaction that put it there.
    pub version: u64,
    /// The document as JSON, keys sorted, on one line.
    #[serde(with = "raw")]
    pub document: String,
}

/// Weights that are in force instead of the defined ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// The weights of all subsets.
    pub weights: Weights,
    /// The weights that the split's definition had then. Once they change the
    /// override is over.
    pub defined: Weights,
    /// Since when.
    pub since: Time,
}

/// An endpoint that is out of force, though the definition of its split has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drain {
    /// The subsets that had it.
    pub subsets: Vec<Name>,
    /// Since when.
    pub since: Time,
    /// Who took it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Box<Author>>,
}

/// The endpoints of a split that are out of force.
pub type Drains = BTreeMap<SocketAddr, Drain>;

/// What made weights change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// A file under `resources`.
    File,
    /// An object of the cluster.
    Cluster,
    /// `weir apply`.
    Apply,
    /// `weir delete`.
    Delete,
    /// `weir weights`.
    Weights,
    /// `weir weights --reset`.
    Reset,
    /// `weir rollback`.
    Rollback,
    /// `weir drain`: an endpoint is out, the weights are as they were.
    Drain,
    /// `weir undrain`.
    Undrain,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::File => "file",
            Self::Cluster => "cluster",
            Self::Apply => "apply",
            Self::Delete => "delete",
            Self::Weights => "weights",
            Self::Reset => "reset",
            Self::Rollback => "rollback",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
        })
    }
}

/// A change of the weights in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The version of the transaction: what `weir rollback --to` takes.
    pub version: u64,
    /// When.
    pub time: Time,
    /// What made it.
    pub cause: Cause,
    /// The weights before; empty if there was no such split.
    pub from: Weights,
    /// The weights after; empty if there is no such split any more.
    pub to: Weights,
    /// The weights of an override that ended because the definition's weights changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Weights>,
    /// The endpoint that was taken out or put back, of a change that leaves the weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<Box<SocketAddr>>,
    /// Who made it; of files nobody knows. There may be a million changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<Box<Author>>,
}

/// One step of a transaction. Each holds all that it sets, so that what is
/// left of a damaged journal still means something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Op {
    /// An object is there, whatever was there before.
    Put(Object),
    /// An object is not there.
    Delete(Key),
    /// The weights of a split are overridden.
    Override(Name, Override),
    /// The weights of a split are not overridden.
    Reset(Name),
    /// These endpoints of a split are out of force, and no others.
    Drains(Name, Drains),
    /// The weights in force of a split changed.
    Changed(Name, Change),
}

/// What happens as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transaction {
    /// One more than that of the transaction before.
    pub version: u64,
    /// In this order.
    pub ops: Vec<Op>,
}

/// All that outlives the agent. A copy costs nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PersistedState {
    version: u64,
    objects: OrdMap<Key, Object>,
    overrides: OrdMap<Name, Override>,
    drains: OrdMap<Name, Drains>,
    changes: OrdMap<Name, VecDeque<Change>>,
    /// Splits which are no more, by the version of their end.
    gone: BTreeSet<(u64, Name)>,
}

impl PersistedState {
    /// That of the last transaction; 0 if there was none.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The applied objects.
    pub fn objects(&self) -> impl ExactSizeIterator<Item = &Object> {
        self.objects.values()
    }

    /// The applied object that is known by `key`.
    pub fn object(&self, key: &Key) -> Option<&Object> {
        self.objects.get(key)
    }

    /// The overrides, by split.
    pub fn overrides(&self) -> impl ExactSizeIterator<Item = (&Name, &Override)> {
        self.overrides.iter()
    }

    /// The override of a split's weights.
    pub fn override_of(&self, split: &str) -> Option<&Override> {
        self.overrides.get(split)
    }

    /// The endpoints that are out of force, by split.
    pub fn drains(&self) -> impl ExactSizeIterator<Item = (&Name, &Drains)> {
        self.drains.iter()
    }

    /// The endpoints of a split that are out of force.
    pub fn drains_of(&self, split: &str) -> Option<&Drains> {
        self.drains.get(split)
    }

    /// The last changes of a split's weights, oldest first, at most [`MAX_CHANGES`].
    pub fn changes(&self, split: &str) -> impl DoubleEndedIterator<Item = &Change> {
        self.changes.get(split).into_iter().flatten()
    }

    /// The splits that had weights after their last change.
    pub fn splits(&self) -> impl Iterator<Item = &Name> {
        let alive = |changes: &VecDeque<Change>| changes.back().is_some_and(|c| !c.to.is_empty());
        self.changes.iter().filter(move |(_, changes)| alive(changes)).map(|(name, _)| name)
    }

    /// Makes a transaction happen.
    pub fn accept(&mut self, transaction: Transaction) {
        self.version = self.version.max(transaction.version);
        for op in transaction.ops {
            match op {
                Op::Put(object) => _ = self.objects.insert(object.key.clone(), object),
                Op::Delete(key) => _ = self.objects.remove(&key),
                Op::Override(split, weights) => _ = self.overrides.insert(split, weights),
                Op::Reset(split) => _ = self.overrides.remove(&split),
                Op::Drains(split, drains) if drains.is_empty() => _ = self.drains.remove(&split),
                Op::Drains(split, drains) => _ = self.drains.insert(split, drains),
                Op::Changed(split, change) => self.changed(split, change),
            }
        }
    }

    fn changed(&mut self, split: Name, mut change: Change) {
        let changes = self.changes.entry(split.clone()).or_default();
        if let Some(last) = changes.back() {
            if last.to == change.from {
                // One allocation instead of two: there may be a million changes.
                change.from = last.to.clone();
            }
            self.gone.remove(&(last.version, split.clone()));
        }
        if change.to.is_empty() {
            self.gone.insert((change.version, split.clone()));
        }
        changes.push_back(change);
        if changes.len() > MAX_CHANGES {
            changes.pop_front();
        }
        while self.gone.len() > MAX_GONE
            && let Some((_, longest)) = self.gone.pop_first()
        {
            self.changes.remove(&longest);
        }
    }

    /// Transactions that make this out of nothing: one for each object,
    /// override, split with drains and history, so that damage to one costs only that.
    pub fn transactions(&self) -> impl Iterator<Item = Transaction> {
        let objects = self.objects.values().map(|object| vec![Op::Put(object.clone())]);
        let overrides = self.overrides.iter();
        let overrides = overrides.map(|(name, o)| vec![Op::Override(name.clone(), o.clone())]);
        let drains = self.drains.iter();
        let drains = drains.map(|(name, d)| vec![Op::Drains(name.clone(), d.clone())]);
        let changes = self.changes.iter().map(|(name, changes)| {
            changes.iter().map(|change| Op::Changed(name.clone(), change.clone())).collect()
        });
        // The version comes first, so that it is never lost at the end.
        let all = std::iter::once(Vec::new()).chain(objects).chain(overrides);
        let all = all.chain(drains).chain(changes);
        all.map(|ops| Transaction { version: self.version, ops })
    }
}

/// A document inside JSON as what it is, not as a string.
mod raw {
    use serde::de::{Deserialize as _, Deserializer};
    use serde::ser::{Error as _, Serialize as _, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(document: &str, to: S) -> Result<S::Ok, S::Error> {
        serde_json::from_str::<&RawValue>(document).map_err(S::Error::custom)?.serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
        Box::<RawValue>::deserialize(from).map(|raw| String::from(Box::<str>::from(raw)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(pairs: &[(&str, u32)]) -> Weights {
        pairs.iter().map(|&(name, weight)| (Name::new(name).unwrap(), weight)).collect()
    }

    fn change(version: u64, from: &[(&str, u32)], to: &[(&str, u32)]) -> Change {
        let time = std::time::SystemTime::UNIX_EPOCH.into();
        let (from, to) = (weights(from), weights(to));
        Change {
            version,
            time,
            cause: Cause::Apply,
            from,
            to,
            ended: None,
            endpoint: None,
            author: None,
        }
    }

    fn changed(version: u64, name: &str, from: &[(&str, u32)], to: &[(&str, u32)]) -> Transaction {
        let op = Op::Changed(Name::new(name).unwrap(), change(version, from, to));
        Transaction { version, ops: vec![op] }
    }

    #[test]
    fn the_last_changes_of_a_split_are_kept() {
        let mut persisted = PersistedState::default();
        for version in 1..=250 {
            persisted.accept(changed(version, "a", &[("v1", 1)], &[("v1", 2)]));
        }
        let versions: Vec<u64> = persisted.changes("a").map(|change| change.version).collect();
        assert_eq!(versions, (151..=250).collect::<Vec<_>>());
        assert_eq!(persisted.version(), 250);
    }

    #[test]
    fn changes_of_splits_that_are_gone_are_bounded() {
        let mut persisted = PersistedState::default();
        for n in 0..1000 {
            let name = format!("s{n}");
            persisted.accept(changed(2 * n + 1, &name, &[], &[("v1", 1)]));
            persisted.accept(changed(2 * n + 2, &name, &[("v1", 1)], &[]));
        }
        // One comes back in time.
        persisted.accept(changed(3000, "s900", &[], &[("v1", 1)]));
        for n in 0..1000 {
            persisted.accept(changed(4000 + n, &format!("t{n}"), &[("v1", 1)], &[]));
        }
        assert_eq!(persisted.changes("s900").count(), 3);
        assert_eq!(persisted.changes("s999").count(), 0);
        assert_eq!(persisted.changes("t0").count(), 0);
        assert_eq!(persisted.changes("t999").count(), 1);
        assert_eq!(persisted.changes.len(), MAX_GONE + 1);
    }

    #[test]
    fn transactions_make_the_same_again() {
        let mut persisted = PersistedState::default();
        let document = r#"{"a":[1,"x\n"],"b":null}"#.to_owned();
        let key = Key { kind: "K".into(), namespace: "n".into(), name: "x".into() };
        let object = Object { key, version: 7, document };
        let defined = weights(&[("v1", 1), ("v2", 2)]);
        let since = std::time::SystemTime::UNIX_EPOCH.into();
        let over = Override { weights: weights(&[("v1", 5), ("v2", 0)]), defined, since };
        let name = Name::new("reviews").unwrap();
        let mut ended = change(7, &[("v1", 1)], &[]);
        ended.ended = Some(weights(&[("v1", 9)]));
        let drain = Drain { subsets: vec![name.clone()], since, author: None };
        let drains =
            ["192.0.2.1:80", "[2001:db8::1]:80"].map(|a| (a.parse().unwrap(), drain.clone()));
        let drains = Op::Drains(name.clone(), drains.into());
        ended.endpoint = Some(Box::new("192.0.2.1:80".parse().unwrap()));
        let over = Op::Override(name.clone(), over);
        let ops = vec![Op::Put(object), over, drains, Op::Changed(name, ended)];
        persisted.accept(Transaction { version: 7, ops });
        persisted.accept(changed(8, "b", &[], &[("v1", 1)]));
        let mut again = PersistedState::default();
        for transaction in persisted.transactions() {
            let json = serde_json::to_string(&transaction).unwrap();
            assert!(!json.contains('\n'), "a record is a line: {json}");
            again.accept(serde_json::from_str(&json).unwrap());
        }
        assert_eq!(again, persisted);
    }
}
