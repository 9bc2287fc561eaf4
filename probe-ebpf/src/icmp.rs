//! ICMP and ICMPv6 errors about steered packets (RFC 5508, section 4; RFC 1191
//! and RFC 8201 need them).
//!
//! A router quotes the packet that it could not forward, as it came there. The
//! one that sent it knows it only as it left: an error about a packet from
//! client to endpoint must speak of client and service address, one about a
//! packet from service address to client of endpoint and client. So the quoted
//! packet is rewritten by the entry of the direction in which the error goes,
//! which is the other one than that of the quoted packet.

use probe_common::address::Tuple;
use probe_common::checksum::{fold, update};
use probe_common::flow::Entry;
use probe_common::icmp::{Errors, Quote};
use probe_common::parse::UDP;
use probe_common::reason::Reason;

use crate::family::{Family, is_here, read};
use crate::fast::listed;
use crate::frame::{Frame, Verdict};
use crate::maps::{ENDPOINT_FILTER, SERVICE_FILTER, count};
use crate::sets::{AT_EGRESS, AT_INGRESS, find};

/// Translates an error about a steered packet; passes all else as it is.
#[inline(always)]
pub fn icmp<A: Family + Errors, F: Frame, const INGRESS: bool>(frame: &F, l3: u64) -> Verdict {
    // The bound is for the verifier.
    let Some(quote) = Quote::find::<A>(frame, l3 as usize & 0x3f) else { return Verdict::Pass };
    let mut quoted = Tuple::empty();
    if quoted.load(frame, &quote.inner).is_none() {
        return Verdict::Pass;
    }
    let may_be_ours = if INGRESS {
        listed(&SERVICE_FILTER, quoted.src, quoted.sport)
    } else {
        listed(&ENDPOINT_FILTER, quoted.dst, quoted.dport)
    };
    if !may_be_ours {
        return Verdict::Pass;
    }
    // Of a packet that goes the other way than what is quoted.
    let key = quoted.reversed();
    let Some(entry) = entry::<A, INGRESS>(&key) else {
        count(Reason::PassIcmpUntracked);
        return Verdict::Pass;
    };
    let original = entry.to(&key).reversed();
    match translate(frame, &quote, &quoted, &original, &entry) {
        Some(true) => count(Reason::IcmpTranslated),
        Some(false) => count(Reason::PassIcmpUntracked),
        None => {
            count(Reason::RewriteFailed);
            return Verdict::Drop;
        }
    }
    Verdict::Pass
}

/// The entry of that direction of a flow.
#[inline(always)]
fn entry<A: Family, const INGRESS: bool>(key: &Tuple<A>) -> Option<Entry<A>> {
    if let Some(slot) = A::flows().get_ptr(key) {
        return read(slot, key).filter(is_here::<A, INGRESS>);
    }
    find(key, if INGRESS { AT_INGRESS } else { AT_EGRESS })
        .map(|(found, reply)| found.young.entry(reply))
}

/// Makes an error about `quoted` one about `original`. False if it is not
/// addressed to whom the quoted packet came from: nothing is changed then.
#[inline(always)]
fn translate<A: Family + Errors>(
    frame: &impl Frame,
    quote: &Quote,
    quoted: &Tuple<A>,
    original: &Tuple<A>,
    entry: &Entry<A>,
) -> Option<bool> {
    let addresses = quote.l3 + A::ADDRESSES;
    let from: A = frame.load(addresses)?;
    let to: A = frame.load(addresses + size_of::<A>())?;
    if to != quoted.src {
        return Some(false);
    }
    let checksum: u16 = frame.load(quote.icmp + 2)?;
    let mut change = inner(frame, quote, original, entry)?;
    // What the destination of the quoted packet says itself, it says in the name under which
    // the other side knows it; a router has but one name.
    let new_from = from.or(original.dst, from == quoted.dst);
    let outer = from.sum_not() + to.sum_not() + new_from.sum() + original.src.sum();
    frame.store(addresses, new_from)?;
    frame.store(addresses + size_of::<A>(), original.src)?;
    if A::PSEUDO {
        change += outer;
    } else {
        refresh(frame, quote.l3 + 10, fold(outer), false)?;
    }
    frame.store(quote.icmp + 2, update(checksum, fold(change)))?;
    Some(true)
}

/// Rewrites the quoted packet; the change of the sum of its bytes.
#[inline(always)]
fn inner<A: Family + Errors>(
    frame: &impl Frame,
    quote: &Quote,
    original: &Tuple<A>,
    entry: &Entry<A>,
) -> Option<u64> {
    let headers = &quote.inner;
    let addresses = headers.l3 + A::ADDRESSES;
    let (address_delta, port_delta) = (entry.address_delta as u64, entry.port_delta as u64);
    let mut change = address_delta + port_delta;
    frame.store(addresses, original.src)?;
    frame.store(addresses + size_of::<A>(), original.dst)?;
    frame.store(headers.l4, [original.sport, original.dport])?;
    if !A::PSEUDO {
        change += refresh(frame, headers.l3 + 10, entry.address_delta, false)?;
    }
    if let Some(offset) = quote.checksum()
        && let Some(field) = frame.load::<u16>(offset)
        && (headers.protocol != UDP || field != 0)
    {
        let delta = fold(address_delta + port_delta);
        change += refresh(frame, offset, delta, headers.protocol == UDP)?;
    }
    Some(change)
}

/// Updates a checksum field for a change of what it covers; the change of the
/// sum of bytes that this is. That of UDP is never 0, which would mean none.
#[inline(always)]
fn refresh(frame: &impl Frame, offset: usize, delta: u16, udp: bool) -> Option<u64> {
    let old: u16 = frame.load(offset)?;
    let new = match update(old, delta) {
        0 if udp => 0xffff,
        new => new,
    };
    frame.store(offset, new)?;
    Some(!old as u64 + new as u64)
}
