//! Tells the programs of the node's interfaces: to which MAC addresses frames are the node's,
//! where replies are seen when they leave, which routes have an MTU of their own.
//!
//! Changes of interfaces are followed at once, the others within a second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use probe_common::map::{CARRIES_REPLIES, Interface};
use tracing::warn;

use crate::datapath::{Interfaces, Pins, carriers_of_replies};
use crate::fast_path::{Device, Devices, Notices, RouteMtus, Routes, macs};

/// How often is looked, at least.
const PERIOD: Duration = Duration::from_millis(500);
/// What is done to interfaces is seldom one change alone.
const PAUSE: Duration = Duration::from_millis(5);

/// The watch: a thread that ends some time after this is dropped.
pub(super) struct Links(Arc<AtomicBool>);

impl Links {
    /// Starts it; the programs have been told what there is when this returns.
    pub fn start(pins: Pins) -> Result<Self> {
        let mut watch = Watch {
            notices: Notices::of_links().context("cannot follow network interfaces")?,
            devices: Devices::new().context("cannot list network interfaces")?,
            routes: Routes::new().context("cannot list routes")?,
            interfaces: Interfaces::pinned(&pins)?,
            pins,
            failure: None,
        };
        watch.look();
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let run = move || {
            while !stopped.load(Ordering::Relaxed) {
                watch.notices.wait(PERIOD);
                watch.look();
                std::thread::sleep(PAUSE);
            }
        };
        std::thread::Builder::new().name("interfaces".to_owned()).spawn(run)?;
        Ok(Self(stop))
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Watch {
    notices: Notices,
    devices: Devices,
    routes: Routes,
    interfaces: Interfaces,
    pins: Pins,
    /// What was said last of a failure.
    failure: Option<String>,
}

impl Watch {
    /// Looks at the node, and tells the programs. Should that fail, they know what they knew.
    fn look(&mut self) {
        let failure = self.tell().err().map(|error| format!("{error:#}"));
        if let Some(failure) =
            failure.as_ref().filter(|&failure| self.failure.as_ref() != Some(failure))
        {
            warn!("what programs know of interfaces may be out of date: {failure}");
        }
        self.failure = failure;
    }

    fn tell(&mut self) -> Result<()> {
        let devices = self.devices.links().context("cannot list network interfaces")?;
        let carriers = carriers_of_replies(&self.pins)?;
        let mtus = self.routes.mtus().context("cannot list routes")?;
        let words = words(&devices, |index| carriers.contains(&index), mtus);
        Ok(self.interfaces.set(words)?)
    }
}

/// What is to be known of each interface.
fn words(
    devices: &BTreeMap<u32, Device>,
    carries_replies: impl Fn(u32) -> bool,
    mtus: &RouteMtus,
) -> BTreeMap<u32, Interface> {
    let macs = macs(devices);
    let anywhere = mtus.get(&0).copied();
    let word = |&index: &u32| {
        let of_routes = mtus.get(&index).copied().into_iter().chain(anywhere).min();
        let word = Interface {
            macs: macs.get(&index).copied().unwrap_or_default(),
            flags: if carries_replies(index) { CARRIES_REPLIES } else { 0 },
            route_mtu: of_routes.unwrap_or_default(),
        };
        (index, word)
    };
    devices.keys().map(word).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_an_interface_is_put_together() {
        let device = |last| Device { mac: [2, 0, 0, 0, 0, last], ..Device::default() };
        let devices = BTreeMap::from([(3, device(3)), (4, device(4)), (5, Device::default())]);
        let mtus = RouteMtus::from([(3, 1000), (4, 1400)]);
        let found = words(&devices, |index| index == 3, &mtus);
        let of = |index: u32| (found[&index].flags, found[&index].route_mtu);
        assert_eq!([of(3), of(4), of(5)], [(CARRIES_REPLIES, 1000), (0, 1400), (0, 0)]);
        assert_ne!(found[&3].macs, found[&4].macs);
        assert_eq!(found[&5].macs, [0; 4], "nothing is known");
        let anywhere = RouteMtus::from([(0, 1200), (4, 1400)]);
        let found = words(&devices, |_| false, &anywhere);
        assert_eq!([3, 4, 5].map(|index| found[&index].route_mtu), [1200; 3]);
    }
}
