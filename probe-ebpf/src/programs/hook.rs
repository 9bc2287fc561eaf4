//! What a hook has to offer beside a frame that can be changed.

use probe_common::frame::Frame;
use probe_common::map::{DEVICE_MAC, Interface};
use probe_common::parse::Bytes;

use super::maps::INTERFACES;

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
