//! Where a packet would go if the node's stack forwarded it.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_SUCCESS,
};
use aya_ebpf::helpers::generated::{bpf_fib_lookup, bpf_jiffies64};
use probe_common::address::{V4, V6};
use probe_common::map::{FAST_PATH_TRACKED, LEAVES_UNSEEN, TAKES_REPLIES};
use probe_common::parse::{ETHERNET, TCP, UDP};
use probe_common::reason::Reason;

use super::departing::Departing;
use super::family::Family;
use super::hook::Hook;
use super::maps::{FAST_PATH, INTERFACES, ROUTE};
use super::values::Route;

/// Where the IP header is, in frames whose route is looked up.
pub const L3: usize = ETHERNET;
/// The flag "don't fragment", which is none that says that a packet is a fragment.
const DONT_FRAGMENT: u16 = 0x4000;

/// A family whose packets can go past the stack.
pub trait Routed: Family {
    /// AF_INET or AF_INET6.
    const AF: u8;
    /// Length of a header without options.
    const HEADER: usize;
    /// Fills in what the IP header says. An error if the packet is not one to be plainly
    /// forwarded; addresses and service are there all the same.
    fn describe(frame: &impl Hook, route: &mut Route) -> Result<(), Reason>;
    /// Takes one from the TTL or hop limit, which is not its last.
    fn age(frame: &impl Hook) -> Option<()>;
    /// Whether an address, of which this is the first word as it is on the wire, is one that hosts
    /// have and the stack forwards packets from: no group's, no loopback, not of one link.
    fn is_plain(first: u32) -> bool;
}

impl Routed for V4 {
    const AF: u8 = 2;
    const HEADER: usize = 20;

    #[inline(always)]
    fn describe(frame: &impl Hook, route: &mut Route) -> Result<(), Reason> {
        let header: [u32; 5] = frame.load(L3).ok_or(Reason::StackHeaders)?;
        let [version, service, _, _] = header[0].to_ne_bytes();
        let [ttl, protocol, _, _] = header[2].to_ne_bytes();
        route.protocol = protocol;
        route.service = service as u32;
        route.src[0] = header[3];
        route.dst[0] = header[4];
        let fragment = u16::from_be((header[1] >> 16) as u16);
        if version != 0x45 || fragment & !DONT_FRAGMENT != 0 {
            return Err(Reason::StackHeaders);
        }
        if ttl <= 1 { Err(Reason::StackTtl) } else { Ok(()) }
    }

    /// RFC 1624: one less in the upper half of a word is one more, there, in the
    /// checksum.
    #[inline(always)]
    fn age(frame: &impl Hook) -> Option<()> {
        let [ttl_protocol, checksum]: [u16; 2] = frame.load(L3 + 8)?;
        let sum = checksum as u32 + u16::to_be(0x100) as u32;
        let checksum = (sum + (sum >= 0xffff) as u32) as u16;
        // The TTL is the byte that comes first.
        frame.store(L3 + 8, [ttl_protocol - 1, checksum])
    }

    /// Not 0/8, 127/8, nor 224/3.
    #[inline(always)]
    fn is_plain(first: u32) -> bool {
        let [first, ..] = first.to_ne_bytes();
        first != 0 && first != 127 && first < 224
    }
}

impl Routed for V6 {
    const AF: u8 = 10;
    const HEADER: usize = 40;

    #[inline(always)]
    fn describe(frame: &impl Hook, route: &mut Route) -> Result<(), Reason> {
        let header: [u32; 10] = frame.load(L3).ok_or(Reason::StackHeaders)?;
        let [_, _, protocol, hops] = header[1].to_ne_bytes();
        route.protocol = protocol;
        route.service = header[0] & u32::to_be(0x0fff_ffff);
        route.src = [header[2], header[3], header[4], header[5]];
        route.dst = [header[6], header[7], header[8], header[9]];
        if protocol != TCP && protocol != UDP {
            return Err(Reason::StackHeaders);
        }
        if hops <= 1 { Err(Reason::StackTtl) } else { Ok(()) }
    }

    #[inline(always)]
    fn age(frame: &impl Hook) -> Option<()> {
        let next_hops: u16 = frame.load(L3 + 6)?;
        // The hop limit is the byte that comes last.
        frame.store(L3 + 6, next_hops - 0x100)?;
        // No checksum of the packet covers it, but the one that a device has
        // computed over all of the packet does: complement of the old, and the new.
        frame.sum_up(!0x100);
        Some(())
    }

    /// Of 2000::/3 and fc00::/7: those that are routed.
    #[inline(always)]
    fn is_plain(first: u32) -> bool {
        let [first, ..] = first.to_ne_bytes();
        first & 0xe0 == 0x20 || first & 0xfe == 0xfc
    }
}

/// The scratch space of this CPU.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Route> {
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    ROUTE.get_ptr_mut(0).map(|route| unsafe { &mut *route })
}

/// The EtherType of a frame without VLAN tags.
#[inline(always)]
pub fn ethertype(frame: &impl Hook) -> u16 {
    frame.load(12).map_or(0, u16::from_be)
}

/// Whether packets may go past the stack now.
#[inline(always)]
pub fn is_on() -> bool {
    // SAFETY: no arguments.
    FAST_PATH.get(0).is_some_and(|until| unsafe { bpf_jiffies64() } < *until)
}

/// Whether packets might go past the stack when an agent last said something of that. An agent
/// that ends says nothing, and one that closes the way says 0.
#[inline(always)]
pub fn was_on() -> bool {
    FAST_PATH.get(0).is_some_and(|until| *until != 0)
}

/// Whether the node's stack keeps account of flows, so that it is to see one whole or not at all.
#[inline(always)]
pub fn is_tracked() -> bool {
    FAST_PATH.get(0).is_some_and(|until| *until & FAST_PATH_TRACKED != 0)
}

/// Whether an interface has a flag; see [`probe_common::map::Interface::flags`].
#[inline(always)]
pub fn has_flag(ifindex: u32, flag: u32) -> bool {
    INTERFACES.get(ifindex).is_some_and(|known| known.flags & flag != 0)
}

/// Looks up the route of a packet as it stands, into [`scratch`]; or says why
/// the stack has to deal with it. Nothing else is changed.
#[inline(always)]
pub fn look_up<A: Routed, F: Departing>(frame: &F) -> Result<(), Reason> {
    look_up_to::<A, F>(frame, None)
}

/// As [`look_up`], of a packet that has another destination than it shall have: address, and ports
/// in wire order.
#[inline(always)]
pub fn look_up_to<A: Routed, F: Departing>(
    frame: &F,
    to: Option<([u32; 4], [u16; 2])>,
) -> Result<(), Reason> {
    frame.require_usual()?;
    let route = scratch().ok_or(Reason::StackRoute)?;
    A::describe(frame, route)?;
    let l4 = L3 + A::HEADER;
    let mut ports: [u16; 2] = frame.load(l4).ok_or(Reason::StackHeaders)?;
    if let Some((address, changed)) = to {
        (route.dst, ports) = (address, changed);
    }
    route.family = A::AF;
    [route.sport, route.dport] = ports;
    route.ifindex = frame.ifindex();
    route.length = length::<A>(frame, route.protocol)?;
    let length = route.length as u32;
    match ask(frame, route) {
        SUCCESS if exceeds_route(route.ifindex, length) => Err(Reason::StackMtu),
        SUCCESS => Ok(()),
        NO_NEIGHBOUR => Err(Reason::StackNoNeighbour),
        TOO_LONG => Err(Reason::StackMtu),
        _ => Err(Reason::StackRoute),
    }
}

const SUCCESS: i64 = BPF_FIB_LKUP_RET_SUCCESS as i64;
const NO_NEIGHBOUR: i64 = BPF_FIB_LKUP_RET_NO_NEIGH as i64;
const TOO_LONG: i64 = BPF_FIB_LKUP_RET_FRAG_NEEDED as i64;

#[inline(always)]
fn ask(frame: &impl Hook, route: &mut Route) -> i64 {
    let size = size_of::<Route>() as i32;
    // SAFETY: the context of the program, and a struct of that size.
    unsafe { bpf_fib_lookup(frame.context().cast(), (&raw mut *route).cast(), size, 0) }
}

/// Whether a packet of so many bytes is perhaps longer than the MTU of its route. The stack keeps
/// to one that is set for a route of IPv4 and not locked; the look-up does not tell of it.
#[inline(always)]
fn exceeds_route(ifindex: u32, length: u32) -> bool {
    INTERFACES.get(ifindex).is_some_and(|known| known.route_mtu != 0 && length > known.route_mtu)
}

/// Whether a packet comes in where a packet to its source would go out, which `rp_filter` at 1 has the
/// stack ask, and is from an address that is one host's. `from` is the source, `to` where it will go.
#[inline(always)]
pub fn comes_from_there<A: Routed, F: Departing>(frame: &F, from: [u32; 4], to: [u32; 4]) -> bool {
    let Some(route) = scratch() else { return false };
    if !A::is_plain(from[0]) || A::describe(frame, route).is_err() {
        return false;
    }
    route.family = A::AF;
    (route.src, route.dst) = (to, from);
    (route.sport, route.dport) = (0, 0);
    route.ifindex = frame.ifindex();
    route.length = 0;
    // Nor if the neighbour is not known: the answer would have to wait for the stack to ask.
    ask(frame, route) == SUCCESS && route.ifindex == frame.ifindex()
}

/// Whether the route in [`scratch`] leads to an interface where answers are dealt with as they
/// come in.
#[inline(always)]
pub fn answers_come_by() -> bool {
    scratch().is_some_and(|route| has_flag(route.ifindex, TAKES_REPLIES))
}

/// Whether the stack would send the packet, as it stands, out of an interface where no program
/// of weir's sees what leaves. Of an interface that nobody told of, that is not so.
#[inline(always)]
pub fn leaves_unseen<A: Routed, F: Departing>(frame: &F) -> bool {
    let Some(route) = scratch() else { return false };
    let plain = A::describe(frame, route);
    if plain == Err(Reason::StackTtl) {
        return false;
    }
    let ports: Option<[u16; 2]> = plain.ok().and_then(|()| frame.load(L3 + A::HEADER));
    [route.sport, route.dport] = ports.unwrap_or_default();
    route.family = A::AF;
    route.ifindex = frame.ifindex();
    // Whether it has to be cut does not matter.
    route.length = 0;
    match ask(frame, route) {
        SUCCESS | NO_NEIGHBOUR | TOO_LONG => has_flag(route.ifindex, LEAVES_UNSEEN),
        _ => false,
    }
}

/// Bytes of IP of the packet, or of the longest segment that it is to be cut
/// into: what has to fit the MTU.
#[inline(always)]
fn length<A: Routed>(frame: &impl Departing, protocol: u8) -> Result<u16, Reason> {
    let segment = frame.segment();
    let length = if segment == 0 {
        frame.length() as u32 - L3 as u32
    } else if protocol == TCP {
        let [offset, _]: [u8; 2] = frame.load(L3 + A::HEADER + 12).ok_or(Reason::StackHeaders)?;
        A::HEADER as u32 + (offset >> 4) as u32 * 4 + segment
    } else {
        A::HEADER as u32 + 8 + segment
    };
    if length > u16::MAX as u32 { Err(Reason::StackMtu) } else { Ok(length as u16) }
}
