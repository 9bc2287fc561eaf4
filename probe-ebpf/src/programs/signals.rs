//! What becomes of TCP flows, told by subset; see [`probe_common::map::SubsetSignals`].

use probe_common::address::Address;
use probe_common::flow::{
    ADOPTED, ANSWERED, ASKED, ENDED, ESTABLISHED, FIN_CLIENT, FIN_ENDPOINT, REPLIED, RESET, SYNCED,
    UNANSWERED,
};
use probe_common::map::{EARLY, Signal, subset_index};
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::tcp::Side;

use super::hook::Hook;
use super::maps::{SUBSET_IDS, SUBSET_SIGNALS};

/// Ticks after a flow's first packet from which on a SYN that is sent again had no answer for
/// long: more than two ticks, so that it is not the first time, a second after the first one.
const LONG: u32 = 3;

/// Counts for the subset that a flow was steered to, unless another one has its index by now. In a
/// function of its own: what calls it has no stack left. As all global functions, it returns a
/// number; this one says nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_signal(subset: u32, signal: u32) -> u32 {
    let index = subset_index(subset);
    if SUBSET_IDS.get(index) != Some(&subset) {
        return 0;
    }
    let Some(signals) = SUBSET_SIGNALS.get_ptr_mut(index) else { return 0 };
    if signal >= Signal::COUNT as u32 {
        return 0;
    }
    // SAFETY: a counter of this CPU, within the value; programs on it do not preempt each other.
    unsafe { *signals.cast::<u64>().add(signal as usize) += 1 }
    0
}

#[inline(always)]
fn tell(subset: u32, signal: Signal) {
    let _ = weir_signal(subset, signal as u32);
}

/// The bit of the state that says that a side has sent data.
#[inline(always)]
pub const fn data_of(side: Side) -> u16 {
    match side {
        Side::Client => ASKED,
        Side::Endpoint => REPLIED,
    }
}

/// Whether a TCP segment has data.
#[inline(always)]
pub fn has_data<A: Address>(frame: &impl Hook, headers: &Headers) -> bool {
    let (l3, l4) = (headers.l3, headers.l4);
    let (field, before) = if size_of::<A>() == 16 { (4, 40) } else { (2, 0) };
    let Some(length) = frame.load::<u16>(l3 + field) else { return false };
    let Some([offset]) = frame.load::<[u8; 1]>(l4 + 12) else { return false };
    // Of a packet of more than 64 KiB (BIG TCP) the length is 0: it has data, and the difference
    // is a large one.
    let behind = u16::from_be(length).wrapping_sub((l4 - l3 - before) as u16);
    behind > (offset >> 4) as u16 * 4
}

/// What a flow was before a packet.
#[derive(Clone, Copy)]
pub struct Before {
    /// See [`probe_common::flow::Entry::state`].
    pub state: u16,
    /// The subset that it was steered to.
    pub subset: u32,
    /// Ticks since its first packet.
    pub age: u32,
}

/// Tells what a segment says of its flow, and returns what is to be set in the flow's state,
/// which is `after` by what else the segment says, by the bits `changed`
/// ([`probe_common::tcp::Change::set`]). `has_data`: whether the segment has.
#[inline(always)]
pub fn tell_segment(
    before: Before,
    changed: u16,
    after: u16,
    flags: u8,
    side: Side,
    has_data: impl Fn() -> bool,
) -> u16 {
    let Before { state, subset, age } = before;
    if state & ESTABLISHED == 0 && flags & (SYN | RST) == SYN {
        return tell_handshake(state, subset, age, side);
    }
    let mut set = 0;
    // What is out of the window is not the flow's.
    let counts = changed & (SYNCED | ESTABLISHED) != 0;
    let data = data_of(side);
    if counts && after & ESTABLISHED != 0 && state & data == 0 && has_data() {
        set = data;
        if state & ADOPTED == 0 {
            tell(subset, if let Side::Client = side { Signal::Asked } else { Signal::Replied });
        }
    }
    set
}

/// A SYN of a flow that there is already.
#[inline(always)]
fn tell_handshake(state: u16, subset: u32, age: u32, side: Side) -> u16 {
    match side {
        Side::Client => {
            tell(subset, Signal::SynRetransmits);
            if state & (ANSWERED | RESET | UNANSWERED) == 0 && age >= LONG {
                tell(subset, Signal::Unanswered);
                return UNANSWERED;
            }
        }
        Side::Endpoint if state & ANSWERED != 0 => tell(subset, Signal::SynAckRetransmits),
        Side::Endpoint => {}
    }
    0
}

/// Tells how a completed TCP flow ended by a segment that makes its state `after`.
#[inline(always)]
pub fn tell_end(before: Before, changed: u16, after: u16, side: Side) {
    let Before { state, subset, age } = before;
    if after & ENDED == 0 || state & ENDED != 0 {
        return;
    }
    if changed & RESET == 0 {
        return tell(subset, Signal::EndedByFin);
    }
    if let Side::Client = side {
        return tell(subset, Signal::ResetByClient);
    }
    let knows_nothing = state & (REPLIED | ADOPTED) == 0;
    tell(subset, if knows_nothing { Signal::ResetBeforeReply } else { Signal::ResetAfterReply });
    if age <= EARLY && state & (FIN_CLIENT | FIN_ENDPOINT | ADOPTED) == 0 {
        tell(subset, Signal::EarlyResets);
    }
}

/// Whether a segment is the first of its direction that has data, of a live flow.
#[inline(always)]
pub fn begins_data<A: Address>(
    frame: &impl Hook,
    headers: &Headers,
    state: u16,
    forward: bool,
) -> bool {
    let data = if forward { ASKED } else { REPLIED };
    headers.protocol == TCP && state & data == 0 && has_data::<A>(frame, headers)
}
