//! Additions that no other program comes between, on this CPU or another one.

use core::arch::asm;

/// Adds to an aligned number in an entry of a map, in one instruction.
#[inline(always)]
pub fn add(counter: *mut u64, number: u64) {
    // SAFETY: an aligned word of an entry of an array.
    unsafe {
        asm!(
            "lock *(u64 *)({counter} + 0) += {number}",
            counter = in(reg) counter,
            number = in(reg) number,
            options(nostack, preserves_flags)
        );
    }
}
