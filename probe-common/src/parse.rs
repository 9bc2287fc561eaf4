//! The packet parser: Ethernet, up to two VLAN tags (802.1Q, 802.1ad), IPv4
//! with options or IPv6 with extension headers (RFC 8200), TCP or UDP.

use bytemuck::{AnyBitPattern, Pod, Zeroable};

use crate::address::{Address, Tuple, V4, V6};
use crate::reason::Reason;

/// TCP, as protocol number.
pub const TCP: u8 = 6;
/// UDP, as protocol number.
pub const UDP: u8 = 17;

/// TCP flag.
pub const FIN: u8 = 1;
/// TCP flag.
pub const SYN: u8 = 2;
/// TCP flag.
pub const RST: u8 = 4;
/// TCP flag.
pub const ACK: u8 = 16;

/// IPv6 hop-by-hop options, as protocol number.
const HOP_BY_HOP: u8 = 0;
/// IPv6 routing header, as protocol number.
const ROUTING: u8 = 43;
/// IPv6 fragment header, as protocol number.
pub(crate) const FRAGMENT: u8 = 44;
/// IPv6 destination options, as protocol number.
const DESTINATION: u8 = 60;
/// The option of destination options that says who the packet is from (RFC 6275, section 6.3),
/// and its length.
const HOME_ADDRESS: [u8; 2] = [0xc9, 16];
/// Where it is in a header of options: its address is to be aligned.
const HOME_ADDRESS_AT: usize = 6;
/// IPv4 options: loose and strict source route (RFC 791).
const SOURCE_ROUTES: [u8; 2] = [131, 137];
/// The most bytes of IPv4 options.
const MAX_OPTIONS: usize = 40;

/// The most IPv6 extension headers that are walked.
pub const MAX_EXTENSIONS: usize = 6;

/// Length of the Ethernet header.
pub const ETHERNET: usize = 14;

/// A source of packet bytes.
pub trait Bytes {
    /// The value at `offset` bytes into the frame; None past its end.
    fn load<T: Pod>(&self, offset: usize) -> Option<T>;

    /// [`extensions`]. Kernel programs do that apart from the rest: the verifier
    /// would follow each chain of headers through all that comes after it.
    #[inline(always)]
    fn extensions(&self, offset: usize, protocol: u8) -> Result<Walked, Reason> {
        extensions(self, offset, protocol)
    }

    /// [`has_route_left`], apart from the rest as well.
    #[inline(always)]
    fn has_route_left(&self, offset: usize, length: usize) -> bool {
        has_route_left(self, offset, length)
    }

    /// The same number, of which the compiler forgets what it knew.
    #[inline(always)]
    fn opaque(&self, number: usize) -> usize {
        number
    }

    /// Whether the frame is too long for the length field of its IP header, which is 0 then
    /// (Linux: BIG TCP).
    fn is_beyond_length(&self) -> bool;
}

/// What is behind IPv6 extension headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Offset of the first header that is none of those.
    pub l4: usize,
    /// Its protocol number.
    pub protocol: u8,
    /// See [`Headers::first`].
    pub first: bool,
}

#[inline(always)]
const fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION)
}

/// Walks IPv6 extension headers, of which the first is at `offset` and has the
/// number `protocol`. An error is [`Reason::PassUnparsed`], for a fragment
/// other than the first [`Reason::PassFragment`], or [`Reason::PassRouteLeft`]
/// if the addresses are not those that the packet goes between.
#[inline(always)]
pub fn extensions(
    frame: &(impl Bytes + ?Sized),
    offset: usize,
    protocol: u8,
) -> Result<Walked, Reason> {
    let (mut l4, mut protocol, mut first) = (offset, protocol, false);
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(protocol) {
            return Ok(Walked { l4, protocol, first });
        }
        let [next, units]: [u8; 2] = frame.load(l4).ok_or(Reason::PassUnparsed)?;
        first = false;
        if protocol == ROUTING {
            let [_, left]: [u8; 2] = frame.load(l4 + 2).ok_or(Reason::PassUnparsed)?;
            if left != 0 {
                return Err(Reason::PassRouteLeft);
            }
        }
        if protocol == DESTINATION
            && frame.load::<[u8; 2]>(l4 + HOME_ADDRESS_AT).ok_or(Reason::PassUnparsed)?
                == HOME_ADDRESS
        {
            return Err(Reason::PassRouteLeft);
        }
        let mut length = (units as usize + 1) * 8;
        if protocol == FRAGMENT {
            let place = u16::from_be(frame.load(l4 + 2).ok_or(Reason::PassUnparsed)?);
            if place & 0xfff8 != 0 {
                return Err(Reason::PassFragment);
            }
            first = place & 1 != 0;
            length = 8;
        }
        protocol = next;
        l4 += length;
    }
    if is_extension(protocol) {
        return Err(Reason::PassUnparsed);
    }
    Ok(Walked { l4, protocol, first })
}

/// Whether a source route among IPv4 options of so many bytes has hops left: the
/// destination is the next of them. A malformed list ends where it is malformed.
#[inline(always)]
pub fn has_route_left(frame: &(impl Bytes + ?Sized), offset: usize, length: usize) -> bool {
    let mut at = 0;
    for _ in 0..MAX_OPTIONS {
        // For the verifier, which else would tell apart all ways of getting here.
        let length = frame.opaque(length) & 0x3f;
        if at >= length || at >= MAX_OPTIONS {
            return false;
        }
        at = frame.opaque(at) & 0x3f;
        // Behind the last place where one can be, this may be past the end.
        let Some([kind, size, pointer]) = frame.load::<[u8; 3]>(offset + at) else {
            return false;
        };
        match kind {
            0 => return false,
            1 => at += 1,
            _ if SOURCE_ROUTES.contains(&kind) && at + 3 <= length => return pointer <= size,
            _ if size < 2 => return false,
            _ => at += size as usize,
        }
    }
    false
}

impl Bytes for [u8] {
    fn is_beyond_length(&self) -> bool {
        self.len() > u16::MAX as usize
    }

    fn load<T: AnyBitPattern>(&self, offset: usize) -> Option<T> {
        let end = offset.checked_add(size_of::<T>())?;
        self.get(offset..end).map(bytemuck::pod_read_unaligned)
    }
}

/// Why a frame has no tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoTuple {
    /// Another protocol: nothing to count.
    Other,
    /// To count.
    Reason(Reason),
}

use NoTuple::Other;
const UNPARSED: NoTuple = NoTuple::Reason(Reason::PassUnparsed);

/// The EtherType (host order) behind VLAN tags, and where the packet starts.
#[inline(always)]
pub fn ethernet(frame: &(impl Bytes + ?Sized)) -> Option<(u16, usize)> {
    let mut offset = ETHERNET;
    let mut ethertype = u16::from_be(frame.load(12)?);
    for _ in 0..2 {
        if ethertype != 0x8100 && ethertype != 0x88a8 {
            break;
        }
        ethertype = u16::from_be(frame.load(offset + 2)?);
        offset += 4;
    }
    Some((ethertype, offset))
}

/// What is known of a TCP or UDP packet, except its [`Tuple`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Headers {
    /// Offset of the IP header.
    pub l3: usize,
    /// Offset of the TCP or UDP header.
    pub l4: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Flags byte of TCP; 0 for UDP.
    pub flags: u8,
    /// Neither IPv4 options nor IPv6 extension headers.
    pub plain: bool,
    /// The first fragment of several, and others can be told to follow it: of
    /// IPv6, its fragment header is the last extension header.
    pub first: bool,
}

impl Headers {
    /// Whether a client that knows of no flow sends such a packet: a datagram, or a
    /// SYN and nothing else that speaks of a connection.
    #[inline(always)]
    pub const fn opens(&self) -> bool {
        self.protocol != TCP || self.flags & (SYN | ACK | RST | FIN) == SYN
    }
}

/// Source address and port of the packet whose IP header is at `l3`, and its TCP or UDP header at
/// `l4`.
#[inline(always)]
pub fn source<A: Parse>(frame: &(impl Bytes + ?Sized), l3: usize, l4: usize) -> Option<(A, u16)> {
    Some((frame.load(l3 + A::ADDRESSES)?, frame.load(l4)?))
}

/// Destination address and port of the packet whose headers are there.
#[inline(always)]
pub fn destination<A: Parse>(
    frame: &(impl Bytes + ?Sized),
    l3: usize,
    l4: usize,
) -> Option<(A, u16)> {
    Some((frame.load(l3 + A::ADDRESSES + size_of::<A>())?, frame.load(l4 + 2)?))
}

impl<A: Parse> Tuple<A> {
    /// Fills the tuple in place: the programs have no stack for copies of it. In words of 64 bits,
    /// as the kernel compares keys: it would wait for a word that was written in parts.
    #[inline(always)]
    pub fn load(&mut self, frame: &(impl Bytes + ?Sized), headers: &Headers) -> Option<()> {
        let both: A::Pair = frame.load(headers.l3 + A::ADDRESSES)?;
        let ports: u32 = frame.load(headers.l4)?;
        let protocol = u32::from_ne_bytes([headers.protocol, 0, 0, 0]);
        let ends: *mut A::Pair = (&raw mut self.src).cast();
        let rest: *mut u64 = (&raw mut self.sport).cast();
        // SAFETY: a repr(C) struct of two addresses, and then eight bytes: two ports, the
        // protocol, and zeros behind it.
        unsafe {
            ends.write_unaligned(both);
            rest.write_unaligned(bytemuck::cast([ports, protocol]));
        }
        Some(())
    }
}

/// IPv4 header without options, as on the wire.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct V4Header {
    pub version: u8,
    pub service: u8,
    pub total: u16,
    pub id: u16,
    pub fragment: u16,
    pub ttl: u8,
    pub protocol: u8,
    pub checksum: u16,
    pub addresses: [u32; 2],
}

/// IPv6 header, as on the wire.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct V6Header {
    pub version: u8,
    pub flow: [u8; 3],
    pub payload: u16,
    pub next: u8,
    pub hops: u8,
    pub addresses: [u64; 4],
}

/// A family whose packets can be parsed.
pub trait Parse: Address {
    /// Offset of the addresses in the IP header.
    const ADDRESSES: usize;
    /// Source and destination, in the largest words that they fill.
    type Pair: Pod;
    /// Parses the packet whose IP header is at `l3`.
    fn parse(frame: &(impl Bytes + ?Sized), l3: usize) -> Result<Headers, NoTuple>;
}

impl Parse for V4 {
    const ADDRESSES: usize = 12;
    type Pair = u64;

    #[inline(always)]
    fn parse(frame: &(impl Bytes + ?Sized), l3: usize) -> Result<Headers, NoTuple> {
        let [version, _]: [u8; 2] = frame.load(l3).ok_or(UNPARSED)?;
        let header = (version as usize & 15) * 4;
        // Before the rest is loaded: an entry point has no stack for it.
        if header > 20 && frame.has_route_left(l3 + 20, header - 20) {
            return Err(NoTuple::Reason(Reason::PassRouteLeft));
        }
        // At once: of a load of one byte at a variable offset, the kernel's
        // verifier learns nothing.
        let ip: V4Header = frame.load(l3).ok_or(UNPARSED)?;
        let protocol = ip.protocol;
        if protocol != TCP && protocol != UDP {
            return Err(Other);
        }
        if ip.version >> 4 != 4 || header < 20 {
            return Err(UNPARSED);
        }
        let fragment = u16::from_be(ip.fragment) & 0x3fff;
        if fragment & 0x1fff != 0 {
            return Err(NoTuple::Reason(Reason::PassFragment));
        }
        let room = (ip.total != 0).then(|| u16::from_be(ip.total) as usize);
        let walked = Walked { l4: l3 + header, protocol, first: fragment != 0 };
        transport(frame, l3, walked, header == 20, room)
    }
}

impl Parse for V6 {
    const ADDRESSES: usize = 8;
    type Pair = [u64; 4];

    #[inline(always)]
    fn parse(frame: &(impl Bytes + ?Sized), l3: usize) -> Result<Headers, NoTuple> {
        let ip: V6Header = frame.load(l3).ok_or(UNPARSED)?;
        if ip.version >> 4 != 6 {
            return Err(UNPARSED);
        }
        let plain = ip.next == TCP || ip.next == UDP;
        let mut walked = Walked { l4: l3 + 40, protocol: ip.next, first: false };
        if !plain {
            walked = frame.extensions(walked.l4, ip.next).map_err(NoTuple::Reason)?;
            if walked.protocol != TCP && walked.protocol != UDP {
                return Err(Other);
            }
        }
        let room = (ip.payload != 0).then(|| u16::from_be(ip.payload) as usize + 40);
        transport(frame, l3, walked, plain, room)
    }
}

/// `room` is for so many bytes in the IP packet, as it says itself; None if it does not.
#[inline(always)]
fn transport(
    frame: &(impl Bytes + ?Sized),
    l3: usize,
    Walked { l4, protocol, first }: Walked,
    plain: bool,
    room: Option<usize>,
) -> Result<Headers, NoTuple> {
    // The checksum field is the last that is needed: the whole of UDP, and of TCP 18 bytes.
    let (flags, length) = if protocol == TCP {
        let header: [u8; 18] = frame.load(l4).ok_or(UNPARSED)?;
        // One of fewer words than there are is for the endpoint to find out.
        let length = (header[12] >> 4) as usize * 4;
        (header[13], if length < 20 { 20 } else { length })
    } else {
        let _: [u8; 8] = frame.load(l4).ok_or(UNPARSED)?;
        (0, 8)
    };
    // What is behind the IP packet is padding, and no header.
    let fits = match room {
        Some(room) => l4 - l3 + length <= room,
        None => protocol == TCP && frame.is_beyond_length(),
    };
    if !fits {
        return Err(UNPARSED);
    }
    Ok(Headers { l3, l4, protocol, flags, plain, first })
}
