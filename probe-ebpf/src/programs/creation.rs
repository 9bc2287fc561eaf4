//! A new flow, from when its endpoint is chosen until it is a new one. It is
//! put together in a map: the steps that do it are apart, since together they
//! would need more stack than there is.

use probe_common::address::{Address, Tuple};
use probe_common::filter::same_bit;
use probe_common::flow::{ADOPTED, Entry, FORWARD, FORWARD_HAIRPIN, Facts, SYNCED, is_closed};
use probe_common::hash::mix;
use probe_common::new_flow::{HAIRPIN, NewFlow};
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use super::clock::{is_idle, now};
use super::counters::count;
use super::family::Family;
use super::flows::forget;
use super::global::global_numbers;
use super::hook::Hook;
use super::maps::ENDPOINTS;
use super::new_flows;
use super::new_flows::{AT_EGRESS, AT_INGRESS, NewFlows, find};

/// Source ports that are tried for a flow whose replies would be those of another.
const PORT_ATTEMPTS: u16 = 8;

/// What [`enter`] made of a new flow: it is a new one.
pub const ENTERED: u32 = 0;
/// There is no room for it.
pub const FULL: u32 = 1;
/// Its replies could not be told from those of others.
pub const NO_PORT: u32 = 2;
/// It was not tried: a stray RST is no flow.
pub const STRAY: u32 = 3;

global_numbers! {
    /// A family whose new flows are made by calls.
    trait Creation: NewFlows {
        /// Finds the new flow a reply tuple of its own; 0 if there is none.
        fn claim() = claim: weir_claim_v4, weir_claim_v6;
        /// Writes the new flow among the new ones: [`ENTERED`] or [`FULL`].
        fn add() = add: weir_add_v4, weir_add_v6;
    }
}

/// Puts together the flow of a packet, which goes to the endpoint and counts for the subset with
/// these ids.
/// Whether the packet is a stray RST; None if there is no such endpoint.
#[inline(always)]
pub fn prepare<A: Family>(
    frame: &impl Hook,
    headers: &Headers,
    tuple: &Tuple<A>,
    ids: [u32; 2],
) -> Option<bool> {
    let endpoint = ENDPOINTS.get(ids[0])?;
    let slot = A::new_flow_scratch().get_ptr_mut(0)?;
    let address = A::from_words(endpoint.address);
    let hairpin = address == tuple.src;
    // The key of the replies. An endpoint would not take a packet from its own address.
    let key = Tuple {
        src: address,
        dst: tuple.src.or(tuple.dst, hairpin),
        sport: endpoint.port,
        dport: if hairpin { same_bit(tuple.sport, tuple.dport, 0) } else { tuple.sport },
        ..*tuple
    };
    let facts = facts(frame, headers, ids, hairpin);
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    unsafe { *slot = NewFlow::new(tuple, &key, &facts) };
    // Nothing begins with a RST, whatever other flags are set (RFC 9293, 3.10.7.2).
    Some(tuple.protocol == TCP && headers.flags & RST != 0)
}

/// What the forward entry of a new flow holds.
#[inline(always)]
fn facts(
    frame: &impl Hook,
    headers: &Headers,
    [endpoint, subset]: [u32; 2],
    hairpin: bool,
) -> Facts {
    let now = now();
    let tcp = headers.protocol == TCP;
    let adopted = tcp && headers.flags & SYN == 0;
    let sequence = if tcp { u32::from_be(frame.load(headers.l4 + 4).unwrap_or(0)) } else { 0 };
    Facts {
        endpoint,
        subset,
        state: if adopted { ADOPTED | SYNCED } else { SYNCED },
        direction: if hairpin { FORWARD_HAIRPIN } else { FORWARD },
        seen: now,
        created: now,
        sequence: if adopted { sequence } else { sequence.wrapping_add(1) },
    }
}

/// Takes the new flow among the new ones: [`ENTERED`], or why not. In two
/// functions: one that called the other would leave it too little stack.
#[inline(always)]
pub fn enter<A: Creation>() -> u32 {
    match A::claim() {
        0 => NO_PORT,
        _ => A::add(),
    }
}

#[inline(always)]
fn claim<A: NewFlows>() -> u32 {
    let Some(slot) = A::new_flow_scratch().get_ptr_mut(0) else { return 0 };
    // SAFETY: the slot of this CPU; programs on it do not preempt each other.
    take_port(unsafe { &mut *slot }) as u32
}

#[inline(always)]
fn add<A: NewFlows>() -> u32 {
    let Some(slot) = A::new_flow_scratch().get_ptr_mut(0) else { return FULL };
    // SAFETY: as above.
    if new_flows::add(unsafe { &mut *slot }) { ENTERED } else { FULL }
}

/// Where another flow has the same reply tuple (one client port, two services,
/// one endpoint), changes the client's port until it is free. False if no port is.
#[inline(always)]
fn take_port<A: NewFlows>(new_flow: &mut NewFlow<A>) -> bool {
    let (key, hairpin) = (new_flow.forward_key(), new_flow.kind & HAIRPIN != 0);
    let mut attempt = 0;
    while attempt < PORT_ATTEMPTS {
        if is_free(new_flow, hairpin) {
            return true;
        }
        new_flow.change_port(if hairpin {
            same_bit(key.sport, key.dport, attempt + 1)
        } else {
            // 1024 to 65535.
            let draw = mix((key.tag() as u64) << 8 | attempt as u64) as u16 as u32;
            (1024 + ((draw * 64512) >> 16) as u16).to_be()
        });
        if attempt == 0 {
            count(Reason::FlowPortChanged);
        }
        attempt += 1;
    }
    false
}

/// Whether no other flow has the reply tuple of this one. One that is in the way,
/// and has ended, is removed; so are the replies of a flow that the client's next
/// packet finds forgotten. One beside which this one stands goes on.
#[inline(always)]
fn is_free<A: NewFlows>(new_flow: &NewFlow<A>, hairpin: bool) -> bool {
    let (key, now) = (new_flow.reply_key(), now());
    let back = new_flow.forward_key().reversed();
    if let Some(live) = A::flows().get_ptr(&key) {
        // SAFETY: an entry of the table; a torn read costs at most another attempt.
        let live = unsafe { &*live };
        let pair = live.to(&key).reversed();
        // An endpoint may be silent for long while its client is not.
        let other = A::flows().get_ptr(&pair);
        // SAFETY: as above.
        let over = has_ended(live, key.protocol, now)
            && other.is_none_or(|other| has_ended(unsafe { &*other }, key.protocol, now));
        let forgotten = other.is_none() && pair == new_flow.forward_key();
        if !forgotten && !over {
            return false;
        }
        forget(A::flows(), &key, &pair);
    }
    // An endpoint may be a client from the port where it serves: its packets look like replies to itself.
    let which = if hairpin { AT_INGRESS } else { AT_EGRESS };
    // What has ended may hide another flow, or an element of a reply key that leads nowhere: who looks for it clears it.
    for _ in 0..2 {
        let Some(other) = find(&key, which) else { return true };
        let Some(entry) = other.entry() else { return true };
        if entry.to(&key) != back && !has_ended(&entry, key.protocol, now) {
            return false;
        }
        other.remove();
    }
    true
}

/// Whether nobody sends packets of the flow any more. One that its client or its
/// endpoint alone has closed may go on (RFC 9293, 3.6): a SYN of the same client to
/// the same service tells that it does not, one to another service says nothing.
#[inline(always)]
fn has_ended<A: Address>(entry: &Entry<A>, protocol: u8, now: u32) -> bool {
    is_closed(entry.state) || is_idle(entry.seen, protocol, now)
}
