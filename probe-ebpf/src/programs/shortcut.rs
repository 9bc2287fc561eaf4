//! The way past the node's stack, at TC ingress: a steered packet is sent at
//! once where its route leads.
//!
//! Whatever is not plain forwarding is left to the stack, with TTL and
//! link-layer addresses untouched, so that nothing depends on this way.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::{bpf_redirect_neigh, bpf_redirect_peer};
use probe_common::address::{Address as _, V4, V6};
use probe_common::frame::Frame as _;
use probe_common::map::HAS_UNSEEN_EXIT;
use probe_common::parse::Bytes as _;
use probe_common::reason::Reason;

use super::counters::count;
use super::delivery::leave_to_egress;
use super::departing::Departing as _;
use super::generations::{FORWARD, are_two, hand_over};
use super::global::global_function;
use super::hook::Hook as _;
use super::maps::PEERS;
use super::route::{
    L3, Routed, ethertype, has_flag, is_on, leaves_unseen, look_up, scratch, was_on,
};
use super::steps::{Steps, entering_reply};
use super::tc::TcFrame;
use super::verdict::Verdict;

/// What a global function returns if a route was found; else a reason.
const FOUND: u32 = u32::MAX;

#[inline(always)]
fn number(found: Result<(), Reason>) -> u32 {
    match found {
        Ok(()) => FOUND,
        Err(reason) => {
            count(reason);
            reason as u32
        }
    }
}

/// What is sent is kept until the neighbour has answered.
#[inline(always)]
fn resolved(found: Result<(), Reason>) -> Result<(), Reason> {
    match found {
        Err(Reason::StackNoNeighbour) => Ok(()),
        found => found,
    }
}

/// A family with its global functions.
trait Shortcut: Routed {
    /// [`FOUND`], or the number of a reason.
    fn route(frame: &TcFrame) -> u32;
    /// As [`Shortcut::route`], also if the neighbour is not known yet.
    fn resolve(frame: &TcFrame) -> bool;
    /// [`leaves_unseen`], in a global function.
    fn unseen(frame: &TcFrame) -> bool;
    fn send(frame: &TcFrame) -> i32;
    /// The priority, for queues, that the stack gives to packets which it forwards; None past
    /// the end, nothing inside if it leaves it as it is.
    fn priority(frame: &TcFrame) -> Option<Option<u32>>;
}

/// Implements [`Shortcut`] for a family, with the global functions of these names.
macro_rules! shortcut {
    ($family:ty: $route:ident, $resolve:ident, $unseen:ident, $send:ident, $priority:ident) => {
        global_function!($route(__sk_buff, frame,) -> u32
            = number(look_up::<$family, TcFrame>(frame)));
        global_function!($resolve(__sk_buff, frame,) -> u32
            = number(resolved(look_up::<$family, TcFrame>(frame))));
        global_function!($unseen(__sk_buff, frame,) -> u32
            = leaves_unseen::<$family, TcFrame>(frame) as u32);
        global_function!($send(__sk_buff, frame,) -> i32 = send::<$family>(frame));

        impl Shortcut for $family {
            #[inline(always)]
            fn route(frame: &TcFrame) -> u32 {
                $route(frame.context())
            }

            #[inline(always)]
            fn resolve(frame: &TcFrame) -> bool {
                $resolve(frame.context()) == FOUND
            }

            #[inline(always)]
            fn unseen(frame: &TcFrame) -> bool {
                // The interface of a VLAN is another one.
                !frame.is_tagged() && $unseen(frame.context()) != 0
            }

            #[inline(always)]
            fn send(frame: &TcFrame) -> i32 {
                $send(frame.context())
            }

            #[inline(always)]
            fn priority(frame: &TcFrame) -> Option<Option<u32>> {
                $priority(frame)
            }
        }
    };
}

shortcut!(V4: weir_tc_route_v4, weir_tc_resolve_v4, weir_tc_unseen_v4, weir_tc_send_v4, by_service);
shortcut!(V6: weir_tc_route_v6, weir_tc_resolve_v6, weir_tc_unseen_v6, weir_tc_send_v6, unchanged);

/// The kernel's `rt_tos2priority`: by two bits of the type of service, best
/// effort, bulk, interactive, interactive bulk.
#[inline(always)]
fn by_service(frame: &TcFrame) -> Option<Option<u32>> {
    const PRIORITIES: u32 = 0x4620;
    let [_, service]: [u8; 2] = frame.load(L3)?;
    Some(Some(PRIORITIES >> (4 * (service >> 3 & 3)) & 0xf))
}

/// Of IPv6, the stack leaves it as it is.
#[inline(always)]
fn unchanged(_: &TcFrame) -> Option<Option<u32>> {
    Some(None)
}

/// Whether packets out of the interface may be handed to its peer.
#[inline(always)]
fn has_peer(ifindex: u32) -> bool {
    PEERS.get(ifindex / 64).is_some_and(|bits| *bits >> (ifindex % 64) & 1 != 0)
}

/// Sends on a packet that was rewritten; or passes it to the stack.
#[inline(always)]
pub fn bypass(frame: &TcFrame) -> i32 {
    if !is_on() {
        return TC_ACT_UNSPEC;
    }
    match ethertype(frame) {
        V4::ETHERTYPE => bypass_of::<V4>(frame),
        V6::ETHERTYPE => bypass_of::<V6>(frame),
        _ => {
            count(Reason::StackHeaders);
            TC_ACT_UNSPEC
        }
    }
}

#[inline(always)]
fn bypass_of<A: Shortcut>(frame: &TcFrame) -> i32 {
    if A::route(frame) == FOUND { A::send(frame) } else { TC_ACT_UNSPEC }
}

/// What may be a reply of an endpoint. Two things are decided.
///
/// Whether it is rewritten here: if it can be sent past the stack now, or no program sees it
/// leave. Else that is left to the program where it leaves: the stack might find that its new
/// source is not one for this interface (rp_filter, a service address of the node's own).
///
/// Whether it goes past the stack: if it may now. What no program sees leave still does when no
/// agent says so any more, if it did before: through the stack, its new source would fail as
/// above, and nobody here knows where. The requests of its connection go through the stack. Nor
/// does it wait for the stack to ask for the neighbour, which for want of this packet it would
/// never do.
#[inline(always)]
pub fn reply(frame: &TcFrame) -> i32 {
    match ethertype(frame) {
        V4::ETHERTYPE => reply_of::<V4>(frame),
        V6::ETHERTYPE => reply_of::<V6>(frame),
        _ => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
fn reply_of<A: Shortcut>(frame: &TcFrame) -> i32
where
    TcFrame: Steps<A, false>,
{
    if !frame.is_to_node() {
        return TC_ACT_UNSPEC;
    }
    let on = is_on();
    // Before the route, which it writes over.
    let unseen = is_unseen::<A>(frame);
    let found = if on { A::route(frame) } else { 0 };
    let mut past = on && found == FOUND;
    if !past {
        if !unseen {
            return TC_ACT_UNSPEC;
        }
        past = if on {
            found == Reason::StackNoNeighbour as u32
        } else {
            was_on() && A::resolve(frame)
        };
    }
    leave_to_egress(!unseen);
    let verdict = entering_reply::<A, _>(frame, L3);
    leave_to_egress(false);
    match verdict {
        Verdict::Steered if past => A::send(frame),
        Verdict::Drop => TC_ACT_SHOT,
        Verdict::Unknown if are_two() => hand_over(frame, FORWARD),
        _ => TC_ACT_UNSPEC,
    }
}

/// Whether no program sees the packet leave. Mostly that is known without a look at its route.
#[inline(always)]
fn is_unseen<A: Shortcut>(frame: &TcFrame) -> bool {
    has_flag(frame.ifindex(), HAS_UNSEEN_EXIT) && A::unseen(frame)
}

/// An ICMP error, or a fragment other than the first, that is perhaps an endpoint's or about a
/// packet to one: if no program sees it leave, it is dealt with here.
#[inline(always)]
pub fn stray(frame: &TcFrame, fragment: bool) -> i32 {
    match ethertype(frame) {
        V4::ETHERTYPE => stray_of::<V4>(frame, fragment),
        V6::ETHERTYPE => stray_of::<V6>(frame, fragment),
        _ => TC_ACT_UNSPEC,
    }
}

#[inline(always)]
fn stray_of<A: Shortcut>(frame: &TcFrame, fragment: bool) -> i32
where
    TcFrame: Steps<A, false>,
{
    if !frame.is_to_node() || !is_unseen::<A>(frame) {
        return TC_ACT_UNSPEC;
    }
    let mut verdict = Verdict::Unknown;
    if !fragment {
        verdict = Steps::<A, false>::icmp(frame, L3);
    }
    if verdict == Verdict::Unknown {
        verdict = Steps::<A, false>::fragment(frame, L3);
    }
    match verdict {
        Verdict::Elsewhere => hand_over(frame, FORWARD),
        Verdict::Drop => TC_ACT_SHOT,
        _ => TC_ACT_UNSPEC,
    }
}

/// Sends a packet whose route is in [`scratch`].
#[inline(always)]
fn send<A: Shortcut>(frame: &TcFrame) -> i32 {
    match try_send::<A>(frame) {
        Some(verdict) => {
            count(Reason::Redirected);
            verdict as i32
        }
        None => {
            count(Reason::RewriteFailed);
            TC_ACT_SHOT
        }
    }
}

/// `struct bpf_redir_neigh` of the kernel.
#[repr(C)]
struct NextHop {
    family: u32,
    address: [u32; 4],
}

#[inline(always)]
fn try_send<A: Shortcut>(frame: &TcFrame) -> Option<i64> {
    A::age(frame)?;
    let route = scratch()?;
    if has_peer(route.ifindex) {
        // The peer takes it whatever its MAC address; who looks at it there
        // shall see the right one.
        frame.store(0, route.dmac)?;
        frame.store(6, route.smac)?;
        // SAFETY: the helper takes numbers.
        return Some(unsafe { bpf_redirect_peer(route.ifindex, 0) });
    }
    if let Some(priority) = A::priority(frame)? {
        frame.set_priority(priority);
    }
    let mut hop = NextHop { family: route.family as u32, address: route.dst };
    let size = size_of::<NextHop>() as i32;
    // Not with the addresses at hand: sending to the neighbour is what makes the
    // kernel find out whether it is still there.
    // SAFETY: a struct of that size.
    Some(unsafe { bpf_redirect_neigh(route.ifindex, (&raw mut hop).cast(), size, 0) })
}
