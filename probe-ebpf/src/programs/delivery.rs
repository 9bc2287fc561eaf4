//! A packet of a known flow, on its way.

use probe_common::address::Tuple;
use probe_common::flow::{Entry, FORWARD, PAST, REPLY};
use probe_common::map::{ENDPOINT_DRAINING, ENDPOINT_GONE};
use probe_common::parse::Headers;
use probe_common::reason::Reason;
use probe_common::rewrite::rewrite;

use super::counters::{count, tally};
use super::family::Family;
use super::fragments::remember;
use super::hook::Hook;
use super::maps::{ENDPOINTS, ENTERING};
use super::route::is_tracked;
use super::verdict::Verdict;

/// Whether packets of the endpoint's flows are to be rejected.
#[inline(always)]
pub fn is_gone(endpoint: u32) -> bool {
    ENDPOINTS.get(endpoint).is_some_and(|endpoint| endpoint.state == ENDPOINT_GONE)
}

/// Whether new flows avoid the endpoint, and those that it has go on.
#[inline(always)]
pub fn is_draining(endpoint: u32) -> bool {
    ENDPOINTS.get(endpoint).is_some_and(|endpoint| endpoint.state == ENDPOINT_DRAINING)
}

/// Has replies of flows that go through the stack pass untouched: where they come in, and a program
/// will see them leave.
#[inline(always)]
pub fn leave_to_egress(leave: bool) {
    if let Some(slot) = ENTERING.get_ptr_mut(0) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        unsafe { *slot = leave as u32 }
    }
}

#[inline(always)]
fn is_left_to_egress() -> bool {
    ENTERING.get(0).is_some_and(|leave| *leave != 0)
}

/// Rewrites and counts a packet of a known flow. Steered if it may go past the stack; an endpoint's
/// flows with itself always do.
#[inline(always)]
pub fn deliver<A: Family, F: Hook>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Verdict {
    let past = entry.state & PAST != 0 || !is_tracked();
    if entry.direction == REPLY && !past && is_left_to_egress() {
        return Verdict::Pass;
    }
    if rewrite(frame, headers, tuple, entry).is_none() {
        count(Reason::RewriteFailed);
        return Verdict::Drop;
    }
    if headers.first {
        remember(frame, headers, tuple, entry);
    }
    tally(entry.endpoint, entry.direction, frame.length());
    if entry.direction == FORWARD && !past { Verdict::Pass } else { Verdict::Steered }
}
