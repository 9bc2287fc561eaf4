//! Connections that the node's connection tracking translated before weir steered their service,
//! as kube-proxy has it do: their packets pass untouched for as long as they live.
//!
//! Only packets of no flow that weir knows are asked about, and only while there may be such
//! connections. A SYN begins a connection anew, and that one is weir's.

use aya_ebpf::helpers::generated::bpf_jiffies64;
use probe_common::address::Tuple;
use probe_common::map::Takeover;
use probe_common::parse::TCP;

use super::family::Family;
use super::maps::TAKEOVER;

/// What there may be.
#[inline(always)]
fn takeover() -> Takeover {
    TAKEOVER.get(0).copied().unwrap_or_default()
}

/// Whether a packet to a service, which begins no TCP connection and is of no known flow, is of
/// such a connection. Until that is known, all TCP segments are: a flow that weir has forgotten
/// can bear that for a moment, and others never.
#[inline(always)]
pub fn is_foreign<A: Family>(tuple: &Tuple<A>) -> bool {
    let Takeover { until, tuples, .. } = takeover();
    // SAFETY: the helper takes no pointer.
    if until != 0 && tuple.protocol == TCP && unsafe { bpf_jiffies64() } < until {
        return true;
    }
    tuples != 0 && A::foreign().get_ptr(tuple).is_some()
}

/// A flow of weir's begins on a tuple.
#[inline(always)]
pub fn forget<A: Family>(tuple: &Tuple<A>) {
    if takeover().tuples != 0 {
        // It is not there, as a rule.
        let _ = A::foreign().remove(tuple);
    }
}
