//! Splits as they are in the maps, for the choice of an endpoint; see
//! [`probe_common::choose`].

use probe_common::address::Address;
use probe_common::choose::{Splits, subset};
use probe_common::map::{CHUNK, ServiceKey, Split};

use super::family::Family;
use super::maps::{ACTIVE, SERVICES, SPLITS, TABLES};

/// The key of a service address in SERVICES; the port in wire order.
#[inline(always)]
pub fn service_key<A: Family>(address: A, port: u16, protocol: u8) -> ServiceKey {
    ServiceKey { address: Address::words(address), port, protocol, family: A::NUMBER }
}

/// The maps of splits.
pub struct Maps;

impl Splits for Maps {
    #[inline(always)]
    fn split(&self, service: &ServiceKey) -> Option<u32> {
        // SAFETY: the value is a word that never changes while the key exists.
        unsafe { SERVICES.get(service) }.copied()
    }

    #[inline(always)]
    fn version(&self, split: u32) -> Option<u32> {
        ACTIVE.get(split).copied()
    }

    #[inline(always)]
    fn contents(&self, version: u32) -> Option<&Split> {
        SPLITS.get(version)
    }

    #[inline(always)]
    fn subset(&self, hash: u64, version: u32, _: &Split) -> Option<usize> {
        Some(weir_choose(hash, version) as usize)
    }

    #[inline(always)]
    fn chunk(&self, at: u32) -> Option<&[u32; CHUNK]> {
        TABLES.get(at)
    }
}

/// No subset has a weight.
const NO_SUBSET: u32 = u32::MAX;

/// The position of the chosen subset, or [`NO_SUBSET`], which is none. A global function: the
/// verifier looks at it once, by itself, and not once for each way to its call.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weir_choose(hash: u64, version: u32) -> u32 {
    let chosen = match SPLITS.get(version) {
        Some(split) => subset(hash, &split.subsets, split.count),
        None => None,
    };
    chosen.map_or(NO_SUBSET, |at| at as u32)
}
