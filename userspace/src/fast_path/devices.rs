//! Interfaces, as far as they matter to the way past the stack.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use super::filters;
use super::{Filter, Filters};
use crate::netlink::{Netlink, attribute, number, text};

/// An interface.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// It is half of a pair of veths whose other half is in another network namespace.
    pub has_peer_elsewhere: bool,
    /// It has a queueing discipline: packets that leave have to wait for their turn.
    pub queues: bool,
    /// It is up, and not loopback.
    pub is_up: bool,
    /// Its MAC address, or zeros.
    pub mac: [u8; 6],
    /// What made it, as `ip -d link` says: "veth", "bridge"; none for a physical one.
    pub kind: Option<String>,
    /// The interface that it is a port of: a bridge, a bond and the like.
    pub master: Option<u32>,
    /// The interface of this namespace that it is on top of, or in a pair with.
    pub lower: Option<u32>,
    /// A queueing discipline of it does more, perhaps, than to let packets leave in turn.
    pub shapes: bool,
    /// Where it has room for TC filters, if anywhere.
    pub filters: Option<Filters>,
}

/// Interfaces whose frames come in and leave by the interface below them, as they are or with a
/// VLAN tag. Not macvtap, whose frames are a virtual machine's.
pub(super) const UPPERS: [&str; 3] = ["vlan", "macvlan", "ipvlan"];

impl Device {
    /// Whether it is of one of these kinds.
    pub(super) fn is_a(&self, kinds: &[&str]) -> bool {
        self.kind.as_deref().is_some_and(|kind| kinds.contains(&kind))
    }
}

/// Lists the interfaces of a network namespace.
pub struct Devices(Netlink);

impl Devices {
    /// Of the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        Netlink::open(libc::NETLINK_ROUTE).map(Self)
    }

    /// All there are, by index, without what is said by their queueing disciplines.
    pub fn links(&mut self) -> io::Result<BTreeMap<u32, Device>> {
        const LINK_MESSAGE: usize = 16;
        let links = self.0.list(libc::RTM_GETLINK, &[0; LINK_MESSAGE])?;
        Ok(links.iter().filter_map(|message| device(message, LINK_MESSAGE)).collect())
    }

    /// All there are, by index.
    pub fn list(&mut self) -> io::Result<BTreeMap<u32, Device>> {
        let mut devices = self.links()?;
        for message in self.0.list(libc::RTM_GETQDISC, &[0; filters::MESSAGE])? {
            let Some(device) = index(&message).and_then(|index| devices.get_mut(&index)) else {
                continue;
            };
            match Filters::of(&message) {
                Some(found) => device.filters = Some(found),
                None => device.shapes |= filters::shapes(&message),
            }
        }
        Ok(devices)
    }

    /// The TC filters at the ingress of an interface; none if it has no room for any.
    pub fn ingress_filters(&mut self, index: u32) -> io::Result<Vec<Filter>> {
        self.filters(&filters::at_ingress(index))
    }

    /// Those at its egress; none if it has no room for any.
    pub fn egress_filters(&mut self, index: u32) -> io::Result<Vec<Filter>> {
        self.filters(&filters::at_egress(index))
    }

    fn filters(&mut self, at: &[u8]) -> io::Result<Vec<Filter>> {
        let messages = self.0.list(libc::RTM_GETTFILTER, at)?;
        Ok(messages.iter().filter_map(|message| Filter::of(message)).collect())
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
    // Not of netkit: its pairs have programs of their own, and a policy, which a packet that is
    // handed to the peer does not meet.
    let kind = kind.map(text);
    let pair = kind.as_deref() == Some("veth");
    let elsewhere = of(libc::IFLA_LINK_NETNSID).is_some();
    // The third word of `struct ifinfomsg`.
    let flags = message.get(8..).and_then(number)?;
    let index_of = |kind| of(kind).and_then(number).map(i32::cast_unsigned);
    let device = Device {
        name: of(libc::IFLA_IFNAME).map(text)?,
        kind,
        has_peer_elsewhere: pair && elsewhere,
        queues: of(libc::IFLA_QDISC).map(text).is_none_or(|qdisc| qdisc != "noqueue"),
        is_up: flags & (libc::IFF_UP | libc::IFF_LOOPBACK) == libc::IFF_UP,
        mac: of(libc::IFLA_ADDRESS).and_then(|mac| mac.try_into().ok()).unwrap_or_default(),
        master: index_of(libc::IFLA_MASTER),
        lower: if elsewhere { None } else { index_of(libc::IFLA_LINK) },
        shapes: false,
        filters: None,
    };
    Some((index(message)?, device))
}

/// These interfaces, and all whose frames come in and leave by them: bridges and bonds that they are
/// ports of, VLANs and macvlans on top, and so on up. Not a VRF, which has no frames.
pub(super) fn with_uppers(devices: &BTreeMap<u32, Device>, below: &BTreeSet<u32>) -> BTreeSet<u32> {
    let mut all = below.clone();
    loop {
        let above = |(index, device): (&u32, &Device)| {
            let lower = device.lower.filter(|_| device.is_a(&UPPERS));
            let ports = devices.iter().filter(|(_, port)| port.master == Some(*index));
            let mut below = lower.into_iter().chain(ports.map(|(&port, _)| port));
            !all.contains(index)
                && !device.is_a(&["vrf"])
                && below.any(|below| all.contains(&below))
        };
        let more: Vec<u32> =
            devices.iter().filter(|&one| above(one)).map(|(&index, _)| index).collect();
        if more.is_empty() {
            return all;
        }
        all.extend(more);
    }
}

/// The interfaces out of which routes may lead, and where none of `carriers` sees what leaves:
/// neither themselves nor what is below them.
pub fn unseen(devices: &BTreeMap<u32, Device>, carriers: &BTreeSet<u32>) -> BTreeSet<u32> {
    let is_vrf = |index| devices.get(&index).is_some_and(|device| device.is_a(&["vrf"]));
    // No route leads to a port of a bridge or a bond, but to one of a VRF.
    let is_exit = |device: &Device| device.is_up && device.master.is_none_or(is_vrf);
    let seen = with_uppers(devices, carriers);
    let unseen = devices.iter().filter(|(index, device)| is_exit(device) && !seen.contains(index));
    unseen.map(|(&index, _)| index).collect()
}

/// The interfaces that packets may be spared: those with a peer elsewhere on
/// which nothing waits for packets. `has_foreign_programs` says whether other programs
/// than weir's are at its egress.
pub fn peers(
    devices: &BTreeMap<u32, Device>,
    has_foreign_programs: impl Fn(u32) -> bool,
) -> BTreeSet<u32> {
    let free = |index: u32, device: &Device| {
        // What is at its ingress sees packets that come from the peer.
        let filtered = device.filters.is_some_and(Filters::has_egress);
        device.has_peer_elsewhere && !device.queues && !filtered && !has_foreign_programs(index)
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
    use crate::netlink::encode;

    #[test]
    fn only_a_pair_with_nothing_in_between_is_passed_over() {
        let pair = Device { name: "a".into(), has_peer_elsewhere: true, ..Device::default() };
        let devices = BTreeMap::from([
            (1, pair.clone()),
            (2, Device { has_peer_elsewhere: false, ..pair.clone() }),
            (3, Device { queues: true, ..pair.clone() }),
            (4, Device { filters: Some(Filters::Clsact), ..pair.clone() }),
            (5, pair.clone()),
            // Filters there see what the peer sends.
            (6, Device { filters: Some(Filters::Ingress), ..pair }),
        ]);
        assert_eq!(peers(&devices, |index| index == 5), BTreeSet::from([1, 6]));
    }

    #[test]
    fn a_pair_is_one_of_veths_that_is_parted() {
        let elsewhere = encode(libc::IFLA_LINK_NETNSID, &0_i32.to_ne_bytes());
        let cases: [(&str, &str, &[u8], bool); 4] = [
            ("veth", "a pair", &elsewhere, true),
            ("veth", "both halves are here", &[], false),
            ("netkit", "programs of its own", &elsewhere, false),
            ("ipvlan", "no pair", &elsewhere, false),
        ];
        for (kind, what, more, expected) in cases {
            let mut message = [0, 7, 0, 0].map(i32::to_ne_bytes).concat();
            message.extend(encode(libc::IFLA_IFNAME, b"a\0"));
            let kind_of_it = encode(libc::IFLA_INFO_KIND, kind.as_bytes());
            message.extend(encode(libc::IFLA_LINKINFO, &kind_of_it));
            message.extend(more);
            let (index, found) = device(&message, 16).unwrap();
            assert_eq!((index, found.has_peer_elsewhere), (7, expected), "{kind}: {what}");
        }
    }

    #[test]
    fn what_leaves_is_seen_by_what_is_below() {
        let device = |kind: &str, master, lower| Device {
            kind: Some(kind.into()),
            is_up: true,
            master,
            lower,
            ..Device::default()
        };
        let devices = BTreeMap::from([
            (2, device("veth", Some(4), None)),
            (3, device("veth", Some(4), None)),
            (4, device("bridge", None, None)),
            (5, device("vlan", None, Some(4))),
            (6, device("vxlan", None, Some(2))),
            (7, device("veth", Some(8), None)),
            (8, device("vrf", None, None)),
            (9, Device { is_up: false, ..device("veth", None, None) }),
        ]);
        let cases: [(&[u32], &[u32], &str); 4] = [
            (&[], &[4, 5, 6, 7, 8], "nothing is seen; ports of a bridge have no routes"),
            (&[2], &[6, 7, 8], "a port sees what leaves its bridge and VLANs on top; not a tunnel"),
            (&[4], &[6, 7, 8], "a bridge"),
            (&[7], &[4, 5, 6, 8], "a VRF sends nothing"),
        ];
        for (carriers, expected, what) in cases {
            let found = unseen(&devices, &carriers.iter().copied().collect());
            assert_eq!(found, expected.iter().copied().collect(), "{what}");
        }
    }

    #[test]
    fn the_loopback_interface_is_no_pair() {
        let devices = Devices::new().unwrap().list().unwrap();
        let lo = &devices[&1];
        assert_eq!((lo.name.as_str(), lo.has_peer_elsewhere, lo.queues), ("lo", false, false));
    }
}
