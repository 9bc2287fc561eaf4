//! Counts what becomes of TCP flows, by subset; what a segment says of that is in
//! [`probe_common::signals`].

use probe_common::address::Address;
use probe_common::map::{Signal, subset_index};
use probe_common::parse::{Headers, TCP};
use probe_common::signals::{Signals, data_of};
use probe_common::tcp::Side;

use super::hook::Hook;
use super::maps::{SUBSET_IDS, SUBSET_SIGNALS};

/// Counts the signals whose bits are set for the subset that a flow was steered to, unless another
/// one has its index by now. In a function of its own: what calls it has no stack left. As all
/// global functions, it returns a number; this one says nothing.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_signal(subset: u32, bits: u32) -> u32 {
    let index = subset_index(subset);
    if SUBSET_IDS.get(index) != Some(&subset) {
        return 0;
    }
    let Some(counters) = SUBSET_SIGNALS.get_ptr_mut(index) else { return 0 };
    for signal in 0..Signal::COUNT {
        if bits >> signal & 1 != 0 {
            // SAFETY: a counter of this CPU, within the value; programs on it do not preempt each
            // other.
            unsafe { *counters.cast::<u64>().add(signal) += 1 }
        }
    }
    0
}

/// Counts signals for a subset.
#[inline(always)]
pub fn tell(subset: u32, signals: Signals) {
    if signals != Signals::default() {
        let _ = weir_signal(subset, signals.bits());
    }
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

/// Whether a segment is the first of its side that has data, of a live flow.
#[inline(always)]
pub fn begins_data<A: Address>(
    frame: &impl Hook,
    headers: &Headers,
    state: u16,
    side: Side,
) -> bool {
    headers.protocol == TCP && state & data_of(side) == 0 && has_data::<A>(frame, headers)
}
