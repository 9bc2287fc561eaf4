//! The first packet of a flow: the choice of an endpoint.

use probe_common::address::Tuple;
use probe_common::map::{CHUNK, ServiceKey, Subset, subset_index};
use probe_common::parse::{RST, SYN, TCP};
use probe_common::reason::Reason;
use probe_common::{choose as common, hash};

use crate::deliver::passed;
use crate::family::Family;
use crate::foreign::{self, is_foreign};
use crate::frame::{Hook, Verdict};
use crate::maps::{ACTIVE, SERVICES, SPLITS, SUBSET_STATS, TABLES, hash_seed};
use crate::newcomer::prepare;
use crate::other::is_answered;
use crate::place::Place;
use crate::reject::reject;

/// No subset has a weight.
const NO_SUBSET: u32 = u32::MAX;

/// In what [`choose`] returns: the flow was put together, see [`crate::newcomer`];
/// else it is a verdict.
pub const CHOSEN: u64 = 1 << 32;
/// Beside [`CHOSEN`]: the packet is a stray RST, and no flow.
pub const STRAY: u64 = 1 << 33;

/// Chooses the endpoint of a packet of no known flow, and puts the flow together; see [`CHOSEN`]. Unknown if
/// the flow is known after all.
#[inline(always)]
pub fn choose<A: Family, F: Hook>(frame: &F, place: Place) -> u64 {
    let mut tuple = Tuple::empty();
    let Some(headers) = place.load::<A>(frame, &mut tuple) else {
        return Verdict::Pass as u64;
    };
    let tuple = &tuple;
    let opens = headers.protocol == TCP && headers.flags & SYN != 0;
    if !opens && A::flows().get_ptr(tuple).is_some() {
        // It was a young one, and moved while it was looked for.
        return Verdict::Unknown as u64;
    }
    let reason = if let Some(split) = split(tuple) {
        if !opens && is_foreign(tuple) {
            passed::<F>(Reason::PassForeign);
            return Verdict::Pass as u64;
        }
        let Some((subset, hash)) = choice(tuple, split) else {
            return Verdict::Pass as u64;
        };
        if let Some(id) = endpoint(subset, hash) {
            if opens && headers.flags & RST == 0 {
                foreign::forget(tuple);
            }
            return match prepare(frame, &headers, tuple, [id, subset.id]) {
                Some(stray) => CHOSEN | if stray { STRAY } else { 0 },
                None => Verdict::Pass as u64,
            };
        }
        if F::ANSWERS
            && let Some(stats) = SUBSET_STATS.get_ptr_mut(subset_index(subset.id))
        {
            // SAFETY: the slot of this CPU; programs on it do not preempt each other.
            unsafe { (*stats).rejected += 1 }
        }
        Reason::RejectNoEndpoint
    } else if opens && A::flows().get_ptr(tuple).is_some() {
        // Of a service that was removed: a flow that it may have begun beside has it then.
        return Verdict::Unknown as u64;
    } else if is_answered(tuple.dst) {
        Reason::AnswerOther
    } else {
        return Verdict::Pass as u64;
    };
    if !F::ANSWERS {
        // TC answers.
        return Verdict::Pass as u64;
    }
    reject(frame, &headers, tuple, reason) as u64
}

/// The id of the split that a packet is addressed to.
#[inline(always)]
fn split<A: Family>(tuple: &Tuple<A>) -> Option<u32> {
    split_at(tuple.dst, tuple.dport, tuple.protocol)
}

/// The id of the split at a service address.
#[inline(always)]
pub fn split_at<A: Family>(address: A, port: u16, protocol: u8) -> Option<u32> {
    let key = ServiceKey { address: address.words(), port, protocol, family: A::NUMBER };
    // SAFETY: the value is a word that never changes while the key exists.
    unsafe { SERVICES.get(key) }.copied()
}

/// The subset of a new flow to a split, and its hash.
#[inline(always)]
fn choice<A: Family>(tuple: &Tuple<A>, split: u32) -> Option<(&'static Subset, u64)> {
    let version = *ACTIVE.get(split)?;
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
        Some(split) => common::subset(hash, &split.subsets, split.count),
        None => None,
    };
    chosen.map_or(NO_SUBSET, |at| at as u32)
}

/// The endpoint of a flow in a subset, if it has one.
#[inline(always)]
fn endpoint(subset: &Subset, hash: u64) -> Option<u32> {
    match subset.len {
        0 => None,
        1 => Some(subset.table),
        len => {
            let slot = common::slot(hash, subset.seed, len);
            let chunk = TABLES.get(subset.table + slot / CHUNK as u32)?;
            Some(chunk[slot as usize % CHUNK])
        }
    }
}
