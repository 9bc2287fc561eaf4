//! What comes to a service address and is for no split: pings and other ports,
//! if the agent was told to answer them (`otherPorts: answer`).
//!
//! Where such an address is routed to the node and is nobody's, the node would
//! send them back to where they came from, until their hops are used up. An
//! answer is about as long as what it answers.

use probe_common::checksum::{fold, update};
use probe_common::icmp::Errors;
use probe_common::map::ServiceKey;
use probe_common::reason::Reason;

use crate::family::Family;
use crate::frame::{Frame, Verdict};
use crate::icmp::refresh;
use crate::maps::{ADDRESSES, count, other_ports};
use crate::reject::{HOPS, swap_link};

/// Whether what comes to an address and is for no split is to be answered.
#[inline(always)]
pub fn is_answered<A: Family>(address: A) -> bool {
    if other_ports() == 0 {
        return false;
    }
    let key = ServiceKey { address: address.words(), port: 0, protocol: 0, family: A::NUMBER };
    // SAFETY: the value is not read.
    unsafe { ADDRESSES.get(&key) }.is_some()
}

/// Turns an echo request to such an address into its reply; passes all else as it is.
#[inline(always)]
pub fn echo<A: Family + Errors, F: Frame>(frame: &F, l3: u64) -> Verdict {
    // The bound is for the verifier.
    let l3 = l3 as usize & 0x3f;
    let Some((icmp, end)) = A::echo(frame, l3) else { return Verdict::Pass };
    let addresses = l3 + A::ADDRESSES;
    let (Some(src), Some(dst)) =
        (frame.load::<A>(addresses), frame.load::<A>(addresses + size_of::<A>()))
    else {
        return Verdict::Pass;
    };
    // What is cut short is for the stack to drop.
    if icmp + 8 > end || end as u64 > frame.len() || !is_answered(dst) || !F::ANSWERS {
        return Verdict::Pass;
    }
    if !src.is_host() {
        count(Reason::RejectSilent);
        return Verdict::Drop;
    }
    match reply(frame, l3, icmp, [dst, src]) {
        Some(()) => {
            count(Reason::AnswerOther);
            Verdict::Answer
        }
        None => {
            count(Reason::RewriteFailed);
            Verdict::Drop
        }
    }
}

/// Turns a request into the reply between these ends, with hops as of a packet that is sent anew.
/// A wrong checksum stays wrong.
#[inline(always)]
fn reply<A: Family + Errors, F: Frame>(
    frame: &F,
    l3: usize,
    icmp: usize,
    [src, dst]: [A; 2],
) -> Option<()> {
    let addresses = l3 + A::ADDRESSES;
    frame.store(addresses, src)?;
    frame.store(addresses + size_of::<A>(), dst)?;
    // The sum of the addresses is what it was.
    if size_of::<A>() == 16 {
        let [next, _]: [u8; 2] = frame.load(l3 + 6)?;
        frame.store(l3 + 6, [next, HOPS])?;
    } else {
        let old: u16 = frame.load(l3 + 8)?;
        let new = u16::from_ne_bytes([HOPS, old.to_ne_bytes()[1]]);
        frame.store(l3 + 8, new)?;
        refresh(frame, l3 + 10, fold(!old as u64 + new as u64), false)?;
    }
    let [kind, checksum]: [u16; 2] = frame.load(icmp)?;
    let change = fold(!kind as u64 + A::ECHO_REPLY as u64);
    frame.store(icmp, [A::ECHO_REPLY, update(checksum, change)])?;
    swap_link(frame)
}
