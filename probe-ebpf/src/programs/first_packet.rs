//! The first packet of a flow, on its way.

use probe_common::address::Tuple;
use probe_common::flow::{ADOPTED, Entry, FORWARD_HAIRPIN, PAST};
use probe_common::reason::Reason;

use super::counters::{count, subset_stats};
use super::creation::{FULL, NO_PORT, STRAY};
use super::delivery::deliver;
use super::family::Family;
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::log::{Event, report};
use super::maps::ENDPOINT_STATS;
use super::reject::reject;
use super::verdict::Verdict;

/// A packet of no known flow, of which a new one was made;
/// `entered`: what [`super::creation::enter`] said.
#[inline(always)]
pub fn first_packet<A: Family, F: Hook>(frame: &F, place: HeaderOffsets, entered: u32) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let Some(new_flow) = A::new_flow_scratch().get_ptr(0) else { return Verdict::Pass };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let entry = unsafe { &*new_flow }.entry(false);
    match entered {
        NO_PORT if F::ANSWERS => return reject(frame, &headers, tuple, Event::RejectNoPort),
        NO_PORT => return Verdict::Pass,
        STRAY => count(Reason::PassNoFlowReset),
        FULL => {
            report(Event::FlowTableFull, tuple);
            record(&entry);
        }
        _ => record(&entry),
    }
    let verdict = deliver(frame, &headers, tuple, &entry);
    // Whether its source is valid was asked at TC, by [`super::way::way`]; else the stack asks. Of a
    // flow from an endpoint to itself it would not see the source, but the service's address, which
    // may be its own, or have no way back.
    let asked = F::SHORTCUTS && entry.state & PAST != 0;
    if asked || entry.direction == FORWARD_HAIRPIN { verdict } else { verdict.by_the_stack() }
}

#[inline(always)]
fn record<A>(entry: &Entry<A>) {
    if let Some(stats) = subset_stats(entry.subset) {
        stats.flows += 1;
    }
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(entry.endpoint) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        unsafe { (*stats).flows += 1 }
    }
    if entry.state & ADOPTED != 0 {
        count(Reason::FlowAdopted);
    }
}
