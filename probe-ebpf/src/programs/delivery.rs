//! A packet of a known flow, on its way.

use probe_common::address::Tuple;
use probe_common::flow::Entry;
use probe_common::map::{ENDPOINT_DRAINING, ENDPOINT_GONE};
use probe_common::parse::Headers;
use probe_common::reason::Reason;
use probe_common::rewrite::rewrite;

use super::counters::{count, tally};
use super::family::Family;
use super::fragments::remember;
use super::hook::Hook;
use super::maps::ENDPOINTS;
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
