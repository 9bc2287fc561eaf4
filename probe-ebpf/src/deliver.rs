//! A packet of a known flow, on its way.

use probe_common::address::Tuple;
use probe_common::flow::{Entry, is_forward};
use probe_common::map::{ENDPOINT_DRAINING, ENDPOINT_GONE};
use probe_common::parse::Headers;
use probe_common::reason::Reason;
use probe_common::rewrite::rewrite;

use crate::family::Family;
use crate::fragment::remember;
use crate::frame::{Hook, Verdict};
use crate::maps::{ENDPOINT_STATS, ENDPOINTS, count};

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

/// Rewrites and counts a packet of a known flow.
#[inline(always)]
pub fn deliver<A: Family, F: Hook>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Verdict {
    if rewrite(frame, headers, tuple, entry).is_none() {
        count(Reason::RewriteFailed);
        return Verdict::Drop;
    }
    if headers.first {
        remember(frame, headers, tuple, entry);
    }
    tally(entry.endpoint, entry.direction, frame.length());
    Verdict::Steered
}

/// Counts a packet that passes untouched. Where it comes to a hook behind this
/// one again, it is counted there.
#[inline(always)]
pub fn passed<F: Hook>(reason: Reason) {
    if F::ANSWERS {
        count(reason);
    }
}

/// Counts a packet of so many bytes for its endpoint.
#[inline(always)]
pub fn tally(endpoint: u32, direction: u8, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(endpoint) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        let stats = unsafe { &mut *stats };
        if is_forward(direction) {
            stats.forward_packets += 1;
            stats.forward_bytes += bytes;
        } else {
            stats.reply_packets += 1;
            stats.reply_bytes += bytes;
        }
    }
}
