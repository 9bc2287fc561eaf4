//! Which hosts are on one link with clients: their answers to clients there do not come by the node.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use super::devices::{Device, with_uppers};
use crate::netlink::{Netlink, attribute, encode, number};

/// `struct rtmsg`.
const MESSAGE: usize = 12;
/// Interfaces behind which there is one network stack, which is client to itself: of a pod, of a
/// virtual machine.
const ALONE: [&str; 3] = ["veth", "netkit", "tun"];

/// The links that clients share with other hosts, whose answers reach them without passing a program.
/// `carriers` are the interfaces with programs. What a bridge forwards is seen where it leaves the
/// bridge, if a program is at that port.
pub fn client_links(devices: &BTreeMap<u32, Device>, carriers: &BTreeSet<u32>) -> BTreeSet<u32> {
    let is_point_to_point = |index| devices.get(&index).is_none_or(|device| device.is_a(&ALONE));
    let sees_all = |index| {
        let mut ports = devices.iter().filter(|(_, port)| port.master == Some(index)).peekable();
        ports.peek().is_some()
            && ports.all(|(&port, _)| carriers.contains(&port) && is_point_to_point(port))
    };
    let mut shared = carriers.clone();
    shared.retain(|&index| !is_point_to_point(index) && !sees_all(index));
    with_uppers(devices, &shared)
}

/// The interface on whose link a host is; None if it is the node itself, or behind a router.
///
/// # Errors
///
/// The kernel's, if it has no route to the address.
pub fn on_link(netlink: &mut Netlink, address: IpAddr) -> io::Result<Option<u32>> {
    let (family, bytes) = match address {
        IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
        IpAddr::V6(ip) => (libc::AF_INET6, ip.octets().to_vec()),
    };
    let mut request = vec![0; MESSAGE];
    request[0] = family as u8;
    request[1] = 8 * bytes.len() as u8;
    request.extend(encode(libc::RTA_DST, &bytes));
    Ok(link(&netlink.ask(libc::RTM_GETROUTE, &request)?))
}

/// The interface of a route that leads to no router.
fn link(message: &[u8]) -> Option<u32> {
    let attributes = message.get(MESSAGE..)?;
    let routed = [libc::RTA_GATEWAY, libc::RTA_VIA, libc::RTA_MULTIPATH];
    let plain = message[7] == libc::RTN_UNICAST
        && routed.iter().all(|&kind| attribute(attributes, kind).is_none());
    let index = attribute(attributes, libc::RTA_OIF).and_then(number);
    index.filter(|_| plain).map(i32::cast_unsigned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_on_a_link_if_its_route_leads_there_and_to_no_router() {
        let out = encode(libc::RTA_OIF, &2_u32.to_ne_bytes());
        let gateway = encode(libc::RTA_GATEWAY, &[192, 0, 2, 1]);
        let of = |kind, attributes: &[Vec<u8>]| {
            let mut message = vec![0; MESSAGE];
            message[7] = kind;
            message.extend(attributes.concat());
            link(&message)
        };
        assert_eq!(of(libc::RTN_UNICAST, std::slice::from_ref(&out)), Some(2));
        assert_eq!(of(libc::RTN_LOCAL, std::slice::from_ref(&out)), None);
        assert_eq!(of(libc::RTN_UNICAST, &[out, gateway]), None);
        assert_eq!(of(libc::RTN_UNICAST, &[]), None);
        assert_eq!(link(&[]), None, "no message");
        let mut netlink = Netlink::open(libc::NETLINK_ROUTE).unwrap();
        let own = on_link(&mut netlink, "127.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(own, None, "the node's own");
    }

    #[test]
    fn clients_share_links_but_for_those_to_one_stack() {
        let device = |kind: Option<&str>, master, lower| Device {
            kind: kind.map(str::to_owned),
            is_up: true,
            master,
            lower,
            ..Device::default()
        };
        let devices = BTreeMap::from([
            (2, device(None, None, None)),
            (3, device(Some("veth"), None, None)),
            (4, device(Some("bridge"), None, None)),
            (5, device(Some("veth"), Some(4), None)),
            (6, device(Some("vlan"), None, Some(2))),
            (7, device(Some("tun"), None, None)),
            (8, device(None, Some(9), None)),
            (9, device(Some("bridge"), None, None)),
        ]);
        let cases: [(&[u32], &[u32], &str); 6] = [
            (&[], &[], "no clients"),
            (&[2], &[2, 6], "a network, and a VLAN of it"),
            (&[3, 7], &[], "one stack each"),
            (&[8], &[8, 9], "the bridge of a port with a network behind it"),
            (&[4], &[4], "a bridge without programs at its ports"),
            (&[4, 5], &[], "programs see what leaves the bridge for one stack"),
        ];
        for (carriers, expected, what) in cases {
            let found = client_links(&devices, &carriers.iter().copied().collect());
            assert_eq!(found, expected.iter().copied().collect(), "{what}");
        }
    }
}
