//! Fragments of steered packets: the first one has the ports, and is steered as
//! any packet; the others follow it.
//!
//! A fragment that comes before the first one of its packet, or without it,
//! passes untouched and is counted: nothing is held back.

use probe_common::fragment::follow;
use probe_common::icmp::Errors;
use probe_common::reason::Reason;

use super::counters::{count, passed, tally};
use super::family::Family;
use super::filter::listed_at_all;
use super::fragments::remembered;
use super::generations::are_two;
use super::hook::Hook;
use super::icmp::about_fragment;
use super::maps::{ENDPOINT_FILTER, SERVICE_FILTER};
use super::new_flows::NewFlows;
use super::verdict::Verdict;

/// A fragment other than the first, or an error about one.
#[inline(always)]
pub fn fragment<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(frame: &F, l3: u64) -> Verdict {
    // The bound is for the verifier.
    let l3 = l3 as usize & 0x3f;
    if let Some(verdict) = about_fragment::<A, F, INGRESS>(frame, l3) {
        return verdict;
    }
    let ends = l3 + A::ADDRESSES;
    let may_be_ours = if INGRESS {
        frame.load(ends + size_of::<A>()).is_some_and(|dst: A| listed_at_all(&SERVICE_FILTER, dst))
    } else {
        frame.load(ends).is_some_and(|src: A| listed_at_all(&ENDPOINT_FILTER, src))
    };
    if !may_be_ours {
        let from_endpoint =
            || frame.load(ends).is_some_and(|src: A| listed_at_all(&ENDPOINT_FILTER, src));
        let stray = INGRESS && F::SHORTCUTS && from_endpoint();
        return if stray { Verdict::StrayFragment } else { Verdict::Pass };
    }
    match follow_first::<A, F, INGRESS>(frame, l3) {
        Some(Some(())) => Verdict::Pass,
        Some(None) => {
            count(Reason::RewriteFailed);
            Verdict::Drop
        }
        None if are_two() => Verdict::Elsewhere,
        None => {
            passed::<F>(Reason::PassFragment);
            Verdict::Pass
        }
    }
}

/// Sends a fragment after the first one: None if that is not known, nothing inside if the
/// packet cannot be changed.
#[inline(always)]
fn follow_first<A: Family, F: Hook, const INGRESS: bool>(
    frame: &F,
    l3: usize,
) -> Option<Option<()>> {
    let key = A::later(frame, l3)?;
    let first = remembered::<A, INGRESS>(&key)?;
    let done = follow(frame, l3, &key, &first);
    if done.is_some() {
        tally(first.endpoint, first.direction, frame.length());
    }
    Some(done)
}
