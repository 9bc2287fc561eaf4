//! New flows in the memory of this process.
//!
//! A system call that writes an element does so whatever has come there since it
//! was read: the elements that a sweep finds are the oldest of their sets, which
//! the programs give to new flows next. In memory that is shared with them, a
//! flow is forgotten by one instruction, which does nothing if another flow has
//! taken its place.

use std::io;
use std::num::NonZeroUsize;
use std::os::fd::BorrowedFd;
use std::ptr::{NonNull, read_volatile};
use std::sync::atomic::{AtomicU32, Ordering};

use bytemuck::Pod;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use probe_common::address::Address;
use probe_common::new_flow::NewFlow;

/// Elements that are mapped at a time: whole pages of any usual size. All of a
/// large array would count for memory that the agent uses.
const WINDOW: usize = 4096;

/// Forgets the flows for which `which` says so, in an array of `count` elements;
/// says how many. What never changes of a flow is as it was when `which` saw it;
/// what does, such as the tick of its last packet, may be some nanoseconds newer.
///
/// What their sets say of them stays: a tag could not be told from that of a new
/// flow of the same client and port. To the programs, an element without a check
/// is no flow, whatever its tag, and its place is given away in its turn.
pub fn forget<A: Address>(
    array: BorrowedFd<'_>,
    count: usize,
    mut which: impl FnMut(&NewFlow<A>) -> bool,
) -> io::Result<usize>
where
    NewFlow<A>: Pod,
{
    let mut forgotten = 0;
    for first in (0..count).step_by(WINDOW) {
        let window = Window::<A>::of(array, first, WINDOW.min(count - first))?;
        for place in 0..window.count {
            let new_flow = window.read(place);
            if new_flow.is_whole() && which(&new_flow) && window.forget(place, new_flow.check) {
                forgotten += 1;
            }
        }
    }
    Ok(forgotten)
}

/// Some elements of the array, mapped until it is dropped.
struct Window<A> {
    start: NonNull<NewFlow<A>>,
    count: usize,
}

impl<A> Window<A> {
    /// The kernel begins elements of an array at multiples of eight bytes.
    const STEP: usize = size_of::<NewFlow<A>>().next_multiple_of(8);
}

impl<A: Address> Window<A>
where
    NewFlow<A>: Pod,
{
    /// `count` elements, one at least, from a multiple of [`WINDOW`] on.
    fn of(array: BorrowedFd<'_>, first: usize, count: usize) -> io::Result<Self> {
        let length = NonZeroUsize::new(count * Self::STEP).ok_or(io::ErrorKind::InvalidInput)?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        let offset = (first * Self::STEP) as libc::off_t;
        // SAFETY: a new mapping, where the kernel finds room, takes nobody's memory.
        let start = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, array, offset) }?;
        Ok(Self { start: start.cast(), count })
    }

    fn element(&self, place: usize) -> NonNull<NewFlow<A>> {
        assert!(place < self.count, "element {place} of {}", self.count);
        // SAFETY: within the mapping, which is of `count` elements.
        unsafe { self.start.byte_add(place * Self::STEP) }
    }

    /// An element as it is now, written as a whole or not.
    fn read(&self, place: usize) -> NewFlow<A> {
        // SAFETY: aligned to eight bytes, in the mapping, and any bytes are a value. Programs may
        // write it meanwhile; hence volatile, and the value tells whether it is whole.
        unsafe { read_volatile(self.element(place).as_ptr()) }
    }

    /// Forgets the flow with that check, if it still is the one that is there.
    fn forget(&self, place: usize, check: u32) -> bool {
        let element = self.element(place).as_ptr();
        // SAFETY: a word of an element in the mapping, aligned to four bytes; this process reads
        // and writes it by `read` and by this alone.
        let word = unsafe { AtomicU32::from_ptr(&raw mut (*element).check) };
        word.compare_exchange(check, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl<A> Drop for Window<A> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made, into which nothing points any more. It cannot fail.
        let _ = unsafe { munmap(self.start.cast(), self.count * Self::STEP) };
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::FileExt as _;

    use bytemuck::{Zeroable as _, bytes_of, bytes_of_mut};
    use probe_common::address::{Tuple, V4, V6};
    use probe_common::flow::{FORWARD, Facts};
    use probe_common::parse::TCP;

    use super::*;

    /// More than a window, and not a whole number of windows.
    const COUNT: usize = WINDOW + 1024;

    /// What the kernel keeps of an array map, in a file: both are mapped alike.
    struct Array(File);

    impl Array {
        fn new<A: Address>() -> Self
        where
            NewFlow<A>: Pod,
        {
            let file = tempfile::tempfile().unwrap();
            file.set_len((COUNT * Window::<A>::STEP) as u64).unwrap();
            Self(file)
        }

        fn put<A: Address>(&self, place: usize, new_flow: &NewFlow<A>)
        where
            NewFlow<A>: Pod,
        {
            self.0.write_all_at(bytes_of(new_flow), (place * Window::<A>::STEP) as u64).unwrap();
        }

        fn get<A: Address>(&self, place: usize) -> NewFlow<A>
        where
            NewFlow<A>: Pod,
        {
            let mut new_flow = NewFlow::zeroed();
            let at = (place * Window::<A>::STEP) as u64;
            self.0.read_exact_at(bytes_of_mut(&mut new_flow), at).unwrap();
            new_flow
        }
    }

    fn flow<A: Address>(client: A, endpoint: u32) -> NewFlow<A> {
        let (src, dst, zero) = (client, client, [0; 3]);
        let key = Tuple { src, dst, sport: 1, dport: 2, protocol: TCP, zero };
        let reply = key.reversed();
        let facts = Facts {
            endpoint,
            subset: 0,
            state: 0,
            direction: FORWARD,
            seen: 0,
            created: 0,
            sequence: 0,
        };
        NewFlow::new(&key, &reply, &facts)
    }

    #[test]
    fn flows_are_forgotten_in_all_of_the_array_and_no_others() {
        every_place(V4(7));
        every_place(V6([7; 2]));
    }

    fn every_place<A: Address>(client: A)
    where
        NewFlow<A>: Pod + PartialEq + std::fmt::Debug,
    {
        let array = Array::new::<A>();
        let gone = [0, 1, WINDOW - 1, WINDOW, COUNT - 1];
        let torn = NewFlow { check: 5, ..flow(client, 1) };
        (0..COUNT).step_by(3).for_each(|place| array.put(place, &flow(client, 2)));
        array.put(10, &torn);
        gone.iter().for_each(|&place| array.put(place, &flow(client, 1)));
        let forgotten =
            forget(array.0.as_fd(), COUNT, |new_flow: &NewFlow<A>| new_flow.endpoint == 1);
        assert_eq!(forgotten.unwrap(), gone.len());
        for place in 0..COUNT {
            let expected = match place {
                10 => torn,
                _ if gone.contains(&place) => NewFlow { check: 0, ..flow(client, 1) },
                _ if place % 3 == 0 => flow(client, 2),
                _ => NewFlow::zeroed(),
            };
            assert_eq!(array.get::<A>(place), expected, "element {place}");
        }
    }

    #[test]
    fn a_flow_that_takes_the_place_meanwhile_stays() {
        let array = Array::new::<V4>();
        let (old, new) = (flow(V4(7), 1), flow(V4(8), 1));
        array.put(3, &old);
        let forgotten = forget(array.0.as_fd(), COUNT, |new_flow: &NewFlow<V4>| {
            // As a program would, after the element was read.
            array.put(3, &new);
            *new_flow == old
        });
        assert_eq!(forgotten.unwrap(), 0);
        assert_eq!(array.get::<V4>(3), new);
    }

    #[test]
    fn an_array_that_cannot_be_mapped_is_an_error() {
        let (reader, _writer) = io::pipe().unwrap();
        let result = forget(reader.as_fd(), COUNT, |_: &NewFlow<V4>| true);
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EACCES));
    }
}
