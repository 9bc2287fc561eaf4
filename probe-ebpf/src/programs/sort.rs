//! Whose business a packet is, as far as its headers and the filters say.
//!
//! This is in the entry points themselves: most packets are no business of
//! weir, and a call of a function would be a third of what they cost.

use probe_common::parse::NoTuple;
use probe_common::reason::Reason;

use super::compiler::opaque;
use super::counters::passed;
use super::family::Family;
use super::filter::{listed, listed_at_all};
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::maps::{ENDPOINT_FILTER, SERVICE_FILTER, other_ports};
use super::verdict::Verdict;

#[inline(always)]
fn is_from_endpoint<A: Family>(frame: &impl Hook, place: HeaderOffsets) -> bool {
    let source = place.source::<A>(frame);
    source.is_some_and(|(address, port)| listed(&ENDPOINT_FILTER, address, port))
}

#[inline(always)]
fn is_to_service<A: Family>(frame: &impl Hook, place: HeaderOffsets) -> bool {
    let destination = place.destination::<A>(frame);
    destination.is_some_and(|(address, port)| {
        if other_ports() != 0 {
            // Any port is weir's business.
            listed_at_all(&SERVICE_FILTER, address)
        } else {
            listed(&SERVICE_FILTER, address, port)
        }
    })
}

/// What a packet is, by its headers and the filters.
pub enum Sorted {
    /// Perhaps of a flow: TCP or UDP, with an address and port that weir knows.
    Flow(HeaderOffsets),
    /// Of another protocol.
    Other,
    /// A fragment other than the first.
    Fragment,
    /// Dealt with: no business of weir, or not here.
    Done(Verdict),
}

/// Tells what a packet is whose IP header is at `l3`.
#[inline(always)]
pub fn sort<A: Family, F: Hook, const INGRESS: bool>(frame: &F, l3: usize) -> Sorted {
    // From here on it is one number: an entry point has no stack for what would
    // otherwise be kept beyond a look-up, see `steps`.
    let place = match A::parse(frame, l3) {
        Ok(headers) => HeaderOffsets(opaque(HeaderOffsets::of(&headers).0)),
        Err(NoTuple::Other) => return Sorted::Other,
        Err(NoTuple::Reason(Reason::PassFragment)) => return Sorted::Fragment,
        Err(NoTuple::Reason(reason)) => {
            passed::<F>(reason);
            return Sorted::Done(Verdict::Pass);
        }
    };
    if INGRESS {
        if is_to_service::<A>(frame, place) {
            return Sorted::Flow(place);
        }
        if F::SHORTCUTS && is_from_endpoint::<A>(frame, place) {
            return Sorted::Done(Verdict::FromEndpoint);
        }
    } else if is_from_endpoint::<A>(frame, place) {
        return Sorted::Flow(place);
    }
    Sorted::Done(Verdict::Pass)
}
