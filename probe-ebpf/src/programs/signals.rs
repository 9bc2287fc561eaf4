//! Counts what becomes of TCP flows, by subset; what a segment says of that is in
//! [`probe_common::signals`].

use probe_common::address::Address;
use probe_common::fate::{Fate, Packet, States};
use probe_common::map::{EndpointSignals, Signal, subset_index};
use probe_common::parse::{Headers, TCP};
use probe_common::signals::{Signals, data_of};
use probe_common::tcp::Side;

use super::counters::subset_stats;
use super::hook::Hook;
use super::maps::{ENDPOINT_SIGNALS, SUBSET_ERRORS, SUBSET_IDS, SUBSET_SIGNALS};

/// Counts the signals whose bits are set for a flow's endpoint, and for the subset that it was
/// steered to, unless another one has its index by now. In a function of its own: what calls it has
/// no stack left. As all global functions, it returns a number; this one says nothing. `age`: of the
/// flow, in ticks.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_signal(subset: u32, endpoint: u32, bits: u32, age: u32) -> u32 {
    if let Some(counters) = ENDPOINT_SIGNALS.get_ptr_mut(endpoint) {
        const COUNT: usize = size_of::<EndpointSignals>() / size_of::<u64>();
        add_each::<COUNT>(counters.cast(), Signals::of_bits(bits).of_endpoint());
    }
    let index = subset_index(subset);
    if SUBSET_IDS.get(index) != Some(&subset) {
        return 0;
    }
    if let Some(counters) = SUBSET_SIGNALS.get_ptr_mut(index) {
        add_each::<{ Signal::COUNT }>(counters.cast(), bits);
    }
    let signals = Signals::of_bits(bits);
    if let Some(stats) = subset_stats(subset) {
        if signals.has(Signal::Completed) {
            stats.completed += 1;
        }
        if signals.has(Signal::Refused) {
            stats.refused += 1;
        }
        if signals.has(Signal::Ended) {
            stats.ended += 1;
            stats.ended_ticks += age as u64;
        }
    }
    if signals.has(Signal::Unreachable)
        && let Some(errors) = SUBSET_ERRORS.get_ptr_mut(index)
    {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        unsafe { (*errors).unreachable += 1 }
    }
    0
}

/// Adds one to each of so many counters whose bit is set.
#[inline(always)]
fn add_each<const COUNT: usize>(counters: *mut u64, bits: u32) {
    for at in 0..COUNT {
        if bits >> at & 1 != 0 {
            // SAFETY: a counter of this CPU, within the value; programs on it do not preempt each
            // other.
            unsafe { *counters.add(at) += 1 }
        }
    }
}

/// Counts signals for the subset and the endpoint with these ids, of a flow of that age in ticks.
#[inline(always)]
pub fn tell([subset, endpoint]: [u32; 2], signals: Signals, age: u32) {
    if signals != Signals::default() {
        let _ = weir_signal(subset, endpoint, signals.bits(), age);
    }
}

/// [`Fate::of`], of numbers.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_fate(states: u64, packet: u64) -> u64 {
    Fate::of(States::of_bits(states), Packet::of_bits(packet)).bits()
}

/// What a packet that changes these states says.
#[inline(always)]
pub fn fate(states: States, packet: Packet) -> Fate {
    Fate::of_bits(weir_fate(states.bits(), packet.bits()))
}

/// Whether a TCP segment has data.
#[inline(always)]
pub fn has_data<A: Address>(frame: &impl Hook, headers: &Headers) -> bool {
    let Some(length) = segment_length::<A>(frame, headers) else { return false };
    let Some([offset]) = frame.load::<[u8; 1]>(headers.l4 + 12) else { return false };
    // Of a packet of more than 64 KiB (BIG TCP) the length is 0: it has data, and the difference
    // is a large one.
    length > (offset >> 4) as u16 * 4
}

/// Bytes behind the IP headers, by these.
#[inline(always)]
pub fn segment_length<A: Address>(frame: &impl Hook, headers: &Headers) -> Option<u16> {
    let (l3, l4) = (headers.l3, headers.l4);
    let (field, before) = if size_of::<A>() == 16 { (4, 40) } else { (2, 0) };
    Some(u16::from_be(frame.load(l3 + field)?).wrapping_sub((l4 - l3 - before) as u16))
}

/// Whether a segment is the first of its side that has data, of a flow in that state.
#[inline(always)]
pub fn begins_data<A: Address>(
    frame: &impl Hook,
    headers: &Headers,
    state: u16,
    side: Side,
) -> bool {
    headers.protocol == TCP && state & data_of(side) == 0 && has_data::<A>(frame, headers)
}
