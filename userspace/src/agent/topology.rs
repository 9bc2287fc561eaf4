//! Tells the programs of the node's interfaces: to which MAC addresses frames are the node's,
//! where nobody sees what leaves, which routes have an MTU of their own.
//!
//! Changes of interfaces are followed at once, the others within a second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use probe_common::map::{HAS_UNSEEN_EXIT, Interface, LEAVES_UNSEEN, TAKES_REPLIES};

use super::background::Background;
use super::state::State;
use super::troubles::Work;
use crate::datapath::{Interfaces, Pins, carriers_of_replies, takers_of_replies};
use crate::fast_path::{Device, Devices, Notices, RouteMtus, Routes, macs, unseen};

/// How often is looked, at least.
const PERIOD: Duration = Duration::from_millis(500);
/// What is done to interfaces is seldom one change alone.
const PAUSE: Duration = Duration::from_millis(20);

/// The watch, a thread that ends on drop. What the programs know stays.
pub(super) struct Topology(#[expect(dead_code, reason = "held until it is dropped")] Background);

impl Topology {
    /// Starts it; the programs have been told what there is when this returns.
    pub fn start(state: Arc<State>) -> Result<Self> {
        let pins = state.lock().steering.pins().clone();
        let mut watch = Watch {
            notices: Notices::of_links().context("cannot follow network interfaces")?,
            devices: Devices::new().context("cannot list network interfaces")?,
            routes: Routes::new().context("cannot list routes")?,
            interfaces: Interfaces::pinned(&pins)?,
            pins,
            state,
        };
        watch.look();
        let thread = Background::start("topology", move |stop| {
            while !stop.load(Ordering::Relaxed) {
                watch.notices.wait(PERIOD);
                watch.look();
                std::thread::sleep(PAUSE);
            }
        });
        Ok(Self(thread?))
    }
}

struct Watch {
    notices: Notices,
    devices: Devices,
    routes: Routes,
    interfaces: Interfaces,
    pins: Pins,
    state: Arc<State>,
}

impl Watch {
    /// Looks at the node, and tells the programs. Should that fail, they know what they knew.
    fn look(&mut self) {
        let told = self.tell();
        self.state.troubles.of(Work::Topology, told);
    }

    fn tell(&mut self) -> Result<()> {
        let devices = self.devices.links().context("cannot list network interfaces")?;
        let programs = Programs {
            at_egress: carriers_of_replies(&self.pins)?,
            at_ingress: takers_of_replies(&self.pins)?,
        };
        let mtus = self.routes.mtus().context("cannot list routes")?;
        Ok(self.interfaces.set(words(&devices, &programs, mtus))?)
    }
}

/// The interfaces that have programs at TC.
struct Programs {
    at_egress: BTreeSet<u32>,
    at_ingress: BTreeSet<u32>,
}

/// What is to be known of each interface.
fn words(
    devices: &BTreeMap<u32, Device>,
    programs: &Programs,
    mtus: &RouteMtus,
) -> BTreeMap<u32, Interface> {
    let macs = macs(devices);
    let anywhere = mtus.get(&0).copied();
    let unseen = unseen(devices, &programs.at_egress);
    let flags = |index: u32| {
        let other = unseen.iter().any(|&exit| exit != index);
        let of = |holds, flag| if holds { flag } else { 0 };
        of(unseen.contains(&index), LEAVES_UNSEEN)
            | of(other, HAS_UNSEEN_EXIT)
            | of(programs.at_ingress.contains(&index), TAKES_REPLIES)
    };
    let word = |&index: &u32| {
        let of_routes = mtus.get(&index).copied().into_iter().chain(anywhere).min();
        let word = Interface {
            macs: macs.get(&index).copied().unwrap_or_default(),
            flags: flags(index),
            route_mtu: of_routes.unwrap_or_default(),
        };
        (index, word)
    };
    devices.keys().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(last: u8) -> Device {
        Device { mac: [2, 0, 0, 0, 0, last], is_up: true, ..Device::default() }
    }

    fn at_egress(carriers: &[u32]) -> Programs {
        let at_egress = carriers.iter().copied().collect();
        Programs { at_egress, at_ingress: BTreeSet::new() }
    }

    #[test]
    fn where_replies_are_dealt_with_is_told() {
        let devices = BTreeMap::from([(3, device(3)), (4, device(4))]);
        let programs = Programs { at_ingress: BTreeSet::from([4]), ..at_egress(&[3, 4]) };
        let found = words(&devices, &programs, &RouteMtus::new());
        assert_eq!([3, 4].map(|index| found[&index].flags), [0, TAKES_REPLIES]);
    }

    #[test]
    fn what_is_known_of_an_interface_is_put_together() {
        let no_mac = Device { is_up: true, ..Device::default() };
        let devices = BTreeMap::from([(3, device(3)), (4, device(4)), (5, no_mac)]);
        let mtus = RouteMtus::from([(3, 1000), (4, 1400)]);
        let found = words(&devices, &at_egress(&[3, 4, 5]), &mtus);
        assert_eq!([3, 4, 5].map(|index| found[&index].route_mtu), [1000, 1400, 0]);
        assert_ne!(found[&3].macs, found[&4].macs);
        assert_eq!(found[&5].macs, [0; 4], "nothing is known");
        let anywhere = RouteMtus::from([(0, 1200), (4, 1400)]);
        let found = words(&devices, &at_egress(&[]), &anywhere);
        assert_eq!([3, 4, 5].map(|index| found[&index].route_mtu), [1200; 3]);
    }

    #[test]
    fn where_nobody_sees_what_leaves_is_told_to_all_others() {
        let down = Device { is_up: false, ..device(6) };
        let devices = BTreeMap::from([(3, device(3)), (4, device(4)), (5, device(5)), (6, down)]);
        let flags = |carriers: &[u32]| {
            let found = words(&devices, &at_egress(carriers), &RouteMtus::new());
            [3, 4, 5].map(|index| found[&index].flags)
        };
        assert_eq!(flags(&[3, 4, 5]), [0; 3], "seen everywhere");
        let exit = HAS_UNSEEN_EXIT;
        assert_eq!(flags(&[3, 4]), [exit, exit, LEAVES_UNSEEN]);
        assert_eq!(flags(&[3]), [exit, LEAVES_UNSEEN | exit, LEAVES_UNSEEN | exit]);
    }
}
