//! Counters of one generation, moved to those of the next one, in which programs
//! count already.

use std::path::Path;

use aya::maps::{Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::util::nr_cpus;
use bytemuck::bytes_of;
use probe_common::map::{
    EndpointSignals, EndpointStats, Signal, SubsetErrors, SubsetSignals, SubsetStats,
    TRANSFER_ENDPOINT, TRANSFER_ENDPOINT_SIGNALS, TRANSFER_ERRORS, TRANSFER_REASON,
    TRANSFER_SIGNALS, TRANSFER_SUBSET, Transfer,
};
use probe_common::parse::ETHERNET;

use super::error::{During as _, MigrationError};
use super::layout::Layout;
use crate::datapath::object::{Object, TRANSFER, program};

/// Adds what is in counters of maps to those of an object, and takes it out there,
/// one after the other: interrupted, it goes on when it is done again.
pub(super) struct Mover<'a> {
    /// The maps that are emptied.
    pub maps: &'a Path,
    /// The object whose counters are added to.
    pub object: &'a mut Object,
}

/// What is added at a time.
type Numbers = [u64; Signal::COUNT];

impl Mover<'_> {
    /// Those of one of the maps [`crate::datapath::object::COUNTERS`].
    pub fn all(&mut self, name: &str, from: &Layout, to: &Layout) -> Result<(), MigrationError> {
        match name {
            "ENDPOINT_STATS" => {
                let place = |id| Some(from.endpoint(id));
                self.of::<EndpointStats>(name, TRANSFER_ENDPOINT, place)
            }
            // Layouts in which ids of endpoints mean something else have none of these.
            "ENDPOINT_SIGNALS" => self.of::<EndpointSignals>(name, TRANSFER_ENDPOINT_SIGNALS, Some),
            "SUBSET_STATS" => self.of::<SubsetStats>(name, TRANSFER_SUBSET, Some),
            "SUBSET_SIGNALS" => self.of::<SubsetSignals>(name, TRANSFER_SIGNALS, Some),
            "SUBSET_ERRORS" => self.of::<SubsetErrors>(name, TRANSFER_ERRORS, Some),
            _ => {
                let (before, after) = (from.reasons(), to.reasons());
                self.of::<[u64; 1]>(name, TRANSFER_REASON, |id| {
                    let name = before.get(id as usize)?;
                    after.iter().position(|other| other == name).map(|at| at as u32)
                })
            }
        }
    }

    fn of<T: Sum>(
        &mut self,
        name: &str,
        kind: u32,
        place: impl Fn(u32) -> Option<u32>,
    ) -> Result<(), MigrationError> {
        const STEP: &str = "move counters";
        let data = MapData::from_pin(self.maps.join(name)).during(STEP)?;
        let map = PerCpuArray::<MapData, T>::try_from(Map::PerCpuArray(data));
        let mut map = map.during(STEP)?;
        let cpus = nr_cpus().map_err(|(_, error)| MapError::IoError(error)).during(STEP)?;
        let zeros = || PerCpuValues::try_from(vec![T::zeroed(); cpus]);
        for id in 0..map.len() {
            let each = map.get(&id, 0).during(STEP)?;
            let numbers = sum(each.iter().map(T::numbers));
            let Some(to) = place(id).filter(|_| numbers != Numbers::default()) else { continue };
            self.add(Transfer { kind, id: to, numbers })?;
            map.set(id, zeros().during(STEP)?, 0).during(STEP)?;
        }
        Ok(())
    }

    fn add(&mut self, transfer: Transfer) -> Result<(), MigrationError> {
        const STEP: &str = "add to counters";
        let program: &mut SchedClassifier = program(self.object.ebpf(), TRANSFER).during(STEP)?;
        let mut frame = vec![0; ETHERNET];
        frame.extend_from_slice(bytes_of(&transfer));
        let run = TestRunOptions { data_in: Some(&frame), ..TestRunOptions::new() };
        let result = program.test_run(run).map_err(std::io::Error::other).during(STEP)?;
        match result.return_value {
            0 => Ok(()),
            _ => Err(std::io::Error::other(format!("there are none of number {}", transfer.id)))
                .during(STEP),
        }
    }
}

fn sum(each: impl Iterator<Item = Numbers>) -> Numbers {
    each.fold(Numbers::default(), |sum, one| {
        std::array::from_fn(|at| sum[at].wrapping_add(one[at]))
    })
}

/// Counters as numbers, in order.
trait Sum: aya::Pod + bytemuck::Pod {
    fn numbers(&self) -> Numbers {
        let own: &[u64] = bytemuck::cast_slice(bytes_of(self));
        std::array::from_fn(|at| own.get(at).copied().unwrap_or_default())
    }
}
impl Sum for EndpointStats {}
impl Sum for SubsetStats {}
impl Sum for SubsetSignals {}
impl Sum for SubsetErrors {}
impl Sum for EndpointSignals {}
impl Sum for [u64; 1] {}
