//! The steps of the packet walk as global functions, for each hook and family.
//!
//! The verifier looks at a global function once, by itself, and not once for
//! each way in which a packet can come there. Only one of them runs at a time,
//! called from an entry point that needs hardly any stack: together with what
//! calls it, each has 512 bytes.

use probe_common::address::{V4, V6};
use probe_common::parse::{self, Walked};
use probe_common::reason::Reason;

use crate::choose;
use crate::family::Family;
use crate::filter::{self, Sorted};
use crate::frame::{Hook, Verdict, opaque};
use crate::generations;
use crate::log;
use crate::maps::{count, other_ports};
use crate::place::Place;

/// The steps for one direction and family; what they do is said where they are
/// implemented, in modules of their names.
pub trait Steps<A: Family, const INGRESS: bool> {
    /// [`crate::fast::fast`].
    fn fast(&self, place: Place) -> Place;
    /// [`crate::live::live`].
    fn live(&self, place: Place) -> Verdict;
    /// [`crate::successor::successor`].
    fn successor(&self, place: Place) -> Verdict;
    /// [`crate::young::young`].
    fn young(&self, place: Place) -> Verdict;
    /// What is to be done with a packet of no known flow.
    fn unknown(&self, place: Place) -> Verdict;
    /// [`crate::icmp::icmp`].
    fn icmp(&self, l3: usize) -> Verdict;
    /// [`crate::fragment::fragment`].
    fn fragment(&self, l3: usize) -> Verdict;
    /// [`crate::redirect::redirect`], at egress.
    fn redirect(&self, l3: usize) -> Verdict;
    /// [`crate::other::echo`], at ingress.
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
        Some((V4::ETHERTYPE, l3)) => family::<V4, F, INGRESS>(frame, l3),
        Some((V6::ETHERTYPE, l3)) => family::<V6, F, INGRESS>(frame, l3),
        _ => Verdict::Pass,
    }
}

#[inline(always)]
fn family<A: Family, F: Hook + Steps<A, INGRESS>, const INGRESS: bool>(
    frame: &F,
    l3: usize,
) -> Verdict {
    let sorted = filter::sort::<A, F, INGRESS>(frame, l3);
    // Defined whatever it is: kernels before 6.3 refuse to read a place on the stack that was not
    // written on this way, and what is kept over the look-up below is kept there.
    let place = match sorted {
        Sorted::Flow(place) => place.0,
        Sorted::Other | Sorted::Fragment => 0,
        Sorted::Done(verdict) => return verdict,
    };
    let place = Place(opaque(place));
    if INGRESS && !frame.is_to_node() {
        // Another host's, or only bridged here. The stack will do with it what it does.
        return Verdict::Pass;
    }
    let place = match sorted {
        Sorted::Flow(_) => frame.fast(place),
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
fn slow<A: Family, F: Steps<A, INGRESS>, const INGRESS: bool>(frame: &F, place: Place) -> Verdict {
    if place.is_live() {
        let verdict = live(frame, place);
        if verdict != Verdict::Unknown {
            return verdict;
        }
    }
    let mut verdict = frame.young(place);
    if verdict == Verdict::Grown || (!INGRESS && verdict == Verdict::Unknown) {
        // It may have moved while it was looked for.
        verdict = live(frame, place);
    }
    if verdict == Verdict::Unknown {
        verdict = frame.unknown(place);
    }
    if verdict == Verdict::Unknown {
        verdict = frame.live(place.settled());
    }
    verdict
}

/// A packet of a live flow, unless that has given way to the client's next one.
#[inline(always)]
fn live<A: Family, F: Steps<A, INGRESS>, const INGRESS: bool>(frame: &F, place: Place) -> Verdict {
    let mut verdict = frame.live(place);
    if INGRESS && verdict == Verdict::Contested {
        verdict = frame.successor(place);
        if verdict == Verdict::Contested {
            verdict = frame.live(place.settled());
        }
    }
    verdict
}

/// The way of a packet that enters the node and is perhaps a reply. Unknown if
/// it is of no known flow.
#[inline(always)]
pub fn entering_reply<A: Family, F: Hook + Steps<A, false>>(frame: &F, l3: usize) -> Verdict {
    let place = match filter::sort::<A, F, false>(frame, l3) {
        Sorted::Flow(place) => frame.fast(place),
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
        verdict = frame.young(place);
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
pub fn untracked<A: Family>(frame: &impl Hook, place: Place) -> Verdict {
    if generations::are_two() {
        return Verdict::Elsewhere;
    }
    let source = place.source::<A>(frame);
    let service = source.and_then(|(ip, port)| choose::split_at(ip, port, place.protocol()));
    if service.is_none() {
        count(Reason::PassReplyUntracked);
    }
    Verdict::Pass
}

macro_rules! global_function {
    ($name:ident($context:ty, $frame:ident, $($argument:ident: $type:ty),*) -> $result:ty = $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name(context: *mut $context, $($argument: $type),*) -> $result {
            let $frame = &crate::frame::Hook::again(context);
            $body
        }
    };
}
pub(crate) use global_function;

/// A global function that is told numbers alone.
macro_rules! global_number {
    ($name:ident($($argument:ident),*) = $body:expr) => {
        #[unsafe(no_mangle)]
        #[inline(never)]
        extern "C" fn $name($($argument: u32),*) -> u32 {
            $body
        }
    };
}
pub(crate) use global_number;

/// The result of [`parse::extensions`] as a number: the offset, the protocol
/// above it, whether it is a first fragment, or what is wrong.
const FIRST: u64 = 1 << 24;
const FRAGMENT: u64 = 1 << 32;
const UNPARSED: u64 = 2 << 32;
const ROUTE_LEFT: u64 = 3 << 32;
/// Offsets of extension headers, and of what is behind them, are below that,
/// also of a packet that an ICMP error quotes. For the verifier.
const REACH: usize = 0x7fff;

/// Walks IPv6 extension headers, in a global function.
#[inline(always)]
pub fn walk_extensions<F: parse::Bytes>(frame: &F, offset: u64, protocol: u32) -> u64 {
    match parse::extensions(frame, offset as usize & REACH, protocol as u8) {
        Ok(Walked { l4, protocol, first }) => {
            let first = if first { FIRST } else { 0 };
            first | (protocol as u64) << 16 | l4 as u64
        }
        Err(Reason::PassFragment) => FRAGMENT,
        Err(Reason::PassRouteLeft) => ROUTE_LEFT,
        Err(_) => UNPARSED,
    }
}

/// Walks IPv4 options, in a global function.
#[inline(always)]
pub fn walk_options<F: parse::Bytes>(frame: &F, offset: u64, length: u32) -> u32 {
    parse::has_route_left(frame, offset as usize & REACH, length as usize & 0x3f) as u32
}

/// What [`walk_extensions`] found.
#[inline(always)]
pub fn extensions_found(found: u64) -> Result<Walked, Reason> {
    match found {
        FRAGMENT => Err(Reason::PassFragment),
        UNPARSED => Err(Reason::PassUnparsed),
        ROUTE_LEFT => Err(Reason::PassRouteLeft),
        found => Ok(Walked {
            l4: found as usize & REACH,
            protocol: (found >> 16) as u8,
            first: found & FIRST != 0,
        }),
    }
}

/// Implements [`Steps`] for a frame and a family: `ingress` with eight global
/// functions, `egress` with six.
macro_rules! steps {
    (ingress $of:ty, $context:ty, $family:ty:
        $fast:ident, $live:ident, $successor:ident, $young:ident, $icmp:ident, $fragment:ident, $choose:ident, $open:ident, $echo:ident) => {
        $crate::steps::steps!(@common true, $of, $context, $family, $fast, $live, $young, $icmp, $fragment);
        $crate::steps::global_function!($successor($context, frame, place: u64) -> u32
            = $crate::successor::successor::<$family, $of>(frame, $crate::place::Place(place)) as u32);
        $crate::steps::global_function!($choose($context, frame, place: u64) -> u64
            = $crate::choose::choose::<$family, $of>(frame, $crate::place::Place(place)));
        $crate::steps::global_function!($open($context, frame, place: u64, entered: u32) -> u32
            = $crate::open::open::<$family, $of>(frame, $crate::place::Place(place), entered) as u32);
        $crate::steps::global_function!($echo($context, frame, l3: u64) -> u32
            = $crate::other::echo::<$family, $of>(frame, l3) as u32);
        impl $crate::steps::Steps<$family, true> for $of {
            $crate::steps::steps!(@methods $fast, $live, $young, $icmp, $fragment);
            #[inline(always)]
            fn redirect(&self, _l3: usize) -> $crate::frame::Verdict {
                $crate::frame::Verdict::Pass
            }
            #[inline(always)]
            fn echo(&self, l3: usize) -> $crate::frame::Verdict {
                $crate::frame::Verdict::of($echo($crate::frame::Hook::context(self), l3 as u64))
            }
            #[inline(always)]
            fn successor(&self, place: $crate::place::Place) -> $crate::frame::Verdict {
                $crate::frame::Verdict::of($successor($crate::frame::Hook::context(self), place.0))
            }
            #[inline(always)]
            fn unknown(&self, place: $crate::place::Place) -> $crate::frame::Verdict {
                if $crate::generations::is_others(place) {
                    return $crate::frame::Verdict::Elsewhere;
                }
                let chosen = $choose($crate::frame::Hook::context(self), place.0);
                if chosen & $crate::choose::CHOSEN == 0 {
                    return $crate::frame::Verdict::of(chosen as u32);
                }
                let entered = if chosen & $crate::choose::STRAY != 0 {
                    $crate::newcomer::STRAY
                } else {
                    $crate::newcomer::enter::<$family>()
                };
                let context = $crate::frame::Hook::context(self);
                $crate::frame::Verdict::of($open(context, place.0, entered))
            }
        }
    };
    (egress $of:ty, $context:ty, $family:ty:
        $fast:ident, $live:ident, $young:ident, $icmp:ident, $fragment:ident, $redirect:ident) => {
        $crate::steps::global_function!($redirect($context, frame, l3: u64) -> u32
            = $crate::redirect::redirect::<$family>(frame, l3) as u32);
        $crate::steps::steps!(@common false, $of, $context, $family, $fast, $live, $young, $icmp, $fragment);
        impl $crate::steps::Steps<$family, false> for $of {
            $crate::steps::steps!(@methods $fast, $live, $young, $icmp, $fragment);
            #[inline(always)]
            fn redirect(&self, l3: usize) -> $crate::frame::Verdict {
                let context = $crate::frame::Hook::context(self);
                $crate::frame::Verdict::of($redirect(context, l3 as u64))
            }
            #[inline(always)]
            fn successor(&self, _place: $crate::place::Place) -> $crate::frame::Verdict {
                $crate::frame::Verdict::Contested
            }
            #[inline(always)]
            fn unknown(&self, place: $crate::place::Place) -> $crate::frame::Verdict {
                $crate::steps::untracked::<$family>(self, place)
            }
            #[inline(always)]
            fn echo(&self, _l3: usize) -> $crate::frame::Verdict {
                $crate::frame::Verdict::Pass
            }
        }
    };
    (@common $ingress:literal, $of:ty, $context:ty, $family:ty,
        $fast:ident, $live:ident, $young:ident, $icmp:ident, $fragment:ident) => {
        $crate::steps::global_function!($fast($context, frame, place: u64) -> u64
            = $crate::fast::fast::<$family, $of, $ingress>(frame, $crate::place::Place(place)).0);
        $crate::steps::global_function!($live($context, frame, place: u64) -> u32
            = $crate::live::live::<$family, $of, $ingress>(frame, $crate::place::Place(place)) as u32);
        $crate::steps::global_function!($young($context, frame, place: u64) -> u32
            = $crate::young::young::<$family, $of, $ingress>(frame, $crate::place::Place(place)) as u32);
        $crate::steps::global_function!($fragment($context, frame, l3: u64) -> u32
            = $crate::fragment::fragment::<$family, $of, $ingress>(frame, l3) as u32);
        $crate::steps::global_function!($icmp($context, frame, l3: u64) -> u32
            = $crate::icmp::icmp::<$family, $of, $ingress>(frame, l3) as u32);
    };
    (@methods $fast:ident, $live:ident, $young:ident, $icmp:ident, $fragment:ident) => {
        #[inline(always)]
        fn fast(&self, place: $crate::place::Place) -> $crate::place::Place {
            $crate::place::Place($fast($crate::frame::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn live(&self, place: $crate::place::Place) -> $crate::frame::Verdict {
            $crate::frame::Verdict::of($live($crate::frame::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn young(&self, place: $crate::place::Place) -> $crate::frame::Verdict {
            $crate::frame::Verdict::of($young($crate::frame::Hook::context(self), place.0))
        }
        #[inline(always)]
        fn icmp(&self, l3: usize) -> $crate::frame::Verdict {
            $crate::frame::Verdict::of($icmp($crate::frame::Hook::context(self), l3 as u64))
        }
        #[inline(always)]
        fn fragment(&self, l3: usize) -> $crate::frame::Verdict {
            $crate::frame::Verdict::of($fragment($crate::frame::Hook::context(self), l3 as u64))
        }
    };
}
pub(crate) use steps;
