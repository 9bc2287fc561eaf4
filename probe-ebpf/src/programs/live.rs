//! Packets of live flows that are not ordinary ones: with SYN, FIN or RST, the
//! first in a tick, first fragments, or to an endpoint that is gone.

use probe_common::address::Tuple;
use probe_common::flow::{CONTESTED, Entry, is_forward};
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use super::clock::{is_expired, is_idle, now};
use super::counters::count;
use super::delivery::{deliver, is_draining, is_gone};
use super::family::Family;
use super::flows::{forget, is_here, read};
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::reject::reject_gone;
use super::tracking::track;
use super::verdict::Verdict;

/// A packet whose flow may be in FLOWS. Unknown if it is not, or is over, or the
/// packet may be the first of one beside it; Contested if there may be such a one.
#[inline(always)]
pub fn live<A: Family, F: Hook, const INGRESS: bool>(frame: &F, place: HeaderOffsets) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let now = now();
    let Some(slot) = A::flows().get_ptr_mut(tuple) else {
        return Verdict::Unknown;
    };
    let Some(entry) = read(slot, tuple) else {
        // Should it be like that for good, it must not stay.
        let _ = A::flows().remove(tuple);
        count(Reason::EntryTorn);
        return Verdict::Unknown;
    };
    if !is_here::<A, INGRESS>(&entry) {
        return Verdict::Pass;
    }
    let pair = entry.to(tuple).reversed();
    let gone = is_gone(entry.endpoint);
    let outlived = gone && is_forward(entry.direction) && headers.opens();
    if outlived || starts_anew(&headers, &entry, &pair, now) {
        forget(A::flows(), tuple, &pair);
        count(Reason::FlowReused);
        return Verdict::Unknown;
    }
    if INGRESS && is_forward(entry.direction) && !place.is_judged() {
        if headers.protocol == TCP && headers.opens() && is_draining(entry.endpoint) {
            // SAFETY: an entry of the table. Racing writers write alike.
            unsafe { (*slot).state |= CONTESTED }
            return Verdict::Unknown;
        }
        if entry.state & CONTESTED != 0 {
            return Verdict::Contested;
        }
    }
    if gone {
        return reject_gone::<A, F, INGRESS>(frame, &headers, tuple, &entry);
    }
    track(frame, &headers, tuple, slot, &entry, &pair, now);
    deliver(frame, &headers, tuple, &entry)
}

/// Whether the packet is the first of a new flow on the tuple of a live one.
#[inline(always)]
fn starts_anew<A: Family>(headers: &Headers, entry: &Entry<A>, pair: &Tuple<A>, now: u32) -> bool {
    let protocol = headers.protocol;
    let opens = protocol != TCP || headers.flags & (SYN | RST) == SYN;
    if !opens || !is_forward(entry.direction) || !is_expired(entry, protocol, now) {
        return false;
    }
    // A closing flow is over; of an idle one, the endpoint may have gone on
    // sending to a silent client.
    if !is_idle(entry.seen, protocol, now) {
        return true;
    }
    match A::flows().get_ptr(pair) {
        // SAFETY: an entry of the table; a torn read costs at most a choice anew.
        Some(pair) => is_expired(unsafe { &*pair }, protocol, now),
        None => true,
    }
}
