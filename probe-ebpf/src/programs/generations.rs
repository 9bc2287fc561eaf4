//! Two generations of programs and maps, while flows go from one to the other.
//!
//! The object is then loaded as transitional on the maps of one generation, and
//! the programs of the other one, which know nothing of this, are where its
//! programs can jump to. What is whose is one number, STAGE, for all hooks: it
//! changes for all of them at the same moment. See docs/design/upgrade.md.
//!
//! The verifier removes all of this from programs that are loaded as usual.

use aya_ebpf::bindings::{__sk_buff, TC_ACT_UNSPEC, xdp_action, xdp_md};
use aya_ebpf::programs::{TcContext, XdpContext};
use probe_common::map::{STAGE_BEGINS_HERE, STAGE_OTHER, STAGE_OWN};

use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::maps::{OTHER_TC, OTHER_XDP, STAGE, transitional};

/// Slot of OTHER_TC: the forward direction.
pub const FORWARD: u32 = 0;
/// Slot of OTHER_TC: the reply direction.
pub const REPLY: u32 = 1;
/// Slot of OTHER_XDP: physical devices.
pub const PHYSICAL: u32 = 0;
/// Slot of OTHER_XDP: virtual devices.
pub const VIRTUAL: u32 = 1;

#[inline(always)]
fn stage() -> u32 {
    if transitional() == 0 {
        return STAGE_OWN;
    }
    STAGE.get(0).copied().unwrap_or(STAGE_OWN)
}

/// Whether the other generation may know what this one does not.
#[inline(always)]
pub fn are_two() -> bool {
    stage() != STAGE_OWN
}

/// Whether all packets are the other generation's.
#[inline(always)]
pub fn all_are_others() -> bool {
    stage() == STAGE_OTHER
}

/// Whether a packet towards a service, of no flow that is known here, is the
/// other generation's.
#[inline(always)]
pub fn is_others(place: HeaderOffsets) -> bool {
    match stage() {
        STAGE_OWN => false,
        STAGE_BEGINS_HERE => !place.begins(),
        _ => true,
    }
}

/// Jumps to the other generation's program; the packet passes if there is none.
#[inline(always)]
pub fn hand_over(frame: &impl Hook<Context = __sk_buff>, slot: u32) -> i32 {
    // SAFETY: ctx is the program's context. It returns only if there is no such program.
    unsafe { OTHER_TC.tail_call(&TcContext::new(frame.context()), slot) };
    TC_ACT_UNSPEC
}

/// The same at XDP.
#[inline(always)]
pub fn hand_over_xdp(frame: &impl Hook<Context = xdp_md>, slot: u32) -> u32 {
    // SAFETY: as above.
    unsafe { OTHER_XDP.tail_call(&XdpContext::new(frame.context()), slot) };
    xdp_action::XDP_PASS
}
