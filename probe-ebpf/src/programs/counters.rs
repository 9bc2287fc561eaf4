//! Counters: of reasons, endpoints and subsets.

use probe_common::flow::is_forward;
use probe_common::map::{SubsetStats, subset_index};
use probe_common::reason::Reason;

use super::hook::Hook;
use super::maps::{ENDPOINT_STATS, REASONS, SUBSET_IDS, SUBSET_STATS};

/// Counts a packet under `reason`.
#[inline(always)]
pub fn count(reason: Reason) {
    if let Some(counter) = REASONS.get_ptr_mut(reason as u32) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        unsafe { *counter += 1 }
    }
}

/// Counts a packet that passes untouched. Where it comes to a hook behind this
/// one again, it is counted there.
#[inline(always)]
pub fn passed<F: Hook>(reason: Reason) {
    if F::ANSWERS {
        count(reason);
    }
}

/// Counts a packet of so many bytes for its endpoint.
#[inline(always)]
pub fn tally(endpoint: u32, direction: u8, bytes: u64) {
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(endpoint) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        let stats = unsafe { &mut *stats };
        if is_forward(direction) {
            stats.forward_packets += 1;
            stats.forward_bytes += bytes;
        } else {
            stats.reply_packets += 1;
            stats.reply_bytes += bytes;
        }
    }
}

/// The counters, on this CPU, of the subset that a flow was steered to; None if another subset has
/// its index by now.
#[inline(always)]
pub fn subset_stats(id: u32) -> Option<&'static mut SubsetStats> {
    let index = subset_index(id);
    if *SUBSET_IDS.get(index)? != id {
        return None;
    }
    let stats = SUBSET_STATS.get_ptr_mut(index)?;
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    Some(unsafe { &mut *stats })
}
