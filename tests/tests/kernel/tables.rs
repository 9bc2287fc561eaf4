//! The entries of flow tables, looked at and changed behind the programs' back.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd};
use std::time::Duration;

use aya::maps::{HashMap, Map, MapData};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{Entry, is_forward};
use probe_common::fragment::{Fragment, FragmentKey};
use probe_common::new_flow::{Home, NewFlow, REPLY_KEY, WAYS};
use probe_common::parse::TCP;
use weir::datapath::Clock;
use weir::explain::words;

use super::{NEW_FLOW_SEED, Node};

impl Node {
    /// Entries in the flow tables, two for each flow; and new flows.
    pub fn entries(&mut self) -> [usize; 2] {
        let mut counts = [0; 2];
        self.each_v4(|_, _| counts[0] += 1);
        self.each_v6(|_, _| counts[0] += 1);
        self.each_new_flow(&mut |flow| counts[1] += usize::from(flow.kind() & REPLY_KEY == 0));
        counts
    }

    /// Makes all flows, and what is known of fragments, older by at least that many seconds.
    pub fn let_pass(&mut self, seconds: u64) {
        // A tick is at most two seconds and at least half a one.
        self.age(seconds as u32 * 2);
    }

    /// Makes them older by just that time, up to a tick.
    pub fn let_time_pass(&mut self, time: Duration) {
        self.age(Clock::new().ticks(time));
    }

    fn age(&mut self, ticks: u32) {
        self.each_v4(|_, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each_v6(|_, entry| entry.seen = entry.seen.wrapping_sub(ticks));
        self.each_new_flow(&mut |flow| *flow.seen() = flow.seen().wrapping_sub(ticks));
        self.each("FRAGMENTS_V4", &mut |_: &FragmentKey<V4>, fragment: &mut Fragment<V4>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
        self.each("FRAGMENTS_V6", &mut |_: &FragmentKey<V6>, fragment: &mut Fragment<V6>| {
            fragment.seen = fragment.seen.wrapping_sub(ticks);
        });
    }

    /// Has all flows begin that many ticks earlier.
    pub fn begin_earlier(&mut self, ticks: u32) {
        self.each_v4(|_, entry| entry.created = entry.created.wrapping_sub(ticks));
        self.each_v6(|_, entry| entry.created = entry.created.wrapping_sub(ticks));
        self.each_new_flow(&mut |flow| flow.begin_earlier(ticks));
    }

    /// What is known of fragments: entries, of both families.
    pub fn fragments(&mut self) -> [usize; 2] {
        let mut counts = [0; 2];
        self.each("FRAGMENTS_V4", &mut |_: &FragmentKey<V4>, _: &mut Fragment<V4>| counts[0] += 1);
        self.each("FRAGMENTS_V6", &mut |_: &FragmentKey<V6>, _: &mut Fragment<V6>| counts[1] += 1);
        counts
    }

    /// Shows, and lets change, all entries of the flow table for IPv4.
    pub fn each_v4(&mut self, mut each: impl FnMut(&Tuple<V4>, &mut Entry<V4>)) {
        self.each("FLOWS_V4", &mut each);
    }

    /// The same for IPv6.
    pub fn each_v6(&mut self, mut each: impl FnMut(&Tuple<V6>, &mut Entry<V6>)) {
        self.each("FLOWS_V6", &mut each);
    }

    fn each<K: aya::Pod, V: aya::Pod + PartialEq>(
        &mut self,
        name: &str,
        each: &mut dyn FnMut(&K, &mut V),
    ) {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a flow table");
        let mut map: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
        let keys: Vec<K> = map.keys().collect::<Result<_, _>>().expect("keys");
        for key in keys {
            let Ok(old) = map.get(&key, 0) else { continue };
            let mut new = old;
            each(&key, &mut new);
            if new != old {
                map.insert(key, new, 0).expect("an entry is written");
            }
        }
    }

    /// Shows, and lets change, all new flows and their elements of reply keys.
    pub fn each_new_flow(&mut self, each: &mut dyn FnMut(&mut dyn AnyNewFlow)) {
        let mut see = |flow: &mut dyn AnyNewFlow| {
            if flow.is_whole() {
                each(flow);
            }
        };
        self.new_flows::<V4>("NEW_FLOWS_V4").each(|flow| see(flow));
        self.new_flows::<V6>("NEW_FLOWS_V6").each(|flow| see(flow));
    }

    fn new_flows<A: Address>(&mut self, name: &str) -> Elements<NewFlow<A>> {
        let map = self.loaded.object().ebpf().map(name).expect("new flows");
        let Map::Array(map) = map else { panic!("{name} is no array") };
        let count = map.info().expect("what the kernel knows of a map").max_entries() as usize;
        Elements::new(map.fd().as_fd(), count)
    }

    /// Forgets the new flows over TCP from `client`.
    pub fn forget_new_flows(&mut self, client: SocketAddr) {
        match client {
            SocketAddr::V4(_) => self.forget_home::<V4>("NEW_FLOWS_V4", client),
            SocketAddr::V6(_) => self.forget_home::<V6>("NEW_FLOWS_V6", client),
        }
    }

    fn forget_home<A: Address>(&mut self, name: &str, client: SocketAddr) {
        let elements = self.new_flows::<A>(name);
        let (address, port) = (A::from_words(words(client.ip())), client.port().to_be());
        let sets = (elements.count / WAYS) as u32;
        let set = Home::new(NEW_FLOW_SEED, address, port, TCP).set & (sets - 1);
        elements.range(set as usize * WAYS, WAYS, |flow| flow.check = 0);
    }

    /// Loses the entries of the forward direction in the flow tables.
    pub fn lose_one_direction(&mut self) {
        self.remove("FLOWS_V4", |_: &Tuple<V4>, entry: &Entry<V4>| is_forward(entry.direction));
        self.remove("FLOWS_V6", |_: &Tuple<V6>, entry: &Entry<V6>| is_forward(entry.direction));
    }

    /// Forgets all flows.
    pub fn forget(&mut self) {
        self.remove("FLOWS_V4", |_: &Tuple<V4>, _: &Entry<V4>| true);
        self.remove("FLOWS_V6", |_: &Tuple<V6>, _: &Entry<V6>| true);
        self.each_new_flow(&mut |flow| flow.forget());
    }

    fn remove<K: aya::Pod, V: aya::Pod>(&mut self, name: &str, which: impl Fn(&K, &V) -> bool) {
        let map = self.loaded.object().ebpf().map_mut(name).expect("a flow table");
        let mut map: HashMap<&mut MapData, K, V> = map.try_into().expect("a hash map");
        let keys: Vec<K> = map.keys().collect::<Result<_, _>>().expect("keys");
        for key in keys {
            if which(&key, &map.get(&key, 0).expect("an entry")) {
                map.remove(&key).expect("an entry is deleted");
            }
        }
    }
}

/// The elements of an array map, in memory that is shared with the kernel.
struct Elements<T> {
    start: *mut u8,
    bytes: usize,
    count: usize,
    of: PhantomData<T>,
}

impl<T> Elements<T> {
    /// The kernel keeps elements at multiples of so many bytes.
    const STRIDE: usize = size_of::<T>().next_multiple_of(8);

    fn new(map: BorrowedFd<'_>, count: usize) -> Self {
        let bytes = (count * Self::STRIDE).next_multiple_of(4096);
        // SAFETY: a new mapping of the whole array, of which nobody knows yet.
        let start = unsafe {
            let (protection, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            libc::mmap(std::ptr::null_mut(), bytes, protection, shared, map.as_raw_fd(), 0)
        };
        assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
        Self { start: start.cast(), bytes, count, of: PhantomData }
    }

    fn each(&self, see: impl FnMut(&mut T)) {
        self.range(0, self.count, see);
    }

    fn range(&self, from: usize, count: usize, mut see: impl FnMut(&mut T)) {
        assert!(from + count <= self.count, "{count} elements from {from}, of {}", self.count);
        for at in from..from + count {
            // SAFETY: within the mapping, aligned to eight bytes; no program runs meanwhile.
            see(unsafe { &mut *self.start.add(at * Self::STRIDE).cast::<T>() });
        }
    }
}

impl<T> Drop for Elements<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping that `new` made; no reference into it outlives a call.
        unsafe { libc::munmap(self.start.cast(), self.bytes) };
    }
}

/// A new flow of either family.
pub trait AnyNewFlow {
    /// See [`NewFlow::is_whole`].
    fn is_whole(&self) -> bool;
    /// See [`NewFlow::kind`].
    fn kind(&self) -> u8;
    /// See [`NewFlow::state`].
    fn state(&self) -> u16;
    /// See [`NewFlow::seen`].
    fn seen(&mut self) -> &mut u32;
    /// Has it begin that many ticks earlier.
    fn begin_earlier(&mut self, ticks: u32);
    /// Makes it none.
    fn forget(&mut self);
}

impl<A: Address> AnyNewFlow for NewFlow<A> {
    fn is_whole(&self) -> bool {
        Self::is_whole(self)
    }

    fn kind(&self) -> u8 {
        self.kind
    }

    fn state(&self) -> u16 {
        self.state
    }

    fn seen(&mut self) -> &mut u32 {
        &mut self.seen
    }

    fn begin_earlier(&mut self, ticks: u32) {
        self.created = self.created.wrapping_sub(ticks);
        self.check = self.sum();
    }

    fn forget(&mut self) {
        self.check = 0;
    }
}
