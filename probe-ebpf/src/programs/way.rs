//! Which way a new flow goes, for all its life: past the node's stack, or through it.
//!
//! Connection tracking, and rules that ask it, see a flow from its first packet on or not at all.
//! Half of one would be kept as a connection that never comes about, and what comes later be taken
//! for invalid. Of a flow that began past the stack and comes to it in its middle, when the way is
//! shut, tracking makes a connection of which it accepts all.

use probe_common::flow::{ADOPTED, PAST};

use super::hook::Hook;
use super::new_flows::NewFlows;
use super::route::{Routed, answers_come_by, comes_from_there, ethertype, is_on, look_up_to};
use super::tc::TcFrame;
use super::xdp::XdpFrame;

/// A frame that a flow begins with.
pub trait Beginning<A>: Hook {
    /// Whether the packets of the flow that is put together may go past the stack.
    fn may_pass(&self) -> bool;
}

impl<A: NewFlows + Routed> Beginning<A> for TcFrame {
    /// If its first one can, which is at hand, and answers will come by a program. The stack would
    /// have asked whether its source is valid: so that is asked here, as strictly as the stack can.
    #[inline(always)]
    fn may_pass(&self) -> bool {
        let Some(new_flow) = A::new_flow_scratch().get_ptr(0) else { return false };
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        let new_flow = unsafe { &*new_flow };
        let to = new_flow.address.words();
        let ports = [new_flow.reply_port, new_flow.endpoint_port];
        ethertype(self) == A::ETHERTYPE
            && comes_from_there::<A, Self>(self, new_flow.client.words(), to)
            && look_up_to::<A, Self>(self, Some((to, ports))).is_ok()
            && answers_come_by()
    }
}

impl<A, const VIRTUAL: bool> Beginning<A> for XdpFrame<VIRTUAL> {
    /// The first one goes through the stack in any case, and answers may.
    #[inline(always)]
    fn may_pass(&self) -> bool {
        false
    }
}

/// Notes in the flow that is put together whether its packets may go past the stack. What is first
/// seen in its middle goes through it: tracking may know its beginning.
#[inline(always)]
pub fn way<A: NewFlows, F: Beginning<A>>(frame: &F) -> u32 {
    let Some(slot) = A::new_flow_scratch().get_ptr_mut(0) else { return 0 };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let state = unsafe { &raw mut (*slot).state };
    // SAFETY: as above.
    let adopted = unsafe { *state } & ADOPTED != 0;
    if adopted || !is_on() || !frame.may_pass() {
        return 0;
    }
    // SAFETY: as above.
    unsafe { *state |= PAST }
    1
}
