//! What comes to a service address and is for no split: pings and other ports,
//! if the agent was told to answer them (`otherPorts: answer`).
//!
//! Where such an address is routed to the node and is nobody's, the node would
//! send them back to where they came from, until their hops are used up. An
//! answer is about as long as what it answers.

use probe_common::echo::reply;
use probe_common::icmp::Errors;
use probe_common::map::ServiceKey;
use probe_common::reason::Reason;

use super::counters::count;
use super::family::Family;
use super::hook::Hook;
use super::maps::{ADDRESSES, other_ports};
use super::verdict::Verdict;

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
pub fn echo<A: Family + Errors, F: Hook>(frame: &F, l3: u64) -> Verdict {
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
    if icmp + 8 > end || end as u64 > frame.length() || !is_answered(dst) || !F::ANSWERS {
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
