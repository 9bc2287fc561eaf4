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

/// How often a CPU looks whether it is alone: some dozens of microseconds. Another
/// one is done by then, an interrupt included, unless the machine that it belongs
/// to has stopped it. To wait for that would cost more than what it prevents.
const LOOKS: u32 = 2048;

/// The right to write elements of a set, which ends with [`Turn::end`].
#[must_use]
pub struct Turn {
    /// If it was obtained.
    writers: Option<*mut u32>,
}

impl Turn {
    /// Waits for it; `number` is the set's.
    #[inline(always)]
    pub fn of<A: Family>(number: u32, set: *mut Set) -> Self {
        // SAFETY: an entry of an array.
        let writers = unsafe { &raw mut (*set).writers };
        Self { writers: (A::begin(number) != 0).then_some(writers) }
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

/// Waits until nobody else writes; 0 if that took too long. For [`Turn::of`]: the
/// verifier follows the loop to its end, here once.
#[inline(always)]
pub fn begin<A: Family>(number: u32) -> u32 {
    let Some(set) = A::sets().get_ptr_mut(number) else { return 0 };
    // SAFETY: an entry of an array.
    let writers = unsafe { &raw mut (*set).writers };
    for _ in 0..LOOKS {
        add(writers, 1);
        // SAFETY: as above.
        if unsafe { writers.read_volatile() } == 1 {
            return 1;
        }
        add(writers, -1);
    }
    0
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
