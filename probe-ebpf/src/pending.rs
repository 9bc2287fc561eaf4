//! Flows in which one side has not spoken yet: handshakes.

use probe_common::address::Tuple;
use probe_common::flow::{
    ADOPTED, ANSWERED, ESTABLISHED, Entry, FIN_CLIENT, FIN_ENDPOINT, RESET, SYNCED, confirms,
    in_window, is_forward,
};
use probe_common::parse::{FIN, Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::deliver::{deliver, is_gone};
use crate::family::{Family, forget, idle_limit, is_here, is_over, now, read};
use crate::frame::{Frame, Verdict};
use crate::log::report;
use crate::maps::count;
use crate::place::Place;
use crate::reject::refuse;
use crate::track::subset_stats;

/// BPF_NOEXIST.
const NOEXIST: u64 = 1;
/// What a helper returns if there is an entry already: -EEXIST.
const EEXIST: i32 = -17;

/// A packet whose flow may be in PENDING. Unknown if it is not, or is over.
#[inline(always)]
pub fn pending<A: Family, F: Frame, const INGRESS: bool>(frame: &F, place: Place) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let now = now();
    let Some(slot) = A::pending().get_ptr_mut(tuple) else {
        return Verdict::Unknown;
    };
    let Some(entry) = read(slot, tuple) else {
        let _ = A::pending().remove(tuple);
        count(Reason::EntryTorn);
        return Verdict::Unknown;
    };
    if !is_here::<A, INGRESS>(&entry) {
        return Verdict::Unknown;
    }
    let numbers = if tuple.protocol == TCP { numbers(frame, &headers) } else { [0, 0] };
    let forward = is_forward(entry.direction);
    let pair_key = entry.to(tuple).reversed();
    if forward && starts_anew(&headers, &entry, numbers[0], now) {
        forget(A::pending(), tuple, &pair_key);
        count(Reason::FlowReused);
        return Verdict::Unknown;
    }
    if is_gone(entry.endpoint) {
        return refuse::<A, F, INGRESS>(frame, &headers, tuple, &entry);
    }
    let pair_key = entry.to(tuple).reversed();
    if !forward && tuple.protocol == TCP && headers.flags & (SYN | FIN | RST) == SYN {
        agreed(slot, numbers[0], now);
    } else if let Some(pair) = A::pending().get_ptr_mut(&pair_key) {
        if forward {
            spoken(&headers, tuple, slot, pair, &pair_key, numbers, now);
        } else {
            answered(&headers, slot, pair, numbers, now);
        }
    }
    let verdict = deliver(frame, &headers, tuple, &entry);
    // The way through the stack is slower: what a client sends before it has
    // an answer would come in another order.
    if forward && tuple.protocol != TCP { verdict.by_the_stack() } else { verdict }
}

/// Sequence and acknowledgement number, host order.
#[inline(always)]
fn numbers(frame: &impl Frame, headers: &Headers) -> [u32; 2] {
    let numbers: [u32; 2] = frame.load(headers.l4 + 4).unwrap_or([0; 2]);
    numbers.map(u32::from_be)
}

/// Whether a packet of the client is the first of another flow. A SYN that is
/// sent again has the number of the first one.
#[inline(always)]
fn starts_anew<A: Family>(headers: &Headers, entry: &Entry<A>, sequence: u32, now: u32) -> bool {
    let protocol = headers.protocol;
    if protocol != TCP {
        return now.wrapping_sub(entry.seen) > idle_limit(protocol);
    }
    headers.flags & (SYN | RST) == SYN
        && (is_over(entry, protocol, now) || sequence.wrapping_add(1) != entry.sequence)
}

/// The endpoint agrees to a TCP flow. By far most that endpoints say of pending
/// flows, and nothing for which the other entry is needed.
#[inline(always)]
fn agreed<A: Family>(slot: *mut Entry<A>, sequence: u32, now: u32) {
    // SAFETY: an entry of the table. Racing writers write alike.
    let slot = unsafe { &mut *slot };
    slot.seen = now;
    slot.state |= ANSWERED | SYNCED;
    slot.sequence = sequence.wrapping_add(1);
}

/// The endpoint speaks.
#[inline(always)]
fn answered<A: Family>(
    headers: &Headers,
    slot: *mut Entry<A>,
    pair: *mut Entry<A>,
    [sequence, acknowledged]: [u32; 2],
    now: u32,
) {
    let tcp = headers.protocol == TCP;
    // SAFETY: entries of the table. Racing writers write alike.
    let (slot, pair) = unsafe { (&mut *slot, &mut *pair) };
    slot.seen = now;
    pair.seen = now;
    if tcp && headers.flags & RST != 0 {
        let refused = confirms(acknowledged, pair.sequence) || slot.state & ADOPTED != 0;
        if slot.state & (ANSWERED | RESET) == 0 && refused {
            if let Some(stats) = subset_stats(slot.endpoint) {
                stats.refused += 1;
            }
        } else if slot.state & SYNCED == 0 || !in_window(sequence, slot.sequence) {
            return;
        }
        slot.state |= RESET;
        pair.state |= RESET;
        return;
    }
    let first = slot.state & ANSWERED == 0;
    if tcp && headers.flags & FIN != 0 && (first || in_window(sequence, slot.sequence)) {
        slot.state |= FIN_ENDPOINT;
        pair.state |= FIN_ENDPOINT;
    }
    if tcp && headers.flags & SYN != 0 {
        return agreed(slot, sequence, now);
    }
    if !first {
        return;
    }
    slot.state |= ANSWERED | SYNCED;
    slot.sequence = sequence;
    if !tcp
        && first
        && let Some(stats) = subset_stats(slot.endpoint)
    {
        stats.completed += 1;
    }
}

/// The client speaks: if it knows what the endpoint said, the flow is established.
#[inline(always)]
fn spoken<A: Family>(
    headers: &Headers,
    tuple: &Tuple<A>,
    slot: *mut Entry<A>,
    pair: *mut Entry<A>,
    pair_key: &Tuple<A>,
    [sequence, acknowledged]: [u32; 2],
    now: u32,
) {
    let (tcp, flags) = (headers.protocol == TCP, headers.flags);
    // SAFETY: entries of the table. Racing writers write alike.
    let (slot, pair) = unsafe { (&mut *slot, &mut *pair) };
    slot.seen = now;
    pair.seen = now;
    if tcp && flags & (SYN | FIN | RST) != 0 {
        if flags & SYN != 0 || !in_window(sequence, slot.sequence) {
            return;
        }
        let mark = if flags & RST != 0 { RESET } else { FIN_CLIENT };
        slot.state |= mark;
        pair.state |= mark;
    }
    let known = slot.state & ADOPTED != 0 || confirms(acknowledged, pair.sequence);
    let proven = pair.state & ANSWERED != 0 && (known || !tcp);
    if !proven || pair.state & RESET != 0 {
        return;
    }
    slot.state |= ESTABLISHED | ANSWERED;
    pair.state |= ESTABLISHED;
    slot.sequence = sequence;
    match A::flows().insert(tuple, &*slot, NOEXIST) {
        Ok(()) => {}
        // Another CPU was faster.
        Err(EEXIST) => return,
        // It stays here, and moves with another packet.
        Err(_) => return report(Reason::FlowTableFull, tuple),
    }
    if A::flows().insert(pair_key, &*pair, 0).is_err() {
        let _ = A::flows().remove(tuple);
        return report(Reason::FlowTableFull, tuple);
    }
    if tcp && let Some(stats) = subset_stats(slot.endpoint) {
        stats.completed += 1;
    }
    // Only now, so that there is always an entry to be found. An element that
    // stayed would be younger to the kernel than the next flow's, since it was
    // used: a table full of such loses new flows first.
    let _ = A::pending().remove(tuple);
    let _ = A::pending().remove(pair_key);
}
