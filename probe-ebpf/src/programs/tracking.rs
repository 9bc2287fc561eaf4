//! Following the state of live flows.

use probe_common::address::Tuple;
use probe_common::fate::{Fate, Packet, States};
use probe_common::flow::{
    CLOSING, CONTESTED, ESTABLISHED, Entry, Facts, SYNCED, is_forward, opposite,
};
use probe_common::parse::{Headers, TCP};
use probe_common::tcp::{Change, Known, Noting, Segment, Side, transition};
use probe_common::times::{Measured, Moments, known, since};

use super::family::Family;
use super::hook::Hook;
use super::signals::{begins_data, fate, tell};
use super::times::{life, measure, now_units};

/// Notes what the packet changes, in the entry and in that of the other
/// direction at `pair`.
#[inline(always)]
pub fn track<A: Family, F: Hook>(
    frame: &F,
    headers: &Headers,
    tuple: &Tuple<A>,
    slot: *mut Entry<A>,
    entry: &Entry<A>,
    pair: &Tuple<A>,
    now: u32,
) {
    let mut change = Change::default();
    let tcp = headers.protocol == TCP;
    let side = if is_forward(entry.direction) { Side::Client } else { Side::Endpoint };
    if tcp {
        let sequence = u32::from_be(frame.load(headers.l4 + 4).unwrap_or(0));
        // What is in the tables lives, also if it came there by a migration, and its
        // handshake was not seen.
        let state = entry.state | ESTABLISHED;
        let known = Known { state, own: entry.sequence, other: 0 };
        let segment = Segment { flags: headers.flags, sequence, acknowledged: 0 };
        change = transition(known, segment, side, Noting::Each);
        if let Some(sequence) = change.sequence {
            // SAFETY: an entry of the table. Racing writers write alike.
            unsafe { (*slot).sequence = sequence }
        }
    }
    // As it is now: what the other direction has told meanwhile must not be lost.
    // SAFETY: as above.
    let before = unsafe { (&raw const (*slot).state).read_volatile() };
    let after = change.of(before);
    let age = now.wrapping_sub(entry.created);
    let data = begins_data::<A>(frame, headers, before, side);
    let packet = Packet { tcp, flags: headers.flags, side, data, age };
    let states =
        States { before: before | ESTABLISHED, set: change.set, after: after | ESTABLISHED };
    let Fate { state, signals, moments } = fate(states, packet);
    let state = state & !ESTABLISHED | after & ESTABLISHED;
    if state == before && now == entry.seen {
        return;
    }
    tell([entry.subset, entry.endpoint], signals, age);
    // SAFETY: as above.
    unsafe {
        (*slot).state = state;
        (*slot).seen = now;
    }
    keep_pair(tuple, entry, pair, state, change.cleared, now, moments);
}

/// Once a tick, and when the state changed: tells the entry of the other
/// direction, which also keeps it from being evicted, and makes it anew if
/// it was evicted.
#[inline(always)]
fn keep_pair<A: Family>(
    key: &Tuple<A>,
    entry: &Entry<A>,
    pair: &Tuple<A>,
    state: u16,
    cleared: u16,
    now: u32,
    moments: Moments,
) {
    // What one side says of itself alone.
    let told = state & !(SYNCED | CONTESTED);
    if let Some(other) = A::flows().get_ptr_mut(pair) {
        // SAFETY: an entry of the table. The check keeps the end of an old flow
        // from marking the new one on the same client port.
        unsafe {
            if (*other).endpoint == entry.endpoint && (*other).to(pair) == key.reversed() {
                (*other).state = ((*other).state | told) & !cleared;
                if moments.any() {
                    mark(entry, &mut (*other).time, moments, now);
                }
            }
        }
        return;
    }
    if state & CLOSING != 0 {
        return;
    }
    let direction = opposite(entry.direction);
    let facts = Facts {
        endpoint: entry.endpoint,
        subset: entry.subset,
        // The client may have begun anew while nothing was known of it.
        state: if is_forward(direction) { told | CONTESTED } else { told },
        direction,
        seen: now,
        created: entry.created,
        sequence: 0,
    };
    let made = Entry::new(pair, &key.reversed(), &facts);
    let _ = A::flows().insert(pair, &made, 0);
}

/// Deals with the moments of a segment of a live flow; `other` is the time of the other
/// direction's entry.
#[inline(always)]
fn mark<A: Family>(entry: &Entry<A>, other: &mut u32, moments: Moments, tick: u32) {
    let now = now_units();
    let forward = is_forward(entry.direction);
    if moments.ends(Measured::Reply) && !forward {
        measure(entry.subset, Measured::Reply, since(entry.time, now));
    }
    if moments.ends(Measured::Life) {
        let begun = if forward { entry.time } else { *other };
        measure(entry.subset, Measured::Life, life(begun, now, tick.wrapping_sub(entry.created)));
    }
    if moments.asks() && forward {
        *other = known(now);
    }
}
