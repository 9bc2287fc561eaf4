//! The way past the node's stack at XDP of physical devices: a steered packet is
//! sent at once where its route leads, without a socket buffer.
//!
//! As at TC, whatever is not plain forwarding is left to the stack, with TTL and
//! link-layer addresses untouched. So is what the interface of the route could
//! not be given: the kernel would drop it and tell nobody.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use aya_ebpf::helpers::generated::bpf_redirect;
use probe_common::address::{Address as _, V4, V6};
use probe_common::frame::Frame as _;
use probe_common::map::{DEVICE_NDO_XMIT, DEVICE_NDO_XMIT_SG, DEVICE_XDP_RX, DEVICE_XDP_TX};
use probe_common::reason::Reason;

use super::counters::count;
use super::departing::Departing as _;
use super::global::global_function;
use super::hook::Hook as _;
use super::route::{Routed, ethertype, is_on, look_up, scratch};
use super::xdp::{XdpFrame, device};

type Physical = XdpFrame<false>;

global_function!(weir_xdp_send_v4(xdp_md, frame,) -> u32 = send::<V4>(frame));
global_function!(weir_xdp_send_v6(xdp_md, frame,) -> u32 = send::<V6>(frame));

/// Sends on a packet that was rewritten; or passes it to the stack.
#[inline(always)]
pub fn bypass(frame: &Physical) -> u32 {
    if !is_on() || device(frame.ifindex()) & DEVICE_XDP_RX == 0 {
        return xdp_action::XDP_PASS;
    }
    match ethertype(frame) {
        V4::ETHERTYPE => weir_xdp_send_v4(frame.context()),
        V6::ETHERTYPE => weir_xdp_send_v6(frame.context()),
        _ => {
            count(Reason::StackHeaders);
            xdp_action::XDP_PASS
        }
    }
}

#[inline(always)]
fn send<A: Routed>(frame: &Physical) -> u32 {
    if let Err(reason) = look_up::<A, Physical>(frame).and_then(|()| ask_device(frame)) {
        count(reason);
        return xdp_action::XDP_PASS;
    }
    match try_send::<A>(frame) {
        Some(action) => {
            count(Reason::Redirected);
            action
        }
        None => {
            count(Reason::RewriteFailed);
            xdp_action::XDP_DROP
        }
    }
}

/// Whether the interface of the route in [`scratch`] can be given the packet.
#[inline(always)]
fn ask_device(frame: &Physical) -> Result<(), Reason> {
    let out = scratch().ok_or(Reason::StackRoute)?.ifindex;
    let mut needed = if out == frame.ifindex() { DEVICE_XDP_TX } else { DEVICE_NDO_XMIT };
    if frame.is_in_parts() {
        needed |= DEVICE_NDO_XMIT_SG;
    }
    if device(out) & needed == needed { Ok(()) } else { Err(Reason::StackRoute) }
}

#[inline(always)]
fn try_send<A: Routed>(frame: &Physical) -> Option<u32> {
    A::age(frame)?;
    let route = scratch()?;
    frame.store(0, route.dmac)?;
    frame.store(6, route.smac)?;
    if route.ifindex == frame.ifindex() {
        return Some(xdp_action::XDP_TX);
    }
    // SAFETY: the helper takes numbers.
    Some(unsafe { bpf_redirect(route.ifindex, 0) } as u32)
}
