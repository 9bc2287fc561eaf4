//! Reading the programs' counters.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};
use probe_common::map::{EndpointStats, SubsetCounters, SubsetSignals, SubsetStats, subset_index};
use probe_common::reason::Reason;

use super::kernel::{at, take};
use super::{DatapathError, Pins};

/// The per-CPU counters, summed when they are read.
pub struct Counters {
    endpoints: PerCpuArray<MapData, EndpointStats>,
    subsets: PerCpuArray<MapData, SubsetStats>,
    signals: PerCpuArray<MapData, SubsetSignals>,
    reasons: PerCpuArray<MapData, u64>,
    /// How many CPUs there can be.
    cpus: usize,
}

impl Counters {
    /// Takes the maps of a loaded object.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            endpoints: take(ebpf, "ENDPOINT_STATS")?,
            subsets: take(ebpf, "SUBSET_STATS")?,
            signals: take(ebpf, "SUBSET_SIGNALS")?,
            reasons: take(ebpf, "REASONS")?,
            cpus: cpus()?,
        })
    }

    /// The pinned maps, once more: for a reader that does not wait for the
    /// writer of the maps.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        fn open<T: aya::Pod>(
            pins: &Pins,
            name: &'static str,
        ) -> Result<PerCpuArray<MapData, T>, DatapathError> {
            let data = at(name, MapData::from_pin(pins.map(name)))?;
            at(name, Map::PerCpuArray(data).try_into())
        }
        Ok(Self {
            endpoints: open(pins, "ENDPOINT_STATS")?,
            subsets: open(pins, "SUBSET_STATS")?,
            signals: open(pins, "SUBSET_SIGNALS")?,
            reasons: open(pins, "REASONS")?,
            cpus: cpus()?,
        })
    }

    /// Of the endpoint with that id.
    pub fn endpoint(&self, id: u32) -> Result<EndpointStats, DatapathError> {
        let each = at("ENDPOINT_STATS", self.endpoints.get(&id, 0))?;
        let mut sum = EndpointStats::default();
        each.iter().for_each(|one| sum += one);
        Ok(sum)
    }

    /// Of the subset with that id.
    pub fn subset(&self, id: u32) -> Result<SubsetCounters, DatapathError> {
        let each = at("SUBSET_SIGNALS", self.signals.get(&subset_index(id), 0))?;
        let mut signals = SubsetSignals::default();
        each.iter().for_each(|one| signals += one);
        Ok(SubsetCounters { stats: self.subset_stats(id)?, signals })
    }

    /// Of these, what shares are computed from.
    pub fn subset_stats(&self, id: u32) -> Result<SubsetStats, DatapathError> {
        let each = at("SUBSET_STATS", self.subsets.get(&subset_index(id), 0))?;
        let mut sum = SubsetStats::default();
        each.iter().for_each(|one| sum += one);
        Ok(sum)
    }

    /// Packets by reason.
    pub fn reasons(&self) -> Result<BTreeMap<String, u64>, DatapathError> {
        let mut counts = BTreeMap::new();
        for &reason in Reason::ALL {
            let each = at("REASONS", self.reasons.get(&(reason as u32), 0))?;
            counts.insert(reason.name().to_owned(), each.iter().sum());
        }
        Ok(counts)
    }

    pub(super) fn reset_endpoint(&mut self, id: u32) -> Result<(), DatapathError> {
        at("ENDPOINT_STATS", zero(self.cpus).and_then(|zero| self.endpoints.set(id, zero, 0)))
    }

    pub(super) fn reset_subset(&mut self, id: u32) -> Result<(), DatapathError> {
        at(
            "SUBSET_STATS",
            zero(self.cpus).and_then(|zero| self.subsets.set(subset_index(id), zero, 0)),
        )?;
        at(
            "SUBSET_SIGNALS",
            zero(self.cpus).and_then(|zero| self.signals.set(subset_index(id), zero, 0)),
        )
    }
}

/// Asked once, since it is read from a file.
fn cpus() -> Result<usize, DatapathError> {
    at("ENDPOINT_STATS", aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error)))
}

/// Zeros for each CPU.
fn zero<T: aya::Pod + Default>(cpus: usize) -> Result<PerCpuValues<T>, MapError> {
    PerCpuValues::try_from(vec![T::default(); cpus]).map_err(MapError::IoError)
}
