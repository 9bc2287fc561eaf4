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
use probe_common::checksum::{fold, update};
use probe_common::flow::Entry;
use probe_common::icmp::{Errors, Quote};
use probe_common::parse::UDP;
use probe_common::reason::Reason;

use crate::deliver::passed;
use crate::family::{Family, is_here, read};
use crate::filter::{listed, listed_at_all};
use crate::fragment::remembered;
use crate::frame::{Frame, Verdict};
use crate::generations::are_two;
use crate::maps::{ENDPOINT_FILTER, SERVICE_FILTER, count};
use crate::sets::{AT_EGRESS, AT_INGRESS, find};

/// Translates an error about a steered packet; passes all else as it is. Unknown
/// if it is about a fragment other than the first: [`about_fragment`] is of
/// another step. So are redirects at egress.
#[inline(always)]
pub fn icmp<A: Family + Errors, F: Frame, const INGRESS: bool>(frame: &F, l3: u64) -> Verdict {
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
    fn verdict<F: Frame, const INGRESS: bool>(self) -> Verdict {
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

/// What the quoted packet was before it was steered. Ports are 0 if it is a
/// fragment other than the first.
struct Original<A> {
    src: A,
    dst: A,
    sport: u16,
    dport: u16,
    /// Checksum delta of the addresses.
    address_delta: u16,
    /// Checksum delta of the ports.
    port_delta: u16,
    /// The destination port of the quoted packet.
    quoted_dport: u16,
}

/// An error about a packet whose ports are known.
#[inline(always)]
fn about_packet<A: Family + Errors, F: Frame, const INGRESS: bool>(
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
    let Some(entry) = entry::<A, INGRESS>(&key) else { return Outcome::Untracked };
    let Tuple { src, dst, sport, dport, .. } = entry.to(&key).reversed();
    let original = Original {
        src,
        dst,
        sport,
        dport,
        address_delta: entry.address_delta,
        port_delta: entry.port_delta,
        quoted_dport: quoted.dport,
    };
    translate::<A, F, INGRESS>(frame, quote, [quoted.src, quoted.dst], &original)
}

/// The entry of that direction of a flow.
#[inline(always)]
pub fn entry<A: Family, const INGRESS: bool>(key: &Tuple<A>) -> Option<Entry<A>> {
    if let Some(slot) = A::flows().get_ptr(key) {
        return read(slot, key).filter(is_here::<A, INGRESS>);
    }
    find(key, if INGRESS { AT_INGRESS } else { AT_EGRESS }).and_then(|found| found.entry())
}

/// Translates an error about a fragment other than the first of a steered packet.
/// None if the packet is no such error.
#[inline(always)]
pub fn about_fragment<A: Family + Errors, F: Frame, const INGRESS: bool>(
    frame: &F,
    l3: usize,
) -> Option<Verdict> {
    let quote = Quote::find::<A>(frame, l3).filter(|quote| quote.later)?;
    Some(of_fragment::<A, F, INGRESS>(frame, &quote).verdict::<F, INGRESS>())
}

#[inline(always)]
fn of_fragment<A: Family + Errors, F: Frame, const INGRESS: bool>(
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
        quoted_dport: 0,
    };
    translate::<A, F, INGRESS>(frame, quote, [quoted.src, quoted.dst], &original)
}

/// Makes an error about a packet between `quoted` ends one about the original
/// packet. One that is not addressed to whom the quoted packet came from is not
/// changed.
#[inline(always)]
fn translate<A: Family + Errors, F: Frame, const INGRESS: bool>(
    frame: &F,
    quote: &Quote,
    quoted: [A; 2],
    original: &Original<A>,
) -> Outcome {
    let addresses = quote.l3 + A::ADDRESSES;
    let (Some(from), Some(to)) =
        (frame.load::<A>(addresses), frame.load::<A>(addresses + size_of::<A>()))
    else {
        return Outcome::Failed;
    };
    if to != quoted[0] {
        return Outcome::Untracked;
    }
    // What the destination of the quoted packet says itself, it says in the name under which
    // the other side knows it. A router has but one name, unless it is an endpoint, too.
    let hidden = from == quoted[1] || (!INGRESS && !quote.later && is_endpoint(from, original));
    let new_from = from.or(original.dst, hidden);
    match rewrite(frame, quote, [from, to], [new_from, original.src], original) {
        Some(()) => Outcome::Translated,
        None => Outcome::Failed,
    }
}

/// Whether an address is an endpoint's, at the port at which the quoted packet
/// arrived. The filter may take a router's for one: of 8,192 endpoints, one in
/// 128 of routers.
#[inline(always)]
fn is_endpoint<A: Family>(address: A, original: &Original<A>) -> bool {
    listed(&ENDPOINT_FILTER, address, original.quoted_dport)
}

/// Rewrites the error, which went between `old` ends, to go between `new` ones.
#[inline(always)]
fn rewrite<A: Family + Errors>(
    frame: &impl Frame,
    quote: &Quote,
    old: [A; 2],
    new: [A; 2],
    original: &Original<A>,
) -> Option<()> {
    let addresses = quote.l3 + A::ADDRESSES;
    let checksum: u16 = frame.load(quote.icmp + 2)?;
    let mut change = inner(frame, quote, original)?;
    let outer = old[0].sum_not() + old[1].sum_not() + new[0].sum() + new[1].sum();
    frame.store(addresses, new[0])?;
    frame.store(addresses + size_of::<A>(), new[1])?;
    if A::PSEUDO {
        change += outer;
    } else {
        refresh(frame, quote.l3 + 10, fold(outer), false)?;
    }
    frame.store(quote.icmp + 2, update(checksum, fold(change)))
}

/// Rewrites the quoted packet; the change of the sum of its bytes.
#[inline(always)]
fn inner<A: Family + Errors>(
    frame: &impl Frame,
    quote: &Quote,
    original: &Original<A>,
) -> Option<u64> {
    let headers = &quote.inner;
    let addresses = headers.l3 + A::ADDRESSES;
    let mut change = original.address_delta as u64;
    frame.store(addresses, original.src)?;
    frame.store(addresses + size_of::<A>(), original.dst)?;
    if !A::PSEUDO {
        change += refresh(frame, headers.l3 + 10, original.address_delta, false)?;
    }
    if quote.later {
        return Some(change);
    }
    change += original.port_delta as u64;
    frame.store(headers.l4, [original.sport, original.dport])?;
    if let Some(offset) = quote.checksum()
        && let Some(field) = frame.load::<u16>(offset)
        && (headers.protocol != UDP || field != 0)
    {
        let both = original.address_delta as u64 + original.port_delta as u64;
        change += refresh(frame, offset, fold(both), headers.protocol == UDP)?;
    }
    Some(change)
}

/// Updates a checksum field for a change of what it covers; the change of the
/// sum of bytes that this is. That of UDP is never 0, which would mean none.
#[inline(always)]
pub fn refresh(frame: &impl Frame, offset: usize, delta: u16, udp: bool) -> Option<u64> {
    let old: u16 = frame.load(offset)?;
    let new = match update(old, delta) {
        0 if udp => 0xffff,
        new => new,
    };
    frame.store(offset, new)?;
    Some(!old as u64 + new as u64)
}
