//! The way past the node's stack: whether programs may take it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use probe_common::map::PEER_WORDS;

use super::kernel::at;
use super::{Clock, DatapathError, Pins};

/// Opens and closes the way.
pub struct FastPath {
    until: Array<MapData, u64>,
    peers: Array<MapData, u64>,
    /// What is in the map of peers, as far as it is known.
    known: Option<BTreeMap<u32, u64>>,
    clock: Clock,
}

impl FastPath {
    /// Takes the pinned maps: whoever watches over this does not wait for the
    /// writer of the others.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        let open = |name| -> Result<Array<MapData, u64>, DatapathError> {
            let data = at(name, MapData::from_pin(pins.map(name)))?;
            at(name, Map::Array(data).try_into())
        };
        let (until, peers) = (open("FAST_PATH")?, open("PEERS")?);
        Ok(Self { until, peers, known: None, clock: Clock::new() })
    }

    /// Opens it for that long: should nobody say so again, it is closed.
    pub fn open_for(&mut self, time: Duration) -> Result<(), DatapathError> {
        self.set(self.clock.jiffies_in(time))
    }

    /// Opens it for good.
    pub fn open(&mut self) -> Result<(), DatapathError> {
        self.set(u64::MAX)
    }

    /// Closes it.
    pub fn close(&mut self) -> Result<(), DatapathError> {
        self.set(0)
    }

    fn set(&mut self, until: u64) -> Result<(), DatapathError> {
        at("FAST_PATH", self.until.set(0, until, 0))
    }

    /// The interfaces whose peers may be handed packets, by index.
    pub fn set_peers(&mut self, indices: &BTreeSet<u32>) -> Result<(), DatapathError> {
        let mut words = BTreeMap::<u32, u64>::new();
        for index in indices.iter().filter(|&&index| index / 64 < PEER_WORDS) {
            *words.entry(index / 64).or_default() |= 1 << (index % 64);
        }
        let changed = |word: &u32| match &self.known {
            Some(known) => known.get(word) != words.get(word),
            None => true,
        };
        for word in (0..PEER_WORDS).filter(changed) {
            let bits = words.get(&word).copied().unwrap_or_default();
            at("PEERS", self.peers.set(word, bits, 0))?;
        }
        self.known = Some(words);
        Ok(())
    }
}
