//! Watches over the way past the node's stack.
//!
//! nftables tells of its changes, and they are followed at once. The older
//! iptables, IPsec, qdiscs and BPF programs do not, or each in a way of its
//! own: these are looked at twice a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use super::background::Background;
use super::state::State;
use super::troubles::Work;
use crate::config::FastPath as Setting;
use crate::datapath::{self, CLSACT_HANDLE, CLSACT_PRIORITY, FastPath};
use crate::ethtool;
use crate::fast_path::{
    Choice, Device, Devices, Drivers, Filter, Notices, Obstacle, Survey, choose, peers, xdp_devices,
};

/// How often is looked, at least.
const PERIOD: Duration = Duration::from_millis(500);
/// A table of nftables is loaded in one transaction, of many notices.
const PAUSE: Duration = Duration::from_millis(20);
/// A choice stands for so long, should the agent be killed.
const VALID: Duration = Duration::from_secs(3);

/// The watch, a thread that ends on drop. It closes the way then, unless that
/// is open by the operator's word.
pub(super) struct Guard(#[expect(dead_code, reason = "held until it is dropped")] Background);

impl Guard {
    /// Starts it; the first choice has been made when this returns.
    pub fn start(state: Arc<State>, setting: Setting) -> Result<Self> {
        let fast_path = FastPath::pinned(state.lock().steering.pins())?;
        let programs = state.lock().steering.tc_programs();
        let mut watch = Watch {
            devices: Devices::new().context("cannot list network interfaces")?,
            drivers: Drivers::new().context("cannot ask what drivers can do with XDP")?,
            survey: Survey::new().context("cannot ask netfilter what is registered")?,
            notices: Notices::of_nftables(),
            state,
            setting,
            fast_path,
            programs,
            checks_mtu: datapath::has_route_mtu(),
        };
        watch.look();
        Ok(Self(Background::start("fast path", move |stop| watch.run(stop))?))
    }
}

struct Watch {
    state: Arc<State>,
    setting: Setting,
    fast_path: FastPath,
    survey: Survey,
    devices: Devices,
    drivers: Drivers,
    notices: Notices,
    /// The ids of weir's own programs at TC.
    programs: Vec<u32>,
    /// The kernel's look-up of routes checks MTUs.
    checks_mtu: bool,
}

impl Watch {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            self.notices.wait(PERIOD);
            self.look();
            std::thread::sleep(PAUSE);
        }
        if self.setting != Setting::On
            && let Err(error) = self.fast_path.run_out()
        {
            warn!("fast path: {error}; it closes by itself in {} s", VALID.as_secs());
        }
    }

    /// Looks at the node, and does what follows.
    fn look(&mut self) {
        let mut words = BTreeMap::new();
        let found = self.found(&mut words).map_err(|error| format!("{error:#}"));
        let choice = choose(self.setting, self.checks_mtu, &found);
        let put = self.put(&choice, words);
        self.state.troubles.of(Work::FastPath, put);
        let mut inner = self.state.lock();
        if inner.fast_path.as_ref() != Some(&choice) {
            let what =
                if choice.open { "past the node's stack" } else { "through the node's stack" };
            info!("steered packets go {what}: {}", choice.reason);
            inner.fast_path = Some(choice);
        }
    }

    fn put(
        &mut self,
        choice: &Choice,
        words: BTreeMap<u32, u64>,
    ) -> Result<(), datapath::DatapathError> {
        match (choice.open, self.setting) {
            (false, _) => self.fast_path.close(),
            (true, Setting::On) => self.fast_path.open(),
            (true, _) => self.fast_path.open_for(VALID),
        }?;
        // Not before it is closed to an interface that has come: what hangs there was found at
        // the same time.
        self.fast_path.set_devices(words)
    }

    /// What there is besides weir; and tells the programs of peers. What XDP has to know of
    /// interfaces goes to `words`.
    fn found(&mut self, words: &mut BTreeMap<u32, u64>) -> Result<Vec<Obstacle>> {
        let devices = self.devices.list();
        let foreign_programs = |index| has_foreign_programs(index, &self.programs);
        // Without a list, none is known: with `fastPath: on` packets go on being sent.
        let peers =
            devices.as_ref().map(|devices| peers(devices, foreign_programs)).unwrap_or_default();
        self.fast_path.set_peers(&peers)?;
        let devices = devices?;
        let (names, at_xdp): (BTreeSet<String>, BTreeSet<u32>) = {
            let inner = self.state.lock();
            (inner.interfaces.names(), inner.interfaces.xdp_sources())
        };
        if !at_xdp.is_empty() {
            *words = self.xdp_words(&devices, &at_xdp)?;
        }
        if self.setting != Setting::Auto {
            return Ok(Vec::new());
        }
        let mut found = self.survey.look()?;
        if !self.survey.knows_all_hooks() {
            let count = datapath::netfilter_links().context("cannot list BPF links")?;
            let count = count.context(
                "this kernel does not list netfilter's hooks, and BPF programs there are seen only \
                 with CAP_SYS_ADMIN",
            )?;
            found.push(Obstacle::NetfilterPrograms(count));
        }
        for (&index, device) in devices.iter().filter(|(_, device)| names.contains(&device.name)) {
            let behind = self.behind(index, device, at_xdp.contains(&index));
            let behind =
                behind.with_context(|| format!("cannot list programs on {}", device.name))?;
            let obstacle =
                |program| Obstacle::TcProgram { interface: device.name.clone(), program };
            found.extend(behind.into_iter().map(obstacle));
        }
        Ok(found)
    }

    /// What XDP has to know of interfaces, if these are where it may send packets on from.
    fn xdp_words(
        &mut self,
        devices: &BTreeMap<u32, Device>,
        sources: &BTreeSet<u32>,
    ) -> std::io::Result<BTreeMap<u32, u64>> {
        // A packet of a VLAN would pass for one of none.
        let shows_vlans = |device: &Device| !ethtool::hides_vlans(&device.name).unwrap_or(true);
        let gives =
            |index| sources.contains(&index) && devices.get(&index).is_some_and(shows_vlans);
        let foreign_programs = |index| has_foreign_programs(index, &self.programs);
        Ok(xdp_devices(devices, &self.drivers.list()?, gives, foreign_programs))
    }

    /// What would see the packets of an interface after weir, by name: all that
    /// is at TC if weir is at XDP.
    fn behind(
        &mut self,
        index: u32,
        device: &Device,
        at_xdp: bool,
    ) -> std::io::Result<BTreeSet<String>> {
        if datapath::has_tcx() {
            let program = if at_xdp {
                datapath::other_at_ingress(index, &self.programs)
            } else {
                datapath::other_behind(index, &self.programs)
            }?;
            let program = program.map(|id| format!("program {id}"));
            // Behind all of TCX, and hardly there without filters.
            let filters = device.filters.map(|filters| filters.name().to_owned());
            return Ok(program.into_iter().chain(filters).collect());
        }
        let is_behind = |filter: &Filter| {
            let (priority, handle) = (CLSACT_PRIORITY, CLSACT_HANDLE);
            if at_xdp {
                !filter.is_at(priority, handle)
            } else {
                filter.is_behind(priority, handle)
            }
        };
        let filters = self.devices.ingress_filters(index)?.into_iter();
        // Each is announced before it is listed.
        Ok(filters.filter(is_behind).map(|filter| filter.to_string()).collect())
    }
}

/// Whether programs other than ours are at the egress of an interface.
fn has_foreign_programs(index: u32, ours: &[u32]) -> bool {
    // An interface that has just gone has no peer either, and takes no packets.
    datapath::others_at_egress(index, ours).unwrap_or(true)
}
