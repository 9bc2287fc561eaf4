//! The first packet of a flow, on its way.

use probe_common::address::Tuple;
use probe_common::flow::{ADOPTED, Entry, FORWARD_HAIRPIN};
use probe_common::reason::Reason;

use crate::deliver::deliver;
use crate::family::Family;
use crate::frame::{Hook, Verdict};
use crate::log::report;
use crate::maps::{ENDPOINT_STATS, count};
use crate::newcomer::{FULL, NO_PORT, STRAY};
use crate::place::Place;
use crate::reject::reject;
use crate::track::subset_stats;

/// A packet of no known flow, of which a new one was made;
/// `entered`: what [`crate::newcomer::enter`] said.
#[inline(always)]
pub fn open<A: Family, F: Hook>(frame: &F, place: Place, entered: u32) -> Verdict {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass;
    };
    let tuple = &tuple;
    let Some(young) = A::newcomer().get_ptr(0) else { return Verdict::Pass };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let entry = unsafe { &*young }.entry(false);
    match entered {
        NO_PORT if F::ANSWERS => return reject(frame, &headers, tuple, Reason::RejectNoPort),
        NO_PORT => return Verdict::Pass,
        STRAY => count(Reason::PassNoFlowReset),
        FULL => {
            report(Reason::FlowTableFull, tuple);
            record(&entry);
        }
        _ => record(&entry),
    }
    let verdict = deliver(frame, &headers, tuple, &entry);
    // Which sources are invalid on the interface is for the stack to say. Of a flow from an
    // endpoint to itself it would not see the source, but the service's address, which may be
    // its own, or have no way back.
    if entry.direction == FORWARD_HAIRPIN { verdict } else { verdict.by_the_stack() }
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
