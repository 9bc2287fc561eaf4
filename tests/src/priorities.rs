//! What priority packets have that leave an interface, which is what queues sort
//! them by.

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::{Ebpf, EbpfLoader};

use crate::flood::OBJECT;
use crate::netns::Netns;

/// Counts packets that leave an interface, until it is dropped.
pub struct Priorities {
    ebpf: Ebpf,
}

impl Priorities {
    /// Begins to count.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn new(ns: &Netns, ifname: &str) -> Result<Self> {
        let mut ebpf = EbpfLoader::new().load(OBJECT)?;
        let program = ebpf.program_mut("count_priorities").context("no program that counts")?;
        let program: &mut SchedClassifier = program.try_into()?;
        program.load()?;
        ns.run(|| program.attach(ifname, TcAttachType::Egress))?;
        Ok(Self { ebpf })
    }

    /// Packets with a priority below 16 so far.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn count(&self, priority: u32) -> Result<u64> {
        let map = self.ebpf.map("PRIORITIES").context("no counters")?;
        let counts: Array<&MapData, u64> = map.try_into()?;
        Ok(counts.get(&priority, 0)?)
    }
}
