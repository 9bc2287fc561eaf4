//! What a frame says, and whether its checksums are right.

use std::net::{IpAddr, SocketAddr};

use super::{
    DEST_OPTS, ETH_IPV4, ETH_IPV6, FRAGMENT, HOP_BY_HOP, ICMP, ICMPV6, ROUTING, TCP, UDP, fold,
    pseudo_header, sum16,
};

/// Where things are in a frame, and the fields that tests ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Number of VLAN tags.
    pub vlans: usize,
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header, or of the data of a later fragment.
    pub l4: usize,
    /// Where the IP packet ends (the frame may go on with padding).
    pub end: usize,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The transport protocol.
    pub protocol: u8,
    /// Time to live, or hop limit.
    pub ttl: u8,
    /// Whether it is a part of a larger packet.
    pub fragment: bool,
    /// Whether the transport header is in it.
    pub first: bool,
}

/// Protocol and end points of a flow, in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tuple {
    /// The transport protocol.
    pub protocol: u8,
    /// Source address and port.
    pub source: SocketAddr,
    /// Destination address and port.
    pub destination: SocketAddr,
}

impl Tuple {
    /// The tuple of the other direction.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { source: self.destination, destination: self.source, ..self }
    }
}

pub(super) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// Finds the headers of a frame; none if it is not IP, or is cut short or inconsistent.
#[must_use]
pub fn parse(frame: &[u8]) -> Option<Parsed> {
    let (mut l3, mut vlans) = (14, 0);
    while matches!(be16(frame, l3 - 2)?, 0x8100 | 0x88a8) {
        l3 += 4;
        vlans += 1;
    }
    match (be16(frame, l3 - 2)?, frame.get(l3)? >> 4) {
        (ETH_IPV4, 4) => {
            let l4 = l3 + usize::from(frame[l3] & 0xf) * 4;
            let end = l3 + usize::from(be16(frame, l3 + 2)?);
            let flags = be16(frame, l3 + 6)?;
            (l4 >= l3 + 20 && l4 <= end && end <= frame.len()).then_some(())?;
            Some(Parsed {
                vlans,
                l3,
                l4,
                end,
                source: array::<4>(frame, l3 + 12)?.into(),
                destination: array::<4>(frame, l3 + 16)?.into(),
                protocol: frame[l3 + 9],
                ttl: frame[l3 + 8],
                fragment: flags & 0x3fff != 0,
                first: flags & 0x1fff == 0,
            })
        }
        (ETH_IPV6, 6) => {
            let end = l3 + 40 + usize::from(be16(frame, l3 + 4)?);
            (end <= frame.len()).then_some(())?;
            let mut parsed = Parsed {
                vlans,
                l3,
                l4: l3 + 40,
                end,
                source: array::<16>(frame, l3 + 8)?.into(),
                destination: array::<16>(frame, l3 + 24)?.into(),
                protocol: frame[l3 + 6],
                ttl: frame[l3 + 7],
                fragment: false,
                first: true,
            };
            while parsed.first {
                let header = frame.get(parsed.l4..end)?;
                let length = match parsed.protocol {
                    HOP_BY_HOP | DEST_OPTS | ROUTING => usize::from(*header.get(1)?) * 8 + 8,
                    FRAGMENT => {
                        let offset = be16(header, 2)?;
                        parsed.fragment |= offset & 0xfff9 != 0;
                        parsed.first = offset & 0xfff8 == 0;
                        8
                    }
                    _ => break,
                };
                parsed.protocol = header[0];
                parsed.l4 += length;
            }
            (parsed.l4 <= end).then_some(parsed)
        }
        _ => None,
    }
}

/// Protocol, addresses and ports of a TCP or UDP frame; none for later fragments.
#[must_use]
pub fn tuple(frame: &[u8]) -> Option<Tuple> {
    let parsed = parse(frame)?;
    (parsed.first && matches!(parsed.protocol, TCP | UDP)).then_some(())?;
    let l4 = &frame[parsed.l4..parsed.end];
    Some(Tuple {
        protocol: parsed.protocol,
        source: SocketAddr::new(parsed.source, be16(l4, 0)?),
        destination: SocketAddr::new(parsed.destination, be16(l4, 2)?),
    })
}

/// Transport header and what follows, of a frame whose transport header is in it.
fn transport(frame: &[u8], protocol: u8) -> Option<&[u8]> {
    let parsed = parse(frame)?;
    (parsed.first && parsed.protocol == protocol).then(|| &frame[parsed.l4..parsed.end])
}

/// The flags of a TCP frame.
#[must_use]
pub fn tcp_flags(frame: &[u8]) -> Option<u8> {
    transport(frame, TCP)?.get(13).copied()
}

/// Sequence and acknowledgement number of a TCP frame.
#[must_use]
pub fn tcp_seq_ack(frame: &[u8]) -> Option<(u32, u32)> {
    let tcp = transport(frame, TCP)?;
    Some((u32::from_be_bytes(array(tcp, 4)?), u32::from_be_bytes(array(tcp, 8)?)))
}

/// What a TCP or UDP frame carries.
#[must_use]
pub fn payload(frame: &[u8]) -> Option<&[u8]> {
    if let Some(tcp) = transport(frame, TCP) {
        return tcp.get(usize::from(tcp.get(12)? >> 4) * 4..);
    }
    transport(frame, UDP)?.get(8..)
}

/// Whether a frame's checksums are right, each computed afresh: the IPv4 header's, and the one of
/// TCP, UDP, ICMP or `ICMPv6`.
///
/// * A UDP checksum of 0 is right on IPv4 and wrong on IPv6.
/// * The transport checksum of a fragment cannot be judged and passes; so do other protocols.
/// * A frame that [`parse`] rejects, or whose transport header is cut short, is wrong.
#[must_use]
pub fn checksums_ok(frame: &[u8]) -> bool {
    let Some(parsed) = parse(frame) else { return false };
    let v4 = parsed.source.is_ipv4();
    if v4 {
        let length = usize::from(frame[parsed.l3] & 0xf) * 4;
        if fold(sum16(&frame[parsed.l3..parsed.l3 + length])) != 0xffff {
            return false;
        }
    }
    if parsed.fragment {
        return true;
    }
    let mut l4 = &frame[parsed.l4..parsed.end];
    let least = match parsed.protocol {
        TCP => 20,
        UDP => 8,
        ICMP if v4 => 8,
        ICMPV6 if !v4 => 4,
        _ => return true,
    };
    if l4.len() < least {
        return false;
    }
    if parsed.protocol == UDP {
        let length = usize::from(u16::from_be_bytes([l4[4], l4[5]]));
        if length < 8 || length > l4.len() {
            return false;
        }
        l4 = &l4[..length];
        if l4[6..8] == [0, 0] {
            return v4;
        }
    }
    let mut sum = sum16(l4);
    if parsed.protocol != ICMP {
        let (source, destination) = (parsed.source, parsed.destination);
        sum += sum16(&pseudo_header(source, destination, parsed.protocol, l4.len()));
    }
    fold(sum) == 0xffff
}
