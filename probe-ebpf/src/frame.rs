//! What a hook has to offer: bytes, and the rewrite of fields.

use bytemuck::Pod;
use probe_common::parse::Bytes;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On its way, changed or not.
    Pass,
    /// The frame was turned into an answer: back out of the same interface.
    Answer,
    /// Dropped; a reason was counted.
    Drop,
}

/// A change of a TCP or UDP checksum.
pub struct ChecksumChange {
    /// Offset of the field.
    pub offset: usize,
    /// Folded sum of new addresses and complements of old ones.
    pub address_delta: u16,
    /// The same of ports.
    pub port_delta: u16,
    /// UDP, where a field of 0 means that there is no checksum.
    pub udp: bool,
    /// Over IPv6.
    pub v6: bool,
    /// Sum of the pseudo-header as it was.
    pub pseudo: u64,
}

/// Access to a packet at one hook. The seam between XDP and TC is the update
/// of a TCP or UDP checksum, which may be partial, and the change of size.
pub trait Frame: Bytes {
    /// Whether [`Verdict::Answer`] works here; if not, the untouched packet is
    /// passed to a hook where it does.
    const ANSWERS: bool;
    /// Bytes in the packet.
    fn len(&self) -> u64;
    /// Writes at an offset; None past the end.
    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()>;
    /// Updates a TCP or UDP checksum.
    fn update_l4(&self, change: &ChecksumChange) -> Option<()>;
    /// Sets the length of the frame.
    fn resize(&self, len: usize) -> Option<()>;
    /// Whether the device will compute the checksum whose field is at `offset`.
    fn is_partial(&self, offset: usize) -> Option<bool>;
}

/// A checked pointer into packet data.
#[inline(always)]
pub fn pointer<T>(data: usize, end: usize, offset: usize) -> Option<*mut T> {
    let at = data + offset;
    if at + size_of::<T>() > end { None } else { Some(at as *mut T) }
}

/// The same pointer, of which the compiler forgets what it knew: it would keep
/// `context + offset` in a register for later, which the verifier forbids.
#[inline(always)]
pub fn fresh<T>(context: *mut T) -> *mut T {
    let mut context = context;
    // SAFETY: a move of a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) context) };
    context
}

/// The same number, of which the compiler forgets where it came from.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: a move of a register to itself.
    unsafe { core::arch::asm!("{0} = {0}", inout(reg) number) };
    number
}
