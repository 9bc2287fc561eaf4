//! What a frame is.

use std::net::IpAddr;

/// VLAN tags that are looked behind.
const TAGS: usize = 2;
/// IPv6 extension headers that are looked behind.
const EXTENSIONS: usize = 6;
/// A TCP header without options.
const TCP_HEADER: usize = 20;
/// What must be there of it: all up to its checksum.
const TCP_THERE: usize = 18;

/// Protocol numbers.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// `ICMPv6`.
pub const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;
/// Loose and strict source route (RFC 791, section 3.1).
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// The option Home Address of Mobile IPv6 (RFC 6275, section 6.3), as it is aligned.
const HOME_ADDRESS: [u8; 2] = [201, 16];

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sight {
    /// Something that is not looked at: not IP, or neither TCP nor UDP nor ICMP.
    Foreign,
    /// IP, but cut short or contradictory, or behind too many extension headers.
    Broken,
    /// IP whose addresses are not the ones that it goes between: a source route has hops left, or
    /// its source is only where it is at the moment.
    Elsewhere,
    /// A packet with ports, an ICMP message, or a fragment of whatever.
    Packet(Packet),
}

/// An IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the transport header, or of the data of a later fragment.
    pub l4: usize,
    /// Where the packet ends, as it says itself; the frame may go on, or end before.
    pub end: usize,
    /// What its length field says.
    pub says: u16,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// The transport protocol.
    pub protocol: u8,
    /// Neither IPv4 options nor IPv6 extension headers.
    pub plain: bool,
    /// IPv6: a routing header has segments left, or the source has a home address.
    pub elsewhere: bool,
    /// Of a part of a larger packet.
    pub fragment: Option<Fragment>,
}

/// Which part of which packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fragment {
    /// The number of the packet.
    pub id: u32,
    /// Whether it is the first one, which has the ports.
    pub first: bool,
    /// IPv6: whether other extension headers are before the fragment header.
    pub behind_others: bool,
    /// Whether no other extension header is behind the fragment header.
    pub next_to_transport: bool,
}

/// Two bytes, big-endian.
#[must_use]
pub fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Four bytes, big-endian.
#[must_use]
pub fn be32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// An address at an offset.
#[must_use]
pub fn address(bytes: &[u8], at: usize, v4: bool) -> Option<IpAddr> {
    Some(if v4 {
        IpAddr::from(<[u8; 4]>::try_from(bytes.get(at..at + 4)?).ok()?)
    } else {
        IpAddr::from(<[u8; 16]>::try_from(bytes.get(at..at + 16)?).ok()?)
    })
}

impl Packet {
    /// Whether it is over IPv4.
    #[must_use]
    pub fn v4(&self) -> bool {
        self.source.is_ipv4()
    }

    /// Whether ports or an ICMP header are in it.
    #[must_use]
    pub fn has_transport(&self) -> bool {
        self.fragment.is_none_or(|fragment| fragment.first)
    }
}

/// Looks at an Ethernet frame.
#[must_use]
pub fn look(frame: &[u8]) -> Sight {
    let mut l3 = 14;
    let ethertype = |l3: usize| be16(frame, l3 - 2);
    while (l3 - 14) / 4 < TAGS && matches!(ethertype(l3), Some(0x8100 | 0x88a8)) {
        l3 += 4;
    }
    let packet = match ethertype(l3) {
        Some(0x0800) => v4(frame, l3),
        Some(0x86dd) => v6(frame, l3),
        Some(_) => return Sight::Foreign,
        None => return Sight::Broken,
    };
    if ethertype(l3) == Some(0x0800) && has_hops_left_v4(frame, l3) {
        return Sight::Elsewhere;
    }
    let Some(packet) = packet else { return Sight::Broken };
    if packet.elsewhere {
        return Sight::Elsewhere;
    }
    if !packet.has_transport() {
        return Sight::Packet(packet);
    }
    let (header, there) = match packet.protocol {
        TCP => (TCP_HEADER, TCP_THERE),
        UDP => (8, 8),
        ICMP if packet.v4() => (8, 8),
        ICMPV6 if !packet.v4() => (8, 8),
        _ => return Sight::Foreign,
    };
    if packet.l4 + there > frame.len() {
        return Sight::Broken;
    }
    let own = match packet.protocol {
        TCP => 4 * usize::from(frame[packet.l4 + 12] >> 4),
        _ => 0,
    };
    // Longer than 16 bits can say (Linux: BIG TCP).
    let long = packet.says == 0 && packet.protocol == TCP && frame.len() > 0xffff;
    if packet.l4 + header.max(own) > packet.end && !long {
        return Sight::Broken;
    }
    Sight::Packet(packet)
}

/// Whether an IPv4 packet has a source route that is not at its end (RFC 791, section 3.1).
fn has_hops_left_v4(bytes: &[u8], l3: usize) -> bool {
    let words = usize::from(bytes.get(l3).copied().unwrap_or_default() & 0xf);
    let end = bytes.len().min(l3 + 4 * words);
    let mut options = bytes.get(l3 + 20..end).unwrap_or_default();
    while let [kind, rest @ ..] = options {
        options = match (kind, rest) {
            (0, _) => return false,
            (1, _) => rest,
            (kind, [length, pointer, ..]) if SOURCE_ROUTES.contains(kind) => {
                return pointer <= length;
            }
            (_, [length, ..]) if *length >= 2 => {
                options.get(usize::from(*length)..).unwrap_or_default()
            }
            _ => return false,
        };
    }
    false
}

/// An IPv4 header (RFC 791, section 3.1).
pub(crate) fn v4(bytes: &[u8], l3: usize) -> Option<Packet> {
    let first = *bytes.get(l3)?;
    let header = usize::from(first & 0xf) * 4;
    let total = usize::from(be16(bytes, l3 + 2)?);
    let flags = be16(bytes, l3 + 6)?;
    let (offset, more) = (flags & 0x1fff, flags & 0x2000 != 0);
    let id = u32::from(be16(bytes, l3 + 4)?);
    (first >> 4 == 4 && header >= 20).then_some(())?;
    Some(Packet {
        l3,
        l4: l3 + header,
        end: l3 + total,
        says: total as u16,
        source: address(bytes, l3 + 12, true)?,
        destination: address(bytes, l3 + 16, true)?,
        protocol: bytes[l3 + 9],
        fragment: (more || offset != 0).then_some(Fragment {
            id,
            first: offset == 0,
            behind_others: false,
            next_to_transport: true,
        }),
        plain: header == 20,
        elsewhere: false,
    })
}

/// An IPv6 header (RFC 8200, sections 3 and 4).
pub(crate) fn v6(bytes: &[u8], l3: usize) -> Option<Packet> {
    (bytes.get(l3)? >> 4 == 6).then_some(())?;
    let payload = usize::from(be16(bytes, l3 + 4)?);
    let mut packet = Packet {
        l3,
        l4: l3 + 40,
        end: l3 + 40 + payload,
        says: payload as u16,
        source: address(bytes, l3 + 8, false)?,
        destination: address(bytes, l3 + 24, false)?,
        protocol: bytes[l3 + 6],
        fragment: None,
        elsewhere: false,
        plain: true,
    };
    let next = packet.protocol;
    for walked in 0.. {
        packet.elsewhere |= match packet.protocol {
            ROUTING => *bytes.get(packet.l4 + 3)? > 0,
            DESTINATION => *bytes.get(packet.l4 + 6..packet.l4 + 8)? == HOME_ADDRESS,
            _ => false,
        };
        let length = match packet.protocol {
            HOP_BY_HOP | ROUTING | DESTINATION => 8 + 8 * usize::from(*bytes.get(packet.l4 + 1)?),
            FRAGMENT => {
                let field = be16(bytes, packet.l4 + 2)?;
                let first = field & 0xfff8 == 0;
                // One that is the whole packet is none (RFC 6946). Of several such headers, which
                // nobody sends, the last one says.
                packet.fragment = None;
                if !first || field & 1 != 0 {
                    let behind_others = next != FRAGMENT;
                    // With two fragment headers, which nobody sends, the first one counts for those
                    // without ports.
                    let at = if first { packet.l4 } else { l3 + 40 };
                    let id = be32(bytes, at + 4)?;
                    let next_to_transport = false;
                    packet.fragment =
                        Some(Fragment { id, first, behind_others, next_to_transport });
                }
                8
            }
            _ => break,
        };
        packet.plain = false;
        (walked < EXTENSIONS).then_some(())?;
        if let Some(fragment) = &mut packet.fragment {
            fragment.next_to_transport = packet.protocol == FRAGMENT;
        }
        packet.protocol = *bytes.get(packet.l4)?;
        packet.l4 += length;
        if !packet.has_transport() {
            // Here, too, the first one counts.
            if next == FRAGMENT {
                packet.l4 = l3 + 48;
            }
            break;
        }
    }
    Some(packet)
}
