//! Fragments of steered packets: the first one has the ports, and is steered as
//! any packet; the others follow it.
//!
//! A fragment that comes before the first one of its packet, or without it,
//! passes untouched and is counted: nothing is held back.

use probe_common::address::Tuple;
use probe_common::flow::Entry;
use probe_common::fragment::{Fragment, FragmentKey, Fragments, follow, turn};
use probe_common::icmp::Errors;
use probe_common::parse::Headers;
use probe_common::reason::Reason;

use crate::deliver::{passed, tally};
use crate::family::{Family, goes_here, now};
use crate::filter::listed_at_all;
use crate::frame::{Hook, Verdict};
use crate::generations::are_two;
use crate::icmp::about_fragment;
use crate::maps::{ENDPOINT_FILTER, SERVICE_FILTER, count};

/// Where an entry for a first fragment is put together: the steps that steer it
/// have no stack left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct First<A> {
    key: FragmentKey<A>,
    fragment: Fragment<A>,
}

/// Remembers where the first fragment of a packet goes, for the others, and
/// where it came from, for errors about them.
#[inline(always)]
pub fn remember<A: Family + Fragments>(
    frame: &impl Hook,
    headers: &Headers,
    tuple: &Tuple<A>,
    entry: &Entry<A>,
) {
    let Some(key) = A::first(frame, headers, [tuple.src, tuple.dst]) else { return };
    let Some(slot) = A::first_fragment().get_ptr_mut(0) else { return };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let first = unsafe { &mut *slot };
    first.key = key;
    first.fragment = Fragment::new(&key, entry, now());
    // Without these, the others pass and are counted, and so are errors.
    let _ = A::fragments().insert(&first.key, &first.fragment, 0);
    turn(&mut first.key, &mut first.fragment);
    let _ = A::fragments().insert(&first.key, &first.fragment, 0);
}

/// What is remembered under a key, for the hook.
#[inline(always)]
pub fn remembered<A: Family, const INGRESS: bool>(key: &FragmentKey<A>) -> Option<Fragment<A>> {
    let slot = A::fragments().get_ptr(key)?;
    // SAFETY: a value of the map; it may be replaced meanwhile, which the tag shows.
    let fragment = unsafe { slot.read_volatile() };
    // SAFETY: as above. Read after the copy, since it is what a replacement writes first.
    let tag = unsafe { (&raw const (*slot).tag).read_volatile() };
    (tag == key.tag() && fragment.is_fresh(now()) && goes_here::<INGRESS>(fragment.direction))
        .then_some(fragment)
}

/// A fragment other than the first, or an error about one.
#[inline(always)]
pub fn fragment<A: Family + Errors, F: Hook, const INGRESS: bool>(frame: &F, l3: u64) -> Verdict {
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
fn follow_first<A: Family + Fragments, F: Hook, const INGRESS: bool>(
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
