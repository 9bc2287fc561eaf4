//! One CPU at a time writes elements of a set of new flows.
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

use probe_common::new_flow::Set;

use super::compiler::barrier;
use super::family::Family;
use super::global::global_numbers;

/// How often a CPU tries to acquire the lock: some microseconds. Another one has
/// released it by then, unless it was interrupted.
const SPIN_LIMIT: u32 = 256;
/// How often it begins to spin again, for a new flow: longer than an interrupt
/// takes. Only one whose virtual machine was stopped has not released it by then: to
/// wait for that would cost more than what it prevents.
const ROUNDS: u32 = 16;

global_numbers! {
    /// A family whose sets can be locked by a call.
    trait Lock: Family {
        /// For [`SetLock::acquire_by_call`]: 0 if the lock was not to be had.
        fn lock(set) = lock: weir_lock_v4, weir_lock_v6;
    }
}

/// The right to write elements of a set, which ends with [`SetLock::release`].
#[must_use]
pub struct SetLock {
    /// None if it was not to be had, and is gone without.
    writers: Option<*mut u32>,
}

impl SetLock {
    /// Spins until it is acquired, or for too long.
    #[inline(always)]
    pub fn acquire(set: *mut Set) -> Self {
        let writers = writers_of(set);
        Self { writers: try_acquire(writers).then_some(writers) }
    }

    /// Spins longer, by calls, which the verifier follows once, for who has stack
    /// left for them; `number` is the set's.
    #[inline(always)]
    pub fn acquire_by_call<A: Lock>(number: u32, set: *mut Set) -> Self {
        for _ in 0..ROUNDS {
            if A::lock(number) != 0 {
                return Self { writers: Some(writers_of(set)) };
            }
        }
        Self { writers: None }
    }

    /// Others may write.
    #[inline(always)]
    pub fn release(self) {
        barrier();
        if let Some(writers) = self.writers {
            add(writers, -1);
        }
    }
}

#[inline(always)]
fn lock<A: Family>(number: u32) -> u32 {
    A::sets().get_ptr_mut(number).is_some_and(|set| try_acquire(writers_of(set))) as u32
}

#[inline(always)]
fn writers_of(set: *mut Set) -> *mut u32 {
    // SAFETY: an entry of an array.
    unsafe { &raw mut (*set).writers }
}

/// Spins until nobody else writes; false if that took too long.
#[inline(always)]
fn try_acquire(writers: *mut u32) -> bool {
    for _ in 0..SPIN_LIMIT {
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
