//! The way past the node's stack: whether programs may take it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use probe_common::map::{DEVICES, FAST_PATH_TRACKED, PEER_WORDS};

use super::kernel::at;
use super::{Clock, DatapathError, Pins};

/// Opens and closes the way.
pub struct FastPath {
    until: Array<MapData, u64>,
    peers: Words,
    devices: Words,
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
        let words = |name, count| Ok(Words { map: open(name)?, name, count, known: None });
        let peers = words("PEERS", PEER_WORDS)?;
        let devices = words("DEVICES", DEVICES)?;
        Ok(Self { until: open("FAST_PATH")?, peers, devices, clock: Clock::new() })
    }

    /// Opens it for that long: should nobody say so again, it is closed. Where something in the
    /// stack keeps account of flows, it is open to those that began past the stack alone.
    pub fn open_for(&mut self, time: Duration, tracked: bool) -> Result<(), DatapathError> {
        self.set(with(self.clock.jiffies_in(time), tracked))
    }

    /// Opens it for good; `tracked` as above.
    pub fn open(&mut self, tracked: bool) -> Result<(), DatapathError> {
        self.set(with(u64::MAX, tracked))
    }

    /// Has its time run out, if it is open: nobody will say so again.
    pub fn run_out(&mut self) -> Result<(), DatapathError> {
        // As if it had been open until the first moment that there was.
        let until = at("FAST_PATH", self.until.get(&0, 0))?;
        self.set(until.min(1))
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
        self.peers.set(words)
    }

    /// What XDP has to know of interfaces, by index; see [`DEVICES`].
    pub fn set_devices(&mut self, words: BTreeMap<u32, u64>) -> Result<(), DatapathError> {
        self.devices.set(words)
    }
}

/// The word that says until when it is open.
fn with(until: u64, tracked: bool) -> u64 {
    if tracked { until | FAST_PATH_TRACKED } else { until & !FAST_PATH_TRACKED }
}

/// An array of words, most of which are 0.
struct Words {
    map: Array<MapData, u64>,
    name: &'static str,
    count: u32,
    /// What is in it, as far as it is known.
    known: Option<BTreeMap<u32, u64>>,
}

impl Words {
    /// Writes what has changed.
    fn set(&mut self, words: BTreeMap<u32, u64>) -> Result<(), DatapathError> {
        let of = |words: &BTreeMap<u32, u64>, index| words.get(&index).copied().unwrap_or_default();
        let indices: BTreeSet<u32> = match &self.known {
            Some(known) => known.keys().chain(words.keys()).copied().collect(),
            None => (0..self.count).collect(),
        };
        for index in indices.into_iter().filter(|&index| index < self.count) {
            let word = of(&words, index);
            if self.known.as_ref().is_none_or(|known| of(known, index) != word) {
                at(self.name, self.map.set(index, word, 0))?;
            }
        }
        self.known = Some(words);
        Ok(())
    }
}
