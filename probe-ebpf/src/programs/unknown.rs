//! Packets of no known flow: what they become, and for those that a split steers, the
//! endpoint. A hash of the packet is all that goes into that choice.

use probe_common::address::Tuple;
use probe_common::choose::{Chosen, Splits as _, choose as choose_of};
use probe_common::hash;
use probe_common::map::subset_index;
use probe_common::parse::{RST, SYN, TCP};
use probe_common::reason::Reason;

use super::choice::{Maps, service_key};
use super::counters::passed;
use super::creation::prepare;
use super::family::Family;
use super::foreign;
use super::foreign::is_foreign;
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::log::Event;
use super::maps::{SUBSET_STATS, hash_seed};
use super::other::is_answered;
use super::reject::reject;
use super::verdict::Verdict;

/// In what [`choose`] returns: the flow was put together, see [`super::creation`];
/// else it is a verdict.
pub const CHOSEN: u64 = 1 << 32;
/// Beside [`CHOSEN`]: the packet is a stray RST, and no flow.
pub const STRAY: u64 = 1 << 33;

/// Chooses the endpoint of a packet of no known flow, and puts the flow together; see [`CHOSEN`]. Unknown if
/// the flow is known after all.
#[inline(always)]
pub fn choose<A: Family, F: Hook>(frame: &F, place: HeaderOffsets) -> u64 {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass as u64;
    };
    let tuple = &tuple;
    let opens = headers.protocol == TCP && headers.flags & SYN != 0;
    if !opens && A::flows().get_ptr(tuple).is_some() {
        // It was a new one, and moved while it was looked for.
        return Verdict::Unknown as u64;
    }
    let service = service_key(tuple.dst, tuple.dport, tuple.protocol);
    let event = if let Some(split) = Maps.split(&service) {
        if !opens && is_foreign(tuple) {
            passed::<F>(Reason::PassForeign);
            return Verdict::Pass as u64;
        }
        let chosen = choose_of(&Maps, split, |by_client| {
            if by_client {
                hash::client(hash_seed(), tuple)
            } else {
                hash::flow(hash_seed(), tuple)
            }
        });
        let Some(Chosen { subset, endpoint }) = chosen else {
            return Verdict::Pass as u64;
        };
        if let Some(id) = endpoint {
            if opens && headers.flags & RST == 0 {
                foreign::forget(tuple);
            }
            return match prepare(frame, &headers, tuple, [id, subset]) {
                Some(stray) => CHOSEN | if stray { STRAY } else { 0 },
                None => Verdict::Pass as u64,
            };
        }
        if F::ANSWERS
            && let Some(stats) = SUBSET_STATS.get_ptr_mut(subset_index(subset))
        {
            // SAFETY: the slot of this CPU; programs on it do not preempt each other.
            unsafe { (*stats).rejected += 1 }
        }
        Event::RejectNoEndpoint
    } else if opens && A::flows().get_ptr(tuple).is_some() {
        // Of a service that was removed: a flow that it may have begun beside has it then.
        return Verdict::Unknown as u64;
    } else if is_answered(tuple.dst) {
        Event::AnswerOther
    } else {
        return Verdict::Pass as u64;
    };
    if !F::ANSWERS {
        // TC answers.
        return Verdict::Pass as u64;
    }
    reject(frame, &headers, tuple, event) as u64
}
