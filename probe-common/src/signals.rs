//! What a TCP segment says of what becomes of its flow: a pure function of what is known of the
//! flow, and of the segment. What is counted is in [`crate::map::SubsetSignals`].

use crate::flow::{
    ADOPTED, ANSWERED, ASKED, ENDED, ESTABLISHED, FIN_CLIENT, FIN_ENDPOINT, REPLIED, RESET, SYNCED,
    UNANSWERED,
};
use crate::map::Signal;
use crate::parse::{RST, SYN};
use crate::tcp::Side;

/// Ticks after a flow's first packet from which on a SYN that is sent again had no answer for
/// long: more than two ticks, so that it is not the first time, a second after the first one.
const LONG: u32 = 3;
/// Ticks after the first packet of a flow in which a reset by its endpoint is an early one.
const EARLY: u32 = 10;

/// A set of [`Signal`]s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Signals(u32);

impl Signals {
    const NONE: Self = Self(0);

    /// That one alone.
    #[inline(always)]
    pub const fn of(signal: Signal) -> Self {
        Self(1 << signal as u32)
    }

    /// Whether that one is among them.
    #[inline(always)]
    pub const fn has(self, signal: Signal) -> bool {
        self.0 >> signal as u32 & 1 != 0
    }

    /// Those of both.
    #[inline(always)]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Those that are counted in [`crate::map::EndpointSignals`]: a bit for each, by its place there.
    #[inline(always)]
    pub const fn of_endpoint(self) -> u32 {
        let Self(bits) = self;
        let completed_and_refused = bits >> Signal::Completed as u32 & 3;
        let unanswered = bits >> Signal::Unanswered as u32 & 1;
        let unreachable = bits >> Signal::Unreachable as u32 & 1;
        let ends = bits >> Signal::EndedByFin as u32 & 15;
        completed_and_refused | unanswered << 2 | unreachable << 3 | ends << 4
    }

    /// The inverse of [`Signals::bits`].
    #[inline(always)]
    pub const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// A bit for each, by its number.
    #[inline(always)]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

/// What a flow was before a segment.
#[derive(Debug, Clone, Copy)]
pub struct Before {
    /// See [`crate::flow::Entry::state`].
    pub state: u16,
    /// Ticks since its first packet.
    pub age: u32,
}

/// The bit of the state that says that a side has sent data.
#[inline(always)]
pub const fn data_of(side: Side) -> u16 {
    match side {
        Side::Client => ASKED,
        Side::Endpoint => REPLIED,
    }
}

/// What a segment says before its flow ends, and what is set in the flow's state for that.
/// `changed` is [`field@crate::tcp::Change::set`], `after` the state with it; `has_data`: whether the
/// segment has data.
#[inline(always)]
pub fn of_segment(
    before: Before,
    changed: u16,
    after: u16,
    flags: u8,
    side: Side,
    has_data: impl Fn() -> bool,
) -> (Signals, u16) {
    let Before { state, age } = before;
    if state & ESTABLISHED == 0 && flags & (SYN | RST) == SYN {
        return of_handshake(state, age, side);
    }
    // What is out of the window is not the flow's.
    let counts = changed & (SYNCED | ESTABLISHED) != 0 && after & ESTABLISHED != 0;
    let data = data_of(side);
    if !counts || state & data != 0 || !has_data() {
        return (Signals::NONE, 0);
    }
    let signal = if let Side::Client = side { Signal::Asked } else { Signal::Replied };
    // Of an adopted flow nobody knows whether it is the first data.
    (if state & ADOPTED == 0 { Signals::of(signal) } else { Signals::NONE }, data)
}

/// A SYN of a flow that there is already.
#[inline(always)]
fn of_handshake(state: u16, age: u32, side: Side) -> (Signals, u16) {
    match side {
        Side::Client => {
            let again = Signals::of(Signal::SynRetransmits);
            if state & (ANSWERED | RESET | UNANSWERED) == 0 && age >= LONG {
                return (again.and(Signals::of(Signal::Unanswered)), UNANSWERED);
            }
            (again, 0)
        }
        Side::Endpoint if state & ANSWERED != 0 => (Signals::of(Signal::SynAckRetransmits), 0),
        Side::Endpoint => (Signals::NONE, 0),
    }
}

/// How a completed flow ends by a segment that makes its state `after`, if it does; see
/// [`of_segment`].
#[inline(always)]
pub fn of_end(before: Before, changed: u16, after: u16, side: Side) -> Signals {
    let Before { state, age } = before;
    if after & ENDED == 0 || state & ENDED != 0 {
        return Signals::NONE;
    }
    if changed & RESET == 0 {
        return Signals::of(Signal::EndedByFin);
    }
    if let Side::Client = side {
        return Signals::of(Signal::ResetByClient);
    }
    let said_nothing = state & (REPLIED | ADOPTED) == 0;
    let reset =
        Signals::of(if said_nothing { Signal::ResetBeforeReply } else { Signal::ResetAfterReply });
    let early = age <= EARLY && state & (FIN_CLIENT | FIN_ENDPOINT | ADOPTED) == 0;
    if early { reset.and(Signals::of(Signal::EarlyResets)) } else { reset }
}

#[cfg(test)]
mod tests {
    use super::Side::{Client, Endpoint};
    use super::Signal::*;
    use super::*;
    use crate::parse::ACK;

    fn signals(all: &[Signal]) -> Signals {
        all.iter().fold(Signals::NONE, |sum, &one| sum.and(Signals::of(one)))
    }

    #[test]
    fn an_endpoint_counts_each_in_its_place() {
        use crate::map::EndpointSignals;
        let counted = |signal| {
            let bits = Signals::of(signal).of_endpoint();
            let numbers: [u64; 8] = core::array::from_fn(|at| u64::from(bits >> at & 1));
            let signals: EndpointSignals = bytemuck::cast(numbers);
            signals
        };
        let none = EndpointSignals::default();
        assert_eq!(counted(Completed), EndpointSignals { completed: 1, ..none });
        assert_eq!(counted(Refused), EndpointSignals { refused: 1, ..none });
        assert_eq!(counted(Unanswered), EndpointSignals { unanswered: 1, ..none });
        assert_eq!(counted(Unreachable), EndpointSignals { unreachable: 1, ..none });
        assert_eq!(counted(EndedByFin), EndpointSignals { ended_by_fin: 1, ..none });
        assert_eq!(counted(ResetByClient), EndpointSignals { reset_by_client: 1, ..none });
        assert_eq!(counted(ResetBeforeReply), EndpointSignals { reset_before_reply: 1, ..none });
        assert_eq!(counted(ResetAfterReply), EndpointSignals { reset_after_reply: 1, ..none });
        for signal in [SynRetransmits, SynAckRetransmits, Asked, Replied, EarlyResets] {
            assert_eq!(counted(signal), none, "{signal:?} is of subsets alone");
        }
    }

    #[test]
    fn syns_are_retransmits_until_the_handshake_is_complete() {
        let syn = |state, age, side| {
            of_segment(Before { state, age }, 0, state, SYN, side, || panic!("asked for data"))
        };
        assert_eq!(syn(0, 2, Client), (signals(&[SynRetransmits]), 0));
        let long = (signals(&[SynRetransmits, Unanswered]), UNANSWERED);
        assert_eq!(syn(0, 3, Client), long);
        for state in [UNANSWERED, ANSWERED, RESET] {
            assert_eq!(syn(state, 9, Client), (signals(&[SynRetransmits]), 0), "{state}");
        }
        assert_eq!(syn(0, 0, Endpoint), (Signals::NONE, 0), "the first answer");
        assert_eq!(syn(ANSWERED, 0, Endpoint), (signals(&[SynAckRetransmits]), 0));
        let late = of_segment(Before { state: ESTABLISHED, age: 9 }, 0, 0, SYN, Client, || true);
        assert_eq!(late, (Signals::NONE, 0), "of an established flow");
    }

    #[test]
    fn the_first_data_of_each_side_counts() {
        let segment = |state, changed, data| {
            let after = state | changed;
            of_segment(Before { state, age: 0 }, changed, after, ACK, Client, || data)
        };
        let first = (signals(&[Asked]), ASKED);
        assert_eq!(
            segment(ANSWERED, ESTABLISHED, true),
            first,
            "with what completes the handshake"
        );
        assert_eq!(segment(ESTABLISHED, SYNCED, true), first);
        assert_eq!(segment(ESTABLISHED | REPLIED, SYNCED, true), first);
        assert_eq!(segment(ESTABLISHED | ADOPTED, SYNCED, true), (Signals::NONE, ASKED));
        for (state, changed, data) in [
            (ESTABLISHED, SYNCED, false),
            (ESTABLISHED | ASKED, SYNCED, true),
            // Out of the window; before the handshake is complete.
            (ESTABLISHED, 0, true),
            (ANSWERED, SYNCED, true),
        ] {
            assert_eq!(segment(state, changed, data), (Signals::NONE, 0), "{state} {changed}");
        }
        let before = Before { state: ESTABLISHED, age: 0 };
        let reply = of_segment(before, SYNCED, ESTABLISHED | SYNCED, ACK, Endpoint, || true);
        assert_eq!(reply, (signals(&[Replied]), REPLIED));
    }

    #[test]
    fn an_end_is_told_by_who_made_it_and_when() {
        let end = |state, age, changed, side| {
            let state = state | ESTABLISHED;
            of_end(Before { state, age }, changed, state | changed | ENDED, side)
        };
        assert_eq!(end(FIN_CLIENT, 0, FIN_ENDPOINT, Endpoint), signals(&[EndedByFin]));
        assert_eq!(end(REPLIED, 0, RESET, Client), signals(&[ResetByClient]));
        assert_eq!(end(0, 10, RESET, Endpoint), signals(&[ResetBeforeReply, EarlyResets]));
        assert_eq!(end(0, 11, RESET, Endpoint), signals(&[ResetBeforeReply]));
        assert_eq!(end(REPLIED, 0, RESET, Endpoint), signals(&[ResetAfterReply, EarlyResets]));
        assert_eq!(end(FIN_CLIENT, 0, RESET, Endpoint), signals(&[ResetBeforeReply]));
        assert_eq!(end(ADOPTED, 0, RESET, Endpoint), signals(&[ResetAfterReply]));
        assert_eq!(end(ENDED, 0, RESET, Endpoint), Signals::NONE, "once");
        let on = of_end(Before { state: ESTABLISHED, age: 0 }, SYNCED, ESTABLISHED, Client);
        assert_eq!(on, Signals::NONE, "it goes on");
    }
}
