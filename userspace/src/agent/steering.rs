//! The splits in force: ledger and maps together.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use probe_common::map::CHUNK;

use super::stats::Counted;
use super::takeover::Takeover;
use crate::config::AgentConfig;
use crate::datapath::{
    Addresses, Claim, Datapath as _, DatapathError, Feature, Flows, Forward, Interface, Kernel,
    KernelLog, KernelLogError, Mode, Object, ObjectError, Pins, Settings, attach, detach_all,
    features,
};
use crate::model::{ServiceAddress, Split};
use crate::plan::{self, Capacity, Change, Ledger, Op, Plan};

/// What is in the kernel, and what is known of it.
pub(super) struct Steering {
    object: Object,
    /// Nobody else writes to the maps.
    claim: Arc<Claim>,
    kernel: Kernel,
    ledger: Ledger,
    /// Where what is for no split is answered, if it is.
    addresses: Addresses,
    answers: bool,
    /// These are not those of the splits in force, perhaps.
    moved: bool,
    /// Connections that others translated before.
    takeover: Arc<Takeover>,
    /// An op failed: the maps have to be read anew before the next plan.
    stale: bool,
}

/// Seconds since boot, suspension included: the clock of plans.
pub(super) fn uptime() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| now.tv_sec().unsigned_abs())
}

/// Why a change is not in force.
#[derive(Debug, thiserror::Error)]
pub(super) enum SteeringError {
    /// It does not fit.
    #[error(transparent)]
    Plan(#[from] plan::PlanError),
    /// The kernel failed.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
}

/// What the programs and maps are made for.
pub(super) fn settings(config: &AgentConfig) -> Result<Settings> {
    Ok(Settings {
        flows: config.flows.max,
        splits: config.limits.splits,
        endpoints: config.limits.endpoints,
        chunks: config.limits.table_slots.div_ceil(CHUNK as u32),
        histograms: config.limits.histograms,
        tcp_idle: config.flows.tcp_idle,
        udp_idle: config.flows.udp_idle,
        hash_seed: config.hash_seed,
        // Not one of the configuration, which is the same on many nodes, nor of what all who
        // share the kernel can read: it lives as long as the maps, in one of them.
        new_flow_seed: getrandom::u64().context("cannot get a random number")?,
        log_rare: config.kernel_log == crate::config::KernelLog::Rare,
        other_ports: config.other_ports == crate::config::OtherPorts::Answer,
    })
}

impl Steering {
    /// Loads the programs on the maps that are pinned, or on new ones, and
    /// adopts what is in the maps.
    pub fn load(config: &AgentConfig, claim: Arc<Claim>) -> Result<(Self, Flows)> {
        let settings = settings(config)?;
        let adopts = claim.pins().are_there();
        let mut object = Object::load_pinned(&settings, claim.pins())?;
        let flows = Flows::new(object.ebpf())?;
        let kernel = Kernel::new(object.ebpf())?;
        let capacity = Capacity {
            splits: settings.splits,
            endpoints: settings.endpoints,
            chunks: settings.chunks,
        };
        let ledger = Ledger::new(capacity);
        let addresses = Addresses::of(object.ebpf())?;
        let (answers, moved, stale) = (settings.other_ports, true, adopts);
        let takeover = Takeover::load(claim.pins())?;
        let mut steering =
            Self { object, claim, kernel, ledger, addresses, answers, moved, takeover, stale };
        steering.read_anew().context("cannot adopt the pinned maps")?;
        steering.takeover.resume(|| steering.service_addresses())?;
        steering.follow_addresses()?;
        Ok((steering, flows))
    }

    /// What the programs tell. To be taken once.
    pub fn kernel_log(&mut self) -> Result<KernelLog, KernelLogError> {
        KernelLog::of(self.object.ebpf())
    }

    /// What is known of the maps.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Connections that others translated before.
    pub fn takeover(&self) -> &Arc<Takeover> {
        &self.takeover
    }

    /// The addresses of the splits in force.
    fn service_addresses(&self) -> HashSet<ServiceAddress> {
        self.ledger.splits().map(|split| split.address()).collect()
    }

    /// What the kernel has.
    pub fn features(&self, flows: &Flows) -> Vec<Feature> {
        features(&self.object, flows)
    }

    /// What the programs counted.
    pub fn counters(&self) -> &crate::datapath::Counters {
        self.kernel.counters()
    }

    /// The ids of the loaded programs at TC.
    pub fn tc_programs(&mut self) -> Vec<u32> {
        self.object.tc_programs()
    }

    /// The directory of the pins.
    pub fn pins(&self) -> &Pins {
        self.claim.pins()
    }

    /// Puts these splits in force, and takes those out; how many writes to maps that took.
    pub fn change(&mut self, change: &Change) -> Result<usize, SteeringError> {
        self.read_anew()?;
        let plan = plan::plan(&self.ledger, change, uptime())?;
        let writes = plan.ops.iter().filter(|op| !matches!(op, Op::Grace)).count();
        self.moved |= !self.keeps_addresses(change);
        let addresses = change.put.iter().map(|split| split.address());
        let is_new = |&address: &ServiceAddress| self.ledger.split_at(address).is_none();
        self.takeover.expect(addresses.filter(is_new).collect());
        let executed = self.execute(plan);
        self.takeover.published();
        executed?;
        // If that fails, it is tried again with what is due.
        let _ = self.follow_addresses();
        Ok(writes)
    }

    /// Whether all service addresses are as before, after a change.
    fn keeps_addresses(&self, change: &Change) -> bool {
        let keeps = |split: &Arc<Split>| {
            let before = self.ledger.split(split.name());
            before.is_some_and(|before| before.address().ip == split.address().ip)
        };
        change.remove.is_empty() && change.put.iter().all(keeps)
    }

    /// Has what is for no split answered at the addresses of the splits in force, if at any.
    fn follow_addresses(&mut self) -> Result<(), DatapathError> {
        if self.moved {
            let splits = self.ledger.splits().filter(|_| self.answers);
            self.addresses.put(splits.map(|split| split.address().ip))?;
            self.moved = false;
        }
        Ok(())
    }

    /// Does what is due by now; endpoint ids whose flows are to be swept.
    pub fn expire(&mut self) -> Result<Vec<u32>, DatapathError> {
        self.read_anew()?;
        self.follow_addresses()?;
        let plan = plan::expire(&self.ledger, uptime());
        self.execute(plan)?;
        Ok(self.ledger.leaving().collect())
    }

    /// No flow of these endpoint ids is left.
    pub fn swept(&mut self, ids: &[u32]) -> Result<(), DatapathError> {
        let plan = plan::swept(&self.ledger, ids, uptime());
        self.execute(plan)
    }

    /// A grace period has passed since the ledger's epoch was that.
    pub fn note_grace(&mut self, epoch: u64) {
        self.ledger.note_grace(epoch);
    }

    fn execute(&mut self, plan: Plan) -> Result<(), DatapathError> {
        let result = self.kernel.execute_all(&plan.ops);
        self.stale = result.is_err();
        if result.is_ok() {
            self.ledger = plan.ledger;
        }
        result
    }

    /// After a failure, or when the maps are another agent's.
    fn read_anew(&mut self) -> Result<(), DatapathError> {
        if self.stale {
            let snapshot = self.kernel.snapshot()?;
            let (ledger, repairs) = plan::adopt(&snapshot, self.ledger.capacity(), uptime());
            self.kernel.measure(snapshot.subsets.keys().copied())?;
            self.kernel.execute_all(&repairs)?;
            (self.ledger, self.stale, self.moved) = (ledger, false, true);
        }
        Ok(())
    }

    /// Counters of a subset of a split in force; zero if they cannot be read.
    pub fn subset_counters(&self, split: &Split, at: usize) -> Counted {
        let id = self.ledger.subset_id(split.name(), &split.subsets()[at].name);
        let counted = id.and_then(|id| {
            let counters = self.counters().subset(id).ok()?;
            Some(Counted { counters, times: self.counters().times(id).ok()?.map(Arc::new) })
        });
        counted.unwrap_or_default()
    }

    /// Attaches the programs to an interface, or replaces those there; `is_new` says whether
    /// none are.
    pub fn attach(
        &mut self,
        interface: Interface<'_>,
        forward: Forward,
        is_new: bool,
    ) -> Result<Mode, ObjectError> {
        if is_new {
            self.takeover.expect(self.service_addresses());
        }
        let attached = attach(&mut self.object, self.claim.pins(), interface, forward);
        self.takeover.published();
        attached
    }

    /// Whether the next agent will find the maps.
    ///
    /// # Errors
    ///
    /// If somebody removed their pins.
    pub fn check_pins(&self) -> Result<()> {
        if self.pins().are_there() {
            return Ok(());
        }
        bail!(
            "somebody removed the maps from {}: weir goes on, but an agent that starts anew knows \
             none of the live flows",
            self.pins().dir().display()
        )
    }

    /// Detaches the programs from an interface, which may be gone.
    pub fn detach(&mut self, index: u32) -> Result<(), ObjectError> {
        detach_all(self.claim.pins(), index)
    }
}

/// Takes weir out of the kernel: attachments, maps, pins. The directory stays.
pub fn unload(claim: &Claim) -> Result<(), ObjectError> {
    let pins = claim.pins();
    let attached = pins.attached()?;
    let indices: std::collections::BTreeSet<u32> =
        attached.into_iter().map(|(index, _)| index).collect();
    for index in indices {
        detach_all(pins, index)?;
    }
    Ok(pins.clear()?)
}
