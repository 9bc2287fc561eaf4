//! To which MAC addresses a frame is the node's, by the interface where it comes in.

use std::collections::{BTreeMap, BTreeSet};

use probe_common::map::{MAX_MACS, device_mac};

use super::Device;
use super::devices::UPPERS;

/// Masters of which the frames to their own address are the node's, whichever port they come to.
/// VRFs have no say in that. Others, such as Open vSwitch, have addresses that nobody here knows.
const MASTERS: [&str; 4] = ["bridge", "bond", "team", "vrf"];

/// The addresses of each interface, its own first; those of which nothing can be said are
/// missing. See [`probe_common::map::Interface::macs`].
pub fn macs(devices: &BTreeMap<u32, Device>) -> BTreeMap<u32, [u64; MAX_MACS]> {
    let mut uppers = BTreeMap::<u32, Vec<u32>>::new();
    for (&index, device) in devices {
        if let Some(lower) = device.lower
            && device.is_a(&UPPERS)
        {
            uppers.entry(lower).or_default().push(index);
        }
    }
    let of = |(&index, _): (&u32, &Device)| {
        let mut search = Search { devices, uppers: &uppers, seen: BTreeSet::new(), found: vec![] };
        search.visit(index)?;
        let last = *search.found.last()?;
        let is_own = devices.get(&index).is_some_and(|device| device.mac != [0; 6]);
        (is_own && search.found.len() <= MAX_MACS).then(|| {
            search.found.resize(MAX_MACS, last);
            search.found.try_into().ok().map(|macs| (index, macs))
        })?
    };
    devices.iter().filter_map(of).collect()
}

struct Search<'a> {
    devices: &'a BTreeMap<u32, Device>,
    uppers: &'a BTreeMap<u32, Vec<u32>>,
    seen: BTreeSet<u32>,
    found: Vec<u64>,
}

impl Search<'_> {
    /// None if it leads to a master that nothing is known of.
    fn visit(&mut self, index: u32) -> Option<()> {
        if !self.seen.insert(index) {
            return Some(());
        }
        // One that was listed as a master may have gone.
        let device = self.devices.get(&index)?;
        let mac = device_mac(device.mac);
        if mac != 0 && !self.found.contains(&mac) {
            self.found.push(mac);
        }
        if let Some(master) = device.master {
            self.devices.get(&master).filter(|master| master.is_a(&MASTERS))?;
            self.visit(master)?;
        }
        let uppers = self.uppers.get(&index).map(Vec::as_slice).unwrap_or_default();
        uppers.iter().try_for_each(|&upper| self.visit(upper))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(last: u8, kind: &str, master: Option<u32>, lower: Option<u32>) -> Device {
        let kind = (!kind.is_empty()).then(|| kind.to_owned());
        let mac = if last == 0 { [0; 6] } else { [2, 0, 0, 0, 0, last] };
        Device { kind, master, lower, mac, ..Device::default() }
    }

    fn macs_of(index: u32, devices: &[(u32, Device)]) -> Option<Vec<u8>> {
        let devices: BTreeMap<u32, Device> = devices.iter().cloned().collect();
        let found = macs(&devices).remove(&index)?;
        let mut last: Vec<u8> = found.iter().map(|mac| mac.to_ne_bytes()[5]).collect();
        last.dedup();
        Some(last)
    }

    #[test]
    fn a_frame_is_the_nodes_if_it_is_to_an_address_that_the_node_takes_there() {
        let eth = || (1, device(1, "", None, None));
        let port = || (1, device(1, "veth", Some(2), None));
        type Case<'a> = (&'a str, Vec<(u32, Device)>, Option<&'a [u8]>);
        let cases: [Case<'_>; 12] = [
            ("alone", vec![eth()], Some(&[1])),
            ("no Ethernet", vec![(1, device(0, "tun", None, None))], None),
            (
                "a port of a bridge",
                vec![port(), (2, device(2, "bridge", None, None))],
                Some(&[1, 2]),
            ),
            (
                "the bridge has the port's",
                vec![port(), (2, device(1, "bridge", None, None))],
                Some(&[1]),
            ),
            ("of Open vSwitch", vec![port(), (2, device(2, "openvswitch", None, None))], None),
            ("a master that has gone", vec![port()], None),
            (
                "a VLAN of the bridge",
                vec![
                    port(),
                    (2, device(2, "bridge", None, None)),
                    (3, device(3, "vlan", None, Some(2))),
                ],
                Some(&[1, 2, 3]),
            ),
            (
                "a bond in a bridge",
                vec![
                    (1, device(1, "", Some(2), None)),
                    (2, device(1, "bond", Some(3), None)),
                    (3, device(3, "bridge", None, None)),
                ],
                Some(&[1, 3]),
            ),
            ("VRRP", vec![eth(), (2, device(9, "macvlan", None, Some(1)))], Some(&[1, 9])),
            (
                "a virtual machine's",
                vec![eth(), (2, device(9, "macvtap", None, Some(1)))],
                Some(&[1]),
            ),
            (
                "the other half of a pair",
                vec![eth(), (2, device(9, "veth", None, Some(1)))],
                Some(&[1]),
            ),
            (
                "more than there is room for",
                [eth()]
                    .into_iter()
                    .chain((2..6).map(|n| (n, device(n as u8, "macvlan", None, Some(1)))))
                    .collect(),
                None,
            ),
        ];
        for (what, devices, expected) in cases {
            assert_eq!(macs_of(1, &devices).as_deref(), expected, "{what}");
        }
    }

    #[test]
    fn what_is_of_another_port_is_not_of_this_one() {
        let devices = [
            (1, device(1, "veth", Some(3), None)),
            (2, device(2, "veth", Some(3), None)),
            (3, device(3, "bridge", None, None)),
            (4, device(4, "macvlan", None, Some(2))),
        ];
        assert_eq!(macs_of(1, &devices).as_deref(), Some([1, 3].as_slice()));
        assert_eq!(macs_of(3, &devices).as_deref(), Some([3].as_slice()));
    }
}
