//! Measures how long things take; what begins and ends a time is in [`probe_common::times`].

use aya_ebpf::helpers::generated::{bpf_get_smp_processor_id, bpf_ktime_get_ns};
use probe_common::map::subset_index;
use probe_common::times::{
    FlowTimes, LONG_LIFE, Measured, Moments, NUMBERS, UNIT_SHIFT, known, since,
};

use super::atomic::add;
use super::family::Family;
use super::global::global_numbers;
use super::maps::{HISTOGRAMS, SUBSET_HISTOGRAMS, SUBSET_IDS, histogram_shift, tick_units};

global_numbers! {
    /// A family that measures times of new flows by calls. As all global functions, they return
    /// a number; these say nothing.
    trait Times: Family {
        /// Deals with the moments of a packet of a new flow: where it is, what they are, the
        /// subset, and the flow's age in ticks.
        fn mark(position, moments, subset, age) = mark: weir_mark_v4, weir_mark_v6;
        /// Notes that the flow of an element begins now, or if it is an adopted one, that nothing
        /// is known of its times.
        fn begin(position, adopted) = begin: weir_begin_v4, weir_begin_v6;
    }
}

/// The time, in units modulo 2^32.
#[inline(always)]
pub fn now_units() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_ktime_get_ns() } >> UNIT_SHIFT) as u32
}

#[inline(always)]
fn begin<A: Family>(position: u32, adopted: u32) -> u32 {
    if let Some(times) = A::times().get_ptr_mut(position) {
        let begun = if adopted == 0 { known(now_units()) } else { 0 };
        // SAFETY: an element of the array, of a flow that nobody else knows yet.
        unsafe { *times = FlowTimes { begun, asked: begun } }
    }
    0
}

#[inline(always)]
fn mark<A: Family>(position: u32, moments: u32, subset: u32, age: u32) -> u32 {
    let moments = Moments::of_bits(moments);
    let Some(slot) = A::times().get_ptr_mut(position) else { return 0 };
    // SAFETY: an element of the array; words that are written at once.
    let FlowTimes { begun, asked } = unsafe { slot.read_volatile() };
    let now = now_units();
    if moments.ends(Measured::Handshake) {
        measure(subset, Measured::Handshake, since(begun, now));
    }
    if moments.ends(Measured::Reply) {
        measure(subset, Measured::Reply, since(asked, now));
    }
    if moments.ends(Measured::Life) {
        measure(subset, Measured::Life, life(begun, now, age));
    }
    if moments.asks() && begun != 0 {
        // SAFETY: as above.
        unsafe { (*slot).asked = known(now) }
    }
    0
}

/// How long a flow lived that began at a point in time, so many ticks ago.
#[inline(always)]
pub fn life(begun: u32, now: u32, age: u32) -> Option<u64> {
    if age >= LONG_LIFE { Some(age as u64 * tick_units()) } else { since(begun, now) }
}

/// Counts a time for a subset, if it is known.
#[inline(always)]
pub fn measure(subset: u32, measured: Measured, units: Option<u64>) {
    if let Some(units) = units {
        let _ = weir_measure(subset, measured as u32, units);
    }
}

/// Counts a time in the histogram of a subset, if that has one, and no other one has its index by
/// now. Each is there some times, for groups of CPUs.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_measure(subset: u32, measured: u32, units: u64) -> u32 {
    let index = subset_index(subset);
    if SUBSET_IDS.get(index) != Some(&subset) {
        return 0;
    }
    let Some(&number @ 1..) = SUBSET_HISTOGRAMS.get(index) else { return 0 };
    // SAFETY: no arguments.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    let shift = histogram_shift() & 7;
    let place = (number - 1) << shift | cpu & ((1 << shift) - 1);
    let Some(histogram) = HISTOGRAMS.get_ptr_mut(place) else { return 0 };
    let numbers: *mut u64 = histogram.cast();
    let (sum, at) = match measured {
        0 => (0, Measured::Handshake.number(units)),
        1 => (1, Measured::Reply.number(units)),
        _ => (2, Measured::Life.number(units)),
    };
    if at >= NUMBERS {
        return 0;
    }
    // SAFETY: within the value.
    add(unsafe { numbers.add(sum) }, units);
    // SAFETY: as above.
    add(unsafe { numbers.add(at) }, 1);
    0
}
