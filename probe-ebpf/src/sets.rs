//! The table of young flows; see [`probe_common::young`].
//!
//! What is looked for in a set is found by a global function that is told
//! numbers alone: the verifier looks at it once, and not once for each element
//! in which a flow may be found.

use probe_common::address::Tuple;
use probe_common::flow::{ESTABLISHED, Entry, is_closed};
use probe_common::reason::Reason;
use probe_common::young::{ALIAS, HAIRPIN, Home, PENDING, Set, WAYS, Young, rank};

use crate::family::Family;
use crate::fast::listed;
use crate::frame::fresh;
use crate::log::report;
use crate::maps::{ENDPOINT_FILTER, count, young_seed, young_mask};

/// Elements of a set, as the numbers in programs are.
const STEP: u32 = WAYS as u32;

/// A young flow that was found.
pub struct Found<A: 'static> {
    /// Where among the elements.
    pub position: u32,
    /// The element. There is no stack for a copy of it.
    pub slot: *mut Young<A>,
    /// Whether the packet is a reply.
    pub reply: bool,
}

/// Which packets of a flow [`seek`] is to look for: those at ingress, those at
/// egress, or replies of an endpoint to itself.
pub const AT_INGRESS: u32 = 0;
/// See [`AT_INGRESS`].
pub const AT_EGRESS: u32 = 1;
/// See [`AT_INGRESS`].
pub const TO_ITSELF: u32 = 2;

/// What [`seek`] returns if it finds nothing.
const NONE: u32 = u32::MAX;
/// Set in what [`seek`] returns if the packet is a reply.
const REPLY: u32 = 1 << 31;

/// The young flow of packets with that tuple.
#[inline(always)]
pub fn find<A: Family>(tuple: &Tuple<A>, which: u32) -> Option<Found<A>> {
    let sought = A::sought().get_ptr_mut(0)?;
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    unsafe { *sought = *tuple };
    let found = A::seek(which);
    if found == NONE {
        return None;
    }
    let position = found & !REPLY;
    let slot = A::young().get_ptr_mut(position)?;
    Some(Found { position, slot, reply: found & REPLY != 0 })
}

/// Where the young flow with the tuple in [`Family::sought`] is; for [`find`].
#[inline(always)]
pub fn seek<A: Family>(which: u32) -> u32 {
    let Some(sought) = A::sought().get_ptr_mut(0) else { return NONE };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let tuple = unsafe { &mut *sought };
    if which == AT_INGRESS {
        let found = forward(tuple);
        // Replies of an endpoint to itself come in as well.
        if found != NONE || !listed(&ENDPOINT_FILTER, tuple.src, tuple.sport) {
            return found;
        }
    }
    let home = Home::new(young_seed(), tuple.dst, tuple.dport, tuple.protocol);
    let hairpin = which != AT_EGRESS;
    let mut kind = 0;
    let mut found = probe(home, |young: &Young<A>| {
        kind = young.kind;
        (young.kind & HAIRPIN != 0) == hairpin && young.reply_key() == *tuple
    });
    if found != NONE && kind & ALIAS != 0 {
        found = follow(tuple, found);
    }
    if found == NONE { NONE } else { found | REPLY }
}

/// Where the flow of an alias is; `tuple` is lost.
#[inline(always)]
fn follow<A: Family>(tuple: &mut Tuple<A>, position: u32) -> u32 {
    let Some(slot) = A::young().get_ptr_mut(position) else { return NONE };
    // SAFETY: an element of the array; if it is not whole any more, what is sought is not found.
    let alias = unsafe { &*slot };
    *tuple = alias.forward_key();
    let found = forward(tuple);
    if let Some(flow) = A::young().get_ptr(found) {
        // SAFETY: as above. Another flow may have taken the place of the one with the alias.
        if unsafe { &*flow }.reply_key() == alias.reply_key() {
            return found;
        }
    }
    // It would hide that of the next flow with these replies.
    clear(position, slot);
    NONE
}

#[inline(always)]
fn forward<A: Family>(tuple: &Tuple<A>) -> u32 {
    let home = Home::new(young_seed(), tuple.src, tuple.sport, tuple.protocol);
    probe(home, |young: &Young<A>| young.kind & ALIAS == 0 && young.forward_key() == *tuple)
}

#[inline(always)]
fn probe<A: Family>(home: Home, mut is_it: impl FnMut(&Young<A>) -> bool) -> u32 {
    let set = home.set & young_mask();
    let mut from = 0;
    for _ in 0..WAYS {
        let way = A::scan(set, home.tag, from);
        if way >= STEP {
            return NONE;
        }
        let position = set * STEP + way;
        let Some(slot) = A::young().get_ptr(position) else { return NONE };
        // SAFETY: an element of the array; `entry` looks whether it is whole.
        let young = unsafe { &*slot };
        if young.check != 0 && is_it(young) {
            return position;
        }
        from = way + 1;
    }
    NONE
}

/// The first element with that tag in a set, from `from` on; at least
/// [`WAYS`] if there is none.
#[inline(always)]
pub fn scan<A: Family>(set: u32, tag: u32, from: u32) -> u32 {
    let Some(set) = A::sets().get(set) else { return STEP };
    for way in 0..WAYS {
        if set.tags[way] == tag && way as u32 >= from {
            return way as u32;
        }
    }
    STEP
}

impl<A: Family> Found<A> {
    /// The element as it is now.
    #[inline(always)]
    pub fn young(&self) -> &Young<A> {
        // SAFETY: an element of the array, in which others write meanwhile: what must fit together
        // is looked at by `entry`.
        unsafe { &*fresh(self.slot) }
    }

    /// The entry that the packet would find in the flow tables; None if the
    /// element was not written as a whole.
    #[inline(always)]
    pub fn entry(&self) -> Option<Entry<A>> {
        let entry = self.young().entry(self.reply);
        // After it was read: whatever was displaced meanwhile shows.
        if self.young().is_whole() {
            return Some(entry);
        }
        // Should it be like that for good, it must not stay.
        self.remove();
        count(Reason::EntryTorn);
        None
    }

    /// Whether the flow lives on, and is to move to the flow tables.
    #[inline(always)]
    pub fn is_grown(&self, now: u32) -> bool {
        let young = self.young();
        young.state & ESTABLISHED != 0
            && !is_closed(young.state)
            && (young.seen != now || young.is_odd())
    }

    /// Notes what the flow's state became, and was.
    #[inline(always)]
    pub fn enter(&self, state: u16, before: u16) {
        // SAFETY: an element of the array. Racing writers write alike.
        unsafe { (*self.slot).state = state };
        if rank(state) != rank(before) {
            mark::<A>(self.position, rank(state));
        }
    }

    /// Forgets the flow. An alias of it leads nowhere then.
    #[inline(always)]
    pub fn remove(&self) {
        clear(self.position, self.slot);
    }
}

/// The set of an element, and which one it is there.
#[inline(always)]
fn set_of<A: Family>(position: u32) -> Option<(&'static mut Set, usize)> {
    let set = A::sets().get_ptr_mut(position / STEP)?;
    // SAFETY: an entry of an array: aligned words, written by whoever comes.
    Some((unsafe { &mut *set }, position as usize % WAYS))
}

#[inline(always)]
fn mark<A: Family>(position: u32, rank: u8) {
    if let Some((set, way)) = set_of::<A>(position) {
        set.mark(way, rank);
    }
}

#[inline(always)]
fn clear<A: Family>(position: u32, slot: *mut Young<A>) {
    if let Some((set, way)) = set_of::<A>(position) {
        set.tags[way] = 0;
    }
    // SAFETY: an element of the array.
    unsafe { (*slot).check = 0 };
}

/// Where a new element goes, in a set with a flow that may have to be moved to
/// the flow tables first: [`probe_common::young::Place`] as a number.
#[inline(always)]
pub fn place<A: Family>(set: u32) -> u32 {
    let Some(set) = A::sets().get(set) else { return 0 };
    let place = set.place();
    place.way as u32 | (place.live as u32) << 3
}

/// Writes a new flow, and its alias if it needs one. False if there is no room,
/// which is when a flow that is in the way cannot be moved.
#[inline(always)]
pub fn add<A: Family>(young: &mut Young<A>) -> bool {
    let home = Home::new(young_seed(), young.client, young.client_port, young.protocol);
    let mut added = write(home, young);
    if added && young.is_odd() {
        let (kind, check) = (young.kind, young.check);
        young.kind |= ALIAS;
        young.check = young.sum();
        let port = young.reply_port;
        let end = young.client.or(young.service, kind & HAIRPIN != 0);
        added = write(Home::new(young_seed(), end, port, young.protocol), young);
        (young.kind, young.check) = (kind, check);
    }
    added
}

#[inline(always)]
fn write<A: Family>(home: Home, young: &Young<A>) -> bool {
    let set = home.set & young_mask();
    let place = A::place(set);
    let position = set * STEP + place % STEP;
    if place >= STEP && A::promote(position) == 0 {
        return false;
    }
    let Some(slot) = A::young().get_ptr_mut(position) else { return false };
    clear(position, slot);
    // SAFETY: an element of the array, which nobody takes for a flow now.
    unsafe { *slot = *young };
    if let Some((set, way)) = set_of::<A>(position) {
        set.mark(way, PENDING);
        set.tags[way] = home.tag;
    }
    true
}

/// Moves a flow to the flow tables: 0 if these did not take it.
#[inline(always)]
pub fn promote<A: Family>(position: u32) -> u32 {
    let Some(slot) = A::young().get_ptr_mut(position) else { return 0 };
    let Some(key) = A::sought().get_ptr_mut(0) else { return 0 };
    // SAFETY: an element of the array, and the slot of this CPU; programs on it do not preempt
    // each other. There is no stack left for copies; a flow that is displaced meanwhile was not
    // a live one.
    let (young, key) = unsafe { (&*slot, &mut *key) };
    if !young.is_whole() {
        return 1;
    }
    *key = young.reply_key();
    let mut full = A::flows().insert(&*key, &young.entry(true), 0).is_err();
    *key = young.forward_key();
    full |= A::flows().insert(&*key, &young.entry(false), 0).is_err();
    if full {
        report(Reason::FlowTableFull, key);
        return 0;
    }
    // Only now, so that there is always an entry to be found.
    clear(position, slot);
    1
}
