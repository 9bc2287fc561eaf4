//! ICMP redirects (RFC 792; RFC 4861, section 4.5) that the node's stack sends about what it
//! forwards out of the interface where it came in. Those of other routers, if they come by, pass.
//!
//! One to a client would tell it where an endpoint is. One to an endpoint would have its replies
//! pass by the node, to clients that know no endpoint; and it would hold for all that the
//! endpoint sends there, whatever packet it was about.

use probe_common::address::Tuple;
use probe_common::icmp::{Errors, Quoted};
use probe_common::parse::{Bytes as _, Headers, TCP, UDP};
use probe_common::reason::Reason;

use super::counters::count;
use super::filter::listed_at_all;
use super::fragments::remembered;
use super::generations::are_two;
use super::icmp::entry;
use super::maps::{ENDPOINT_FILTER, SERVICE_FILTER};
use super::new_flows::NewFlows;
use super::tc::TcFrame;
use super::verdict::Verdict;

/// Drops a redirect of the node's own, at egress, that is about a steered packet, or to an endpoint.
#[inline(always)]
pub fn redirect<A: NewFlows + Errors>(frame: &TcFrame, l3: u64) -> Verdict {
    if !frame.is_own() {
        return Verdict::Pass;
    }
    // The bound is for the verifier.
    let l3 = l3 as usize & 0x3f;
    let receiver = frame.load::<A>(l3 + A::ADDRESSES + size_of::<A>());
    // To a service's address go those about replies that were rewritten where they came in.
    let to_ours = receiver.is_some_and(|to| {
        listed_at_all(&ENDPOINT_FILTER, to) || listed_at_all(&SERVICE_FILTER, to)
    });
    if !to_ours && is_about_steered::<A>(frame, l3) != Some(true) {
        return if are_two() { Verdict::Elsewhere } else { Verdict::Pass };
    }
    count(Reason::DropRedirect);
    Verdict::Drop
}

/// Whether the quoted packet is one that was steered to an endpoint.
#[inline(always)]
fn is_about_steered<A: NewFlows + Errors>(frame: &TcFrame, l3: usize) -> Option<bool> {
    let inner = A::redirected(frame, l3)?;
    let Quoted { l4, protocol, later } = A::quoted(frame, inner)?;
    if later {
        let key = A::later(frame, inner)?.back();
        return Some(remembered::<A, false>(&key).is_some());
    }
    if protocol != TCP && protocol != UDP {
        return None;
    }
    let mut quoted = Tuple::empty();
    let headers = Headers { l3: inner, l4, protocol, flags: 0, plain: false, first: false };
    quoted.load(frame, &headers)?;
    Some(entry::<A, false>(&quoted.reversed(), || false).is_some())
}
