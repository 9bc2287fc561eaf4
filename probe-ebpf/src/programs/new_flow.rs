//! Packets of new flows: handshakes, and what comes in the same second.

use probe_common::address::Tuple;
use probe_common::fate::{Fate, Packet, States};
use probe_common::flow::{ANSWERED, ESTABLISHED, Entry, FORWARD, PAST, SYNCED, is_forward};
use probe_common::new_flow::{PENDING, rank};
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::reason::Reason;
use probe_common::tcp::{Change, Known, Noting, Segment, Side, transition};

use super::clock::{is_expired, is_idle, now};
use super::counters::count;
use super::delivery::{deliver, is_draining, is_gone};
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::new_flows::{AT_EGRESS, AT_INGRESS, Found, NewFlows, find};
use super::reject::reject_gone;
use super::signals::{begins_data, fate, tell};
use super::verdict::Verdict;

/// A packet whose flow may be a new one. Unknown if it is not, or is over;
/// Grown if it has moved to the flow tables.
#[inline(always)]
pub fn new_flow<A: NewFlows, F: Hook, const INGRESS: bool>(
    frame: &F,
    place: HeaderOffsets,
) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let Some(found) = find(tuple, if INGRESS { AT_INGRESS } else { AT_EGRESS }) else {
        return Verdict::Unknown;
    };
    let (now, reply) = (now(), found.reply);
    let Some(entry) = found.entry() else { return Verdict::Unknown };
    let numbers = if tuple.protocol == TCP { numbers(frame, &headers) } else { [0, 0] };
    let gone = is_gone(entry.endpoint);
    let opens = !reply && headers.opens();
    if gone && opens || !reply && starts_anew(&headers, &entry, numbers[0], now) {
        found.remove();
        count(Reason::FlowReused);
        return Verdict::Unknown;
    }
    if gone {
        return reject_gone::<A, F, INGRESS>(frame, &headers, tuple, &entry);
    }
    // Another one can stand beside it only if it is a live one.
    let contested = opens && tuple.protocol == TCP && is_draining(entry.endpoint);
    if (contested && entry.state & ESTABLISHED != 0 || found.is_grown(now)) && found.promote() {
        return Verdict::Grown;
    }
    note(frame, &headers, &found, &entry, numbers, now);
    let verdict = deliver(frame, &headers, tuple, &entry);
    // After a first one that went through the stack, which is slower, what a client sends before
    // it has an answer would come in another order. Those of an endpoint to itself all go past it.
    let behind = !F::SHORTCUTS || entry.state & PAST == 0;
    if behind
        && entry.direction == FORWARD
        && tuple.protocol != TCP
        && entry.state & ESTABLISHED == 0
    {
        verdict.by_the_stack()
    } else {
        verdict
    }
}

/// Sequence and acknowledgement number, host order.
#[inline(always)]
fn numbers(frame: &impl Hook, headers: &Headers) -> [u32; 2] {
    let numbers: [u32; 2] = frame.load(headers.l4 + 4).unwrap_or([0; 2]);
    numbers.map(u32::from_be)
}

/// Whether a packet of the client is the first of another flow. A SYN that is
/// sent again has the number of the first one, and goes where that went unless
/// there is nobody to be expected any more.
#[inline(always)]
fn starts_anew<A: NewFlows>(headers: &Headers, entry: &Entry<A>, sequence: u32, now: u32) -> bool {
    let protocol = headers.protocol;
    if protocol != TCP {
        return is_idle(entry.seen, protocol, now);
    }
    if headers.flags & (SYN | RST) != SYN {
        return false;
    }
    if is_expired(entry, protocol, now) {
        return true;
    }
    let again = sequence.wrapping_add(1) == entry.sequence;
    let silent = entry.state & ANSWERED == 0;
    entry.state & ESTABLISHED == 0 && (!again || silent && is_draining(entry.endpoint))
}

/// Notes what the packet says of its flow.
#[inline(always)]
fn note<A: NewFlows>(
    frame: &impl Hook,
    headers: &Headers,
    found: &Found<A>,
    entry: &Entry<A>,
    numbers: [u32; 2],
    now: u32,
) {
    let forward = is_forward(entry.direction);
    let before = found.new_flow().state;
    let side = if forward { Side::Client } else { Side::Endpoint };
    let tcp = headers.protocol == TCP;
    let change = if tcp {
        let [sequence, acknowledged] = numbers;
        let other = found.new_flow().sequences[forward as usize];
        let known = Known { state: entry.state, own: entry.sequence, other };
        let segment = Segment { flags: headers.flags, sequence, acknowledged };
        transition(known, segment, side, Noting::Strides)
    } else {
        // A number, and not none: the verifier would see one that nobody wrote.
        let sequence = Some(entry.sequence);
        Change { set: datagram(entry.state, forward), sequence, ..Change::default() }
    };
    let mut state = change.of(entry.state);
    // That the client's number is known says nothing of the endpoint's.
    state = if forward { state & !SYNCED | before & SYNCED } else { state };
    if !found.is_same() {
        return;
    }
    if let Some(sequence) = change.sequence
        && sequence != entry.sequence
    {
        let side = if forward { 0 } else { 1 };
        // SAFETY: an element of the array. Racing writers write alike.
        unsafe { (*found.slot).sequences[side] = sequence };
    }
    if now != entry.seen {
        // SAFETY: as above.
        unsafe { (*found.slot).seen = now };
        // A client that nobody answers, as of syslog, is to keep its endpoint.
        if rank(state) == PENDING {
            found.renew();
        }
    }
    let age = now.wrapping_sub(entry.created);
    let data = begins_data::<A>(frame, headers, before, side);
    let packet = Packet { tcp, flags: headers.flags, side, data, age };
    let Fate { state, signals, moments } =
        fate(States { before, set: change.set, after: state }, packet);
    if moments.any() {
        let _ = A::mark(found.position, moments.bits(), entry.subset, age);
    }
    tell([entry.subset, entry.endpoint], signals, age);
    if state == before {
        return;
    }
    found.enter(state, before);
}

/// What happens to a flow of another protocol than TCP: it is established when its client
/// goes on after an answer.
#[inline(always)]
fn datagram(state: u16, forward: bool) -> u16 {
    match forward {
        true if state & ANSWERED != 0 => ESTABLISHED,
        true => 0,
        false => ANSWERED,
    }
}
