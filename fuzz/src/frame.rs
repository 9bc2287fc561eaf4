//! A frame in memory, for the rewrite of the kernel programs.

use std::cell::RefCell;

use bytemuck::{AnyBitPattern, NoUninit, Pod};
use probe_common::checksum::{fold, update};
use probe_common::parse::Bytes;

/// A change of a TCP or UDP checksum; as in the programs.
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

/// What the rewrite needs of a frame; as in the programs.
pub trait Frame: Bytes {
    /// Writes at an offset; None past the end.
    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()>;
    /// Updates a TCP or UDP checksum.
    fn update_l4(&self, change: &ChecksumChange) -> Option<()>;
}

/// A frame in memory, with checksums as at XDP.
pub struct Memory(pub RefCell<Vec<u8>>);

impl Memory {
    /// A copy of a frame.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self(RefCell::new(frame.to_vec()))
    }

    /// What became of it.
    #[must_use]
    pub fn into_frame(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

fn load<T: AnyBitPattern>(frame: &[u8], offset: usize) -> Option<T> {
    frame.get(offset..offset + size_of::<T>()).map(bytemuck::pod_read_unaligned)
}

fn store<T: NoUninit>(frame: &mut [u8], offset: usize, value: &T) -> Option<()> {
    let bytes = bytemuck::bytes_of(value);
    frame.get_mut(offset..offset + bytes.len())?.copy_from_slice(bytes);
    Some(())
}

impl Bytes for Memory {
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        load(&self.0.borrow(), offset)
    }

    fn is_beyond_length(&self) -> bool {
        self.0.borrow().is_beyond_length()
    }
}

impl Frame for Memory {
    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()> {
        store(&mut self.0.borrow_mut(), offset, &value)
    }

    fn update_l4(&self, change: &ChecksumChange) -> Option<()> {
        let field: u16 = self.load(change.offset)?;
        if change.udp && field == 0 {
            return Some(());
        }
        let (addresses, ports) = (u64::from(change.address_delta), u64::from(change.port_delta));
        let new = match update(field, fold(addresses + ports)) {
            0 if change.udp => 0xffff,
            new => new,
        };
        Frame::store(self, change.offset, new)
    }
}
