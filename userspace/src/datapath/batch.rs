//! BPF_MAP_LOOKUP_BATCH (Linux 5.6), which the eBPF library does not offer; and what is done with
//! single keys of what it found. A walk by batches goes bucket by bucket: unlike one by keys, it
//! does not start over when the entry that it stands at goes.

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use bytemuck::Pod;

const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;

/// The part of `union bpf_attr` that these commands use.
#[repr(C)]
#[derive(Default)]
struct Attributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// The part of it that commands about one key use.
#[repr(C)]
struct Element {
    map_fd: u32,
    zero: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// Calls bpf(2): the result of a command that has one, such as a file descriptor.
///
/// # Safety
///
/// `A` begins as the command's part of `union bpf_attr` does, in C's layout. Each address in it is
/// 0 or that of memory that outlives the call, of the size that the command reads or writes there;
/// what it writes is borrowed by nobody else.
pub(super) unsafe fn bpf<A>(command: libc::c_long, attributes: &mut A) -> io::Result<libc::c_long> {
    let size = size_of::<A>();
    let pointer: *mut A = attributes;
    // SAFETY: the pointer is valid for `size` bytes; for what the addresses in it point to, the
    // caller answers.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, pointer, size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Where a walk through a map is, with its buffers.
pub struct Cursor<K, V> {
    /// The kernel's place: a bucket number for hash maps, a key for arrays.
    place: [u32; 16],
    begun: bool,
    keys: Vec<K>,
    values: Vec<V>,
}

impl<K: Pod, V: Pod> Cursor<K, V> {
    /// At the start, for steps of some `batch` entries.
    pub fn new(batch: usize) -> Self {
        let (keys, values) = (vec![K::zeroed(); batch], vec![V::zeroed(); batch]);
        Self { place: [0; 16], begun: false, keys, values }
    }

    /// Calls `each` with the next entries; whether there may be more.
    pub fn next(&mut self, map: BorrowedFd<'_>, mut each: impl FnMut(&K, &V)) -> io::Result<bool> {
        loop {
            let mut next = [0u32; 16];
            let mut attributes = Attributes {
                in_batch: if self.begun { self.place.as_ptr() as u64 } else { 0 },
                out_batch: next.as_mut_ptr() as u64,
                keys: self.keys.as_mut_ptr() as u64,
                values: self.values.as_mut_ptr() as u64,
                count: self.keys.len() as u32,
                map_fd: map.as_raw_fd().unsigned_abs(),
                ..Attributes::default()
            };
            // SAFETY: the buffers hold `count` keys and values of the map's sizes, which
            // the types of the map's owner fix, and a place of any map's size.
            let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
            let more = match result {
                Ok(_) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    // One bucket holds more than fits.
                    self.keys.resize(self.keys.len() * 2, K::zeroed());
                    self.values.resize(self.values.len() * 2, V::zeroed());
                    continue;
                }
                Err(error) => return Err(error),
            };
            let count = attributes.count as usize;
            let found = self.keys[..count].iter().zip(&self.values[..count]);
            found.for_each(|(key, value)| each(key, value));
            (self.place, self.begun) = (next, true);
            return Ok(more);
        }
    }
}

/// Calls `each` with every entry of a map, some `batch` at a time. Entries
/// that come or go meanwhile may be seen or not.
pub fn walk<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    batch: usize,
    mut each: impl FnMut(&K, &V),
) -> io::Result<()> {
    let mut cursor = Cursor::new(batch);
    while cursor.next(map, &mut each)? {}
    Ok(())
}

/// The value of a key, if it is there. Of an LRU map, that is no use of it.
pub fn get<K: Pod, V: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<Option<V>> {
    let mut value = V::zeroed();
    let (key, place): (*const K, *mut V) = (key, &mut value);
    let map_fd = map.as_raw_fd().unsigned_abs();
    let mut element = Element { map_fd, zero: 0, key: key as u64, value: place as u64, flags: 0 };
    // SAFETY: a key and a value of the map's sizes, which the types of the map's owner fix.
    match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) } {
        Ok(_) => Ok(Some(value)),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a key of a hash map; whether it was there.
pub fn remove<K: Pod>(map: BorrowedFd<'_>, key: &K) -> io::Result<bool> {
    let (key, map_fd): (*const K, _) = (key, map.as_raw_fd().unsigned_abs());
    let mut element = Element { map_fd, zero: 0, key: key as u64, value: 0, flags: 0 };
    // SAFETY: a key of the map's size, which the type of the map's owner fixes.
    match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut element) } {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// How [`Bytes::put`] treats what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is written over.
    Over,
    /// It stays.
    New,
}

/// A map whose keys and values are bytes: of a layout that no type here has.
#[derive(Debug, Clone, Copy)]
pub struct Bytes<'a> {
    map: BorrowedFd<'a>,
    key: usize,
    value: usize,
}

impl<'a> Bytes<'a> {
    /// A map with keys and values of these sizes, which is not one of values for each CPU.
    pub fn new(map: BorrowedFd<'a>, key: usize, value: usize) -> Self {
        Self { map, key, value }
    }

    /// Calls `each` with every entry, some `batch` at a time, as [`walk`].
    pub fn walk(self, batch: usize, mut each: impl FnMut(&[u8], &[u8])) -> io::Result<()> {
        let (mut place, mut begun, mut batch) = ([0u32; 16], false, batch);
        // The kernel copies arrays in steps of eight bytes, to buffers of whole values.
        let (mut keys, mut values) = (vec![0; batch * self.key], vec![0; batch * self.value]);
        loop {
            let mut next = [0u32; 16];
            let mut attributes = Attributes {
                in_batch: if begun { place.as_ptr() as u64 } else { 0 },
                out_batch: next.as_mut_ptr() as u64,
                keys: keys.as_mut_ptr() as u64,
                values: values.as_mut_ptr() as u64,
                count: batch as u32,
                map_fd: self.map.as_raw_fd().unsigned_abs(),
                ..Attributes::default()
            };
            // SAFETY: the buffers hold `batch` keys and values, and a place of any map's size.
            let result = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut attributes) };
            let more = match result {
                Ok(_) => true,
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => false,
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    // One bucket holds more than fits.
                    batch *= 2;
                    keys.resize(batch * self.key, 0);
                    values.resize(batch * self.value, 0);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let found = keys.chunks_exact(self.key).zip(values.chunks_exact(self.value));
            found.take(attributes.count as usize).for_each(|(key, value)| each(key, value));
            if !more {
                return Ok(());
            }
            (place, begun) = (next, true);
        }
    }

    /// The value of a key, if it is there.
    pub fn get(self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; self.value];
        let mut element = self.element(key, value.as_mut_ptr() as u64, 0)?;
        // SAFETY: the key and the buffer are of the map's sizes.
        match unsafe { bpf(BPF_MAP_LOOKUP_ELEM, &mut element) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes an entry; false if it was there and stays.
    pub fn put(self, key: &[u8], value: &[u8], how: Put) -> io::Result<bool> {
        if value.len() != self.value {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        const BPF_NOEXIST: u64 = 1;
        let flags = if how == Put::New { BPF_NOEXIST } else { 0 };
        let mut element = self.element(key, value.as_ptr() as u64, flags)?;
        // SAFETY: the key and the value are of the map's sizes.
        match unsafe { bpf(BPF_MAP_UPDATE_ELEM, &mut element) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Deletes an entry; whether it was there.
    pub fn remove(self, key: &[u8]) -> io::Result<bool> {
        let mut element = self.element(key, 0, 0)?;
        // SAFETY: the key is of the map's size.
        match unsafe { bpf(BPF_MAP_DELETE_ELEM, &mut element) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn element(self, key: &[u8], value: u64, flags: u64) -> io::Result<Element> {
        if key.len() != self.key {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let map_fd = self.map.as_raw_fd().unsigned_abs();
        Ok(Element { map_fd, zero: 0, key: key.as_ptr() as u64, value, flags })
    }
}
