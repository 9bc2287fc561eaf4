//! Time, in ticks, and what is over by it.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use probe_common::address::Address;
use probe_common::flow::{CLOSING, Entry};
use probe_common::parse::TCP;

use super::maps::{tcp_idle, tick_shift, udp_idle};

/// Ticks since boot, modulo 2^32.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_jiffies64() } >> (tick_shift() & 31)) as u32
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
pub fn is_expired<A: Address>(entry: &Entry<A>, protocol: u8, now: u32) -> bool {
    entry.state & CLOSING != 0 || is_idle(entry.seen, protocol, now)
}
