//! What a hook has to offer beside a frame that can be changed.

use probe_common::frame::Frame;
use probe_common::map::{DEVICE_MAC, Interface};
use probe_common::parse::Bytes;

use crate::maps::INTERFACES;

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On its way, changed or not.
    Pass = 0,
    /// The frame was turned into an answer: back out of the same interface.
    Answer = 1,
    /// Dropped; a reason was counted.
    Drop = 2,
    /// Of no known flow. Never the last word.
    Unknown = 3,
    /// Rewritten, on its way.
    Steered = 4,
    /// At ingress: perhaps a reply of an endpoint, not looked at yet.
    FromEndpoint = 5,
    /// Of a flow that has moved to the flow tables. Never the last word.
    Grown = 6,
    /// Of a live flow, or of another one with its tuple. Never the last word.
    Contested = 7,
    /// Untouched, and for the other generation to deal with; see [`crate::generations`].
    Elsewhere = 8,
    /// At ingress: an ICMP error that is perhaps an endpoint's or about a packet to one.
    Stray = 9,
    /// At egress: an ICMP redirect. Never the last word.
    Redirect = 10,
    /// At ingress: a fragment other than the first, perhaps an endpoint's.
    StrayFragment = 11,
}

impl Verdict {
    /// For a packet that the stack is to see, though it was steered.
    #[inline(always)]
    pub fn by_the_stack(self) -> Self {
        if self == Self::Steered { Self::Pass } else { self }
    }

    /// The verdict of a global function, which returns a number.
    #[inline(always)]
    pub fn of(number: u32) -> Self {
        match number {
            0 => Self::Pass,
            1 => Self::Answer,
            2 => Self::Drop,
            4 => Self::Steered,
            5 => Self::FromEndpoint,
            6 => Self::Grown,
            7 => Self::Contested,
            8 => Self::Elsewhere,
            9 => Self::Stray,
            10 => Self::Redirect,
            11 => Self::StrayFragment,
            _ => Self::Unknown,
        }
    }
}

/// A frame at one hook.
pub trait Hook: Frame {
    /// Whether [`Verdict::Answer`] works here; if not, the untouched packet is
    /// passed to a hook where it does, as all that passes untouched is.
    const ANSWERS: bool;
    /// Whether a reply can be sent past the stack where it enters the node.
    const SHORTCUTS: bool;
    /// What the kernel calls a packet at this hook.
    type Context;
    /// The frame of a context that an entry point has prepared.
    fn again(context: *mut Self::Context) -> Self;
    /// The context, for a global function.
    fn context(&self) -> *mut Self::Context;
    /// Whether checksums may be partial, and nobody here knows which are.
    const PARTIAL: bool;
    /// Whether a frame that came in is addressed to the node, and not to another host on
    /// the link, nor to several; see [`probe_common::map::Interface::macs`].
    fn is_to_node(&self) -> bool;
}

/// What is known of an interface.
#[inline(always)]
pub fn interface(ifindex: u32) -> Option<&'static Interface> {
    INTERFACES.get(ifindex).filter(|known| known.macs[0] != 0)
}

/// Whether a frame is addressed to one of the MAC addresses of an interface.
#[inline(always)]
pub fn has_mac_of(frame: &impl Bytes, known: &Interface) -> bool {
    let Some(to) = frame.load::<u64>(0) else { return false };
    let [a, b, c, d] = known.macs;
    let is = |mac: u64| (to ^ mac) & DEVICE_MAC == 0;
    is(a) || is(b) || is(c) || is(d)
}

/// A checked pointer into packet data.
#[inline(always)]
pub fn pointer<T>(data: usize, end: usize, offset: usize) -> Option<*mut T> {
    let at = data + offset;
    if at + size_of::<T>() > end { None } else { Some(at as *mut T) }
}

/// The same pointer, of which the compiler forgets what it knew: it would keep
/// `context + offset` in a register for later, which the verifier forbids.
#[allow(
    clippy::pointers_in_nomem_asm_block,
    reason = "nothing is read: a register keeps its value"
)]
#[inline(always)]
pub fn fresh<T>(context: *mut T) -> *mut T {
    let mut context = context;
    // SAFETY: a move of a register to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) context, options(nomem, nostack, preserves_flags))
    };
    context
}

/// What was read and written so far is not put off until after what follows, by
/// the compiler. Stores of a CPU become visible in their order on x86; where they
/// do not, sums over what was written tell.
#[inline(always)]
pub fn barrier() {
    // SAFETY: no instruction at all.
    unsafe { core::arch::asm!("", options(nostack, preserves_flags)) };
}

/// The same number, of which the compiler forgets where it came from.
#[inline(always)]
pub fn opaque(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: a move of a register to itself.
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) number, options(nomem, nostack, preserves_flags))
    };
    number
}
