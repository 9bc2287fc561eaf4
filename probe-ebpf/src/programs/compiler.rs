//! What is hidden from the compiler, which sees further than the verifier does.

/// The same pointer, of which the compiler forgets what it knew: it would keep
/// `context + offset` in a register for later, which the verifier forbids.
#[allow(
    clippy::pointers_in_nomem_asm_block,
    reason = "nothing is read: a register keeps its value"
)]
#[inline(always)]
pub fn fresh<T>(context: *mut T) -> *mut T {
    let mut context = context;
    // SAFETY: a move of a register to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) context, options(nomem, nostack, preserves_flags))
    };
    context
}

/// What was read and written so far is not put off until after what follows, by
/// the compiler. Stores of a CPU become visible in their order on x86; where they
/// do not, sums over what was written tell.
#[inline(always)]
pub fn barrier() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

/// The same number, of which the compiler forgets where it came from.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: a move of a register to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags))
    };
    number
}
