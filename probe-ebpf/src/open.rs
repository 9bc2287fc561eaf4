//! The first packet of a flow: its two entries.

use probe_common::address::{Address, Tuple};
use probe_common::filter::same_bit;
use probe_common::flow::{
    ADOPTED, Entry, FORWARD, FORWARD_HAIRPIN, Facts, SYNCED, is_closed, opposite,
};
use probe_common::hash::mix;
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::deliver::deliver;
use crate::family::{Family, forget, idle_limit, now};
use crate::frame::{Frame, Verdict};
use crate::log::report;
use crate::maps::{ENDPOINT_STATS, ENDPOINTS, count};
use crate::place::Place;
use crate::reject::reject;
use crate::track::subset_stats;

/// Source ports that are tried for a flow whose replies would be those of another.
const PORT_ATTEMPTS: u16 = 8;

/// A packet of no known flow, which goes to the endpoint with that id.
#[inline(always)]
pub fn open<A: Family, F: Frame>(frame: &F, place: Place, id: u32) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let Some(endpoint) = ENDPOINTS.get(id) else {
        return Verdict::Pass;
    };
    let address = A::from_words(endpoint.address);
    let hairpin = address == tuple.src;
    // The key of the replies. An endpoint would not take a packet from its own address.
    let mut key = Tuple {
        src: address,
        dst: tuple.src.or(tuple.dst, hairpin),
        sport: endpoint.port,
        dport: if hairpin { same_bit(tuple.sport, tuple.dport, 0) } else { tuple.sport },
        ..*tuple
    };
    let facts = facts(frame, &headers, id, hairpin);
    let adopted = facts.state & ADOPTED != 0;
    if headers.flags & RST != 0 {
        // Nothing begins with it, whatever other flags are set (RFC 9293, 3.10.7.2).
        count(Reason::PassNoFlowReset);
        let entry = Entry::new(tuple, &key.reversed(), &facts);
        return deliver(frame, &headers, tuple, &entry).by_the_stack();
    }
    if !claim(tuple, &mut key, hairpin, facts.seen) {
        return if F::ANSWERS {
            reject(frame, &headers, tuple, Reason::RejectNoPort)
        } else {
            Verdict::Pass
        };
    }
    // What the endpoint's side of a TCP flow counts is not known yet.
    let unspoken = if tuple.protocol == TCP { SYNCED } else { 0 };
    let direction = opposite(facts.direction);
    let replies = Facts { state: facts.state & !unspoken, direction, ..facts };
    let mut entry = Entry::new(&key, &tuple.reversed(), &replies);
    let mut full = A::pending().insert(&key, &entry, 0).is_err();
    entry = Entry::new(tuple, &key.reversed(), &facts);
    full |= A::pending().insert(tuple, &entry, 0).is_err();
    if full {
        report(Reason::FlowTableFull, tuple);
    }
    record(id, adopted);
    // Which sources are invalid on the interface is for the stack to say.
    deliver(frame, &headers, tuple, &entry).by_the_stack()
}

/// What the forward entry of a new flow holds.
#[inline(always)]
fn facts(frame: &impl Frame, headers: &Headers, endpoint: u32, hairpin: bool) -> Facts {
    let now = now();
    let tcp = headers.protocol == TCP;
    let adopted = tcp && headers.flags & SYN == 0;
    let sequence = if tcp { u32::from_be(frame.load(headers.l4 + 4).unwrap_or(0)) } else { 0 };
    Facts {
        endpoint,
        state: if adopted { ADOPTED | SYNCED } else { SYNCED },
        direction: if hairpin { FORWARD_HAIRPIN } else { FORWARD },
        seen: now,
        created: now,
        sequence: if adopted { sequence } else { sequence.wrapping_add(1) },
    }
}

#[inline(always)]
fn record(endpoint: u32, adopted: bool) {
    if let Some(stats) = subset_stats(endpoint) {
        stats.flows += 1;
    }
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(endpoint) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        unsafe { (*stats).flows += 1 }
    }
    if adopted {
        count(Reason::FlowAdopted);
    }
}

/// Where another flow has the same reply tuple (one client port, two services,
/// one endpoint), changes the client's port in `key` until it is free. False if
/// no port is.
#[inline(always)]
fn claim<A: Family>(tuple: &Tuple<A>, key: &mut Tuple<A>, hairpin: bool, now: u32) -> bool {
    for attempt in 0..PORT_ATTEMPTS {
        if is_free(key, tuple, now) {
            return true;
        }
        key.dport = if hairpin {
            same_bit(tuple.sport, tuple.dport, attempt + 1)
        } else {
            // 1024 to 65535.
            let draw = mix((tuple.tag() as u64) << 8 | attempt as u64) as u16 as u32;
            (1024 + ((draw * 64512) >> 16) as u16).to_be()
        };
        if attempt == 0 {
            count(Reason::FlowPortChanged);
        }
    }
    false
}

/// Whether no other flow than the one from `tuple` has the reply tuple `key`. A
/// flow that is in the way, and has ended, is removed.
#[inline(always)]
fn is_free<A: Family>(key: &Tuple<A>, tuple: &Tuple<A>, now: u32) -> bool {
    let back = tuple.reversed();
    for table in [A::flows(), A::pending()] {
        let Some(other) = table.get_ptr(key) else { continue };
        // SAFETY: an entry of the table; a torn read costs at most another attempt.
        let other = unsafe { &*other };
        let there = other.to(key);
        if there == back {
            continue;
        }
        if !has_ended(other, key.protocol, now) {
            return false;
        }
        forget(table, key, &there.reversed());
    }
    true
}

/// Whether nobody sends packets of the flow any more. One that its client or its
/// endpoint alone has closed may go on (RFC 9293, 3.6): a SYN of the same client to
/// the same service tells that it does not, one to another service says nothing.
#[inline(always)]
fn has_ended<A: Address>(entry: &Entry<A>, protocol: u8, now: u32) -> bool {
    is_closed(entry.state) || now.wrapping_sub(entry.seen) > idle_limit(protocol)
}
