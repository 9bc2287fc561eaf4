//! What packet code needs of a frame: its bytes, and changes of them.
//!
//! The kernel programs implement it for frames at XDP and at TC, tests and fuzz
//! targets for bytes in memory (`memory`, with the feature of that name).

use bytemuck::Pod;

use crate::parse::Bytes;

/// A change of a TCP or UDP checksum.
#[derive(Debug, Clone, Copy)]
pub struct ChecksumChange {
    /// Offset of the field.
    pub offset: usize,
    /// Folded sum of new addresses and complements of old ones.
    pub address_delta: u16,
    /// The same of ports.
    pub port_delta: u16,
    /// UDP, where a field of 0 means that there is no checksum.
    pub udp: bool,
    /// Over IPv6; the kernel's helpers want to know.
    pub v6: bool,
}

/// A frame that can be changed. What differs between hooks is the update of a
/// TCP or UDP checksum, which may be a partial one, and the change of size.
pub trait Frame: Bytes {
    /// Bytes in the frame.
    fn length(&self) -> u64;
    /// Writes at an offset; None past the end.
    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()>;
    /// Updates a TCP or UDP checksum; None if it cannot be changed.
    fn update_l4(&self, change: &ChecksumChange) -> Option<()>;
    /// Tells the kernel that words were changed by so much in all that no
    /// checksum in the packet covers: a device may have summed up all of it.
    fn sum_up(&self, delta: u16);
    /// Sets the length of the frame; None if it cannot be changed.
    fn resize(&self, length: usize) -> Option<()>;
    /// Whether the device will compute the checksum whose field is at `offset`;
    /// None past the end.
    fn is_partial(&self, offset: usize) -> Option<bool>;
}
