//! Histograms of times: a pool, of which each subset that exists has one, as far as there are any.

use std::collections::BTreeSet;

use aya::maps::{Array, MapData};
use probe_common::times::SubsetTimes;

use super::DatapathError;
use super::kernel::at;
use super::object::histogram_shift;

/// Which subset has which.
pub(super) const OWNERS: &str = "SUBSET_HISTOGRAMS";
/// The histograms.
pub(super) const POOL: &str = "HISTOGRAMS";

/// The maps.
pub(super) struct Histograms {
    /// By the index of a subset id: which it has, counted from 1; 0 for none.
    pub owners: Array<MapData, u32>,
    /// Each some times, see [`histogram_shift`].
    pub pool: Array<MapData, SubsetTimes>,
}

impl Histograms {
    /// What was measured of the subset with that index; None if it has no histogram.
    pub fn of(&self, index: u32) -> Result<Option<SubsetTimes>, DatapathError> {
        let number = at(OWNERS, self.owners.get(&index, 0))?;
        if number == 0 {
            return Ok(None);
        }
        let mut sum = SubsetTimes::ZERO;
        for place in places(number) {
            sum.add(&at(POOL, self.pool.get(&place, 0))?);
        }
        Ok(Some(sum))
    }

    /// The numbers of all that there are.
    fn numbers(&self) -> BTreeSet<u32> {
        (1..=self.pool.len() >> histogram_shift()).collect()
    }
}

/// Where the parts of a histogram are, which groups of CPUs write.
fn places(number: u32) -> std::ops::Range<u32> {
    let shift = histogram_shift();
    (number - 1) << shift..number << shift
}

/// Who has none yet may have one of these, by their numbers.
#[derive(Debug)]
pub(super) struct Free(BTreeSet<u32>);

impl Free {
    /// As long as there are no subsets.
    pub fn all(maps: &Histograms) -> Self {
        Self(maps.numbers())
    }

    /// These subsets are there, by the indices of their ids, and no others: each keeps what it
    /// has, and gets one if it has none.
    pub fn adopt(
        &mut self,
        maps: &mut Histograms,
        indices: impl Iterator<Item = u32>,
    ) -> Result<(), DatapathError> {
        *self = Self::all(maps);
        let mut without = Vec::new();
        for index in indices {
            // A number that is not free is another's, or of a pool that was larger.
            if !self.0.remove(&at(OWNERS, maps.owners.get(&index, 0))?) {
                without.push(index);
            }
        }
        without.into_iter().try_for_each(|index| self.give(maps, index))
    }

    /// A subset begins to be: it has an empty one, if there is one left.
    pub fn begin(&mut self, maps: &mut Histograms, index: u32) -> Result<(), DatapathError> {
        self.end(maps, index)?;
        self.give(maps, index)
    }

    /// A subset is no more: another one may have what it had.
    pub fn end(&mut self, maps: &mut Histograms, index: u32) -> Result<(), DatapathError> {
        let number = at(OWNERS, maps.owners.get(&index, 0))?;
        if number != 0 {
            at(OWNERS, maps.owners.set(index, 0, 0))?;
            self.0.insert(number);
        }
        Ok(())
    }

    fn give(&mut self, maps: &mut Histograms, index: u32) -> Result<(), DatapathError> {
        let number = self.0.pop_first().unwrap_or_default();
        if number != 0 {
            for place in places(number) {
                at(POOL, maps.pool.set(place, SubsetTimes::ZERO, 0))?;
            }
        }
        at(OWNERS, maps.owners.set(index, number, 0))
    }
}
