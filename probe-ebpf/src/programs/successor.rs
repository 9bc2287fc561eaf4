//! The client's next flow beside a live one with the same tuple.
//!
//! A SYN on a live flow proves nothing: anybody can send one. While the flow's
//! endpoint drains, it may all the same be a client's that knows nothing of the
//! flow any more, and goes where new flows go. So it begins a flow among the new_flow
//! ones, and the live one is [`CONTESTED`] from then on, but goes on. Who confirms
//! the new endpoint's number has seen its answer, and is the client: then the live
//! flow gives way.

use probe_common::address::Tuple;
use probe_common::flow::{CONTESTED, ESTABLISHED};
use probe_common::new_flow::NewFlow;
use probe_common::parse::{Headers, TCP};
use probe_common::reason::Reason;
use probe_common::tcp::{Claim, Segment, claim};

use super::clock::now;
use super::counters::count;
use super::flows::forget;
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::new_flows::{AT_INGRESS, NewFlows, find};
use super::verdict::Verdict;

/// Ticks without a packet after which a handshake beside a live flow is none any
/// more: a client repeats its SYN, and an endpoint its answer, for about a minute.
const HANDSHAKE: i32 = 64;

/// A packet of the client of a live flow that is contested. Unknown if it is the
/// successor's; else it stays Contested.
#[inline(always)]
pub fn successor<A: NewFlows, F: Hook>(frame: &F, place: HeaderOffsets) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let found = find(tuple, AT_INGRESS).filter(|found| !found.reply);
    let Some(slot) = A::flows().get_ptr_mut(tuple) else {
        return Verdict::Unknown;
    };
    let stands = found.as_ref().is_some_and(|found| {
        let stale = is_stale(found.new_flow());
        if stale {
            found.remove();
        }
        !stale
    });
    let Some(found) = found.filter(|_| stands) else {
        // SAFETY: an entry of the table. Racing writers write alike.
        unsafe { (*slot).state &= !CONTESTED }
        return Verdict::Contested;
    };
    let claim = says(frame, &headers, found.new_flow());
    if !found.is_same() {
        return Verdict::Contested;
    }
    match claim {
        Claim::None => Verdict::Contested,
        Claim::Again => Verdict::Unknown,
        Claim::Proved => {
            // SAFETY: an entry of the table; a torn read costs at most a stray entry.
            let pair = unsafe { &*slot }.to(tuple).reversed();
            forget(A::flows(), tuple, &pair);
            count(Reason::FlowReused);
            Verdict::Unknown
        }
    }
}

/// What a packet says of a successor.
#[inline(always)]
fn says<A: NewFlows>(frame: &impl Hook, headers: &Headers, new_flow: &NewFlow<A>) -> Claim {
    if headers.protocol != TCP || new_flow.state & ESTABLISHED != 0 {
        // It is there since the live flow was not known for a while.
        return Claim::Proved;
    }
    let numbers: [u32; 2] = frame.load(headers.l4 + 4).unwrap_or([0; 2]);
    let [sequence, acknowledged] = numbers.map(u32::from_be);
    let segment = Segment { flags: headers.flags, sequence, acknowledged };
    claim(new_flow.state, new_flow.sequences, segment)
}

/// Whether nobody expects anything of the handshake any more.
#[inline(always)]
fn is_stale<A: NewFlows>(new_flow: &NewFlow<A>) -> bool {
    let silent = now().wrapping_sub(new_flow.seen) as i32;
    new_flow.protocol == TCP && new_flow.state & ESTABLISHED == 0 && silent > HANDSHAKE
}
