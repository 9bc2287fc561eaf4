//! Frames in memory, for tests and fuzz targets: what a packet becomes is then
//! known in microseconds, and without a kernel.

extern crate std;

pub mod packet;

use core::cell::{Cell, RefCell};
use std::vec::Vec;

use bytemuck::Pod;

use crate::checksum::{fold, update};
use crate::frame::{ChecksumChange, Frame};
use crate::parse::{Bytes, TCP, UDP};

/// A checksum that a device is to compute: over all from `start` on, what `field`
/// holds included.
#[derive(Debug, Clone, Copy)]
struct Partial {
    start: usize,
    field: usize,
}

/// A frame in memory.
#[derive(Debug)]
pub struct Memory {
    bytes: RefCell<Vec<u8>>,
    partial: Option<Partial>,
    summed: Cell<u64>,
}

impl Memory {
    /// A copy of a frame, whose checksums are as they stand there.
    #[must_use]
    pub fn new(frame: &[u8]) -> Self {
        Self { bytes: RefCell::new(frame.to_vec()), partial: None, summed: Cell::new(0) }
    }

    /// The same; if `partial`, as of a packet that its sender has left to the
    /// device to sum up.
    ///
    /// # Panics
    ///
    /// If it is partial, and no TCP or UDP packet behind an IP header without options.
    #[must_use]
    pub fn of(frame: &[u8], partial: bool) -> Self {
        let mut memory = Self::new(frame);
        if partial {
            let v6 = frame[12] == 0x86;
            let (start, protocol, source) =
                if v6 { (54, frame[20], 22) } else { (34, frame[23], 26) };
            let field = start
                + match protocol {
                    TCP => 16,
                    UDP => 6,
                    other => panic!("protocol {other}"),
                };
            let length = (frame.len() - start) as u64;
            let addresses = sum(&frame[source..start]);
            let pseudo = fold(addresses + u64::from(protocol) + length).to_be_bytes();
            memory.bytes.get_mut()[field..field + 2].copy_from_slice(&pseudo);
            memory.partial = Some(Partial { start, field });
        }
        memory
    }

    /// The frame as it is.
    #[must_use]
    pub fn into_frame(self) -> Vec<u8> {
        self.bytes.into_inner()
    }

    /// The frame as its device sends it.
    #[must_use]
    pub fn sent(self) -> Vec<u8> {
        let mut frame = self.bytes.into_inner();
        if let Some(Partial { start, field }) = self.partial {
            let sum = !fold(sum(&frame[start..]));
            frame[field..field + 2].copy_from_slice(&sum.to_be_bytes());
        }
        frame
    }

    /// By how much the frame's words were said to have changed, see [`Frame::sum_up`].
    #[must_use]
    pub fn summed(&self) -> u16 {
        fold(self.summed.get())
    }
}

/// The sum of 16-bit words, in the order of the network; of an odd number of bytes
/// as if a zero came behind (RFC 1071).
#[must_use]
pub fn sum(bytes: &[u8]) -> u64 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    bytes.chunks(2).map(word).sum()
}

impl Bytes for Memory {
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        self.bytes.borrow().load(offset)
    }

    fn is_beyond_length(&self) -> bool {
        self.bytes.borrow().is_beyond_length()
    }
}

impl Frame for Memory {
    fn length(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()> {
        let value = bytemuck::bytes_of(&value);
        let end = offset.checked_add(value.len())?;
        self.bytes.borrow_mut().get_mut(offset..end)?.copy_from_slice(value);
        Some(())
    }

    fn update_l4(&self, change: &ChecksumChange) -> Option<()> {
        let field: u16 = self.load(change.offset)?;
        let (addresses, ports) = (u64::from(change.address_delta), u64::from(change.port_delta));
        if self.partial.is_some() {
            // Of what the device does not see: that is the addresses alone.
            return self.store(change.offset, fold(u64::from(field) + addresses));
        }
        if change.udp && field == 0 {
            return Some(());
        }
        let new = match update(field, fold(addresses + ports)) {
            0 if change.udp => 0xffff,
            new => new,
        };
        self.store(change.offset, new)
    }

    fn sum_up(&self, delta: u16) {
        self.summed.set(self.summed.get() + u64::from(delta));
    }

    fn resize(&self, length: usize) -> Option<()> {
        self.bytes.borrow_mut().resize(length, 0);
        Some(())
    }

    fn is_partial(&self, offset: usize) -> Option<bool> {
        self.load::<u16>(offset)?;
        Some(self.partial.is_some_and(|partial| partial.field == offset))
    }
}
