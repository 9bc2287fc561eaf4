//! What the programs know of the node's interfaces.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, MapData};
use probe_common::map::{INTERFACES, Interface};

use super::kernel::at;
use super::{DatapathError, Pins};

/// Writes the map INTERFACES.
pub struct Interfaces {
    map: Array<MapData, Interface>,
    /// What this has written.
    known: BTreeMap<u32, Interface>,
}

impl Interfaces {
    /// Takes the pinned map.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        const NAME: &str = "INTERFACES";
        let data = at(NAME, MapData::from_pin(pins.map(NAME)))?;
        let map = at(NAME, Map::Array(data).try_into())?;
        Ok(Self { map, known: BTreeMap::new() })
    }

    /// Says what is to be known, of all interfaces that there are. What an agent before this one
    /// wrote of others that have gone meanwhile does no harm.
    pub fn set(&mut self, words: BTreeMap<u32, Interface>) -> Result<(), DatapathError> {
        let gone = self.known.keys().filter(|index| !words.contains_key(index));
        let gone: Vec<_> = gone.map(|&index| (index, Interface::default())).collect();
        let there = words.iter().map(|(&index, &word)| (index, word));
        for (index, word) in there.chain(gone).filter(|(index, _)| *index < INTERFACES) {
            if self.known.get(&index) != Some(&word) {
                at("INTERFACES", self.map.set(index, word, 0))?;
            }
        }
        self.known = words;
        Ok(())
    }
}
