//! Where the programs' filter of endpoints takes another address for one of these.
//!
//! The specification has no filter: what a false hit does, to the name under which a router tells
//! of an error, is left open.

use std::net::{IpAddr, SocketAddr};

use probe_common::address::{Address as _, V4, V6};
use probe_common::filter::{position, position_of};
use weir::explain::words;

use super::world::Service;
use crate::model::Side;
use crate::model::quote::{is_redirect, quote};
use crate::model::sight::{ICMP, ICMPV6, Sight, look};

fn place(socket: SocketAddr) -> (u32, u64) {
    let (words, port) = (words(socket.ip()), socket.port().to_be());
    match socket {
        SocketAddr::V4(_) => position(V4::from_words(words), port),
        SocketAddr::V6(_) => position(V6::from_words(words), port),
    }
}

/// Whether a filter with these addresses lets another one pass.
fn passes(endpoints: impl Iterator<Item = SocketAddr>, other: SocketAddr) -> bool {
    let (word, wanted) = place(other);
    let in_word = endpoints.map(place).filter(|&(of, _)| of == word);
    in_word.fold(0, |set, (_, bits)| set | bits) & wanted == wanted
}

/// Whether the sender of an error is none of the endpoints, and looks like one to the filter.
#[must_use]
pub fn is_mistaken(services: &[Service], side: Side, frame: &[u8]) -> bool {
    let Sight::Packet(packet) = look(frame) else { return false };
    let is_error = packet.has_transport() && matches!(packet.protocol, ICMP | ICMPV6);
    if side != Side::Egress || !is_error {
        return false;
    }
    if is_redirect(frame, &packet) {
        return is_mistaken_for_ours(services, packet.destination);
    }
    let Some(key) = quote(frame, &packet).and_then(|quote| quote.key) else { return false };
    let sender = SocketAddr::new(packet.source, key.destination.port());
    let mut endpoints = services.iter().flat_map(|service| service.endpoints.iter().copied());
    passes(endpoints.clone(), sender) && endpoints.all(|endpoint| endpoint != sender)
}

/// Whether an address is neither a service's nor an endpoint's, and looks like one whatever its
/// port.
fn is_mistaken_for_ours(services: &[Service], ip: IpAddr) -> bool {
    let place = |ip: IpAddr| match ip {
        IpAddr::V4(_) => position_of(V4::from_words(words(ip))),
        IpAddr::V6(_) => position_of(V6::from_words(words(ip))),
    };
    let sockets = |service: &Service| [&[service.vip][..], &service.endpoints].concat();
    let mut ours = services.iter().flat_map(sockets).map(|socket| socket.ip());
    // Ports have a bit each in the word of their address: any of them may be the one.
    ours.clone().all(|other| other != ip) && ours.any(|other| place(other).0 == place(ip).0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_takes_a_few_other_addresses_for_its_own() {
        let endpoint = SocketAddr::from(([198, 51, 100, 10], 9080));
        let others = (0x0a00_0000..0x0b00_0000)
            .map(|ip: u32| SocketAddr::from((ip.to_be_bytes(), endpoint.port())));
        let mistaken = others.filter(|&other| passes([endpoint].into_iter(), other)).count();
        // Of 16,777,216 in 16,384 words, a thousand come to that of the endpoint. Both of their
        // bits are among its two with one in 1,024.
        assert!(mistaken < 10, "{mistaken}");
        let other_port = SocketAddr::new(endpoint.ip(), 9080 + 64);
        assert!(passes([endpoint].into_iter(), other_port));
        assert!(!passes([endpoint].into_iter(), SocketAddr::new(endpoint.ip(), 9081)));
    }
}
