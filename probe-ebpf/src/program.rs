//! The packet walk: filter, flow table, and only on a miss the choice.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use aya_ebpf::maps::{Array, LruHashMap};
use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::filter;
use probe_common::flow::{
    CLOSING, ESTABLISHED, Entry, FIN_CLIENT, FIN_ENDPOINT, FORWARD, REPLY, REPLY_HAIRPIN, RESET,
};
use probe_common::parse::{self, FIN, Headers, NoTuple, Parse, RST, SYN, TCP, UDP};
use probe_common::reason::Reason;

use crate::frame::{Frame, Verdict};
use crate::maps::{
    ENDPOINT_FILTER, ENDPOINT_STATS, FLOWS_V4, FLOWS_V6, SERVICE_FILTER, count, tcp_idle,
    tick_shift, udp_idle,
};
use crate::rewrite::rewrite;
use crate::steer::steer;

/// A family with its flow table.
pub trait Family: Parse + 'static {
    /// Where its flows are.
    fn flows() -> &'static LruHashMap<Tuple<Self>, Entry<Self>>;
}

impl Family for V4 {
    #[inline(always)]
    fn flows() -> &'static LruHashMap<Tuple<Self>, Entry<Self>> {
        &FLOWS_V4
    }
}

impl Family for V6 {
    #[inline(always)]
    fn flows() -> &'static LruHashMap<Tuple<Self>, Entry<Self>> {
        &FLOWS_V6
    }
}

/// Ticks since boot, modulo 2^32.
#[inline(always)]
pub fn now() -> u32 {
    // SAFETY: no arguments.
    (unsafe { bpf_jiffies64() } >> (tick_shift() & 31)) as u32
}

#[inline(always)]
fn listed<A: Address>(map: &Array<u64>, address: A, port: u16) -> bool {
    let (word, bit) = filter::position(address, port);
    map.get(word).is_some_and(|bits| *bits & bit != 0)
}

/// Forward direction: packets that enter the node from clients.
#[inline(always)]
pub fn forward<F: Frame>(frame: &F) -> Verdict {
    walk::<F, true>(frame)
}

/// Reply direction: packets that leave the node towards clients.
#[inline(always)]
pub fn reply<F: Frame>(frame: &F) -> Verdict {
    walk::<F, false>(frame)
}

#[inline(always)]
fn walk<F: Frame, const INGRESS: bool>(frame: &F) -> Verdict {
    match parse::ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => family::<V4, F, INGRESS>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => family::<V6, F, INGRESS>(frame, l3),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn family<A: Family, F: Frame, const INGRESS: bool>(frame: &F, l3: usize) -> Verdict {
    let headers = match A::parse(frame, l3) {
        Ok(headers) => headers,
        Err(NoTuple::Other) => return Verdict::Pass,
        Err(NoTuple::Reason(reason)) => {
            count(reason);
            return Verdict::Pass;
        }
    };
    let tuple = &headers.tuple;
    let candidate = if INGRESS {
        listed(&SERVICE_FILTER, tuple.dst, tuple.dport)
    } else {
        listed(&ENDPOINT_FILTER, tuple.src, tuple.sport)
    };
    if !candidate {
        return Verdict::Pass;
    }
    let now = now();
    if let Some(entry) = A::flows().get_ptr_mut(tuple) {
        // SAFETY: an entry of the table; it may be replaced meanwhile, which the tag shows.
        let copy = unsafe { entry.read_volatile() };
        // SAFETY: as above. Read after the copy, since it is what a replacement writes first.
        let tag = unsafe { (&raw const (*entry).tag).read_volatile() };
        let here = (copy.direction == REPLY) != INGRESS;
        if tag != tuple.tag() {
            count(Reason::EntryTorn);
        } else if !here {
            return Verdict::Pass;
        } else if !starts_anew(&headers, &copy, now) {
            track(&headers, entry, &copy, now);
            return deliver::<A, F>(frame, &headers, &copy);
        } else {
            count(Reason::FlowReused);
        }
    }
    if INGRESS {
        steer(frame, &headers, now)
    } else {
        count(Reason::PassReplyUntracked);
        Verdict::Pass
    }
}

/// Rewrites and counts a packet of a known flow.
#[inline(always)]
pub fn deliver<A: Address, F: Frame>(frame: &F, headers: &Headers<A>, entry: &Entry<A>) -> Verdict {
    if rewrite(frame, headers, entry).is_none() {
        count(Reason::RewriteFailed);
        return Verdict::Drop;
    }
    if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(entry.endpoint) {
        // SAFETY: the slot of this CPU; programs on it do not preempt each other.
        let stats = unsafe { &mut *stats };
        if entry.direction == FORWARD {
            stats.forward_packets += 1;
            stats.forward_bytes += frame.len();
        } else {
            stats.reply_packets += 1;
            stats.reply_bytes += frame.len();
        }
    }
    Verdict::Pass
}

/// Whether the packet is the first of a new flow on the tuple of an old one.
#[inline(always)]
fn starts_anew<A: Family>(headers: &Headers<A>, entry: &Entry<A>, now: u32) -> bool {
    if entry.direction != FORWARD {
        return false;
    }
    let tcp = headers.tuple.protocol == TCP;
    if tcp && headers.flags & (SYN | RST) != SYN {
        return false;
    }
    if tcp && entry.state & CLOSING != 0 {
        return true;
    }
    let limit = if tcp { tcp_idle() } else { udp_idle() };
    if now.wrapping_sub(entry.seen) <= limit {
        return false;
    }
    // The endpoint may have gone on sending to a silent client.
    match A::flows().get_ptr(&entry.to.reversed()) {
        // SAFETY: an entry of the table; a torn read costs at most a choice anew.
        Some(pair) => now.wrapping_sub(unsafe { (*pair).seen }) > limit,
        None => true,
    }
}

/// Follows the state of a flow. Writes only what changed: a shared cache line
/// that is written for each packet costs more than the lookup.
#[inline(always)]
fn track<A: Family>(headers: &Headers<A>, entry: *mut Entry<A>, copy: &Entry<A>, now: u32) {
    let forward = copy.direction == FORWARD;
    let mut state = copy.state;
    if headers.tuple.protocol == TCP {
        let flags = headers.flags;
        if flags & FIN != 0 {
            state |= if forward { FIN_CLIENT } else { FIN_ENDPOINT };
        }
        if flags & RST != 0 {
            state |= RESET;
        }
        if forward && flags & SYN == 0 {
            state |= ESTABLISHED;
        }
    }
    if state == copy.state && now == copy.seen {
        return;
    }
    // SAFETY: an entry of the table. Racing writers write alike.
    unsafe {
        (*entry).state = state;
        (*entry).seen = now;
    }
    keep_pair(&headers.tuple, copy, state, now);
}

/// Once a tick, and when the state changed: tells the entry of the other
/// direction, which also keeps it young in the LRU order, and makes it anew if
/// it was evicted.
#[inline(always)]
fn keep_pair<A: Family>(key: &Tuple<A>, entry: &Entry<A>, state: u8, now: u32) {
    let pair_key = entry.to.reversed();
    if let Some(pair) = A::flows().get_ptr_mut(&pair_key) {
        // SAFETY: an entry of the table. The check of the tuple keeps the end of
        // an old flow from marking the new one on the same client port.
        unsafe {
            if (*pair).endpoint == entry.endpoint && (*pair).to == key.reversed() {
                (*pair).state |= state;
            }
        }
        return;
    }
    if state & CLOSING != 0 {
        return;
    }
    let direction = match entry.direction {
        FORWARD if entry.to.dst == key.src => REPLY_HAIRPIN,
        FORWARD => REPLY,
        _ => FORWARD,
    };
    let pair = Entry::new(&pair_key, key.reversed(), entry.endpoint, direction, state, now);
    let _ = A::flows().insert(&pair_key, &pair, 0);
}

/// Whether the flow of an entry is over, so that its tuple may be taken.
#[inline(always)]
pub fn is_over<A: Address>(entry: &Entry<A>, protocol: u8, now: u32) -> bool {
    let limit = if protocol == UDP { udp_idle() } else { tcp_idle() };
    (protocol == TCP && entry.state & CLOSING != 0) || now.wrapping_sub(entry.seen) > limit
}
