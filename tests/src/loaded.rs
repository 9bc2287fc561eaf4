//! Programs and maps in the kernel, attached nowhere.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{Array, MapData};
use probe_common::map::{Interface, SubsetStats};
use weir::datapath::{Addresses, Datapath as _, Kernel, Object, Settings};
use weir::model::Split;
use weir::plan::{Capacity, Change, Ledger, plan};

use crate::blank::Blank;

/// A loaded object with maps of its own, and what is known of them.
pub struct Loaded {
    object: Object,
    kernel: Kernel,
    addresses: Addresses,
    ledger: Ledger,
    capacity: Capacity,
    blank: Blank,
}

impl Loaded {
    /// Loads the object; needs root.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn new(settings: &Settings) -> Result<Self> {
        let mut object = Object::load(settings)?;
        let blank = Blank::of(object.ebpf())?;
        let kernel = Kernel::new(object.ebpf())?;
        let addresses = Addresses::of(object.ebpf())?;
        let (splits, endpoints, chunks) = (settings.splits, settings.endpoints, settings.chunks);
        let capacity = Capacity { splits, endpoints, chunks };
        let ledger = Ledger::new(capacity);
        Ok(Self { object, kernel, addresses, ledger, capacity, blank })
    }

    /// Makes all as it was when it was loaded: no split, no flow, nothing counted.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn reset(&mut self) -> Result<()> {
        self.ledger = Ledger::new(self.capacity);
        self.blank.restore()
    }

    /// What is in its maps, see [`Blank::written`].
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn written(&self) -> Result<BTreeMap<String, usize>> {
        self.blank.written()
    }

    /// Puts a split into force, as the agent does, at a time in seconds since boot.
    ///
    /// # Errors
    ///
    /// If it does not fit.
    pub fn publish(&mut self, split: &Split, now: u64) -> Result<()> {
        let change = Change { put: vec![split.clone().into()], remove: Vec::new() };
        let plan = plan(&self.ledger, &change, now)?;
        self.kernel.execute_all(&plan.ops)?;
        self.ledger = plan.ledger;
        Ok(())
    }

    /// Says what the programs know of an interface.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn set_interface(&mut self, index: u32, known: &Interface) -> Result<()> {
        let map = self.object.ebpf().map_mut("INTERFACES").context("INTERFACES")?;
        let mut map: Array<&mut MapData, Interface> = map.try_into()?;
        Ok(map.set(index, known, 0)?)
    }

    /// Has what is for no split answered at these addresses, if the programs are to.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn answer_at(&mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Result<()> {
        Ok(self.addresses.put(addresses)?)
    }

    /// Takes a split out of force, as the agent does.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn withdraw(&mut self, split: &Split, now: u64) -> Result<()> {
        let change = Change { put: Vec::new(), remove: vec![split.name().clone()] };
        let plan = plan(&self.ledger, &change, now)?;
        self.kernel.execute_all(&plan.ops)?;
        self.ledger = plan.ledger;
        Ok(())
    }

    /// What the programs have counted of a split.
    ///
    /// # Errors
    ///
    /// If the split is not in force.
    pub fn flows(&self, split: &Split) -> Result<SubsetStats> {
        let mut sum = SubsetStats::default();
        for subset in split.subsets() {
            let id = self.ledger.subset_id(split.name(), &subset.name).context("not in force")?;
            sum += &self.kernel.counters().subset(id)?;
        }
        Ok(sum)
    }

    /// The loaded object.
    pub fn object(&mut self) -> &mut Object {
        &mut self.object
    }

    /// Its maps.
    pub fn kernel(&mut self) -> &mut Kernel {
        &mut self.kernel
    }

    /// What is known of them.
    #[must_use]
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// What is known of them.
    pub fn ledger_mut(&mut self) -> &mut Ledger {
        &mut self.ledger
    }
}
