//! What was made of the first fragments of packets, for a moment: the others follow
//! it, and errors about them lead back.

use probe_common::address::Tuple;
use probe_common::flow::Entry;
use probe_common::fragment::{Fragment, FragmentKey, turn};
use probe_common::parse::Headers;

use super::clock::now;
use super::family::Family;
use super::flows::goes_here;
use super::hook::Hook;

/// Remembers where the first fragment of a packet goes, for the others, and
/// where it came from, for errors about them.
#[inline(always)]
pub fn remember<A: Family>(
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
