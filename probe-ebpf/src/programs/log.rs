//! Rare events, told to the agent's log.
//!
//! Off unless LOG_RARE was set when the object was loaded: else the verifier
//! knows that nothing here is reached, and takes it out. A step only notes what
//! happened; [`flush`] tells it when the step is done, since the formatting
//! needs a stack of its own.
//!
//! At most [`LIMIT`] events of a reason are told in a tick, whatever the number
//! of CPUs: a flood of rejects must not become a flood of the log. The counters
//! in REASONS count all.

use aya_log_ebpf::warn;
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::parse::TCP;
use probe_common::reason::Reason;

use super::clock::now;
use super::counters::count;
use super::maps::{LOG_BUDGETS, LOG_NOTES, log_rare};
use super::values::Note;

/// Events of a reason that are told in a tick.
const LIMIT: u32 = 5;

/// The events that are told, each by the [`Reason`] of its name. All that can be reported is
/// in this list, and all that is in the list has its message: in code, since a table of names
/// would need addresses in read-only data, which loaders do not fill in.
macro_rules! events {
    ($($event:ident)*) => {
        /// A rare event.
        #[derive(Clone, Copy)]
        pub enum Event {
            $($event = Reason::$event as isize,)*
        }

        impl Event {
            /// What it is counted as.
            #[inline(always)]
            fn reason(self) -> Reason {
                match self {
                    $(Self::$event => Reason::$event,)*
                }
            }
        }

        /// Tells an event by its number.
        #[inline(always)]
        fn tell(event: u32, note: &Note) {
            $(
                if event == Event::$event as u32 {
                    message(note, Reason::$event.name());
                }
            )*
        }
    };
}

events! { RejectNoEndpoint RejectEndpointGone RejectSilent RejectNoPort AnswerOther FlowTableFull }

/// Counts a rare event, and tells it if that is wanted. The tuple is as the
/// packet came.
#[inline(always)]
pub fn report<A: Address>(event: Event, tuple: &Tuple<A>) {
    count(event.reason());
    if log_rare() == 0 {
        return;
    }
    if let Some(note) = LOG_NOTES.get_ptr_mut(0) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        let note = unsafe { &mut *note };
        note.number = event as u32 + 1;
        note.protocol = tuple.protocol;
        note.v6 = size_of::<A>() == size_of::<V6>();
        (note.sport, note.dport) = (tuple.sport, tuple.dport);
        (note.src, note.dst) = (tuple.src.words(), tuple.dst.words());
    }
}

/// Tells what was noted of this packet.
#[inline(always)]
pub fn flush() {
    if log_rare() != 0 {
        weir_log();
    }
}

/// A global function: it has hardly anything above it on the stack.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_log() -> u32 {
    if log_rare() == 0 {
        // The verifier looks here even if there is no call.
        return 0;
    }
    let Some(slot) = LOG_NOTES.get_ptr_mut(0) else { return 0 };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    let note = unsafe { &mut *slot };
    let number = note.number;
    note.number = 0;
    if number != 0 && within_budget(number - 1) {
        tell(number - 1, note);
    }
    0
}

/// Whether one more event of a reason may be told in this tick. CPUs may race
/// here, and then tell one or two more.
#[inline(always)]
fn within_budget(reason: u32) -> bool {
    let Some(budget) = LOG_BUDGETS.get_ptr_mut(reason) else { return false };
    // SAFETY: an entry of an array: aligned words.
    let budget = unsafe { &mut *budget };
    let now = now();
    if budget.tick != now {
        (budget.tick, budget.told) = (now, 0);
    }
    if budget.told >= LIMIT {
        return false;
    }
    budget.told += 1;
    true
}

#[inline(always)]
fn message(note: &Note, reason: &str) {
    let protocol = if note.protocol == TCP { "TCP" } else { "UDP" };
    let (sport, dport) = (u16::from_be(note.sport), u16::from_be(note.dport));
    if note.v6 {
        let [src, dst]: [[u8; 16]; 2] = [note.src, note.dst].map(bytemuck::cast);
        warn!((), "{}: {} [{:i}]:{} to [{:i}]:{}", reason, protocol, src, sport, dst, dport);
    } else {
        let [V4(src), V4(dst)] = [note.src, note.dst].map(V4::from_words);
        let (src, dst) = (u32::from_be(src), u32::from_be(dst));
        warn!((), "{}: {} {:i}:{} to {:i}:{}", reason, protocol, src, sport, dst, dport);
    }
}
