//! Frames at TC.

use aya_ebpf::EbpfContext as _;
use aya_ebpf::bindings::{__sk_buff, BPF_F_PSEUDO_HDR};
use aya_ebpf::helpers::generated::{
    bpf_csum_update, bpf_l4_csum_replace, bpf_redirect, bpf_skb_change_tail, bpf_skb_pull_data,
};
use aya_ebpf::programs::TcContext;
use bytemuck::Pod;
use probe_common::address::{Address as _, V4, V6};
use probe_common::checksum::update;
use probe_common::frame::{ChecksumChange, Frame};
use probe_common::parse::{Bytes, ETHERNET, TCP, UDP, Walked};
use probe_common::reason::Reason;

use super::compiler::{fresh, opaque};
use super::departing::Departing;
use super::extensions::{extensions_found, walk_extensions, walk_options};
use super::global::global_function;
use super::hook::{Hook, has_mac_of, interface, pointer};

/// Headers up to here are made linear, if the packet is that long.
const LINEAR: u32 = 192;

/// How many bytes the headers of a frame may need. Exact where it is easy: of a
/// segment that its sender keeps for retransmission, the headers alone are the
/// frame's own, and more than these could not be made linear without a copy.
#[inline(always)]
fn headers(data: usize, end: usize) -> usize {
    const V4_PLAIN: u8 = 0x45;
    let Some(first) = pointer::<[u16; 12]>(data, end, 0) else {
        return LINEAR as usize;
    };
    // SAFETY: within the packet, as the verifier checks.
    let first = unsafe { &*first };
    let has_ports = |protocol: u8| protocol == TCP || protocol == UDP;
    match u16::from_be(first[6]) {
        V4::ETHERTYPE if first[7] as u8 == V4_PLAIN && has_ports((first[11] >> 8) as u8) => {
            ETHERNET + 20 + 20
        }
        V6::ETHERTYPE if has_ports(first[10] as u8) => ETHERNET + 40 + 20,
        _ => LINEAR as usize,
    }
}

/// BPF_F_MARK_MANGLED_0: 0 means no checksum.
const MANGLED_0: u64 = 1 << 5;
/// BPF_F_IPV6 (Linux 6.16 and stable series): with CHECKSUM_COMPLETE, a change
/// of IPv6 addresses and of the checksum over them cancel out. Older kernels
/// refuse the flag.
const IPV6: u64 = 1 << 7;

pub struct TcFrame {
    ctx: TcContext,
}

impl TcFrame {
    #[inline(always)]
    pub fn new(ctx: TcContext) -> Self {
        let (data, end) = (ctx.data(), ctx.data_end());
        let linear = end - data;
        if (linear as u32) < ctx.len() && linear < headers(data, end) {
            let len = if ctx.len() < LINEAR { ctx.len() } else { LINEAR };
            // SAFETY: ctx is the program's context; packet pointers are taken anew at each access.
            // A failure shows as headers past the end.
            unsafe { bpf_skb_pull_data(ctx.as_ptr().cast(), len) };
        }
        Self { ctx }
    }

    /// Sends the frame out of the interface on which it came.
    #[inline(always)]
    pub fn send_back(&self) -> i32 {
        // SAFETY: ctx is the program's context, a valid __sk_buff; the helper takes numbers.
        unsafe {
            let skb = self.ctx.skb.skb;
            bpf_redirect((*skb).ifindex, 0) as i32
        }
    }

    /// What the kernel knows of the packet.
    #[inline(always)]
    fn skb(&self) -> &__sk_buff {
        // SAFETY: the program's context.
        unsafe { &*fresh(self.ctx.skb.skb) }
    }

    /// Whether it is of a VLAN, whose tag is kept beside it.
    #[inline(always)]
    pub fn is_tagged(&self) -> bool {
        self.skb().vlan_present != 0
    }

    /// Whether the node itself sends it, rather than forwarding it.
    #[inline(always)]
    pub fn is_own(&self) -> bool {
        self.skb().ingress_ifindex == 0
    }

    /// Sets what queues sort it by.
    #[inline(always)]
    pub fn set_priority(&self, priority: u32) {
        // SAFETY: the program's context.
        unsafe { (*fresh(self.ctx.skb.skb)).priority = priority };
    }

    #[inline(always)]
    fn add_to_sum(&self, difference: u32) {
        // SAFETY: ctx is the program's context. Fails if no device has.
        unsafe { bpf_csum_update(self.ctx.as_ptr().cast(), difference) };
    }

    #[inline(always)]
    fn bounds(&self) -> (usize, usize) {
        let skb = fresh(self.ctx.skb.skb);
        // SAFETY: the program's context.
        unsafe { ((*skb).data as usize, (*skb).data_end as usize) }
    }

    #[inline(always)]
    fn at<T>(&self, offset: usize) -> Option<*mut T> {
        let (data, end) = self.bounds();
        pointer(data, end, offset)
    }

    /// The checksum field after the helper has dealt with the addresses, if it is a
    /// whole checksum: a change of ports is then a change of the field alone, for
    /// less than another call takes. None if it is, or may be, a partial one, in
    /// which ports are not: that goes the other way with the addresses.
    #[inline(always)]
    fn written(&self, change: &ChecksumChange, before: u16) -> Option<u16> {
        let field = self.load(change.offset)?;
        let whole = update(before, change.address_delta);
        (field != 0 && field == whole && !is_zero(change.address_delta)).then_some(field)
    }

    /// Writes a checksum; for UDP, 0 means that there is none (RFC 768).
    #[inline(always)]
    fn store_field(&self, change: &ChecksumChange, field: u16) -> Option<()> {
        self.store(change.offset, if change.udp && field == 0 { 0xffff } else { field })
    }

    #[inline(always)]
    fn replace(&self, offset: usize, delta: u16, flags: u64) -> i64 {
        // SAFETY: ctx is the program's context; the helper checks the offset.
        // Size 0 in the flags makes the last value but one a difference.
        unsafe {
            bpf_l4_csum_replace(self.ctx.as_ptr().cast(), offset as u32, 0, delta as u64, flags)
        }
    }
}

/// One's complement has two zeros.
fn is_zero(delta: u16) -> bool {
    delta == 0 || delta == 0xffff
}

global_function!(weir_tc_extensions(__sk_buff, frame, offset: u64, protocol: u32) -> u64
    = walk_extensions::<TcFrame>(frame, offset, protocol));
global_function!(weir_tc_options(__sk_buff, frame, offset: u64, length: u32) -> u32
    = walk_options::<TcFrame>(frame, offset, length));

impl Bytes for TcFrame {
    #[inline(always)]
    fn load<T: Pod>(&self, offset: usize) -> Option<T> {
        // SAFETY: within the packet, as the verifier checks; the targets load unaligned.
        self.at::<T>(offset).map(|at| unsafe { *at })
    }

    #[inline(always)]
    fn extensions(&self, offset: usize, protocol: u8) -> Result<Walked, Reason> {
        extensions_found(weir_tc_extensions(self.context(), offset as u64, protocol as u32))
    }

    #[inline(always)]
    fn has_route_left(&self, offset: usize, length: usize) -> bool {
        weir_tc_options(self.context(), offset as u64, length as u32) != 0
    }

    #[inline(always)]
    fn opaque(&self, number: usize) -> usize {
        opaque(number as u64) as usize
    }

    #[inline(always)]
    fn is_beyond_length(&self) -> bool {
        self.ctx.len() > u16::MAX as u32
    }
}

impl Hook for TcFrame {
    const ANSWERS: bool = true;
    /// The helpers see it.
    const PARTIAL: bool = false;
    const SHORTCUTS: bool = true;

    /// The kernel has compared it with the interface's own address. On a port of a bridge,
    /// what is to the bridge is another host's to the kernel as yet. Where nothing is known of
    /// the interface, it is better to steer what is not the node's than to lose what is.
    #[inline(always)]
    fn is_to_node(&self) -> bool {
        let skb = self.skb();
        match skb.pkt_type {
            TO_HOST => true,
            TO_OTHER_HOST => interface(skb.ifindex).is_none_or(|known| has_mac_of(self, known)),
            _ => false,
        }
    }

    type Context = __sk_buff;

    #[inline(always)]
    fn again(context: *mut __sk_buff) -> Self {
        Self { ctx: TcContext::new(context) }
    }

    #[inline(always)]
    fn context(&self) -> *mut __sk_buff {
        fresh(self.ctx.skb.skb)
    }
}

impl Frame for TcFrame {
    #[inline(always)]
    fn length(&self) -> u64 {
        self.ctx.len() as u64
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
        let zero = if change.udp { MANGLED_0 } else { 0 };
        let pseudo = zero | BPF_F_PSEUDO_HDR as u64;
        let before = self.load(change.offset)?;
        let mut failed = if change.v6 {
            match self.replace(change.offset, change.address_delta, pseudo | IPV6) {
                0 => 0,
                _ => {
                    let failed = self.replace(change.offset, change.address_delta, pseudo);
                    self.sum_up(change.address_delta);
                    failed
                }
            }
        } else {
            self.replace(change.offset, change.address_delta, pseudo)
        };
        if !is_zero(change.port_delta) {
            match self.written(change, before) {
                Some(field) => self.store_field(change, update(field, change.port_delta))?,
                None => failed |= self.replace(change.offset, change.port_delta, zero),
            }
        }
        (failed == 0).then_some(())
    }

    #[inline(always)]
    fn sum_up(&self, delta: u16) {
        self.add_to_sum(delta as u32);
    }

    #[inline(always)]
    fn resize(&self, length: usize) -> Option<()> {
        // SAFETY: ctx is the program's context; packet pointers are taken anew at each access.
        let failed = unsafe { bpf_skb_change_tail(self.ctx.as_ptr().cast(), length as u32, 0) };
        (failed == 0).then_some(())
    }

    /// The helper leaves a partial checksum alone when a change is not one of
    /// the pseudo-header: try it, look, and take it back.
    #[inline(always)]
    fn is_partial(&self, offset: usize) -> Option<bool> {
        let before: u16 = self.load(offset)?;
        self.store(offset, 0x1234u16)?;
        if self.replace(offset, 1, 0) != 0 {
            return None;
        }
        let after: u16 = self.load(offset)?;
        self.store(offset, before)?;
        Some(after == 0x1234)
    }
}

/// PACKET_HOST: to the MAC address of the interface.
const TO_HOST: u32 = 0;
/// PACKET_OTHERHOST: to another one, that is no group's.
const TO_OTHER_HOST: u32 = 3;

impl Departing for TcFrame {
    /// Also those whose VLAN tag was taken off and is kept beside the frame, or
    /// that another program has marked, since routes may depend on that.
    #[inline(always)]
    fn require_usual(&self) -> Result<(), Reason> {
        let skb = self.skb();
        if skb.pkt_type != TO_HOST || self.is_tagged() {
            return Err(Reason::StackHeaders);
        }
        if skb.mark != 0 { Err(Reason::StackMark) } else { Ok(()) }
    }

    #[inline(always)]
    fn ifindex(&self) -> u32 {
        self.skb().ifindex
    }

    #[inline(always)]
    fn segment(&self) -> u32 {
        self.skb().gso_size
    }
}
