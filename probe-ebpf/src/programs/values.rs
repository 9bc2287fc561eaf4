//! What programs keep in maps for a moment, while they deal with a packet: values
//! of maps that are not pinned. What is pinned has its layout from probe-common.

use bytemuck::Zeroable;
use probe_common::address::Tuple;
use probe_common::fragment::{Fragment, FragmentKey};

/// Where an entry for a first fragment is put together: the steps that steer it
/// have no stack left.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct First<A> {
    pub key: FragmentKey<A>,
    pub fragment: Fragment<A>,
}

/// What is looked for, and what is found. In a map: global functions are told
/// numbers alone.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Sought<A> {
    pub tuple: Tuple<A>,
    /// [`probe_common::new_flow::NewFlow::check`] of what was found.
    pub check: u32,
}

/// `struct bpf_fib_lookup` of the kernel, unions by the names that are used.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Route {
    /// AF_INET or AF_INET6; afterwards that of the next hop.
    pub family: u8,
    pub protocol: u8,
    pub sport: u16,
    pub dport: u16,
    /// Length of the packet, or of the longest segment that it becomes.
    pub length: u16,
    /// Of the interface where the packet came in; afterwards where it goes out.
    pub ifindex: u32,
    /// Service of IPv4, in its first byte; flow information of IPv6.
    pub service: u32,
    pub src: [u32; 4],
    /// Afterwards the next hop.
    pub dst: [u32; 4],
    pub zero: u32,
    /// Afterwards the link-layer address of the interface.
    pub smac: [u8; 6],
    /// Afterwards that of the next hop.
    pub dmac: [u8; 6],
}

const _: () = assert!(size_of::<Route>() == 64);

/// What happened to the packet that is under way on this CPU.
#[repr(C)]
#[derive(Clone, Copy, Zeroable)]
pub struct Note {
    /// [`Reason`] + 1; 0 if there is nothing to tell.
    pub number: u32,
    pub protocol: u8,
    pub v6: bool,
    pub sport: u16,
    pub dport: u16,
    pub zero: u16,
    pub src: [u32; 4],
    pub dst: [u32; 4],
}

/// How many events of a reason were told in a tick.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Budget {
    pub tick: u32,
    pub told: u32,
}
