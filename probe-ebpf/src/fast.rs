//! Ordinary packets of live flows: filter, flow table, rewrite.

use aya_ebpf::maps::Array;
use probe_common::address::{Address, Tuple};
use probe_common::filter;
use probe_common::flow::{Entry, RESET, SYNCED, to_note};
use probe_common::parse::{FIN, Headers, NoTuple, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::deliver::{deliver, is_gone, passed};
use crate::family::{Family, is_here, now, read};
use crate::frame::{Frame, Verdict};
use crate::maps::{ENDPOINT_FILTER, SERVICE_FILTER};
use crate::place::Place;

/// Whether the bits of an address and port are set.
#[inline(always)]
pub fn listed<A: Address>(map: &Array<u64>, address: A, port: u16) -> bool {
    let (word, bits) = filter::position(address, port);
    map.get(word).is_some_and(|set| *set & bits == bits)
}

#[inline(always)]
fn is_from_endpoint<A: Family>(frame: &impl Frame, headers: &Headers) -> bool {
    let source = headers.source::<A>(frame);
    source.is_some_and(|(address, port)| listed(&ENDPOINT_FILTER, address, port))
}

/// Whether the bit of an address is set, whatever the port.
#[inline(always)]
pub fn listed_at_all<A: Address>(map: &Array<u64>, address: A) -> bool {
    let (word, bit) = filter::position_of(address);
    map.get(word).is_some_and(|set| *set & bit != 0)
}

/// Deals with packets that are no business of weir, and with the ordinary ones
/// of live flows; of others, says where their headers are.
#[inline(always)]
pub fn fast<A: Family, F: Frame, const INGRESS: bool>(frame: &F, l3: u64) -> Place {
    const PASS: Place = Place::done(Verdict::Pass);
    // The bound is for the verifier.
    let headers = match A::parse(frame, l3 as usize & 0x3f) {
        Ok(headers) => headers,
        Err(NoTuple::Other) => return Place::other(),
        Err(NoTuple::Reason(Reason::PassFragment)) => return Place::fragment(),
        Err(NoTuple::Reason(reason)) => {
            passed::<F>(reason);
            return PASS;
        }
    };
    let (filter, end) = if INGRESS {
        (&SERVICE_FILTER, headers.destination::<A>(frame))
    } else {
        (&ENDPOINT_FILTER, headers.source::<A>(frame))
    };
    if !end.is_some_and(|(address, port)| listed(filter, address, port)) {
        return if INGRESS && F::SHORTCUTS && is_from_endpoint::<A>(frame, &headers) {
            Place::done(Verdict::FromEndpoint)
        } else {
            PASS
        };
    }
    let mut tuple = Tuple::empty();
    if tuple.load(frame, &headers).is_none() {
        return PASS;
    }
    let tuple = &tuple;
    let Some(slot) = A::flows().get_ptr_mut(tuple) else {
        return Place::of(&headers, false);
    };
    let Some(entry) = read(slot, tuple) else {
        return Place::of(&headers, true);
    };
    if !is_here::<A, INGRESS>(&entry) {
        return PASS;
    }
    if !is_ordinary(&headers, &entry) {
        return Place::of(&headers, true);
    }
    if headers.protocol == TCP
        && let Some(sequence) = frame.load::<u32>(headers.l4 + 4).map(u32::from_be)
        && to_note(sequence, entry.sequence)
    {
        // SAFETY: an entry of the table. Racing writers write alike.
        unsafe { (*slot).sequence = sequence }
    }
    Place::done(deliver::<A, F>(frame, &headers, tuple, &entry))
}

/// Whether nothing but a rewrite is to be done for the packet. Once a tick, a
/// packet of each flow is not ordinary, so that the tables get to know.
#[inline(always)]
fn is_ordinary<A: Address>(headers: &Headers, entry: &Entry<A>) -> bool {
    headers.flags & (SYN | FIN | RST) == 0
        && !headers.first
        && entry.state & (RESET | SYNCED) == SYNCED
        && now() == entry.seen
        && !is_gone(entry.endpoint)
}
