//! The table of new flows; see [`probe_common::new_flow`].
//!
//! What is looked for in a set is found by a global function that is told
//! numbers alone: the verifier looks at it once, and not once for each element
//! in which a flow may be found.

use probe_common::address::Tuple;
use probe_common::flow::{ADOPTED, ANSWERED, ESTABLISHED, Entry, RESET, UNREACHABLE, is_closed};
use probe_common::map::Signal;
use probe_common::new_flow::{HAIRPIN, Home, NewFlow, PENDING, REPLY_KEY, Set, WAYS, rank};
use probe_common::reason::Reason;
use probe_common::signals::Signals;

use super::compiler::{barrier, fresh};
use super::counters::count;
use super::filter::listed;
use super::global::global_numbers;
use super::log::{Event, report};
use super::maps::{ENDPOINT_FILTER, new_flow_mask, new_flow_seed};
use super::set_lock::{Lock, SetLock};
use super::signals::tell;
use super::times::Times;
use super::values::Sought;

/// Elements of a set, as the numbers in programs are.
const STEP: u32 = WAYS as u32;

global_numbers! {
    /// A family whose new flows are looked for and moved by calls.
    trait NewFlows: Marked {
        /// Where the flow with the tuple in [`Family::sought`] is.
        fn seek(which) = seek: weir_seek_v4, weir_seek_v6;
        /// The first element with that tag in a set, from `from` on; at least [`WAYS`] if
        /// there is none.
        fn scan(set, tag, from) = scan: weir_scan_v4, weir_scan_v6;
        /// Where a new element of a set goes: [`probe_common::new_flow::Slot`] as a number.
        fn place(set) = place: weir_place_v4, weir_place_v6;
        /// Has replies of the flow whose element has that check found in the flow tables, too: 0
        /// if these did not take their entry.
        fn promote_reply(position, check) = promote_reply: weir_promote_reply_v4, weir_promote_reply_v6;
        /// The same of its client's packets.
        fn promote_forward(position, check) = promote_forward: weir_promote_forward_v4, weir_promote_forward_v6;
        /// Forgets the flow whose element has that check, if it is still there. As all
        /// global functions, it returns a number; this one says nothing.
        fn clear(position, check) = clear: weir_clear_v4, weir_clear_v6;
        /// Counts that the flow whose element has that check cannot reach its endpoint. It says
        /// nothing either.
        fn fail(position, check) = fail: weir_fail_v4, weir_fail_v6;
    }
}

/// A family whose sets can be locked and whose times are measured.
pub trait Marked: Lock + Times {}
impl<A: Lock + Times> Marked for A {}

/// How often a place for a new flow is looked for, if other CPUs take those whose
/// flows were moved for it.
const ATTEMPTS: u32 = 4;

/// A new flow that was found.
///
/// Another flow may take its place at any time. Nothing is read as the flow's, or
/// written, unless [`NewFlow::check`] is what it was: that leaves some nanoseconds,
/// in which sums that do not fit tell.
pub struct Found<A: 'static> {
    /// Where among the elements.
    pub position: u32,
    /// The element. There is no stack for a copy of it.
    pub slot: *mut NewFlow<A>,
    /// [`NewFlow::check`] of the flow.
    check: u32,
    /// Whether the packet is a reply.
    pub reply: bool,
}

/// Which packets of a flow [`seek`] is to look for: those at ingress, or those at
/// egress.
pub const AT_INGRESS: u32 = 0;
/// See [`AT_INGRESS`].
pub const AT_EGRESS: u32 = 1;

/// What [`seek`] returns if it finds nothing.
const NONE: u32 = u32::MAX;
/// Set in what [`seek`] returns if the packet is a reply.
const REPLY: u32 = 1 << 31;

/// The new flow of packets with that tuple.
#[inline(always)]
pub fn find<A: NewFlows>(tuple: &Tuple<A>, which: u32) -> Option<Found<A>> {
    let sought = A::sought().get_ptr_mut(0)?;
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let sought = unsafe { &mut *sought };
    sought.tuple = *tuple;
    let found = A::seek(which);
    if found == NONE {
        return None;
    }
    let position = found & !REPLY;
    let slot = A::new_flows().get_ptr_mut(position)?;
    Some(Found { position, slot, check: sought.check, reply: found & REPLY != 0 })
}

/// For [`find`].
#[inline(always)]
fn seek<A: NewFlows>(which: u32) -> u32 {
    let Some(sought) = A::sought().get_ptr_mut(0) else { return NONE };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let Sought { tuple, check } = unsafe { &mut *sought };
    if which == AT_INGRESS {
        let found = find_forward(tuple, check);
        // Replies of an endpoint to itself come in as well.
        if found != NONE || !listed(&ENDPOINT_FILTER, tuple.src, tuple.sport) {
            return found;
        }
    }
    let home = Home::new(new_flow_seed(), tuple.dst, tuple.dport, tuple.protocol);
    let hairpin = which != AT_EGRESS;
    let mut kind = 0;
    let mut found = probe(home, check, |new_flow: &NewFlow<A>| {
        kind = new_flow.kind;
        (new_flow.kind & HAIRPIN != 0) == hairpin && new_flow.reply_key() == *tuple
    });
    if found != NONE && kind & REPLY_KEY != 0 {
        found = follow(tuple, check, found);
    }
    if found == NONE { NONE } else { found | REPLY }
}

/// Where the flow is to which an element of a reply key leads; `tuple` is lost.
#[inline(always)]
fn follow<A: NewFlows>(tuple: &mut Tuple<A>, check: &mut u32, position: u32) -> u32 {
    let Some(slot) = A::new_flows().get_ptr(position) else { return NONE };
    // SAFETY: an element of the array; if it is not whole any more, what is sought is not found.
    let element = unsafe { &*slot };
    let of_element = *check;
    *tuple = element.forward_key();
    let found = find_forward(tuple, check);
    if let Some(flow) = A::new_flows().get_ptr(found) {
        // SAFETY: as above. Another flow may have taken the place of the one with that reply key.
        if unsafe { &*flow }.reply_key() == element.reply_key() {
            return found;
        }
    }
    // It would hide that of the next flow with these replies.
    let _ = A::clear(position, of_element);
    NONE
}

#[inline(always)]
fn find_forward<A: NewFlows>(tuple: &Tuple<A>, check: &mut u32) -> u32 {
    let home = Home::new(new_flow_seed(), tuple.src, tuple.sport, tuple.protocol);
    probe(home, check, |new_flow: &NewFlow<A>| {
        new_flow.kind & REPLY_KEY == 0 && new_flow.forward_key() == *tuple
    })
}

/// The element of a flow; its [`NewFlow::check`] goes to `check`.
#[inline(always)]
fn probe<A: NewFlows>(
    home: Home,
    check: &mut u32,
    mut is_it: impl FnMut(&NewFlow<A>) -> bool,
) -> u32 {
    let set = home.set & new_flow_mask();
    let mut from = 0;
    for _ in 0..WAYS {
        let way = A::scan(set, home.tag, from);
        if way >= STEP {
            return NONE;
        }
        let position = set * STEP + way;
        let Some(slot) = A::new_flows().get_ptr(position) else { return NONE };
        // SAFETY: an element of the array; `entry` looks whether it is whole.
        let new_flow = unsafe { &*slot };
        *check = sum_of(slot);
        if *check != 0 && is_it(new_flow) {
            return position;
        }
        from = way + 1;
    }
    NONE
}

#[inline(always)]
fn scan<A: NewFlows>(set: u32, tag: u32, from: u32) -> u32 {
    let Some(set) = A::sets().get(set) else { return STEP };
    for way in 0..WAYS {
        if set.tags[way] == tag && way as u32 >= from {
            return way as u32;
        }
    }
    STEP
}

impl<A: NewFlows> Found<A> {
    /// The element as it is now.
    #[inline(always)]
    pub fn new_flow(&self) -> &NewFlow<A> {
        // SAFETY: an element of the array, in which others write meanwhile: what must fit together
        // is looked at by `entry`.
        unsafe { &*fresh(self.slot) }
    }

    /// The entry that the packet would find in the flow tables; None if the
    /// element was not written as a whole.
    #[inline(always)]
    pub fn entry(&self) -> Option<Entry<A>> {
        let entry = self.new_flow().entry(self.reply);
        barrier();
        // After it was read: whatever was displaced meanwhile shows.
        if !self.is_same() {
            return None;
        }
        if self.new_flow().is_whole() {
            return Some(entry);
        }
        // Should it be like that for good, it must not stay.
        self.remove();
        count(Reason::EntryTorn);
        None
    }

    /// Whether the element is still that of the flow.
    #[inline(always)]
    pub fn is_same(&self) -> bool {
        sum_of(self.slot) == self.check
    }

    /// Moves the flow to the flow tables; false if these did not take it.
    #[inline(always)]
    pub fn promote(&self) -> bool {
        // In this order, so that there is always an entry to be found.
        let moved = promote::<A>(self.position, self.check);
        if moved {
            self.remove();
        }
        moved
    }

    /// Notes that the flow, in which one side has not spoken, goes on: it is not
    /// the oldest any more.
    #[inline(always)]
    pub fn renew(&self) {
        mark::<A>(self.position, PENDING);
    }

    /// Whether the flow lives on, and is to move to the flow tables.
    #[inline(always)]
    pub fn is_grown(&self, now: u32) -> bool {
        let new_flow = self.new_flow();
        new_flow.state & ESTABLISHED != 0
            && !is_closed(new_flow.state)
            && (new_flow.seen != now || new_flow.has_asymmetric_reply())
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

    /// Counts that the endpoint cannot be reached, if nobody has answered.
    #[inline(always)]
    pub fn fail(&self) {
        let _ = A::fail(self.position, self.check);
    }

    /// Forgets the flow. Its element of a reply key leads nowhere then.
    #[inline(always)]
    pub fn remove(&self) {
        let _ = A::clear(self.position, self.check);
    }
}

/// The set of an element, and which one it is there.
#[inline(always)]
fn set_of<A: NewFlows>(position: u32) -> Option<(*mut Set, usize)> {
    Some((A::sets().get_ptr_mut(position / STEP)?, position as usize % WAYS))
}

#[inline(always)]
fn mark<A: NewFlows>(position: u32, rank: u8) {
    if let Some((set, way)) = set_of::<A>(position) {
        // SAFETY: an entry of an array: aligned words, written by whoever comes.
        unsafe { (*set).mark(way, rank) };
    }
}

/// [`NewFlow::check`] as it is now.
#[inline(always)]
fn sum_of<A>(slot: *const NewFlow<A>) -> u32 {
    // SAFETY: an element of the array.
    let check = unsafe { (&raw const (*slot).check).read_volatile() };
    barrier();
    check
}

#[inline(always)]
fn clear<A: NewFlows>(position: u32, check: u32) -> u32 {
    let Some(slot) = A::new_flows().get_ptr_mut(position) else { return 0 };
    let Some((set, way)) = set_of::<A>(position) else { return 0 };
    let lock = SetLock::acquire(set);
    if sum_of(slot) == check {
        // SAFETY: entries of arrays, in which nobody else writes now what makes out a flow.
        unsafe {
            (*set).tags[way] = 0;
            (*slot).check = 0;
        }
    }
    lock.release();
    0
}

#[inline(always)]
fn fail<A: NewFlows>(position: u32, check: u32) -> u32 {
    let Some(slot) = A::new_flows().get_ptr_mut(position) else { return 0 };
    if sum_of(slot) != check {
        return 0;
    }
    // SAFETY: an element of the array. Racing writers write alike.
    let flow = unsafe { &mut *slot };
    if flow.state & (ANSWERED | RESET | UNREACHABLE) == 0 {
        flow.state |= UNREACHABLE;
        tell([flow.subset, flow.endpoint], Signals::of(Signal::Unreachable), 0);
    }
    0
}

#[inline(always)]
fn place<A: NewFlows>(set: u32) -> u32 {
    let Some(set) = A::sets().get(set) else { return 0 };
    let place = set.place();
    place.way as u32 | (place.live as u32) << 3
}

/// Writes a new flow, and the element of its reply key if it needs one. False if there is no room,
/// which is when a flow that is in the way cannot be moved.
#[inline(always)]
pub fn add<A: NewFlows>(new_flow: &mut NewFlow<A>) -> bool {
    let home = Home::new(new_flow_seed(), new_flow.client, new_flow.client_port, new_flow.protocol);
    let mut added = write(home, new_flow);
    if added && new_flow.has_asymmetric_reply() {
        let (kind, check) = (new_flow.kind, new_flow.check);
        new_flow.kind |= REPLY_KEY;
        new_flow.check = new_flow.sum();
        let port = new_flow.reply_port;
        let end = new_flow.client.or(new_flow.service, kind & HAIRPIN != 0);
        added = write(Home::new(new_flow_seed(), end, port, new_flow.protocol), new_flow);
        (new_flow.kind, new_flow.check) = (kind, check);
    }
    added
}

/// Writes an element into its set. A live flow that has to make room is in the
/// flow tables before its set is locked to write over it: to move it takes longer than
/// others spin.
#[inline(always)]
fn write<A: NewFlows>(home: Home, new_flow: &mut NewFlow<A>) -> bool {
    let number = home.set & new_flow_mask();
    let Some(set) = A::sets().get_ptr_mut(number) else { return false };
    let (mut moved, mut check) = (NONE, 0);
    for _ in 0..ATTEMPTS {
        let lock = SetLock::acquire_by_call::<A>(number, set);
        let place = A::place(number);
        let position = number * STEP + place % STEP;
        let Some(slot) = A::new_flows().get_ptr_mut(position) else {
            lock.release();
            return false;
        };
        let found = sum_of(slot);
        if place < STEP || (position, found) == (moved, check) {
            let _ = A::begin(position, (new_flow.state & ADOPTED) as u32);
            put(set, place as usize % WAYS, slot, home.tag, new_flow);
            lock.release();
            return true;
        }
        lock.release();
        if !promote::<A>(position, found) {
            return false;
        }
        (moved, check) = (position, found);
    }
    false
}

#[inline(always)]
fn put<A: NewFlows>(
    set: *mut Set,
    way: usize,
    slot: *mut NewFlow<A>,
    tag: u32,
    new_flow: &mut NewFlow<A>,
) {
    let check = new_flow.check;
    // Nobody takes the element for a flow before all of it is there.
    new_flow.check = 0;
    // SAFETY: entries of arrays, in which nobody else writes now what makes out a flow.
    unsafe {
        (&raw mut (*slot).check).write_volatile(0);
        barrier();
        (*set).mark(way, PENDING);
        (*set).tags[way] = tag;
        *slot = *new_flow;
        barrier();
        (&raw mut (*slot).check).write_volatile(check);
    }
    new_flow.check = check;
}

/// Has the flow whose element has that check in the flow tables, too; false if these did not take
/// it.
#[inline(always)]
fn promote<A: NewFlows>(position: u32, check: u32) -> bool {
    // By two calls: both entries of IPv6 on one stack are too many.
    let reply = A::promote_reply(position, check);
    A::promote_forward(position, check) & reply != 0
}

#[inline(always)]
fn promote_reply<A: NewFlows>(position: u32, check: u32) -> u32 {
    promote_entry::<A>(position, check, true) as u32
}

#[inline(always)]
fn promote_forward<A: NewFlows>(position: u32, check: u32) -> u32 {
    promote_entry::<A>(position, check, false) as u32
}

/// Writes one of the two entries. What another CPU has moved is there.
#[inline(always)]
fn promote_entry<A: NewFlows>(position: u32, check: u32, reply: bool) -> bool {
    let Some(slot) = A::new_flows().get_ptr_mut(position) else { return false };
    let Some(sought) = A::sought().get_ptr_mut(0) else { return false };
    let Some(times) = A::times().get(position) else { return false };
    // SAFETY: an element of the array, and the slot of this CPU; programs on it do not preempt
    // each other. There is no stack left for copies: if the flow is displaced meanwhile, the tag
    // of an entry does not fit its key.
    let (new_flow, key) = unsafe { (&*slot, &mut (*sought).tuple) };
    if sum_of(slot) != check || !new_flow.is_whole() {
        return true;
    }
    *key = if reply { new_flow.reply_key() } else { new_flow.forward_key() };
    let time = if reply { times.asked } else { times.begun };
    let entry = new_flow.entry_with(reply, time);
    let full = A::flows().insert(&*key, &entry, 0).is_err();
    if full {
        report(Event::FlowTableFull, key);
    }
    !full
}
