//! Netfilter's part of netlink: hooks, chains of nftables, notices of changes.
//! Numbers are those of linux/netfilter/nfnetlink.h, nfnetlink_hook.h, nf_tables.h.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rtnetlink::sys::{Socket, SocketAddr};

use super::Obstacle;
use crate::netlink::{Netlink, attribute, encode, text, word};
use crate::nftables::Family;

/// Before the attributes: family, version, resource id.
const HEADER: usize = 4;
/// NFNL_SUBSYS_HOOK, NFNL_MSG_HOOK_GET.
const GET_HOOKS: u16 = 12 << 8;
/// NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN.
const GET_CHAINS: u16 = 10 << 8 | 4;
/// NFNLGRP_NFTABLES.
const NFTABLES_GROUP: u32 = 7;
/// Hooks of IPv4 and IPv6, from prerouting to postrouting.
const POINTS: std::ops::Range<u32> = 0..5;

/// All functions at hooks of IPv4 and IPv6; None if the kernel has no list of
/// them (Linux 5.14, CONFIG_NETFILTER_NETLINK_HOOK).
pub fn hooks(netlink: &mut Netlink) -> io::Result<Option<Vec<Obstacle>>> {
    let mut all = Vec::new();
    for family in [Family::IPV4, Family::IPV6] {
        for point in POINTS {
            let mut request = vec![family.0, 0, 0, 0];
            request.extend(encode(1, &point.to_be_bytes()));
            match netlink.list(GET_HOOKS, &request) {
                Ok(found) => all.extend(found.iter().map(|message| hook(message, family, point))),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(Some(all))
}

/// Whether the kernel does not have what it was asked for.
pub fn is_missing(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    [libc::EINVAL, libc::EOPNOTSUPP, libc::EPROTONOSUPPORT].iter().any(|&c| code == Some(c))
}

fn hook(message: &[u8], family: Family, point: u32) -> Obstacle {
    let attributes = message.get(HEADER..).unwrap_or_default();
    let function = attribute(attributes, 4).map_or_else(|| "a function".to_owned(), text);
    Obstacle::Hook { family, point, function }
}

/// The chains of nftables that have hooks, of all families.
pub fn chains(netlink: &mut Netlink) -> io::Result<Vec<Obstacle>> {
    match netlink.list(GET_CHAINS, &[0; HEADER]) {
        Ok(found) => Ok(found.iter().filter_map(|message| chain(message)).collect()),
        Err(error) if is_missing(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// None for a chain without a hook, which others have to call.
fn chain(message: &[u8]) -> Option<Obstacle> {
    let family = Family(*message.first()?);
    let attributes = message.get(HEADER..)?;
    let hook = attribute(attributes, 4)?;
    // A hook without a number would be a malformed one: beyond what is known.
    let point = attribute(hook, 1).and_then(word).unwrap_or(u32::MAX);
    let name = [1, 3].map(|kind| attribute(attributes, kind).map_or_else(String::new, text));
    Some(Obstacle::Chain { family, point, name: name.join(" ") })
}

/// Tells when something has changed.
pub struct Notices(Option<Socket>);

impl Notices {
    /// Of nftables, in the network namespace of the calling thread. Where the kernel does not
    /// have it, there are none.
    pub fn of_nftables() -> Self {
        Self(listen(libc::NETLINK_NETFILTER, NFTABLES_GROUP).ok())
    }

    /// Of interfaces, in the network namespace of the calling thread.
    pub fn of_links() -> io::Result<Self> {
        const RTNLGRP_LINK: u32 = 1;
        listen(libc::NETLINK_ROUTE, RTNLGRP_LINK).map(|socket| Self(Some(socket)))
    }

    /// Waits for the next change, for at most that long.
    pub fn wait(&self, time: Duration) {
        let Some(socket) = &self.0 else { return std::thread::sleep(time) };
        // SAFETY: the descriptor is the socket's, which lives longer.
        let fd = unsafe { BorrowedFd::borrow_raw(socket.as_raw_fd()) };
        let timeout = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
        // An error, such as a signal, is as good as a change: somebody looks.
        let _ = poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout);
        // Until it would block. That notices were lost is an error once, and says the same.
        let mut lost = 0;
        while lost < 2 {
            if socket.recv_from_full().is_err() {
                lost += 1;
            }
        }
    }
}

fn listen(protocol: libc::c_int, group: u32) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol as isize)?;
    socket.bind(&SocketAddr::new(0, 0))?;
    socket.add_membership(group)?;
    socket.set_non_blocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(family: u8, attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![family, 0, 0, 0], attributes.concat()].concat()
    }

    #[test]
    fn chains_are_read_with_their_hooks() {
        let names = [encode(1, b"filter\0"), encode(3, b"fw\0")];
        let at = |point: u32| encode(4, &encode(1, &point.to_be_bytes()));
        let [table, name] = names.clone();
        let chain_at =
            |family, point| Some(Obstacle::Chain { family, point, name: "filter fw".to_owned() });
        let cases = [
            (message(1, &[table.clone(), name.clone(), at(2)]), chain_at(Family::INET, 2)),
            (message(2, &[at(0), table.clone(), name.clone()]), chain_at(Family::IPV4, 0)),
            // NLA_F_NESTED.
            (
                message(5, &[encode(4 | 1 << 15, &encode(1, &[0, 0, 0, 1])), table, name]),
                chain_at(Family::NETDEV, 1),
            ),
            (message(1, &names), None),
            (Vec::new(), None),
        ];
        for (message, expected) in cases {
            assert_eq!(chain(&message), expected, "{message:?}");
        }
    }

    #[test]
    fn hooks_are_read_with_their_functions() {
        let found = message(2, &[encode(1, &[0; 4]), encode(4, b"nf_nat_ipv4_in\0")]);
        let function = "nf_nat_ipv4_in".to_owned();
        let expected = Obstacle::Hook { family: Family::IPV4, point: 0, function };
        assert_eq!(hook(&found, Family::IPV4, 0), expected);
        let nameless = hook(&message(2, &[]), Family::IPV4, 2);
        assert_eq!(nameless.to_string(), "netfilter has a function at ip forward");
    }
}
