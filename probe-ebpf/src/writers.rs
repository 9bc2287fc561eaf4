//! One CPU at a time writes elements of a set of young flows.
//!
//! Two that found the same place for two flows at once would leave an element
//! with parts of both, and neither flow would be found again.
//!
//! An atomic addition that returns what was there, or a comparison and exchange,
//! would do; Linux before 5.12 has neither for BPF. It has one that returns
//! nothing: whoever adds itself to the writers, and then reads that there is one,
//! is alone. All additions to a word have an order, and the later of two sees the
//! earlier one.

use core::arch::asm;

use probe_common::young::Set;

use crate::family::Family;
use crate::frame::barrier;

/// How often a CPU looks whether it is alone: some microseconds. Another one is
/// done by then, unless it was interrupted.
const LOOKS: u32 = 256;
/// How often it begins to look again, for a new flow: longer than an interrupt
/// takes. Only one whose virtual machine was stopped is not done by then: to wait
/// for that would cost more than what it prevents.
const ROUNDS: u32 = 16;

/// The right to write elements of a set, which ends with [`Turn::end`].
#[must_use]
pub struct Turn {
    /// None if there was no waiting for it.
    writers: Option<*mut u32>,
}

impl Turn {
    /// Waits for it.
    #[inline(always)]
    pub fn of(set: *mut Set) -> Self {
        let writers = writers_of(set);
        Self { writers: is_alone(writers).then_some(writers) }
    }

    /// Waits longer, by calls, which the verifier follows once, for who has stack
    /// left for them; `number` is the set's.
    #[inline(always)]
    pub fn by_call<A: Family>(number: u32, set: *mut Set) -> Self {
        for _ in 0..ROUNDS {
            if A::begin(number) != 0 {
                return Self { writers: Some(writers_of(set)) };
            }
        }
        Self { writers: None }
    }

    /// It is the others' turn.
    #[inline(always)]
    pub fn end(self) {
        barrier();
        if let Some(writers) = self.writers {
            add(writers, -1);
        }
    }
}

/// For [`Turn::by_call`]: 0 if there was no waiting for it.
#[inline(always)]
pub fn begin<A: Family>(number: u32) -> u32 {
    A::sets().get_ptr_mut(number).is_some_and(|set| is_alone(writers_of(set))) as u32
}

#[inline(always)]
fn writers_of(set: *mut Set) -> *mut u32 {
    // SAFETY: an entry of an array.
    unsafe { &raw mut (*set).writers }
}

/// Waits until nobody else writes; false if that took too long.
#[inline(always)]
fn is_alone(writers: *mut u32) -> bool {
    for _ in 0..LOOKS {
        add(writers, 1);
        // SAFETY: in an entry of an array.
        if unsafe { writers.read_volatile() } == 1 {
            return true;
        }
        add(writers, -1);
    }
    false
}

/// Adds to a word, which others may do at the same time. The atomic numbers of the
/// core library would return what was there, or have 64 bits.
#[inline(always)]
fn add(word: *mut u32, number: i32) {
    // SAFETY: one instruction, which changes an aligned word of an entry of an array.
    unsafe {
        asm!(
            "lock *(u32 *)({word} + 0) += {number}",
            word = in(reg) word,
            number = in(wreg) number,
            options(nostack, preserves_flags)
        );
    }
}
