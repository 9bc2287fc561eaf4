//! Classes of packets: what is known of them, and what is not.

use std::net::IpAddr;

use super::expression::Base;
use super::family::Family;

/// What connection tracking would say of a packet, had it seen every one of its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// No packet has come the other way yet.
    New,
    /// As new, of a flow that another one has announced.
    Related,
    /// Packets have gone both ways.
    Established,
}

impl State {
    /// `NF_CT_STATE_BIT`.
    pub const fn bit(self) -> u8 {
        match self {
            Self::Established => 2,
            Self::Related => 4,
            Self::New => 8,
        }
    }
}

/// Packets of TCP or UDP that the node forwards: not fragments, without options of IPv4 or
/// extension headers of IPv6, with mark 0, that belong to no socket of the node's, and to no
/// connection that netfilter translates. What is None may be anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Class {
    /// IPv4 or IPv6.
    pub family: Family,
    /// The protocol's number.
    pub protocol: u8,
    /// Who sends them.
    pub source: Option<IpAddr>,
    /// From which port.
    pub source_port: Option<u16>,
    /// Whom they are for.
    pub destination: Option<IpAddr>,
    /// For which port.
    pub destination_port: Option<u16>,
    /// What is known of their flow.
    pub state: State,
    /// They go the other way than the first packet of their flow.
    pub is_reply: bool,
}

/// A piece of a packet of a class.
#[derive(Debug)]
pub struct Piece {
    /// The bytes, 0 where they are not known.
    pub value: Vec<u8>,
    /// The bits that are known.
    pub known: Vec<u8>,
    /// Every packet has it.
    pub is_there: bool,
}

impl Piece {
    /// Bytes that may be there, and may be anything.
    fn unknown(length: usize) -> Self {
        Self { value: vec![0; length], known: vec![0; length], is_there: false }
    }

    /// Bytes that are there.
    pub fn known(value: &[u8]) -> Self {
        Self { value: value.to_vec(), known: vec![0xff; value.len()], is_there: true }
    }
}

impl Class {
    /// The number of the packets' EtherType, as it is on the wire.
    pub fn ethertype(&self) -> [u8; 2] {
        if self.family == Family::IPV4 { [0x08, 0x00] } else { [0x86, 0xdd] }
    }

    /// So many bytes of a packet.
    pub fn piece(&self, base: Base, offset: usize, length: usize) -> Piece {
        let (value, known) = match base {
            Base::Network => self.network(),
            Base::Transport => self.transport(),
            Base::Link | Base::Other(_) => return Piece::unknown(length),
        };
        let range = offset..offset.saturating_add(length);
        match (value.get(range.clone()), known.get(range)) {
            (Some(value), Some(known)) => {
                Piece { value: value.to_vec(), known: known.to_vec(), is_there: true }
            }
            // The rest depends on the packet's length.
            _ => Piece::unknown(length),
        }
    }

    fn network(&self) -> (Vec<u8>, Vec<u8>) {
        /// But for "don't fragment".
        const FRAGMENT: [u8; 2] = [0xbf, 0xff];
        let (length, addresses) =
            if self.family == Family::IPV4 { (20, [12, 16]) } else { (40, [8, 24]) };
        let (mut value, mut known) = (vec![0; length], vec![0; length]);
        let mut put = |at: usize, bytes: &[u8], bits: u8| {
            value[at..at + bytes.len()].copy_from_slice(bytes);
            known[at..at + bytes.len()].fill(bits);
        };
        if self.family == Family::IPV4 {
            put(0, &[0x45], 0xff);
            put(9, &[self.protocol], 0xff);
        } else {
            put(0, &[0x60], 0xf0);
            put(6, &[self.protocol], 0xff);
        }
        for (at, address) in addresses.into_iter().zip([self.source, self.destination]) {
            match address {
                Some(IpAddr::V4(ip)) => put(at, &ip.octets(), 0xff),
                Some(IpAddr::V6(ip)) => put(at, &ip.octets(), 0xff),
                None => {}
            }
        }
        if self.family == Family::IPV4 {
            known[6..8].copy_from_slice(&FRAGMENT);
        }
        (value, known)
    }

    /// The ports: nothing else of the header is known.
    fn transport(&self) -> (Vec<u8>, Vec<u8>) {
        let ports = [self.source_port, self.destination_port];
        let value = ports.map(|port| port.unwrap_or_default().to_be_bytes());
        let known = ports.map(|port| if port.is_some() { [0xff; 2] } else { [0; 2] });
        (value.concat(), known.concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn class(source: Option<IpAddr>, destination: Option<IpAddr>) -> Class {
        let any = destination.or(source).unwrap();
        Class {
            family: if any.is_ipv4() { Family::IPV4 } else { Family::IPV6 },
            protocol: 6,
            source,
            source_port: None,
            destination,
            destination_port: Some(80),
            state: State::New,
            is_reply: false,
        }
    }

    #[test]
    fn headers_have_what_is_known_where_it_is() {
        let v4 = class(None, Some("192.0.2.1".parse().unwrap()));
        let found = v4.piece(Base::Network, 16, 4);
        assert_eq!((found.value, found.known), (vec![192, 0, 2, 1], vec![0xff; 4]));
        assert_eq!(v4.piece(Base::Network, 12, 4).known, [0; 4]);
        assert_eq!(v4.piece(Base::Network, 9, 1).value, [6]);
        assert_eq!(v4.piece(Base::Network, 6, 2).known, [0xbf, 0xff], "not a fragment");
        let v6 = class(None, Some("2001:db8::1".parse().unwrap()));
        assert_eq!(v6.piece(Base::Network, 24, 4).value, [0x20, 0x01, 0x0d, 0xb8]);
        assert_eq!(v6.piece(Base::Network, 0, 1).known, [0xf0]);
        assert_eq!(v6.piece(Base::Network, 6, 1).value, [6]);
        let ports = v6.piece(Base::Transport, 0, 4);
        assert_eq!((ports.value, ports.known), (vec![0, 0, 0, 80], vec![0, 0, 0xff, 0xff]));
    }

    #[test]
    fn what_is_behind_the_headers_may_not_be_there() {
        let v4 = class(None, Some("192.0.2.1".parse().unwrap()));
        for (base, offset, length) in [
            (Base::Network, 18, 4),
            (Base::Transport, 13, 1),
            (Base::Link, 0, 6),
            (Base::Other(3), 0, 1),
            (Base::Network, usize::MAX, 4),
        ] {
            let found = v4.piece(base, offset, length);
            assert!(!found.is_there && found.known == vec![0; length], "{base:?} {offset}");
        }
    }
}
