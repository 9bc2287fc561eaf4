//! Frames and checksums, written independently of weir's own code.
//!
//! [`Packet`] builds a frame from its parts; [`parse`] and [`checksums_ok`] judge any frame.

use std::net::{IpAddr, SocketAddr};

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
    /// A routing header of type 2 with no segments left, carrying one address.
    Routing,
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
fn extension(ext: Ext, id: u32) -> (u8, Vec<u8>) {
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
        Ext::Routing => {
            let mut bytes = vec![0, 2, 2, 0, 0, 0, 0, 0];
            bytes.extend([0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99]);
            (ROUTING, bytes)
        }
        Ext::AtomicFragment => (FRAGMENT, fragment_header(0, false, id)),
    }
}

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

/// The sum of big-endian 16-bit words; an odd last byte counts as the high half of one.
pub(crate) fn sum16(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

/// The ones' complement sum as 16 bits.
pub(crate) fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What the transport checksum covers besides the transport bytes.
pub(crate) fn pseudo_header(
    source: IpAddr,
    destination: IpAddr,
    protocol: u8,
    length: usize,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ip in [source, destination] {
        match ip {
            IpAddr::V4(ip) => bytes.extend(ip.octets()),
            IpAddr::V6(ip) => bytes.extend(ip.octets()),
        }
    }
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend([0, 0, 0, protocol]);
    bytes
}

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

fn be16(bytes: &[u8], at: usize) -> Option<u16> {
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
/// * A frame that [`parse`] refuses, or whose transport header is cut short, is wrong.
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

/// Puts a partial checksum into a TCP or UDP frame, as a stack does that leaves the rest to
/// hardware: the folded sum of the pseudo-header.
///
/// # Panics
///
/// If it is no such frame.
pub fn make_partial(frame: &mut [u8]) {
    let parsed = parse(frame).expect("a whole frame");
    let length = parsed.end - parsed.l4;
    let pseudo = pseudo_header(parsed.source, parsed.destination, parsed.protocol, length);
    let field = parsed.l4 + if parsed.protocol == TCP { 16 } else { 6 };
    frame[field..field + 2].copy_from_slice(&fold(sum16(&pseudo)).to_be_bytes());
}

/// Gives a whole TCP or UDP frame another source, and brings its checksums up to date
/// (RFC 1624); without any allocation, for tests that send millions.
///
/// # Panics
///
/// If it is no such frame, or of the other family.
pub fn set_source(frame: &mut [u8], source: SocketAddr) {
    let parsed = parse(frame).expect("a whole frame");
    let field = parsed.l4 + if parsed.protocol == TCP { 16 } else { 6 };
    match (source.ip(), parsed.source) {
        (IpAddr::V4(ip), IpAddr::V4(_)) => {
            let fields = [parsed.l3 + 10, field];
            replace(frame, parsed.l3 + 12, &ip.octets(), &fields);
        }
        (IpAddr::V6(ip), IpAddr::V6(_)) => replace(frame, parsed.l3 + 8, &ip.octets(), &[field]),
        _ => panic!("{source} in a frame of the other family"),
    }
    replace(frame, parsed.l4, &source.port().to_be_bytes(), &[field]);
}

/// Replaces bytes, at an even offset into what is summed, and updates these checksums.
fn replace(frame: &mut [u8], at: usize, bytes: &[u8], fields: &[usize]) {
    let old = &mut frame[at..at + bytes.len()];
    let change = sum16(bytes) + old.chunks(2).map(|w| 0xffff - sum16(w)).sum::<u64>();
    old.copy_from_slice(bytes);
    for &field in fields {
        let sum = u64::from(!be16(frame, field).expect("a checksum"));
        frame[field..field + 2].copy_from_slice(&(!fold(sum + change)).to_be_bytes());
    }
}

/// A small deterministic random number generator (splitmix64).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// A generator; the same seed gives the same numbers.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1 (its bias, `bound` / 2^64, does not matter here).
    ///
    /// # Panics
    ///
    /// If `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        assert!(bound > 0, "no number is below 0");
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }
}

/// Damages a frame at one to four places, mostly in the headers; it may get shorter or longer.
pub fn mutate(frame: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(4) {
        let length = frame.len() as u64;
        if length == 0 {
            frame.push(rng.next_u64() as u8);
            continue;
        }
        let reach = if rng.below(4) == 0 { length } else { length.min(96) };
        let at = rng.below(reach) as usize;
        match rng.below(8) {
            0 | 1 => frame[at] ^= 1 << rng.below(8),
            2 => frame[at] = rng.next_u64() as u8,
            3 => {
                frame[at] =
                    [0, 1, 0x0f, 0x40, 0x45, 0x4f, 0x60, 0x7f, 0x80, 0xff][rng.below(10) as usize]
            }
            4 => frame.truncate(at),
            5 => frame.extend((0..=rng.below(64)).map(|i| i as u8)),
            6 => drop(frame.splice(at..at, [rng.next_u64() as u8; 4])),
            _ => drop(frame.drain(at..(at + 1 + rng.below(8) as usize).min(length as usize))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(v4: bool) -> (SocketAddr, SocketAddr) {
        let (a, b) = if v4 {
            ("192.0.2.200:40000", "203.0.113.10:80")
        } else {
            ("[2001:db8:2::200]:40000", "[2001:db8:f::10]:80")
        };
        (a.parse().unwrap(), b.parse().unwrap())
    }

    /// A packet of every shape.
    fn shapes() -> Vec<Packet> {
        let mut shapes = Vec::new();
        for v4 in [true, false] {
            let (a, b) = ends(v4);
            for base in [Packet::tcp(a, b).tcp_options(&[2, 4, 5, 0xb4]), Packet::udp(a, b)] {
                for tags in 0..3 {
                    for size in [0, 1, 2, 1000] {
                        let mut packet = base.clone().payload(&vec![0xa5; size]);
                        for tag in 0..tags {
                            packet = packet.vlan(if tag == 0 { 0x88a8 } else { 0x8100 }, 7);
                        }
                        shapes.push(packet.clone());
                        if v4 {
                            shapes.push(packet.ip_options(&[0x94, 4, 0, 0, 1]));
                        } else {
                            packet = packet.ext(Ext::HopByHop(1)).ext(Ext::DestOpts(3));
                            shapes.push(packet.clone());
                            shapes.push(packet.ext(Ext::Routing).ext(Ext::AtomicFragment));
                        }
                    }
                }
            }
        }
        shapes
    }

    #[test]
    fn a_known_packet() {
        // The IPv4 header of the classic worked example of the checksum.
        let header = [
            0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8,
            0, 0xc7,
        ];
        assert_eq!(fold(sum16(&header)), 0xffff);
        let (a, b) = ends(true);
        let frame = Packet::udp(a, b).payload(b"hi").build();
        assert_eq!(frame.len(), 14 + 20 + 8 + 2);
        assert_eq!(frame[12..16], [8, 0, 0x45, 0]);
        assert_eq!(frame[34..40], [0x9c, 0x40, 0, 80, 0, 10]);
    }

    #[test]
    fn built_packets_are_right() {
        for packet in shapes() {
            let frame = packet.build();
            assert!(checksums_ok(&frame), "{packet:?}");
            let expected = Tuple {
                protocol: packet.protocol,
                source: packet.source,
                destination: packet.destination,
            };
            assert_eq!(tuple(&frame), Some(expected));
            assert_eq!(payload(&frame), Some(&packet.payload[..]));
            let parsed = parse(&frame).unwrap();
            assert_eq!((parsed.vlans, parsed.end), (packet.vlans.len(), frame.len()));
            assert!(!parsed.fragment);
        }
    }

    #[test]
    fn every_flipped_bit_of_covered_bytes_shows() {
        for packet in shapes().iter().filter(|p| p.payload.len() < 3) {
            let frame = packet.build();
            let parsed = parse(&frame).unwrap();
            // From the transport header on; on IPv4 the header, too.
            let from = if parsed.source.is_ipv4() { parsed.l3 } else { parsed.l4 };
            for bit in from * 8..parsed.end * 8 {
                let mut bad = frame.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert!(!checksums_ok(&bad), "bit {bit} of {packet:?}");
            }
        }
    }

    #[test]
    fn another_source_makes_another_right_packet() {
        for v4 in [true, false] {
            let (a, b) = ends(v4);
            let other = if v4 { "10.255.254.3:65535" } else { "[2001:db8:ffff::fffe]:65535" };
            let other: SocketAddr = other.parse().unwrap();
            for shape in [Packet::tcp as fn(_, _) -> Packet, Packet::udp] {
                let mut frame = shape(a, b).payload(b"odd").build();
                set_source(&mut frame, other);
                assert_eq!(frame, shape(other, b).payload(b"odd").build(), "{other}");
            }
        }
    }

    #[test]
    fn udp_without_checksum() {
        for v4 in [true, false] {
            let (a, b) = ends(v4);
            let frame = Packet::udp(a, b).payload(b"x").zero_checksum().build();
            assert_eq!(checksums_ok(&frame), v4);
        }
    }

    #[test]
    fn ethernet_padding_is_not_covered() {
        let (a, b) = ends(true);
        let mut frame = Packet::tcp(a, b).build();
        frame.resize(64, 0x55);
        assert!(checksums_ok(&frame));
        assert_eq!(payload(&frame), Some(&[][..]));
    }

    #[test]
    fn fragments() {
        for v4 in [true, false] {
            let (a, b) = ends(v4);
            let whole = Packet::udp(a, b).payload(&[7; 100]);
            let frames = whole.build_fragments(43);
            assert_eq!(frames.len(), 3);
            let mut data: Vec<u8> = Vec::new();
            for (i, frame) in frames.iter().enumerate() {
                let parsed = parse(frame).unwrap();
                assert!(parsed.fragment && checksums_ok(frame));
                assert_eq!(parsed.first, i == 0);
                assert_eq!(tuple(frame).is_some(), i == 0);
                data.extend(&frame[parsed.l4..parsed.end]);
            }
            assert_eq!(data, whole.transport());
        }
    }

    #[test]
    fn flags_and_numbers() {
        let (a, b) = ends(false);
        let frame = Packet::tcp(a, b).flags(PSH | ACK).seq(5).ack(6).payload(b"x").build();
        assert_eq!(tcp_flags(&frame), Some(PSH | ACK));
        assert_eq!(tcp_seq_ack(&frame), Some((5, 6)));
    }

    #[test]
    fn splitmix64_reference() {
        let mut rng = Rng::new(1_234_567);
        let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
        assert_eq!([rng.next_u64(), rng.next_u64()], expected);
    }

    #[test]
    fn anything_can_be_judged() {
        let (mut rng, shapes) = (Rng::new(1), shapes());
        for _ in 0..50_000 {
            let mut frame = shapes[rng.below(shapes.len() as u64) as usize].build();
            mutate(&mut frame, &mut rng);
            let _ = (checksums_ok(&frame), tuple(&frame), payload(&frame), tcp_seq_ack(&frame));
        }
    }
}
