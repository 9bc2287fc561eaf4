//! Frames and checksums, written independently of weir's own code.
//!
//! [`Packet`] builds a frame from its parts; [`parse`] and [`checksums_ok`] judge any frame;
//! [`set_source`], [`make_partial`] and [`mutate`] alter one.

mod alter;
mod checksum;
mod parsed;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub use alter::{make_partial, mutate, set_source};
pub(crate) use checksum::{fold, pseudo_header, sum16};
pub use parsed::{Parsed, Tuple, checksums_ok, parse, payload, tcp_flags, tcp_seq_ack, tuple};

/// Protocol number of ICMP.
pub const ICMP: u8 = 1;
/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;
/// Protocol number of `ICMPv6`.
pub const ICMPV6: u8 = 58;

/// TCP flag FIN.
pub const FIN: u8 = 0x01;
/// TCP flag SYN.
pub const SYN: u8 = 0x02;
/// TCP flag RST.
pub const RST: u8 = 0x04;
/// TCP flag PSH.
pub const PSH: u8 = 0x08;
/// TCP flag ACK.
pub const ACK: u8 = 0x10;

const ETH_IPV4: u16 = 0x0800;
const ETH_IPV6: u16 = 0x86dd;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DEST_OPTS: u8 = 60;

/// An IPv6 extension header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext {
    /// Hop-by-hop options of so many times 8 bytes (at least 1), all padding.
    HopByHop(u8),
    /// Destination options of so many times 8 bytes (at least 1), all padding.
    DestOpts(u8),
    /// A routing header of type 2, carrying one address, with so many segments left.
    Routing(u8),
    /// A segment routing header (type 4) of two segments, of which so many are left.
    SegmentRouting(u8),
    /// Destination options with a home address (RFC 6275).
    HomeAddress,
    /// A fragment header of a packet that is whole (offset 0, no more fragments).
    AtomicFragment,
}

/// A packet to be built, from source to destination.
///
/// All methods take and give the packet by value, to be chained; [`Packet::build`] ends the chain.
#[derive(Clone, Debug)]
pub struct Packet {
    source: SocketAddr,
    destination: SocketAddr,
    protocol: u8,
    vlans: Vec<(u16, u16)>,
    macs: ([u8; 6], [u8; 6]),
    ttl: u8,
    id: u32,
    dscp_ecn: u8,
    ip_options: Vec<u8>,
    exts: Vec<Ext>,
    flags: u8,
    seq: u32,
    ack: u32,
    tcp_options: Vec<u8>,
    zero_checksum: bool,
    payload: Vec<u8>,
}

impl Packet {
    /// A TCP SYN without options or payload.
    ///
    /// # Panics
    ///
    /// If the two addresses are not of one family.
    #[must_use]
    pub fn tcp(source: SocketAddr, destination: SocketAddr) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "addresses of two families");
        Self {
            source,
            destination,
            protocol: TCP,
            vlans: Vec::new(),
            macs: ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]),
            ttl: 64,
            id: 0xdead_1234,
            dscp_ecn: 0,
            ip_options: Vec::new(),
            exts: Vec::new(),
            flags: SYN,
            seq: 1,
            ack: 0,
            tcp_options: Vec::new(),
            zero_checksum: false,
            payload: Vec::new(),
        }
    }

    /// A UDP datagram without payload.
    ///
    /// # Panics
    ///
    /// If the two addresses are not of one family.
    #[must_use]
    pub fn udp(source: SocketAddr, destination: SocketAddr) -> Self {
        Self { protocol: UDP, ..Self::tcp(source, destination) }
    }

    /// Source and destination MAC addresses.
    #[must_use]
    pub fn macs(mut self, source: [u8; 6], destination: [u8; 6]) -> Self {
        self.macs = (source, destination);
        self
    }

    /// Adds a VLAN tag, outermost first: its type (0x8100 or 0x88a8) and its number.
    #[must_use]
    pub fn vlan(mut self, tpid: u16, id: u16) -> Self {
        self.vlans.push((tpid, id));
        self
    }

    /// Time to live, or hop limit.
    #[must_use]
    pub fn ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// Identification: of IPv4 the low 16 bits of it; of IPv6 in its fragment headers.
    #[must_use]
    pub fn id(mut self, id: u32) -> Self {
        self.id = id;
        self
    }

    /// The byte with DSCP and ECN.
    #[must_use]
    pub fn dscp_ecn(mut self, value: u8) -> Self {
        self.dscp_ecn = value;
        self
    }

    /// IPv4 options; padded with zeros to a multiple of 4, at most 40 bytes.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = padded(options);
        self
    }

    /// Adds an IPv6 extension header, in order.
    #[must_use]
    pub fn ext(mut self, ext: Ext) -> Self {
        self.exts.push(ext);
        self
    }

    /// TCP flags.
    #[must_use]
    pub fn flags(mut self, flags: u8) -> Self {
        self.flags = flags;
        self
    }

    /// TCP sequence number.
    #[must_use]
    pub fn seq(mut self, seq: u32) -> Self {
        self.seq = seq;
        self
    }

    /// TCP acknowledgement number; does not set the flag.
    #[must_use]
    pub fn ack(mut self, ack: u32) -> Self {
        self.ack = ack;
        self
    }

    /// TCP options; padded with zeros to a multiple of 4, at most 40 bytes.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = padded(options);
        self
    }

    /// Leaves the UDP checksum out (0).
    #[must_use]
    pub fn zero_checksum(mut self) -> Self {
        self.zero_checksum = true;
        self
    }

    /// What TCP or UDP carries.
    #[must_use]
    pub fn payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The whole frame, with valid checksums.
    ///
    /// # Panics
    ///
    /// If it does not fit an IP packet, or has options of the other family.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        self.frame(&self.transport(), None)
    }

    /// The packet cut into fragments of at most `size` bytes of IP payload (rounded down to a
    /// multiple of 8); the TCP or UDP header is in the first one.
    ///
    /// # Panics
    ///
    /// As [`Packet::build`], and if `size` is below 8.
    #[must_use]
    pub fn build_fragments(&self, size: usize) -> Vec<Vec<u8>> {
        let (transport, size) = (self.transport(), size / 8 * 8);
        let count = transport.chunks(size).count();
        let fragment = |(i, part)| self.frame(part, Some((i * size / 8, i + 1 < count)));
        transport.chunks(size).enumerate().map(fragment).collect()
    }

    /// Transport header and payload.
    fn transport(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(self.source.port().to_be_bytes());
        bytes.extend(self.destination.port().to_be_bytes());
        let field = if self.protocol == TCP {
            bytes.extend(self.seq.to_be_bytes());
            bytes.extend(self.ack.to_be_bytes());
            assert!(self.tcp_options.len() <= 40, "TCP options too long");
            bytes.push((((20 + self.tcp_options.len()) / 4) << 4) as u8);
            bytes.push(self.flags);
            // Window, checksum, urgent pointer.
            bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
            bytes.extend(&self.tcp_options);
            16
        } else {
            bytes.extend(u16_of(8 + self.payload.len()).to_be_bytes());
            bytes.extend([0, 0]);
            6
        };
        bytes.extend(&self.payload);
        if self.protocol == TCP || !self.zero_checksum {
            let (source, destination) = (self.source.ip(), self.destination.ip());
            let pseudo = pseudo_header(source, destination, self.protocol, bytes.len());
            let sum = match !fold(sum16(&pseudo) + sum16(&bytes)) {
                0 if self.protocol == UDP => 0xffff,
                sum => sum,
            };
            bytes[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        bytes
    }

    /// Ethernet and IP headers around (a fragment of) the transport bytes.
    fn frame(&self, body: &[u8], fragment: Option<(usize, bool)>) -> Vec<u8> {
        let mut frame = Vec::new();
        frame.extend(self.macs.1);
        frame.extend(self.macs.0);
        for (tpid, id) in &self.vlans {
            frame.extend(tpid.to_be_bytes());
            frame.extend(id.to_be_bytes());
        }
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                assert!(self.exts.is_empty(), "extension headers on IPv4");
                assert!(self.ip_options.len() <= 40, "IPv4 options too long");
                frame.extend(ETH_IPV4.to_be_bytes());
                let length = 20 + self.ip_options.len();
                let mut header = vec![0x40 | (length / 4) as u8, self.dscp_ecn];
                header.extend(u16_of(length + body.len()).to_be_bytes());
                header.extend((self.id as u16).to_be_bytes());
                let flags = match fragment {
                    None => 0x4000,
                    Some((offset, more)) => u16_of(offset) | u16::from(more) << 13,
                };
                header.extend(flags.to_be_bytes());
                header.extend([self.ttl, self.protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.ip_options);
                let sum = !fold(sum16(&header));
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                assert!(self.ip_options.is_empty(), "IPv4 options on IPv6");
                frame.extend(ETH_IPV6.to_be_bytes());
                let mut headers: Vec<_> =
                    self.exts.iter().map(|&ext| extension(ext, self.id)).collect();
                if let Some((offset, more)) = fragment {
                    headers.push((FRAGMENT, fragment_header(offset, more, self.id)));
                }
                let length = headers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
                frame.extend([0x60 | self.dscp_ecn >> 4, self.dscp_ecn << 4, 0xab, 0xcd]);
                frame.extend(u16_of(length + body.len()).to_be_bytes());
                frame.extend([headers.first().map_or(self.protocol, |h| h.0), self.ttl]);
                frame.extend(source.octets());
                frame.extend(destination.octets());
                for i in 0..headers.len() {
                    headers[i].1[0] = headers.get(i + 1).map_or(self.protocol, |h| h.0);
                    frame.extend(&headers[i].1);
                }
            }
            _ => unreachable!("checked on construction"),
        }
        frame.extend(body);
        frame
    }
}

/// Type and bytes of an extension header, its first byte (what comes next) left open.
pub(crate) fn extension(ext: Ext, id: u32) -> (u8, Vec<u8>) {
    let padding = |units: u8| {
        assert!((1..=32).contains(&units), "1 to 32 units of 8 bytes");
        let rest = usize::from(units) * 8 - 4;
        let mut bytes = vec![0, units - 1, 1, rest as u8];
        bytes.resize(rest + 4, 0);
        bytes
    };
    match ext {
        Ext::HopByHop(units) => (HOP_BY_HOP, padding(units)),
        Ext::DestOpts(units) => (DEST_OPTS, padding(units)),
        Ext::Routing(left) => (ROUTING, [&[0, 2, 2, left, 0, 0, 0, 0], &ON_THE_WAY[..]].concat()),
        Ext::SegmentRouting(left) => {
            let header = [0, 4, 4, left, 1, 0, 0, 0];
            (ROUTING, [&header, &ON_THE_WAY[..], &ON_THE_WAY].concat())
        }
        Ext::HomeAddress => (DEST_OPTS, [&[0, 2, 1, 2, 0, 0, 201, 16], &ON_THE_WAY[..]].concat()),
        Ext::AtomicFragment => (FRAGMENT, fragment_header(0, false, id)),
    }
}

/// An address in a routing header, 2001:db8::99.
const ON_THE_WAY: [u8; 16] = [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99];

/// A fragment header, its first byte left open.
fn fragment_header(offset: usize, more: bool, id: u32) -> Vec<u8> {
    let [high, low] = (u16_of(offset) << 3 | u16::from(more)).to_be_bytes();
    let [a, b, c, d] = id.to_be_bytes();
    vec![0, 0, high, low, a, b, c, d]
}

/// Zeros up to a multiple of 4.
fn padded(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn u16_of(value: usize) -> u16 {
    value.try_into().expect("fits an IP packet")
}
