//! Whose business a packet is, as far as its headers and the filters say.
//!
//! This is in the entry points themselves: most packets are no business of
//! weir, and a call of a function would be a third of what they cost.

use aya_ebpf::maps::Array;
use probe_common::address::Address;
use probe_common::filter;
use probe_common::parse::NoTuple;
use probe_common::reason::Reason;

use crate::deliver::passed;
use crate::family::Family;
use crate::frame::{Hook, Verdict, opaque};
use crate::maps::{ENDPOINT_FILTER, SERVICE_FILTER, other_ports};
use crate::place::Place;

/// Whether the bits of an address and port are set.
#[inline(always)]
pub fn listed<A: Address>(map: &Array<u64>, address: A, port: u16) -> bool {
    let (word, bits) = filter::position(address, port);
    map.get(word).is_some_and(|set| *set & bits == bits)
}

/// Whether the bit of an address is set, whatever the port.
#[inline(always)]
pub fn listed_at_all<A: Address>(map: &Array<u64>, address: A) -> bool {
    let (word, bit) = filter::position_of(address);
    map.get(word).is_some_and(|set| *set & bit != 0)
}

#[inline(always)]
fn is_from_endpoint<A: Family>(frame: &impl Hook, place: Place) -> bool {
    let source = place.source::<A>(frame);
    source.is_some_and(|(address, port)| listed(&ENDPOINT_FILTER, address, port))
}

#[inline(always)]
fn is_to_service<A: Family>(frame: &impl Hook, place: Place) -> bool {
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
    Flow(Place),
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
        Ok(headers) => Place(opaque(Place::of(&headers).0)),
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
