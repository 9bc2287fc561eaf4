//! An address family with its maps.

use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray};
use probe_common::address::{Tuple, V4, V6};
use probe_common::flow::Entry;
use probe_common::fragment::{Fragment, FragmentKey, Fragments};
use probe_common::new_flow::{NewFlow, Set};
use probe_common::times::FlowTimes;

use super::maps;
use super::values::{First, Sought};

/// A flow table.
pub type Table<A> = LruHashMap<Tuple<A>, Entry<A>>;

/// The trait of families, and what both have: a method for each map of a family.
macro_rules! families {
    ($($(#[$doc:meta])* fn $method:ident() -> $type:ty = $v4:ident, $v6:ident;)*) => {
        /// A family with its maps.
        pub trait Family: Fragments + 'static {
            /// 4 or 6.
            const NUMBER: u8;
            $($(#[$doc])* fn $method() -> &'static $type;)*
        }
        families!(@family V4, 4: $($method, $type, $v4;)*);
        families!(@family V6, 6: $($method, $type, $v6;)*);
    };
    (@family $family:ty, $number:literal: $($method:ident, $type:ty, $map:ident;)*) => {
        impl Family for $family {
            const NUMBER: u8 = $number;
            $(
                #[inline(always)]
                fn $method() -> &'static $type {
                    &maps::$map
                }
            )*
        }
    };
}

families! {
    /// Flows that live on.
    fn flows() -> Table<Self> = FLOWS_V4, FLOWS_V6;
    /// What is not to be steered; see [`super::foreign`].
    fn foreign() -> HashMap<Tuple<Self>, u32> = FOREIGN_V4, FOREIGN_V6;
    /// New flows.
    fn new_flows() -> Array<NewFlow<Self>> = NEW_FLOWS_V4, NEW_FLOWS_V6;
    /// Sets of new flows.
    fn sets() -> Array<Set> = NEW_SETS_V4, NEW_SETS_V6;
    /// Times of new flows.
    fn times() -> Array<FlowTimes> = FLOW_TIMES_V4, FLOW_TIMES_V6;
    /// The tuple whose new flow is looked for.
    fn sought() -> PerCpuArray<Sought<Self>> = SOUGHT_V4, SOUGHT_V6;
    /// Where a new flow is put together.
    fn new_flow_scratch() -> PerCpuArray<NewFlow<Self>> = NEW_SCRATCH_V4, NEW_SCRATCH_V6;
    /// Packets that come in fragments.
    fn fragments() -> LruHashMap<FragmentKey<Self>, Fragment<Self>> = FRAGMENTS_V4, FRAGMENTS_V6;
    /// Where an entry for these is put together.
    fn first_fragment() -> PerCpuArray<First<Self>> = FIRST_FRAGMENT_V4, FIRST_FRAGMENT_V6;
}
