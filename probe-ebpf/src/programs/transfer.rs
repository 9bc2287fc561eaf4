//! Counters of one generation, added to those of the next one, while programs
//! count in them.
//!
//! To programs a counter of their CPU is an ordinary number: what user space
//! wrote would undo what they count meanwhile. One instruction of this CPU is
//! never between the load and the store of another program on it.

use probe_common::map::{
    Signal, TRANSFER_ENDPOINT, TRANSFER_ENDPOINT_SIGNALS, TRANSFER_ERRORS, TRANSFER_REASON,
    TRANSFER_SIGNALS, TRANSFER_SUBSET,
};
use probe_common::parse::{Bytes as _, ETHERNET};

use super::atomic::add;
use super::maps::{
    ENDPOINT_SIGNALS, ENDPOINT_STATS, REASONS, SUBSET_ERRORS, SUBSET_SIGNALS, SUBSET_STATS,
};
use super::tc::TcFrame;

/// Does what the payload says; 0 if it is done.
#[inline(always)]
pub fn transfer(frame: &TcFrame) -> i32 {
    let Some([kind, id]) = frame.load::<[u32; 2]>(ETHERNET) else { return 1 };
    let done = match kind {
        TRANSFER_ENDPOINT => {
            ENDPOINT_STATS.get_ptr_mut(id).and_then(|at| add_all::<5>(frame, at.cast()))
        }
        TRANSFER_SUBSET => {
            SUBSET_STATS.get_ptr_mut(id).and_then(|at| add_all::<6>(frame, at.cast()))
        }
        TRANSFER_SIGNALS => SUBSET_SIGNALS
            .get_ptr_mut(id)
            .and_then(|at| add_all::<{ Signal::COUNT }>(frame, at.cast())),
        TRANSFER_ERRORS => {
            SUBSET_ERRORS.get_ptr_mut(id).and_then(|at| add_all::<1>(frame, at.cast()))
        }
        TRANSFER_ENDPOINT_SIGNALS => {
            ENDPOINT_SIGNALS.get_ptr_mut(id).and_then(|at| add_all::<8>(frame, at.cast()))
        }
        TRANSFER_REASON => REASONS.get_ptr_mut(id).and_then(|at| add_all::<1>(frame, at)),
        _ => None,
    };
    done.is_none() as i32
}

/// Adds the numbers of the payload to as many counters.
#[inline(always)]
fn add_all<const COUNT: usize>(frame: &TcFrame, counters: *mut u64) -> Option<()> {
    let numbers: [u64; COUNT] = frame.load(ETHERNET + 8)?;
    for (at, number) in numbers.into_iter().enumerate() {
        // SAFETY: a counter of this CPU, within the value.
        add(unsafe { counters.add(at) }, number);
    }
    Some(())
}
