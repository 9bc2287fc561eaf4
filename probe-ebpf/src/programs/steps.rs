//! The steps of the packet walk as global functions, for each hook and family.
//!
//! The verifier looks at a global function once, by itself, and not once for
//! each way in which a packet can come there. Only one of them runs at a time,
//! called from an entry point that needs hardly any stack: together with what
//! calls it, each has 512 bytes.

use probe_common::address::{V4, V6};
use probe_common::choose::Splits as _;
use probe_common::parse;
use probe_common::reason::Reason;

use super::choice::{Maps, service_key};
use super::compiler::opaque;
use super::counters::count;
use super::family::Family;
use super::generations;
use super::header_offsets::HeaderOffsets;
use super::hook::Hook;
use super::log;
use super::maps::other_ports;
use super::sort::{Sorted, sort};
use super::verdict::Verdict;

/// The steps for one direction and family; what they do is said where they are
/// implemented, in modules of their names.
pub trait Steps<A: Family, const INGRESS: bool> {
    /// [`super::hit::hit`].
    fn hit(&self, place: HeaderOffsets) -> HeaderOffsets;
    /// [`super::live::live`].
    fn live(&self, place: HeaderOffsets) -> Verdict;
    /// [`super::successor::successor`].
    fn successor(&self, place: HeaderOffsets) -> Verdict;
    /// [`super::new_flow::new_flow`].
    fn new_flow(&self, place: HeaderOffsets) -> Verdict;
    /// What is to be done with a packet of no known flow.
    fn unknown(&self, place: HeaderOffsets) -> Verdict;
    /// [`super::icmp::icmp`].
    fn icmp(&self, l3: usize) -> Verdict;
    /// [`super::fragment::fragment`].
    fn fragment(&self, l3: usize) -> Verdict;
    /// [`super::redirect::redirect`], at egress.
    fn redirect(&self, l3: usize) -> Verdict;
    /// [`super::other::echo`], at ingress.
    fn echo(&self, l3: usize) -> Verdict;
}

/// The way of a packet that enters the node from clients (`INGRESS`), or leaves
/// it towards them.
#[inline(always)]
pub fn walk<F, const INGRESS: bool>(frame: &F) -> Verdict
where
    F: Hook + Steps<V4, INGRESS> + Steps<V6, INGRESS>,
{
    use probe_common::address::Address as _;
    match parse::ethernet(frame) {
        Some((V4::ETHERTYPE, l3)) => walk_family::<V4, F, INGRESS>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => walk_family::<V6, F, INGRESS>(frame, l3),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn walk_family<A: Family, F: Hook + Steps<A, INGRESS>, const INGRESS: bool>(
    frame: &F,
    l3: usize,
) -> Verdict {
    let sorted = sort::<A, F, INGRESS>(frame, l3);
    // Defined whatever it is: kernels before 6.3 refuse to read a place on the stack that was not
    // written on this way, and what is kept over the look-up below is kept there.
    let place = match sorted {
        Sorted::Flow(place) => place.0,
        Sorted::Other | Sorted::Fragment => 0,
        Sorted::Done(verdict) => return verdict,
    };
    let place = HeaderOffsets(opaque(place));
    if INGRESS && !frame.is_to_node() {
        // Another host's, or only bridged here. The stack will do with it what it does.
        return Verdict::Pass;
    }
    let place = match sorted {
        Sorted::Flow(_) => frame.hit(place),
        Sorted::Done(verdict) => return verdict,
        Sorted::Fragment => return frame.fragment(l3),
        Sorted::Other => {
            return match frame.icmp(l3) {
                Verdict::Unknown => frame.fragment(l3),
                Verdict::Redirect => frame.redirect(l3),
                Verdict::Pass if INGRESS && other_ports() != 0 => frame.echo(l3),
                verdict => verdict,
            };
        }
    };
    if let Some(verdict) = place.verdict() {
        return verdict;
    }
    let verdict = slow(frame, place);
    log::flush();
    verdict
}

/// The way of a packet that is not an ordinary one of a live flow.
#[inline(always)]
fn slow<A: Family, F: Steps<A, INGRESS>, const INGRESS: bool>(
    frame: &F,
    place: HeaderOffsets,
) -> Verdict {
    if place.is_live() {
        let verdict = live(frame, place);
        if verdict != Verdict::Unknown {
            return verdict;
        }
    }
    let mut verdict = frame.new_flow(place);
    if verdict == Verdict::Grown || (!INGRESS && verdict == Verdict::Unknown) {
        // It may have moved while it was looked for.
        verdict = live(frame, place);
    }
    if verdict == Verdict::Unknown {
        verdict = frame.unknown(place);
    }
    if verdict == Verdict::Unknown {
        verdict = frame.live(place.judged());
    }
    verdict
}

/// A packet of a live flow, unless that has given way to the client's next one.
#[inline(always)]
fn live<A: Family, F: Steps<A, INGRESS>, const INGRESS: bool>(
    frame: &F,
    place: HeaderOffsets,
) -> Verdict {
    let mut verdict = frame.live(place);
    if INGRESS && verdict == Verdict::Contested {
        verdict = frame.successor(place);
        if verdict == Verdict::Contested {
            verdict = frame.live(place.judged());
        }
    }
    verdict
}

/// The way of a packet that enters the node and is perhaps a reply. Unknown if
/// it is of no known flow.
#[inline(always)]
pub fn entering_reply<A: Family, F: Hook + Steps<A, false>>(frame: &F, l3: usize) -> Verdict {
    let place = match sort::<A, F, false>(frame, l3) {
        Sorted::Flow(place) => frame.hit(place),
        Sorted::Done(verdict) => return verdict,
        Sorted::Fragment | Sorted::Other => return Verdict::Unknown,
    };
    if let Some(verdict) = place.verdict() {
        return verdict;
    }
    let mut verdict = Verdict::Unknown;
    if place.is_live() {
        verdict = frame.live(place);
    }
    if verdict == Verdict::Unknown {
        verdict = frame.new_flow(place);
    }
    if verdict == Verdict::Grown {
        verdict = frame.live(place);
    }
    log::flush();
    verdict
}

/// A reply of no known flow. What comes from a service address was translated by something else,
/// and to the filter, whose bits addresses share, that may look like an endpoint's: it is not
/// counted. The filter of services would not tell: an endpoint may look like one.
#[inline(always)]
pub fn untracked<A: Family>(frame: &impl Hook, place: HeaderOffsets) -> Verdict {
    if generations::are_two() {
        return Verdict::Elsewhere;
    }
    let source = place.source::<A>(frame);
    let key = source.map(|(ip, port)| service_key::<A>(ip, port, place.protocol()));
    let service = key.and_then(|key| Maps.split(&key));
    if service.is_none() {
        count(Reason::PassReplyUntracked);
    }
    Verdict::Pass
}

/// Implements [`Steps`] for a frame and a family: `ingress` with nine global
/// functions, `egress` with six.
macro_rules! steps {
    (ingress $of:ty, $context:ty, $family:ty:
        $hit:ident, $live:ident, $successor:ident, $new_flow:ident, $icmp:ident, $fragment:ident, $choose:ident, $way:ident, $first_packet:ident, $echo:ident) => {
        $crate::programs::steps::steps!(@common true, $of, $context, $family, $hit, $live, $new_flow, $icmp, $fragment);
        $crate::programs::global::global_function!($successor($context, frame, place: u64) -> u32
            = $crate::programs::successor::successor::<$family, $of>(frame, $crate::programs::header_offsets::HeaderOffsets(place)) as u32);
        $crate::programs::global::global_function!($choose($context, frame, place: u64) -> u64
            = $crate::programs::unknown::choose::<$family, $of>(frame, $crate::programs::header_offsets::HeaderOffsets(place)));
        $crate::programs::global::global_function!($way($context, frame,) -> u32
            = $crate::programs::way::way::<$family, $of>(frame));
        $crate::programs::global::global_function!($first_packet($context, frame, place: u64, entered: u32) -> u32
            = $crate::programs::first_packet::first_packet::<$family, $of>(frame, $crate::programs::header_offsets::HeaderOffsets(place), entered) as u32);
        $crate::programs::global::global_function!($echo($context, frame, l3: u64) -> u32
            = $crate::programs::other::echo::<$family, $of>(frame, l3) as u32);
        impl $crate::programs::steps::Steps<$family, true> for $of {
            $crate::programs::steps::steps!(@methods $hit, $live, $new_flow, $icmp, $fragment);
            #[inline(always)]
            fn redirect(&self, _l3: usize) -> $crate::programs::verdict::Verdict {
                $crate::programs::verdict::Verdict::Pass
            }
            #[inline(always)]
            fn echo(&self, l3: usize) -> $crate::programs::verdict::Verdict {
                $crate::programs::verdict::Verdict::of($echo($crate::programs::hook::Hook::context(self), l3 as u64))
            }
            #[inline(always)]
            fn successor(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
                $crate::programs::verdict::Verdict::of($successor($crate::programs::hook::Hook::context(self), place.0))
            }
            #[inline(always)]
            fn unknown(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
                if $crate::programs::generations::is_others(place) {
                    return $crate::programs::verdict::Verdict::Elsewhere;
                }
                let chosen = $choose($crate::programs::hook::Hook::context(self), place.0);
                if chosen & $crate::programs::unknown::CHOSEN == 0 {
                    return $crate::programs::verdict::Verdict::of(chosen as u32);
                }
                let entered = if chosen & $crate::programs::unknown::STRAY != 0 {
                    $crate::programs::creation::STRAY
                } else {
                    $way($crate::programs::hook::Hook::context(self));
                    $crate::programs::creation::enter::<$family>()
                };
                let context = $crate::programs::hook::Hook::context(self);
                $crate::programs::verdict::Verdict::of($first_packet(context, place.0, entered))
            }
        }
    };
    (egress $of:ty, $context:ty, $family:ty:
        $hit:ident, $live:ident, $new_flow:ident, $icmp:ident, $fragment:ident, $redirect:ident) => {
        $crate::programs::global::global_function!($redirect($context, frame, l3: u64) -> u32
            = $crate::programs::redirect::redirect::<$family>(frame, l3) as u32);
        $crate::programs::steps::steps!(@common false, $of, $context, $family, $hit, $live, $new_flow, $icmp, $fragment);
        impl $crate::programs::steps::Steps<$family, false> for $of {
            $crate::programs::steps::steps!(@methods $hit, $live, $new_flow, $icmp, $fragment);
            #[inline(always)]
            fn redirect(&self, l3: usize) -> $crate::programs::verdict::Verdict {
                let context = $crate::programs::hook::Hook::context(self);
                $crate::programs::verdict::Verdict::of($redirect(context, l3 as u64))
            }
            #[inline(always)]
            fn successor(&self, _place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
                $crate::programs::verdict::Verdict::Contested
            }
            #[inline(always)]
            fn unknown(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
                $crate::programs::steps::untracked::<$family>(self, place)
            }
            #[inline(always)]
            fn echo(&self, _l3: usize) -> $crate::programs::verdict::Verdict {
                $crate::programs::verdict::Verdict::Pass
            }
        }
    };
    (@common $ingress:literal, $of:ty, $context:ty, $family:ty,
        $hit:ident, $live:ident, $new_flow:ident, $icmp:ident, $fragment:ident) => {
        $crate::programs::global::global_function!($hit($context, frame, place: u64) -> u64
            = $crate::programs::hit::hit::<$family, $of, $ingress>(frame, $crate::programs::header_offsets::HeaderOffsets(place)).0);
        $crate::programs::global::global_function!($live($context, frame, place: u64) -> u32
            = $crate::programs::live::live::<$family, $of, $ingress>(frame, $crate::programs::header_offsets::HeaderOffsets(place)) as u32);
        $crate::programs::global::global_function!($new_flow($context, frame, place: u64) -> u32
            = $crate::programs::new_flow::new_flow::<$family, $of, $ingress>(frame, $crate::programs::header_offsets::HeaderOffsets(place)) as u32);
        $crate::programs::global::global_function!($fragment($context, frame, l3: u64) -> u32
            = $crate::programs::fragment::fragment::<$family, $of, $ingress>(frame, l3) as u32);
        $crate::programs::global::global_function!($icmp($context, frame, l3: u64) -> u32
            = $crate::programs::icmp::icmp::<$family, $of, $ingress>(frame, l3) as u32);
    };
    (@methods $hit:ident, $live:ident, $new_flow:ident, $icmp:ident, $fragment:ident) => {
        #[inline(always)]
        fn hit(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::header_offsets::HeaderOffsets {
            $crate::programs::header_offsets::HeaderOffsets($hit($crate::programs::hook::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn live(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
            $crate::programs::verdict::Verdict::of($live($crate::programs::hook::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn new_flow(&self, place: $crate::programs::header_offsets::HeaderOffsets) -> $crate::programs::verdict::Verdict {
            $crate::programs::verdict::Verdict::of($new_flow($crate::programs::hook::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn icmp(&self, l3: usize) -> $crate::programs::verdict::Verdict {
            $crate::programs::verdict::Verdict::of($icmp($crate::programs::hook::Hook::context(self), l3 as u64))
        }
        #[inline(always)]
        fn fragment(&self, l3: usize) -> $crate::programs::verdict::Verdict {
            $crate::programs::verdict::Verdict::of($fragment($crate::programs::hook::Hook::context(self), l3 as u64))
        }
    };
}
pub(crate) use steps;
