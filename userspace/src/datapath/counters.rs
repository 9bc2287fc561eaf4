//! Reading the programs' counters.

use std::collections::BTreeMap;

use aya::Ebpf;
use aya::maps::{MapData, MapError, PerCpuArray};
use probe_common::map::{EndpointStats, SubsetStats};
use probe_common::reason::Reason;

use super::PublishError;

/// The per-CPU counters, summed when they are read.
pub struct Counters {
    endpoints: PerCpuArray<MapData, EndpointStats>,
    subsets: PerCpuArray<MapData, SubsetStats>,
    reasons: PerCpuArray<MapData, u64>,
}

impl Counters {
    /// Takes the maps of a loaded object.
    pub fn new(ebpf: &mut Ebpf) -> Result<Self, PublishError> {
        Ok(Self {
            endpoints: super::publish::take(ebpf, "ENDPOINT_STATS")?,
            subsets: super::publish::take(ebpf, "SUBSET_STATS")?,
            reasons: super::publish::take(ebpf, "REASONS")?,
        })
    }

    /// Of the endpoint with that id.
    pub fn endpoint(&self, id: u32) -> Result<EndpointStats, MapError> {
        let mut sum = EndpointStats::default();
        for one in self.endpoints.get(&id, 0)?.iter() {
            sum.flows += one.flows;
            sum.forward_packets += one.forward_packets;
            sum.forward_bytes += one.forward_bytes;
            sum.reply_packets += one.reply_packets;
            sum.reply_bytes += one.reply_bytes;
        }
        Ok(sum)
    }

    /// Of the subset with that id.
    pub fn subset(&self, id: u32) -> Result<SubsetStats, MapError> {
        let mut sum = SubsetStats::default();
        for one in self.subsets.get(&id, 0)?.iter() {
            sum.flows += one.flows;
            sum.rejected += one.rejected;
        }
        Ok(sum)
    }

    /// Packets by reason.
    pub fn reasons(&self) -> Result<BTreeMap<String, u64>, MapError> {
        let mut counts = BTreeMap::new();
        for &reason in Reason::ALL {
            let sum = self.reasons.get(&(reason as u32), 0)?.iter().sum();
            counts.insert(reason.name().to_owned(), sum);
        }
        Ok(counts)
    }
}
