//! Frames at XDP.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::{bpf_xdp_adjust_tail, bpf_xdp_get_buff_len};
use aya_ebpf::programs::XdpContext;
use bytemuck::Pod;
use probe_common::checksum::{fold, update};
use probe_common::frame::{ChecksumChange, Frame};
use probe_common::map::DEVICE_MAC;
use probe_common::parse::{Bytes, Walked};
use probe_common::reason::Reason;

use super::compiler::{fresh, opaque};
use super::departing::Departing;
use super::extensions::{extensions_found, walk_extensions, walk_options};
use super::global::global_function;
use super::hook::{Hook, has_mac_of, interface, pointer};
use super::maps::{DEVICES, xdp_frags};

/// The bit of a MAC address, in its first bytes, that says that it is a group's.
const GROUP: u16 = u16::from_ne_bytes([1, 0]);

/// `VIRTUAL`: of a device whose packets may have partial checksums.
pub struct XdpFrame<const VIRTUAL: bool> {
    ctx: XdpContext,
}

impl<const VIRTUAL: bool> XdpFrame<VIRTUAL> {
    #[inline(always)]
    pub fn new(ctx: XdpContext) -> Self {
        Self { ctx }
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let xdp = fresh(self.ctx.ctx);
        // SAFETY: the program's context.
        unsafe { ((*xdp).data as usize, (*xdp).data_end as usize) }
    }

    /// Whether part of the packet is not in the buffer where its headers are.
    #[inline(always)]
    pub fn is_in_parts(&self) -> bool {
        let (data, end) = self.bounds();
        xdp_frags() != 0 && self.length() > opaque((end - data) as u64)
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let (data, end) = self.bounds();
        pointer(data, end, offset)
    }
}

global_function!(weir_xdp_extensions(xdp_md, frame, offset: u64, protocol: u32) -> u64
    = walk_extensions::<XdpFrame<false>>(frame, offset, protocol));
global_function!(weir_xdp_options(xdp_md, frame, offset: u64, length: u32) -> u32
    = walk_options::<XdpFrame<false>>(frame, offset, length));

impl<const VIRTUAL: bool> Bytes for XdpFrame<VIRTUAL> {
    #[inline(always)]
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: within the packet, as the verifier checks; the targets load unaligned.
        self.at::<T>(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn extensions(&self, offset: usize, protocol: u8) -> Result<Walked, Reason> {
        extensions_found(weir_xdp_extensions(self.context(), offset as u64, protocol as u32))
    }

    #[inline(always)]
    fn has_route_left(&self, offset: usize, length: usize) -> bool {
        weir_xdp_options(self.context(), offset as u64, length as u32) != 0
    }

    #[inline(always)]
    fn opaque(&self, number: usize) -> usize {
        opaque(number as u64) as usize
    }

    /// No device receives such a frame. A virtual one may be handed it, and TC, which
    /// comes next, knows its length without asking.
    #[inline(always)]
    fn is_beyond_length(&self) -> bool {
        false
    }
}

impl<const VIRTUAL: bool> Hook for XdpFrame<VIRTUAL> {
    const ANSWERS: bool = !VIRTUAL;
    const PARTIAL: bool = VIRTUAL;
    const SHORTCUTS: bool = false;

    /// Where nothing is known of the interface: as at TC.
    #[inline(always)]
    fn is_to_node(&self) -> bool {
        // SAFETY: the program's context.
        match interface(unsafe { (*self.context()).ingress_ifindex }) {
            Some(known) => has_mac_of(self, known),
            None => self.load::<u16>(0).is_some_and(|to| to & GROUP == 0),
        }
    }

    type Context = xdp_md;

    #[inline(always)]
    fn again(context: *mut xdp_md) -> Self {
        Self { ctx: XdpContext::new(context) }
    }

    #[inline(always)]
    fn context(&self) -> *mut xdp_md {
        fresh(self.ctx.ctx)
    }
}

impl<const VIRTUAL: bool> Frame for XdpFrame<VIRTUAL> {
    #[inline(always)]
    fn length(&self) -> u64 {
        // Where this is false, the verifier does not look at the helper, which older kernels
        // do not have.
        if xdp_frags() != 0 {
            // SAFETY: the program's context.
            return unsafe { bpf_xdp_get_buff_len(self.context()) };
        }
        let (data, end) = self.bounds();
        // Else the compiler folds sums with it into 32-bit pointer arithmetic.
        opaque((end - data) as u64)
    }

    #[inline(always)]
    fn store<T: Pod>(&self, offset: usize, value: T) -> Option<()> {
        let at = self.at::<T>(offset)?;
        // SAFETY: within the packet, as the verifier checks; the targets store unaligned.
        unsafe { *at = value };
        Some(())
    }

    #[inline(always)]
    fn update_l4(&self, change: &ChecksumChange) -> Option<()> {
        let field: u16 = self.load(change.offset)?;
        if change.udp && field == 0 {
            return Some(());
        }
        let both = fold(change.address_delta as u64 + change.port_delta as u64);
        let new = update(field, both);
        self.store(change.offset, if change.udp && new == 0 { 0xffff } else { new })
    }

    /// No device's sum of a frame is known here.
    #[inline(always)]
    fn sum_up(&self, _delta: u16) {}

    #[inline(always)]
    fn resize(&self, length: usize) -> Option<()> {
        let delta = length as i32 - self.length() as i32;
        // SAFETY: ctx is the program's context; packet pointers are taken anew at each access.
        let failed = unsafe { bpf_xdp_adjust_tail(self.ctx.as_ptr().cast(), delta) };
        (failed == 0).then_some(())
    }

    #[inline(always)]
    fn is_partial(&self, _offset: usize) -> Option<bool> {
        Some(false)
    }
}

/// What is known of an interface; see [`probe_common::map::DEVICES`].
#[inline(always)]
pub fn device(ifindex: u32) -> u64 {
    DEVICES.get(ifindex).copied().unwrap_or_default()
}

impl Departing for XdpFrame<false> {
    /// The kernel has not looked yet to whom the frame is.
    #[inline(always)]
    fn require_usual(&self) -> Result<(), Reason> {
        let to: u64 = self.load(0).ok_or(Reason::StackHeaders)?;
        let own = device(self.ifindex());
        if (to ^ own) & DEVICE_MAC != 0 { Err(Reason::StackHeaders) } else { Ok(()) }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        // SAFETY: the program's context.
        unsafe { (*self.context()).ingress_ifindex }
    }

    /// Devices cut nothing that comes to XDP.
    #[inline(always)]
    fn segment(&self) -> u32 {
        0
    }
}
