//! The entry points, which only translate verdicts.

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC, xdp_action};
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

use super::generations::{self, FORWARD, PHYSICAL, REPLY, VIRTUAL};
use super::steps::walk;
use super::tc::TcFrame;
use super::verdict::Verdict;
use super::xdp::XdpFrame;
use super::{shortcut, transfer, xdp_redirect};

#[inline(always)]
fn tc(frame: &TcFrame, verdict: Verdict, slot: u32) -> i32 {
    match verdict {
        Verdict::Elsewhere => generations::hand_over(frame, slot),
        // Not TC_ACT_OK: programs behind this one have their say.
        Verdict::Answer => frame.send_back(),
        Verdict::Drop => TC_ACT_SHOT,
        _ => TC_ACT_UNSPEC,
    }
}

/// Forward direction, TC ingress of a client-facing interface. Replies too,
/// of endpoints behind that interface, if they can go past the stack, or leave
/// where no program is.
// Else it is a function of its own, which costs 32 bytes of stack.
#[classifier]
#[inline(always)]
pub fn weir_tc_forward(ctx: TcContext) -> i32 {
    let frame = TcFrame::new(ctx);
    if generations::all_are_others() {
        return generations::hand_over(&frame, FORWARD);
    }
    match walk::<_, true>(&frame) {
        Verdict::Steered => shortcut::bypass(&frame),
        Verdict::FromEndpoint => shortcut::reply(&frame),
        verdict @ (Verdict::Stray | Verdict::StrayFragment) => {
            shortcut::stray(&frame, verdict == Verdict::StrayFragment)
        }
        verdict => tc(&frame, verdict, FORWARD),
    }
}

/// Reply direction, TC egress of a client-facing interface.
#[classifier]
pub fn weir_tc_reply(ctx: TcContext) -> i32 {
    let frame = TcFrame::new(ctx);
    if generations::all_are_others() {
        return generations::hand_over(&frame, REPLY);
    }
    let verdict = walk::<_, false>(&frame);
    tc(&frame, verdict, REPLY)
}

/// Does what user space cannot do beside programs that run: see [`transfer`].
/// Attached nowhere.
#[classifier]
pub fn weir_transfer(ctx: TcContext) -> i32 {
    transfer::transfer(&TcFrame::new(ctx))
}

#[inline(always)]
fn xdp<const KIND: bool>(frame: &XdpFrame<KIND>, verdict: Verdict, slot: u32) -> u32 {
    match verdict {
        Verdict::Elsewhere => generations::hand_over_xdp(frame, slot),
        Verdict::Answer => xdp_action::XDP_TX,
        Verdict::Drop => xdp_action::XDP_DROP,
        _ => xdp_action::XDP_PASS,
    }
}

#[inline(always)]
fn physical(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::<false>::new(ctx);
    if generations::all_are_others() {
        return generations::hand_over_xdp(&frame, PHYSICAL);
    }
    match walk::<_, true>(&frame) {
        Verdict::Steered => xdp_redirect::bypass(&frame),
        verdict => xdp(&frame, verdict, PHYSICAL),
    }
}

#[inline(always)]
fn on_virtual(ctx: XdpContext) -> u32 {
    let frame = XdpFrame::<true>::new(ctx);
    if generations::all_are_others() {
        return generations::hand_over_xdp(&frame, VIRTUAL);
    }
    let verdict = walk::<_, true>(&frame);
    xdp(&frame, verdict, VIRTUAL)
}

/// Forward direction, XDP of a physical interface. Packets may be in several
/// buffers (Linux 5.18), as jumbo frames are: the headers are in the first.
#[xdp(frags)]
pub fn weir_xdp_forward(ctx: XdpContext) -> u32 {
    physical(ctx)
}

/// The same for older kernels, which have packets in one buffer.
#[xdp]
pub fn weir_xdp_forward_linear(ctx: XdpContext) -> u32 {
    physical(ctx)
}

/// Forward direction, XDP of a virtual interface: checksums may be partial,
/// and what is to be rejected is left to TC, since XDP_TX on a veth is lost
/// when the peer has no NAPI.
#[xdp(frags)]
pub fn weir_xdp_forward_virtual(ctx: XdpContext) -> u32 {
    on_virtual(ctx)
}

/// The same for older kernels.
#[xdp]
pub fn weir_xdp_forward_virtual_linear(ctx: XdpContext) -> u32 {
    on_virtual(ctx)
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
