//! Programs and maps in the kernel, attached nowhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::maps::{Array, HashMap, MapData};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::map::{Interface, SubsetStats, Takeover};
use weir::datapath::{Addresses, Datapath as _, Kernel, Object, Settings};
use weir::explain::words;
use weir::model::Split;
use weir::plan::{Capacity, Change, Ledger, plan};

use crate::blank::Blank;

fn tuple<A: Address>(protocol: u8, client: SocketAddr, service: SocketAddr) -> Tuple<A> {
    Tuple {
        src: A::from_words(words(client.ip())),
        dst: A::from_words(words(service.ip())),
        sport: client.port().to_be(),
        dport: service.port().to_be(),
        protocol,
        zero: [0; 3],
    }
}

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
        self.blank.restore()?;
        Ok(self.kernel.measure(std::iter::empty())?)
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

    /// Has packets from that client to that service pass, as of a connection that something else
    /// translates since before.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn put_foreign(
        &mut self,
        protocol: u8,
        client: SocketAddr,
        service: SocketAddr,
    ) -> Result<()> {
        let ebpf = self.object.ebpf();
        if client.is_ipv4() {
            let map = ebpf.map_mut("FOREIGN_V4").context("FOREIGN_V4")?;
            let mut map = HashMap::<_, Tuple<V4>, u32>::try_from(map)?;
            Ok(map.insert(tuple::<V4>(protocol, client, service), 0, 0)?)
        } else {
            let map = ebpf.map_mut("FOREIGN_V6").context("FOREIGN_V6")?;
            let mut map = HashMap::<_, Tuple<V6>, u32>::try_from(map)?;
            Ok(map.insert(tuple::<V6>(protocol, client, service), 0, 0)?)
        }
    }

    /// Says which packets of no known flow may be of such connections.
    ///
    /// # Errors
    ///
    /// As the kernel's.
    pub fn set_takeover(&mut self, word: Takeover) -> Result<()> {
        let map = self.object.ebpf().map_mut("TAKEOVER").context("the map TAKEOVER")?;
        let mut map = Array::<_, Takeover>::try_from(map)?;
        Ok(map.set(0, word, 0)?)
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
            sum += &self.kernel.counters().subset_stats(id)?;
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
