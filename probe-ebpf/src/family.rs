//! An address family with its flow tables, and what all code does with them.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::flow::{CLOSING, Entry, REPLY};
use probe_common::fragment::{Fragment, FragmentKey, Fragments};
use probe_common::parse::TCP;
use probe_common::young::{Set, Young};

use crate::fragment::First;
use crate::maps::{
    FIRST_FRAGMENT_V4, FIRST_FRAGMENT_V6, FLOWS_V4, FLOWS_V6, FOREIGN_V4, FOREIGN_V6, FRAGMENTS_V4,
    FRAGMENTS_V6, NEWCOMER_V4, NEWCOMER_V6, SOUGHT_V4, SOUGHT_V6, YOUNG_SETS_V4, YOUNG_SETS_V6,
    YOUNG_V4, YOUNG_V6, tcp_idle, tick_shift, udp_idle,
};
use crate::newcomer;
use crate::sets::{self, Sought};
use crate::steps::global_number;
use crate::writers;

/// A flow table.
pub type Table<A> = LruHashMap<Tuple<A>, Entry<A>>;

/// A family with its flow tables; see [`probe_common::flow`].
pub trait Family: Fragments + 'static {
    /// 4 or 6.
    const NUMBER: u8;
    /// Flows that live on.
    fn flows() -> &'static Table<Self>;
    /// What is not to be steered; see [`crate::foreign`].
    fn foreign() -> &'static HashMap<Tuple<Self>, u32>;
    /// Young flows.
    fn young() -> &'static Array<Young<Self>>;
    /// Sets of young flows.
    fn sets() -> &'static Array<Set>;
    /// The tuple whose young flow is looked for.
    fn sought() -> &'static PerCpuArray<Sought<Self>>;
    /// [`sets::seek`].
    fn seek(which: u32) -> u32;
    /// Where a new flow is put together.
    fn newcomer() -> &'static PerCpuArray<Young<Self>>;
    /// [`newcomer::claim`].
    fn claim() -> u32;
    /// [`newcomer::add`].
    fn add() -> u32;
    /// [`sets::scan`].
    fn scan(set: u32, tag: u32, from: u32) -> u32;
    /// [`sets::place`].
    fn place(set: u32) -> u32;
    /// [`sets::promote`].
    fn promote(position: u32, check: u32) -> u32;
    /// [`sets::clear`].
    fn clear(position: u32, check: u32);
    /// [`writers::begin`].
    fn begin(set: u32) -> u32;
    /// Packets that come in fragments.
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, Fragment<Self>>;
    /// Where an entry for these is put together.
    fn first_fragment() -> &'static PerCpuArray<First<Self>>;
}

impl Family for V4 {
    const NUMBER: u8 = 4;

    #[inline(always)]
    fn flows() -> &'static Table<Self> {
        &FLOWS_V4
    }

    #[inline(always)]
    fn foreign() -> &'static HashMap<Tuple<Self>, u32> {
        &FOREIGN_V4
    }

    #[inline(always)]
    fn young() -> &'static Array<Young<Self>> {
        &YOUNG_V4
    }

    #[inline(always)]
    fn sets() -> &'static Array<Set> {
        &YOUNG_SETS_V4
    }

    #[inline(always)]
    fn sought() -> &'static PerCpuArray<Sought<Self>> {
        &SOUGHT_V4
    }

    #[inline(always)]
    fn seek(which: u32) -> u32 {
        weir_seek_v4(which)
    }

    #[inline(always)]
    fn newcomer() -> &'static PerCpuArray<Young<Self>> {
        &NEWCOMER_V4
    }

    #[inline(always)]
    fn claim() -> u32 {
        weir_claim_v4()
    }

    #[inline(always)]
    fn add() -> u32 {
        weir_add_v4()
    }

    #[inline(always)]
    fn scan(set: u32, tag: u32, from: u32) -> u32 {
        weir_scan_v4(set, tag, from)
    }

    #[inline(always)]
    fn place(set: u32) -> u32 {
        weir_place_v4(set)
    }

    #[inline(always)]
    fn promote(position: u32, check: u32) -> u32 {
        weir_promote_v4(position, check)
    }

    #[inline(always)]
    fn clear(position: u32, check: u32) {
        weir_clear_v4(position, check);
    }

    #[inline(always)]
    fn begin(set: u32) -> u32 {
        weir_begin_v4(set)
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, Fragment<Self>> {
        &FRAGMENTS_V4
    }

    #[inline(always)]
    fn first_fragment() -> &'static PerCpuArray<First<Self>> {
        &FIRST_FRAGMENT_V4
    }
}

impl Family for V6 {
    const NUMBER: u8 = 6;

    #[inline(always)]
    fn flows() -> &'static Table<Self> {
        &FLOWS_V6
    }

    #[inline(always)]
    fn foreign() -> &'static HashMap<Tuple<Self>, u32> {
        &FOREIGN_V6
    }

    #[inline(always)]
    fn young() -> &'static Array<Young<Self>> {
        &YOUNG_V6
    }

    #[inline(always)]
    fn sets() -> &'static Array<Set> {
        &YOUNG_SETS_V6
    }

    #[inline(always)]
    fn sought() -> &'static PerCpuArray<Sought<Self>> {
        &SOUGHT_V6
    }

    #[inline(always)]
    fn seek(which: u32) -> u32 {
        weir_seek_v6(which)
    }

    #[inline(always)]
    fn newcomer() -> &'static PerCpuArray<Young<Self>> {
        &NEWCOMER_V6
    }

    #[inline(always)]
    fn claim() -> u32 {
        weir_claim_v6()
    }

    #[inline(always)]
    fn add() -> u32 {
        weir_add_v6()
    }

    #[inline(always)]
    fn scan(set: u32, tag: u32, from: u32) -> u32 {
        weir_scan_v6(set, tag, from)
    }

    #[inline(always)]
    fn place(set: u32) -> u32 {
        weir_place_v6(set)
    }

    #[inline(always)]
    fn promote(position: u32, check: u32) -> u32 {
        weir_promote_v6(position, check)
    }

    #[inline(always)]
    fn clear(position: u32, check: u32) {
        weir_clear_v6(position, check);
    }

    #[inline(always)]
    fn begin(set: u32) -> u32 {
        weir_begin_v6(set)
    }

    #[inline(always)]
    fn fragments() -> &'static LruHashMap<FragmentKey<Self>, Fragment<Self>> {
        &FRAGMENTS_V6
    }

    #[inline(always)]
    fn first_fragment() -> &'static PerCpuArray<First<Self>> {
        &FIRST_FRAGMENT_V6
    }
}

global_number!(weir_claim_v4() = newcomer::claim::<V4>());
global_number!(weir_add_v4() = newcomer::add::<V4>());
global_number!(weir_claim_v6() = newcomer::claim::<V6>());
global_number!(weir_add_v6() = newcomer::add::<V6>());
global_number!(weir_seek_v4(which) = sets::seek::<V4>(which));
global_number!(weir_seek_v6(which) = sets::seek::<V6>(which));
global_number!(weir_scan_v4(set, tag, from) = sets::scan::<V4>(set, tag, from));
global_number!(weir_scan_v6(set, tag, from) = sets::scan::<V6>(set, tag, from));
global_number!(weir_place_v4(set) = sets::place::<V4>(set));
global_number!(weir_place_v6(set) = sets::place::<V6>(set));
global_number!(weir_promote_v4(position, check) = sets::promote::<V4>(position, check));
global_number!(weir_clear_v4(position, check) = sets::clear::<V4>(position, check));
global_number!(weir_begin_v4(set) = writers::begin::<V4>(set));
global_number!(weir_promote_v6(position, check) = sets::promote::<V6>(position, check));
global_number!(weir_clear_v6(position, check) = sets::clear::<V6>(position, check));
global_number!(weir_begin_v6(set) = writers::begin::<V6>(set));

/// A copy of the entry for `key`; None if it was replaced while it was read.
#[inline(always)]
pub fn read<A: Address>(slot: *const Entry<A>, key: &Tuple<A>) -> Option<Entry<A>> {
    // SAFETY: an entry of a table; it may be replaced meanwhile, which the tag shows.
    let entry = unsafe { slot.read_volatile() };
    // SAFETY: as above. Read after the copy, since it is what a replacement writes first.
    let tag = unsafe { (&raw const (*slot).tag).read_volatile() };
    (tag == key.tag()).then_some(entry)
}

/// Ticks since boot, modulo 2^32.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_jiffies64() } >> (tick_shift() & 31)) as u32
}

/// Whether the hook is where packets with that entry are rewritten.
#[inline(always)]
pub fn is_here<A: Address, const INGRESS: bool>(entry: &Entry<A>) -> bool {
    goes_here::<INGRESS>(entry.direction)
}

/// Whether the hook is where packets of that direction are rewritten.
#[inline(always)]
pub fn goes_here<const INGRESS: bool>(direction: u8) -> bool {
    (direction == REPLY) != INGRESS
}

/// Deletes the entries of a flow: that of `key`, and its pair, unless another
/// flow has that.
#[inline(always)]
pub fn forget<A: Family>(table: &Table<A>, key: &Tuple<A>, pair: &Tuple<A>) {
    if let Some(other) = table.get_ptr(pair)
        // SAFETY: an entry of the table; a torn read costs at most a stray entry.
        && unsafe { (*other).to(pair) } == key.reversed()
    {
        let _ = table.remove(pair);
    }
    let _ = table.remove(key);
}

/// Whether a flow, or one side of it, has been silent for so long that it is over.
#[inline(always)]
pub fn is_idle(seen: u32, protocol: u8, now: u32) -> bool {
    let limit = if protocol == TCP { tcp_idle() } else { udp_idle() };
    // Signed: another CPU may have noted a tick that began since `now` was read.
    now.wrapping_sub(seen) as i32 as i64 > limit as i64
}

/// Whether the flow of an entry is over, so that its tuple may be taken.
#[inline(always)]
pub fn is_over<A: Address>(entry: &Entry<A>, protocol: u8, now: u32) -> bool {
    entry.state & CLOSING != 0 || is_idle(entry.seen, protocol, now)
}
