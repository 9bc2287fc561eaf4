//! Routes that have an MTU of their own (`ip route ... mtu`).
//!
//! The stack keeps to it when it forwards, but the kernel's look-up for BPF programs tells of one
//! only if it is locked.

use std::collections::BTreeMap;
use std::io;

use rtnetlink::packet_core::NetlinkBuffer;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::netlink::{Netlink, attribute, number};

/// `struct rtmsg`.
const MESSAGE: usize = 12;
/// `struct rtnexthop`.
const NEXT_HOP: usize = 8;
/// RTAX_MTU.
const MTU: u16 = 2;
/// RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE.
const GROUPS: [u32; 2] = [7, 11];

/// The least MTU of routes that have one, by the interface that they lead out of; of those that
/// do not say which that is, under 0.
pub type RouteMtus = BTreeMap<u32, u32>;

/// Lists the routes of a network namespace, and notices when that has to be done again.
pub struct Routes {
    netlink: Netlink,
    notices: Socket,
    found: Option<RouteMtus>,
}

impl Routes {
    /// Of the network namespace of the calling thread.
    pub fn new() -> io::Result<Self> {
        let mut notices = Socket::new(libc::NETLINK_ROUTE as isize)?;
        notices.bind(&SocketAddr::new(0, 0))?;
        GROUPS.iter().try_for_each(|&group| notices.add_membership(group))?;
        notices.set_non_blocking(true)?;
        Ok(Self { netlink: Netlink::open(libc::NETLINK_ROUTE)?, notices, found: None })
    }

    /// The MTUs of routes as they are now. Tables can be long: they are read again only if a
    /// route with an MTU has come or gone.
    pub fn mtus(&mut self) -> io::Result<&RouteMtus> {
        if self.has_changed() {
            self.found = None;
        }
        let found = match self.found.take() {
            Some(found) => found,
            None => self.list()?,
        };
        Ok(self.found.insert(found))
    }

    fn list(&mut self) -> io::Result<RouteMtus> {
        let mut found = RouteMtus::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let mut request = [0; MESSAGE];
            request[0] = family as u8;
            // What changes meanwhile is noticed.
            self.netlink.visit(libc::RTM_GETROUTE, &request, |message| {
                for (index, mtu) in mtus(message) {
                    found.entry(index).and_modify(|least| *least = mtu.min(*least)).or_insert(mtu);
                }
            })?;
        }
        Ok(found)
    }

    /// Whether notices have come by which the MTUs may be others.
    fn has_changed(&self) -> bool {
        let known = self.found.as_ref().is_some_and(|found| !found.is_empty());
        let mut changed = false;
        loop {
            match self.notices.recv_from_full() {
                Ok((datagram, _)) => changed |= tells_of_mtu(&datagram, known),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return changed,
                // Some were lost. The next error is that there are no more.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => changed = true,
                Err(_) => return true,
            }
        }
    }
}

/// Whether a datagram of notices tells of a route with an MTU that has come or gone. One that
/// replaces another says nothing of that one: perhaps it had an MTU, if any route has.
fn tells_of_mtu(mut datagram: &[u8], known: bool) -> bool {
    while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
        let replaces = i32::from(message.flags()) & libc::NLM_F_REPLACE != 0;
        if (known && replaces) || !mtus(message.payload()).is_empty() {
            return true;
        }
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
    }
    false
}

/// The interfaces that a route leads out of, with its MTU, if it has one.
fn mtus(message: &[u8]) -> Vec<(u32, u32)> {
    let attributes = message.get(MESSAGE..).unwrap_or_default();
    let metrics = attribute(attributes, libc::RTA_METRICS);
    let mtu = metrics.and_then(|metrics| attribute(metrics, MTU)).and_then(number);
    let Some(mtu) = mtu.map(i32::cast_unsigned).filter(|&mtu| mtu != 0) else { return Vec::new() };
    let mut out: Vec<u32> = Vec::new();
    out.extend(attribute(attributes, libc::RTA_OIF).and_then(number).map(i32::cast_unsigned));
    let mut hops = attribute(attributes, libc::RTA_MULTIPATH).unwrap_or_default();
    while let Some(&[a, b, _, _, index @ ..]) = hops.first_chunk::<NEXT_HOP>() {
        out.push(u32::from_ne_bytes(index));
        let length = usize::from(u16::from_ne_bytes([a, b])).max(NEXT_HOP);
        hops = hops.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    if out.is_empty() {
        out.push(0);
    }
    out.into_iter().map(|index| (index, mtu)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::encode;

    fn message(attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![libc::AF_INET as u8; MESSAGE], attributes.concat()].concat()
    }

    #[test]
    fn routes_are_read_again_only_if_one_with_an_mtu_may_have_changed() {
        let notice = |flags: i32, attributes: &[Vec<u8>]| {
            let message = message(attributes);
            let length = (16 + message.len()) as u32;
            let kind_and_flags = [libc::RTM_NEWROUTE, flags as u16].map(u16::to_ne_bytes).concat();
            [&length.to_ne_bytes()[..], &kind_and_flags, &[0; 8], &message].concat()
        };
        let mtu = encode(libc::RTA_METRICS, &encode(MTU, &1000_u32.to_ne_bytes()));
        let out = encode(libc::RTA_OIF, &2_u32.to_ne_bytes());
        let plain = notice(0, std::slice::from_ref(&out));
        let replacing = notice(libc::NLM_F_REPLACE, std::slice::from_ref(&out));
        let with_mtu = notice(0, &[out, mtu]);
        let behind = [plain.clone(), with_mtu.clone()].concat();
        for (what, datagram, [none_known, known]) in [
            ("a plain route", plain, [false, false]),
            ("one in place of another", replacing, [false, true]),
            ("one with an MTU", with_mtu, [true, true]),
            ("the same behind another", behind, [true, true]),
        ] {
            assert_eq!(tells_of_mtu(&datagram, false), none_known, "{what}");
            assert_eq!(tells_of_mtu(&datagram, true), known, "{what}");
        }
    }

    #[test]
    fn a_route_with_an_mtu_says_where_it_leads() {
        let mtu = encode(libc::RTA_METRICS, &encode(MTU, &1000_u32.to_ne_bytes()));
        let out = |index: u32| encode(libc::RTA_OIF, &index.to_ne_bytes());
        let hop = |index: u32| {
            let gateway = encode(libc::RTA_GATEWAY, &[192, 0, 2, 1]);
            let length = (NEXT_HOP + gateway.len()) as u16;
            let head = [length.to_ne_bytes(), [0, 0]].concat();
            [head, index.to_ne_bytes().to_vec(), gateway].concat()
        };
        let several = encode(libc::RTA_MULTIPATH, &[hop(3), hop(4)].concat());
        let hop_limit = encode(libc::RTA_METRICS, &encode(10, &64_u32.to_ne_bytes()));
        type Case<'a> = (&'a [Vec<u8>], &'a [(u32, u32)]);
        let cases: [Case<'_>; 6] = [
            (&[out(2), mtu.clone()], &[(2, 1000)]),
            (&[mtu.clone(), several], &[(3, 1000), (4, 1000)]),
            (&[mtu], &[(0, 1000)]),
            (&[out(2)], &[]),
            (&[out(2), hop_limit], &[]),
            (&[], &[]),
        ];
        for (attributes, expected) in cases {
            assert_eq!(mtus(&message(attributes)), expected, "{attributes:?}");
        }
    }
}
