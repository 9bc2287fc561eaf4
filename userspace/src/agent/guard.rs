//! Watches over the way past the node's stack.
//!
//! nftables tells of its changes: then the way is shut at once, the rules are read anew, and it is
//! opened again if they do not matter to packets to endpoints. The older iptables, IPsec, qdiscs and BPF
//! programs do not tell, or each in a way of its own: these are looked at twice a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use tracing::{info, warn};

use super::background::Background;
use super::gate::targets;
use super::state::State;
use super::troubles::Work;
use crate::config::FastPath as Setting;
use crate::datapath::{self, CLSACT_HANDLE, CLSACT_PRIORITY, FastPath};
use crate::ethtool;
use crate::fast_path::{
    Choice, Device, Devices, Drivers, Filter, Notices, Obstacle, Survey, Target, choose, peers,
    xdp_devices,
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
            judged: None,
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
    /// Which generation of nftables' rules was judged; None inside where nobody uses it.
    judged: Option<Option<u32>>,
}

/// What was found on the node.
#[derive(Default)]
struct Found {
    /// What there is besides weir.
    obstacles: Vec<Obstacle>,
    /// The stack may keep account of the flows that it sees.
    tracked: bool,
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
        // What could not be looked at may keep account of flows.
        let tracked = found.as_ref().map_or(true, |found| found.tracked);
        let mut choice = choose(self.setting, self.checks_mtu, &found.map(|found| found.obstacles));
        let put = self.put(&mut choice, tracked, words);
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
        choice: &mut Choice,
        tracked: bool,
        words: BTreeMap<u32, u64>,
    ) -> Result<(), datapath::DatapathError> {
        match (choice.open, self.setting) {
            (false, _) => self.fast_path.close()?,
            (true, Setting::On) => self.fast_path.open(tracked)?,
            (true, _) => {
                let mut inner = self.state.lock();
                let inner = &mut *inner;
                let ledger = inner.steering.ledger();
                // Endpoints may have come since the rules were judged.
                let opened = match &mut inner.gate {
                    Some(gate) => gate.open_for(VALID, tracked, ledger)?,
                    None => false,
                };
                if !opened {
                    *choice = Choice {
                        open: false,
                        reason: "rules may matter to endpoints that have just come".to_owned(),
                    };
                }
            }
        }
        // Not before it is closed to an interface that has come: what hangs there was found at
        // the same time.
        self.fast_path.set_devices(words)
    }

    /// What there is besides weir; and tells the programs of peers. What XDP has to know of
    /// interfaces goes to `words`.
    fn found(&mut self, words: &mut BTreeMap<u32, u64>) -> Result<Found> {
        if self.setting == Setting::Auto {
            self.judge_anew()?;
        }
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
        if self.setting == Setting::Off {
            return Ok(Found::default());
        }
        let mut found = self.survey.look()?;
        let tracked = found.iter().any(Obstacle::tracks);
        if self.setting == Setting::On {
            return Ok(Found { obstacles: Vec::new(), tracked });
        }
        found.extend(self.objections());
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
        Ok(Found { obstacles: found, tracked })
    }

    /// If nftables' rules have changed, shuts the way, reads them, and judges what they are to
    /// packets to the endpoints that there are: without the lock, since that may take some tenths
    /// of a second.
    fn judge_anew(&mut self) -> Result<()> {
        let generation = self.survey.generation().context("cannot ask for nftables' rules")?;
        if self.judged == Some(generation) {
            return Ok(());
        }
        self.judged = None;
        self.fast_path.close()?;
        let mut firewall = self.survey.firewall().context("cannot read nftables' rules")?;
        let there: Vec<Target> = targets(self.state.lock().steering.ledger()).collect();
        firewall.objection(there);
        self.judged = Some(firewall.generation());
        if let Some(gate) = &mut self.state.lock().gate {
            gate.set_firewall(firewall);
        }
        Ok(())
    }

    /// What of nftables' rules may matter to packets to endpoints.
    fn objections(&self) -> Vec<Obstacle> {
        let mut inner = self.state.lock();
        let inner = &mut *inner;
        let Some(gate) = &mut inner.gate else { return Vec::new() };
        let objection = gate.objection(inner.steering.ledger()).map(Obstacle::Rule);
        let flowtables = gate.flowtables().into_iter().map(Obstacle::Flowtable);
        objection.into_iter().chain(flowtables).collect()
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
