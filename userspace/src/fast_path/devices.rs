//! Interfaces, as far as they matter to the way past the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::netlink::{Netlink, attribute, number, text};

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// It is half of a pair whose other half is in another network namespace.
    pub has_peer_elsewhere: bool,
    /// It has a queueing discipline: packets that leave have to wait for their turn.
    pub queues: bool,
    /// It has the qdisc of TC filters (clsact).
    pub filters: bool,
}

/// Lists the interfaces of a network namespace.
pub struct Devices(Netlink);

impl Devices {
    /// Of the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Netlink::open(libc::NETLINK_ROUTE).map(Self)
    }

    /// All there are, by index.
    pub fn list(&mut self) -> io::Result<BTreeMap<u32, Device>> {
        const LINK_MESSAGE: usize = 16;
        const TC_MESSAGE: usize = 20;
        let links = self.0.list(libc::RTM_GETLINK, &[0; LINK_MESSAGE])?;
        let mut devices: BTreeMap<u32, Device> =
            links.iter().filter_map(|message| device(message, LINK_MESSAGE)).collect();
        for message in self.0.list(libc::RTM_GETQDISC, &[0; TC_MESSAGE])? {
            let kind = attribute(message.get(TC_MESSAGE..).unwrap_or_default(), 1);
            if kind.map(text).as_deref() == Some("clsact")
                && let Some(device) = index(&message).and_then(|index| devices.get_mut(&index))
            {
                device.filters = true;
            }
        }
        Ok(devices)
    }
}

/// Both messages have it in their second word.
fn index(message: &[u8]) -> Option<u32> {
    message.get(4..).and_then(number).map(i32::cast_unsigned)
}

fn device(message: &[u8], header: usize) -> Option<(u32, Device)> {
    let attributes = message.get(header..)?;
    let of = |kind| attribute(attributes, kind);
    let kind = of(libc::IFLA_LINKINFO).and_then(|info| attribute(info, libc::IFLA_INFO_KIND));
    let pair = ["veth", "netkit"].contains(&kind.map(text).unwrap_or_default().as_str());
    let device = Device {
        name: of(libc::IFLA_IFNAME).map(text)?,
        has_peer_elsewhere: pair && of(libc::IFLA_LINK_NETNSID).is_some(),
        queues: of(libc::IFLA_QDISC).map(text).is_none_or(|qdisc| qdisc != "noqueue"),
        filters: false,
    };
    Some((index(message)?, device))
}

/// The interfaces that packets may be spared: those with a peer elsewhere on
/// which nothing waits for packets. `has_strangers` says whether other programs
/// than weir's are at its egress.
pub fn peers(
    devices: &BTreeMap<u32, Device>,
    has_strangers: impl Fn(u32) -> bool,
) -> BTreeSet<u32> {
    let free = |index: u32, device: &Device| {
        device.has_peer_elsewhere && !device.queues && !device.filters && !has_strangers(index)
    };
    devices
        .iter()
        .filter(|&(&index, device)| free(index, device))
        .map(|(&index, _)| index)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_pair_with_nothing_in_between_is_passed_over() {
        let pair = Device { name: "a".into(), has_peer_elsewhere: true, ..Device::default() };
        let devices = BTreeMap::from([
            (1, pair.clone()),
            (2, Device { has_peer_elsewhere: false, ..pair.clone() }),
            (3, Device { queues: true, ..pair.clone() }),
            (4, Device { filters: true, ..pair.clone() }),
            (5, pair),
        ]);
        assert_eq!(peers(&devices, |index| index == 5), BTreeSet::from([1]));
    }

    #[test]
    fn the_loopback_interface_is_no_pair() {
        let devices = Devices::new().unwrap().list().unwrap();
        let lo = &devices[&1];
        assert_eq!((lo.name.as_str(), lo.has_peer_elsewhere, lo.queues), ("lo", false, false));
    }
}
