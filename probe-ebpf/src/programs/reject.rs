//! What is to be rejected: made of the packet itself, see [`probe_common::reject`],
//! and counted.

use probe_common::address::{Address, Tuple};
use probe_common::flow::Entry;
use probe_common::parse::Headers;
use probe_common::reject;

use super::family::Family;
use super::hook::Hook;
use super::log::{Event, report};
use super::verdict::Verdict;

/// Turns the packet into its rejection; what must not be answered is dropped.
#[inline(always)]
pub fn reject<A: Address, F: Hook>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    event: Event,
) -> Verdict {
    if reject::reject(frame, headers, tuple).is_some() {
        report(event, tuple);
        Verdict::Answer
    } else {
        report(Event::RejectSilent, tuple);
        Verdict::Drop
    }
}

/// Rejects a packet of a flow whose endpoint is gone. One of the endpoint itself, at
/// egress, ends the connection for its client.
#[inline(always)]
pub fn reject_gone<A: Family, F: Hook, const INGRESS: bool>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) -> Verdict {
    if INGRESS {
        if !F::ANSWERS {
            return Verdict::Pass;
        }
        return reject(frame, headers, tuple, Event::RejectEndpointGone);
    }
    report(Event::RejectEndpointGone, tuple);
    match reject::reset_client(frame, headers, tuple, entry) {
        Some(()) => Verdict::Steered,
        None => Verdict::Drop,
    }
}
