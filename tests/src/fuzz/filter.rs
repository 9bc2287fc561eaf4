//! Where the programs' filter of endpoints takes another address for one of these.
//!
//! The specification has no filter: what a false hit does, to the name under which a router tells
//! of an error, is left open.

use std::net::{IpAddr, SocketAddr};

use probe_common::address::{Address as _, V4, V6};
use probe_common::filter::position;
use weir::explain::words;

use super::world::Service;
use crate::model::Side;
use crate::model::quote::quote;
use crate::model::sight::{ICMP, ICMPV6, Sight, look};

fn bit(ip: IpAddr, port: u16) -> (u32, u64) {
    let (words, port) = (words(ip), port.to_be());
    match ip {
        IpAddr::V4(_) => position(V4::from_words(words), port),
        IpAddr::V6(_) => position(V6::from_words(words), port),
    }
}

/// Whether the sender of an error is none of the endpoints, and looks like one to the filter.
#[must_use]
pub fn is_mistaken(services: &[Service], side: Side, frame: &[u8]) -> bool {
    let Sight::Packet(packet) = look(frame) else { return false };
    let is_error = packet.has_transport() && matches!(packet.protocol, ICMP | ICMPV6);
    if side != Side::Egress || !is_error {
        return false;
    }
    let Some(key) = quote(frame, &packet).and_then(|quote| quote.key) else { return false };
    let sender = SocketAddr::new(packet.source, key.destination.port());
    let bit_of = |socket: SocketAddr| bit(socket.ip(), socket.port());
    let mut endpoints = services.iter().flat_map(|service| &service.endpoints);
    endpoints.clone().all(|&endpoint| endpoint != sender)
        && endpoints.any(|&endpoint| bit_of(endpoint) == bit_of(sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_of_an_endpoint_is_that_of_some_other_address() {
        let endpoint = IpAddr::from([198, 51, 100, 10]);
        let others = (0x0a00_0000..0x0b00_0000).map(|ip: u32| IpAddr::from(ip.to_be_bytes()));
        let same: Vec<_> = others.filter(|&ip| bit(ip, 9080) == bit(endpoint, 9080)).collect();
        // Of 16,777,216 in 16,384 words of 64 bits, 16 are to be expected.
        assert!((1..50).contains(&same.len()), "{same:?}");
    }
}
