//! The first packet of a flow: the choice, and the two entries.

use probe_common::address::Tuple;
use probe_common::choose;
use probe_common::filter::same_bit;
use probe_common::flow::{ESTABLISHED, Entry, FORWARD, REPLY, REPLY_HAIRPIN};
use probe_common::hash::{self, mix};
use probe_common::map::{CHUNK, Endpoint, ServiceKey, Subset};
use probe_common::parse::{Headers, RST, SYN, TCP};
use probe_common::reason::Reason;

use crate::frame::{Frame, Verdict};
use crate::maps::{
    ACTIVE, ENDPOINT_STATS, ENDPOINTS, SERVICES, SPLITS, SUBSET_STATS, TABLES, count, hash_seed,
};
use crate::program::{Family, deliver, is_over};
use crate::reject::reject;

/// Source ports that are tried for a flow whose replies would be those of another.
const PORT_ATTEMPTS: u16 = 8;

/// No subset has a weight.
const NO_SUBSET: u32 = u32::MAX;

/// BPF_NOEXIST.
const NOEXIST: u64 = 1;

/// The subset of a new flow and its hash.
#[inline(always)]
fn choice<A: Family>(tuple: &Tuple<A>) -> Option<(&'static Subset, u64)> {
    let key = ServiceKey {
        address: tuple.dst.words(),
        port: tuple.dport,
        protocol: tuple.protocol,
        family: if size_of::<A>() == 16 { 6 } else { 4 },
    };
    // SAFETY: the value is a word that never changes while the key exists.
    let id = unsafe { *SERVICES.get(key)? };
    let version = *ACTIVE.get(id)?;
    let split = SPLITS.get(version)?;
    let hash = if split.client_affinity != 0 {
        hash::client(hash_seed(), tuple)
    } else {
        hash::flow(hash_seed(), tuple)
    };
    let at = weir_choose(hash, version) as usize;
    Some((split.subsets.get(at)?, hash))
}

/// The position of the chosen subset, or [`NO_SUBSET`]. A global function: the
/// verifier looks at it once, by itself, and not once for each way to its call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_choose(hash: u64, version: u32) -> u32 {
    let chosen = match SPLITS.get(version) {
        Some(split) => choose::subset(hash, &split.subsets, split.count),
        None => None,
    };
    chosen.map_or(NO_SUBSET, |at| at as u32)
}

/// The endpoint of a flow in a subset that has one.
#[inline(always)]
fn endpoint(subset: &Subset, hash: u64) -> Option<(u32, &'static Endpoint)> {
    let id = if subset.len == 1 {
        subset.table
    } else {
        let slot = choose::slot(hash, subset.seed, subset.len);
        let chunk = TABLES.get(subset.table + slot / CHUNK as u32)?;
        chunk[slot as usize % CHUNK]
    };
    Some((id, ENDPOINTS.get(id)?))
}

/// Steers a packet of no known flow.
#[inline(always)]
pub fn steer<A: Family, F: Frame>(frame: &F, headers: &Headers<A>, now: u32) -> Verdict {
    let tuple = &headers.tuple;
    let Some((subset, hash)) = choice(tuple) else {
        return Verdict::Pass;
    };
    let chosen = if subset.len == 0 { None } else { endpoint(subset, hash) };
    let Some((id, endpoint)) = chosen else {
        if !F::ANSWERS {
            return Verdict::Pass;
        }
        if let Some(stats) = SUBSET_STATS.get_ptr_mut(subset.id) {
            // SAFETY: the slot of this CPU; programs on it do not preempt each other.
            unsafe { (*stats).rejected += 1 }
        }
        return reject(frame, headers, Reason::RejectNoEndpoint);
    };
    let address = A::from_words(endpoint.address);
    let hairpin = address == tuple.src;
    let mut to = Tuple { dst: address, dport: endpoint.port, ..*tuple };
    if hairpin {
        // The endpoint would not take a packet from its own address.
        to.src = tuple.dst;
        to.sport = same_bit(tuple.sport, tuple.dport, 0);
    }
    let adopted = tuple.protocol == TCP && headers.flags & SYN == 0;
    let state = if adopted { ESTABLISHED } else { 0 };
    if adopted && headers.flags & RST != 0 {
        count(Reason::PassNoFlowReset);
        return deliver(frame, headers, &Entry::new(tuple, to, id, FORWARD, state, now));
    }
    let direction = if hairpin { REPLY_HAIRPIN } else { REPLY };
    match claim_replies(tuple, &mut to, hash, id, direction, state, now) {
        Claim::Ours => {}
        Claim::TableFull => count(Reason::FlowTableFull),
        Claim::NoPort if !F::ANSWERS => return Verdict::Pass,
        Claim::NoPort => return reject(frame, headers, Reason::RejectNoPort),
    }
    let entry = Entry::new(tuple, to, id, FORWARD, state, now);
    if A::flows().insert(tuple, &entry, 0).is_err() {
        count(Reason::FlowTableFull);
    }
    record(subset.id, id, adopted);
    deliver(frame, headers, &entry)
}

#[inline(always)]
fn record(subset: u32, endpoint: u32, adopted: bool) {
    // SAFETY: the slots of this CPU; programs on it do not preempt each other.
    unsafe {
        if let Some(stats) = SUBSET_STATS.get_ptr_mut(subset) {
            (*stats).flows += 1;
        }
        if let Some(stats) = ENDPOINT_STATS.get_ptr_mut(endpoint) {
            (*stats).flows += 1;
        }
    }
    if adopted {
        count(Reason::FlowAdopted);
    }
}

enum Claim {
    Ours,
    NoPort,
    TableFull,
}

/// Inserts the entry of the reply direction. Where another live flow has the
/// same reply tuple (one client port, two services, one endpoint), changes the
/// source port in `to` until it is free.
#[inline(always)]
fn claim_replies<A: Family>(
    tuple: &Tuple<A>,
    to: &mut Tuple<A>,
    hash: u64,
    endpoint: u32,
    direction: u8,
    state: u8,
    now: u32,
) -> Claim {
    let back = tuple.reversed();
    for attempt in 0..PORT_ATTEMPTS {
        let key = to.reversed();
        let entry = Entry::new(&key, back, endpoint, direction, state, now);
        if A::flows().insert(&key, &entry, NOEXIST).is_ok() {
            return Claim::Ours;
        }
        let Some(other) = A::flows().get_ptr(&key) else {
            return Claim::TableFull;
        };
        // SAFETY: an entry of the table; a torn read costs at most another attempt.
        let other = unsafe { other.read_volatile() };
        if other.to == back || is_over(&other, tuple.protocol, now) {
            return match A::flows().insert(&key, &entry, 0) {
                Ok(()) => Claim::Ours,
                Err(_) => Claim::TableFull,
            };
        }
        to.sport = if direction == REPLY_HAIRPIN {
            same_bit(tuple.sport, tuple.dport, attempt + 1)
        } else {
            // 1024 to 65535.
            let draw = mix(hash ^ (attempt as u64 + 1)) as u16 as u32;
            (1024 + ((draw * 64512) >> 16) as u16).to_be()
        };
        if attempt == 0 {
            count(Reason::FlowPortChanged);
        }
    }
    Claim::NoPort
}
