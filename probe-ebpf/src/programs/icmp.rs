//! ICMP and ICMPv6 errors about steered packets (RFC 5508, section 4; RFC 1191
//! and RFC 8201 need them).
//!
//! A router quotes the packet that it could not forward, as it came there. The
//! one that sent it knows it only as it left: an error about a packet from
//! client to endpoint must speak of client and service address, one about a
//! packet from service address to client of endpoint and client. So the quoted
//! packet is rewritten by the entry of the direction in which the error goes,
//! which is the other one than that of the quoted packet.
//!
//! A fragment other than the first has no ports: what was made of the first one
//! of its packet is remembered for a moment, also for errors.

use probe_common::address::Tuple;
use probe_common::flow::Entry;
use probe_common::icmp::{Errors, Quote};
use probe_common::reason::Reason;
use probe_common::translate::{Original, ends, translate};

use super::counters::{count, passed};
use super::filter::{listed, listed_at_all};
use super::flows::{is_here, read};
use super::fragments::remembered;
use super::generations::are_two;
use super::hook::Hook;
use super::maps::{ENDPOINT_FILTER, SERVICE_FILTER};
use super::new_flows::{AT_EGRESS, AT_INGRESS, NewFlows, find};
use super::verdict::Verdict;

/// Translates an error about a steered packet; passes all else as it is. Unknown
/// if it is about a fragment other than the first: [`about_fragment`] is of
/// another step. So are redirects at egress.
#[inline(always)]
pub fn icmp<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(frame: &F, l3: u64) -> Verdict {
    // The bound is for the verifier.
    let l3 = l3 as usize & 0x3f;
    if !INGRESS && A::is_redirect(frame, l3) {
        return Verdict::Redirect;
    }
    let Some(quote) = Quote::find::<A>(frame, l3) else { return Verdict::Pass };
    if quote.later {
        return Verdict::Unknown;
    }
    about_packet::<A, F, INGRESS>(frame, &quote).verdict::<F, INGRESS>()
}

/// What became of an error.
enum Outcome {
    /// No business of weir.
    Foreign,
    /// Perhaps one of weir's, but of nothing that is known.
    Untracked,
    /// It is about the packet as it was sent now.
    Translated,
    /// It cannot be changed.
    Failed,
}

impl Outcome {
    /// Counts it.
    #[inline(always)]
    fn verdict<F: Hook, const INGRESS: bool>(self) -> Verdict {
        match self {
            Self::Foreign if INGRESS && F::SHORTCUTS => return Verdict::Stray,
            Self::Foreign => {}
            Self::Untracked if are_two() => return Verdict::Elsewhere,
            Self::Untracked => passed::<F>(Reason::PassIcmpUntracked),
            Self::Translated => count(Reason::IcmpTranslated),
            Self::Failed => {
                count(Reason::RewriteFailed);
                return Verdict::Drop;
            }
        }
        Verdict::Pass
    }
}

/// An error about a packet whose ports are known.
#[inline(always)]
fn about_packet<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(
    frame: &F,
    quote: &Quote,
) -> Outcome {
    let mut quoted = Tuple::empty();
    if quoted.load(frame, &quote.inner).is_none() {
        return Outcome::Foreign;
    }
    let may_be_ours = if INGRESS {
        listed(&SERVICE_FILTER, quoted.src, quoted.sport)
    } else {
        listed(&ENDPOINT_FILTER, quoted.dst, quoted.dport)
    };
    if !may_be_ours {
        return Outcome::Foreign;
    }
    // Of a packet that goes the other way than what is quoted.
    let key = quoted.reversed();
    let Some(entry) = entry::<A, INGRESS>(&key, || fails::<A, INGRESS>(frame, quote)) else {
        return Outcome::Untracked;
    };
    let Tuple { src, dst, sport, dport, .. } = entry.to(&key).reversed();
    let original = Original {
        src,
        dst,
        sport,
        dport,
        address_delta: entry.address_delta,
        port_delta: entry.port_delta,
    };
    let ends = [quoted.src, quoted.dst];
    translated::<A, F, INGRESS>(frame, quote, ends, quoted.dport, &original)
}

/// Whether the error says that a client's packet does not get to its endpoint.
#[inline(always)]
fn fails<A: Errors, const INGRESS: bool>(frame: &impl Hook, quote: &Quote) -> bool {
    let Some([kind, code]) = frame.load::<[u8; 2]>(quote.icmp) else { return false };
    !INGRESS && A::is_unreachable(kind, code)
}

/// The entry of that direction of a flow. If a new one `fails`, that is counted.
#[inline(always)]
pub fn entry<A: NewFlows, const INGRESS: bool>(
    key: &Tuple<A>,
    fails: impl FnOnce() -> bool,
) -> Option<Entry<A>> {
    if let Some(slot) = A::flows().get_ptr(key) {
        return read(slot, key).filter(is_here::<A, INGRESS>);
    }
    let found = find(key, if INGRESS { AT_INGRESS } else { AT_EGRESS })?;
    if fails() {
        found.fail();
    }
    found.entry()
}

/// Translates an error about a fragment other than the first of a steered packet.
/// None if the packet is no such error.
#[inline(always)]
pub fn about_fragment<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(
    frame: &F,
    l3: usize,
) -> Option<Verdict> {
    let quote = Quote::find::<A>(frame, l3).filter(|quote| quote.later)?;
    Some(of_fragment::<A, F, INGRESS>(frame, &quote).verdict::<F, INGRESS>())
}

#[inline(always)]
fn of_fragment<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(
    frame: &F,
    quote: &Quote,
) -> Outcome {
    let Some(quoted) = A::later(frame, quote.inner.l3) else { return Outcome::Foreign };
    let may_be_ours = if INGRESS {
        listed_at_all(&SERVICE_FILTER, quoted.src)
    } else {
        listed_at_all(&ENDPOINT_FILTER, quoted.dst)
    };
    if !may_be_ours {
        return Outcome::Foreign;
    }
    let key = quoted.back();
    let Some(way) = remembered::<A, INGRESS>(&key) else { return Outcome::Untracked };
    let [src, dst] = way.ends(&key);
    // Reversed, as of flows.
    let original = Original {
        src: dst,
        dst: src,
        sport: 0,
        dport: 0,
        address_delta: way.address_delta,
        port_delta: 0,
    };
    translated::<A, F, INGRESS>(frame, quote, [quoted.src, quoted.dst], 0, &original)
}

/// Makes an error about a packet between `quoted` ends one about the original
/// packet. One that is not addressed to whom the quoted packet came from is not
/// changed. What the destination of the quoted packet says itself, it says in the name
/// under which the other side knows it. A router has but one name, unless it is an
/// endpoint, too: at the port `quoted_dport`, to which the packet went.
#[inline(always)]
fn translated<A: NewFlows + Errors, F: Hook, const INGRESS: bool>(
    frame: &F,
    quote: &Quote,
    quoted: [A; 2],
    quoted_dport: u16,
    original: &Original<A>,
) -> Outcome {
    let Some([from, to]) = ends::<A>(frame, quote) else { return Outcome::Failed };
    if to != quoted[0] {
        return Outcome::Untracked;
    }
    // The filter may take a router's for an endpoint: of 8,192 endpoints, one in 128 of routers.
    let is_endpoint = || listed(&ENDPOINT_FILTER, from, quoted_dport);
    let hidden = from == quoted[1] || (!INGRESS && !quote.later && is_endpoint());
    match translate(frame, quote, [from, to], hidden, original) {
        Some(()) => Outcome::Translated,
        None => Outcome::Failed,
    }
}
