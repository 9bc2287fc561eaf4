//! Reading the programs' counters.

use std::collections::BTreeMap;
use std::ops::AddAssign;

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};
use probe_common::map::{
    EndpointCounters, EndpointSignals, EndpointStats, SubsetCounters, SubsetErrors, SubsetSignals,
    SubsetStats, subset_index,
};
use probe_common::reason::Reason;
use probe_common::times::SubsetTimes;

use super::histograms::{Histograms, OWNERS, POOL};
use super::kernel::{at, take};
use super::{DatapathError, Pins};

/// The counters, summed when they are read.
pub struct Counters {
    endpoints: PerCpu<EndpointStats>,
    endpoint_signals: PerCpu<EndpointSignals>,
    subsets: PerCpu<SubsetStats>,
    signals: PerCpu<SubsetSignals>,
    errors: PerCpu<SubsetErrors>,
    histograms: Histograms,
    reasons: PerCpu<u64>,
    /// How many CPUs there can be.
    cpus: usize,
}

type PerCpu<T> = PerCpuArray<MapData, T>;

impl Counters {
    /// Takes the maps of a loaded object.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Ok(Self {
            endpoints: take(ebpf, "ENDPOINT_STATS")?,
            endpoint_signals: take(ebpf, "ENDPOINT_SIGNALS")?,
            subsets: take(ebpf, "SUBSET_STATS")?,
            signals: take(ebpf, "SUBSET_SIGNALS")?,
            errors: take(ebpf, "SUBSET_ERRORS")?,
            histograms: Histograms { owners: take(ebpf, OWNERS)?, pool: take(ebpf, POOL)? },
            reasons: take(ebpf, "REASONS")?,
            cpus: cpus()?,
        })
    }

    /// The pinned maps, once more: for a reader that does not wait for the
    /// writer of the maps.
    pub fn pinned(pins: &Pins) -> Result<Self, DatapathError> {
        let data = |name| at(name, MapData::from_pin(pins.map(name)));
        fn open<T: aya::Pod>(
            name: &'static str,
            data: MapData,
        ) -> Result<PerCpu<T>, DatapathError> {
            at(name, Map::PerCpuArray(data).try_into())
        }
        let array = |name| Ok::<_, DatapathError>(Map::Array(data(name)?));
        Ok(Self {
            endpoints: open("ENDPOINT_STATS", data("ENDPOINT_STATS")?)?,
            endpoint_signals: open("ENDPOINT_SIGNALS", data("ENDPOINT_SIGNALS")?)?,
            subsets: open("SUBSET_STATS", data("SUBSET_STATS")?)?,
            signals: open("SUBSET_SIGNALS", data("SUBSET_SIGNALS")?)?,
            errors: open("SUBSET_ERRORS", data("SUBSET_ERRORS")?)?,
            histograms: Histograms {
                owners: at(OWNERS, array(OWNERS)?.try_into())?,
                pool: at(POOL, array(POOL)?.try_into())?,
            },
            reasons: open("REASONS", data("REASONS")?)?,
            cpus: cpus()?,
        })
    }

    /// Of the endpoint with that id.
    pub fn endpoint(&self, id: u32) -> Result<EndpointCounters, DatapathError> {
        Ok(EndpointCounters {
            stats: sum("ENDPOINT_STATS", &self.endpoints, id)?,
            signals: sum("ENDPOINT_SIGNALS", &self.endpoint_signals, id)?,
        })
    }

    /// Of the subset with that id.
    pub fn subset(&self, id: u32) -> Result<SubsetCounters, DatapathError> {
        let index = subset_index(id);
        Ok(SubsetCounters {
            stats: self.subset_stats(id)?,
            signals: sum("SUBSET_SIGNALS", &self.signals, index)?,
            errors: sum("SUBSET_ERRORS", &self.errors, index)?,
        })
    }

    /// Of these, what shares are computed from.
    pub fn subset_stats(&self, id: u32) -> Result<SubsetStats, DatapathError> {
        sum("SUBSET_STATS", &self.subsets, subset_index(id))
    }

    /// How long things took of the flows of that subset; None if it is not measured.
    pub fn times(&self, id: u32) -> Result<Option<SubsetTimes>, DatapathError> {
        self.histograms.of(subset_index(id))
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
        zero("ENDPOINT_STATS", &mut self.endpoints, id, self.cpus)?;
        zero("ENDPOINT_SIGNALS", &mut self.endpoint_signals, id, self.cpus)
    }

    pub(super) fn reset_subset(&mut self, id: u32) -> Result<(), DatapathError> {
        let index = subset_index(id);
        zero("SUBSET_STATS", &mut self.subsets, index, self.cpus)?;
        zero("SUBSET_SIGNALS", &mut self.signals, index, self.cpus)?;
        zero("SUBSET_ERRORS", &mut self.errors, index, self.cpus)
    }

    pub(super) fn histograms(&self) -> &Histograms {
        &self.histograms
    }

    pub(super) fn histograms_mut(&mut self) -> &mut Histograms {
        &mut self.histograms
    }
}

/// Asked once, since it is read from a file.
fn cpus() -> Result<usize, DatapathError> {
    at("ENDPOINT_STATS", aya::util::nr_cpus().map_err(|(_, error)| MapError::IoError(error)))
}

/// The counters of all CPUs together.
fn sum<T>(name: &'static str, map: &PerCpu<T>, index: u32) -> Result<T, DatapathError>
where
    T: aya::Pod + Default + for<'a> AddAssign<&'a T>,
{
    let each = at(name, map.get(&index, 0))?;
    let mut sum = T::default();
    each.iter().for_each(|one| sum += one);
    Ok(sum)
}

/// Begins to count anew.
fn zero<T: aya::Pod + Default>(
    name: &'static str,
    map: &mut PerCpu<T>,
    index: u32,
    cpus: usize,
) -> Result<(), DatapathError> {
    let zeros = PerCpuValues::try_from(vec![T::default(); cpus]).map_err(MapError::IoError);
    at(name, zeros.and_then(|zeros| map.set(index, zeros, 0)))
}
