//! Ordinary packets of live flows: a hit in the flow table, and a rewrite.

use probe_common::address::{Address, Tuple};
use probe_common::checksum::fold;
use probe_common::flow::{CONTESTED, Entry, RESET, SYNCED, is_forward, to_note};
use probe_common::parse::{FIN, Headers, RST, SYN, TCP};
use probe_common::tcp::Side;

use super::clock::now;
use super::delivery::{deliver, is_gone};
use super::family::Family;
use super::flows::{is_here, read};
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::signals::{begins_data, segment_length};
use super::verdict::Verdict;

/// Deals with ordinary packets of live flows; of others, says whether their flow
/// is one.
#[inline(always)]
pub fn hit<A: Family, F: Hook, const INGRESS: bool>(
    frame: &F,
    place: HeaderOffsets,
) -> HeaderOffsets {
    const PASS: HeaderOffsets = HeaderOffsets::done(Verdict::Pass);
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load(frame, &mut tuple) else {
        return PASS;
    };
    let tuple = &tuple;
    if F::PARTIAL && may_be_partial(frame, &headers, tuple) != Some(false) {
        // TC, which comes next, knows.
        return PASS;
    }
    let Some(slot) = A::flows().get_ptr_mut(tuple) else {
        return place;
    };
    let Some(entry) = read(slot, tuple) else {
        return place.live();
    };
    if !is_here::<A, INGRESS>(&entry) {
        return PASS;
    }
    let side = if is_forward(entry.direction) { Side::Client } else { Side::Endpoint };
    if !is_ordinary(&headers, &entry) || begins_data::<A>(frame, &headers, entry.state, side) {
        return place.live();
    }
    if headers.protocol == TCP
        && let Some(sequence) = frame.load::<u32>(headers.l4 + 4).map(u32::from_be)
        && to_note(sequence, entry.sequence)
    {
        // SAFETY: an entry of the table. Racing writers write alike.
        unsafe { (*slot).sequence = sequence }
    }
    HeaderOffsets::done(deliver::<A, F>(frame, &headers, tuple, &entry))
}

/// Whether the checksum has the value of a partial one, which is the folded sum of the
/// pseudo-header. One in 65,536 complete ones has it by chance.
#[inline(always)]
fn may_be_partial<A: Address>(
    frame: &impl Hook,
    headers: &Headers,
    tuple: &Tuple<A>,
) -> Option<bool> {
    let length = segment_length::<A>(frame, headers)?;
    let protocol = u16::to_be(headers.protocol as u16) as u64;
    let pseudo = tuple.src.sum() + tuple.dst.sum() + protocol + length.to_be() as u64;
    let checksum: u16 = frame.load(headers.l4 + if headers.protocol == TCP { 16 } else { 6 })?;
    Some(checksum == fold(pseudo))
}

/// Whether nothing but a rewrite is to be done for the packet. Once a tick, a
/// packet of each flow is not ordinary, so that the tables get to know.
#[inline(always)]
fn is_ordinary<A: Address>(headers: &Headers, entry: &Entry<A>) -> bool {
    headers.flags & (SYN | FIN | RST) == 0
        && !headers.first
        && entry.state & (RESET | SYNCED | CONTESTED) == SYNCED
        && now() == entry.seen
        && !is_gone(entry.endpoint)
}
