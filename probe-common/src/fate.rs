//! All that a packet says of its flow's fate, in numbers: programs compute it in a function of its
//! own, which their verifier looks at once. Computed where it is needed, each way through it would be
//! followed through all that comes after.

use crate::flow::{ANSWERED, ENDED, ESTABLISHED, RESET, is_closed};
use crate::map::Signal;
use crate::signals::{self, Before, Signals};
use crate::tcp::Side;
use crate::times::{self, Moments};

/// What a packet is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    /// Of TCP; else of UDP.
    pub tcp: bool,
    /// Flags of TCP.
    pub flags: u8,
    /// Who sent it.
    pub side: Side,
    /// Whether a segment has data.
    pub data: bool,
    /// Ticks since the flow's first packet.
    pub age: u32,
}

/// States of the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct States {
    /// Before the packet.
    pub before: u16,
    /// What the packet set, whether it was set or not: [`field@crate::tcp::Change::set`].
    pub set: u16,
    /// After it.
    pub after: u16,
}

/// What it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// The state after it, with what was counted.
    pub state: u16,
    /// What is to be counted.
    pub signals: Signals,
    /// Which times begin and end.
    pub moments: Moments,
}

impl Packet {
    /// As a number.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        let client = matches!(self.side, Side::Client);
        self.flags as u64
            | (self.tcp as u64) << 8
            | (client as u64) << 9
            | (self.data as u64) << 10
            | (self.age as u64) << 32
    }

    /// The inverse.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self {
            tcp: bits >> 8 & 1 != 0,
            flags: bits as u8,
            side: if bits >> 9 & 1 != 0 { Side::Client } else { Side::Endpoint },
            data: bits >> 10 & 1 != 0,
            age: (bits >> 32) as u32,
        }
    }
}

impl States {
    /// As a number.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.before as u64 | (self.set as u64) << 16 | (self.after as u64) << 32
    }

    /// The inverse.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self { before: bits as u16, set: (bits >> 16) as u16, after: (bits >> 32) as u16 }
    }
}

impl Fate {
    /// As a number.
    #[inline(always)]
    pub const fn bits(self) -> u64 {
        self.state as u64 | (self.moments.bits() as u64) << 16 | (self.signals.bits() as u64) << 32
    }

    /// The inverse.
    #[inline(always)]
    pub const fn of_bits(bits: u64) -> Self {
        Self {
            state: bits as u16,
            moments: Moments::of_bits((bits >> 16) as u16 as u32),
            signals: Signals::of_bits((bits >> 32) as u32),
        }
    }

    /// Of a packet that changes these states.
    #[inline(always)]
    pub fn of(states: States, packet: Packet) -> Self {
        let States { before, set, after } = states;
        let Packet { tcp, flags, side, data, age } = packet;
        let was = Before { state: before, age };
        let (mut state, mut signals) = (after, Signals::default());
        if tcp {
            let (told, noted) = signals::of_segment(was, set, after, flags, side, || data);
            state |= noted;
            signals = told;
        }
        if is_closed(state) && state & ESTABLISHED != 0 {
            state |= ENDED;
        }
        let moments = if tcp {
            signals = signals.and(signals::of_end(was, set, state, side));
            times::of_segment(before, state, flags, side, signals)
        } else {
            times::of_datagram(before, state)
        };
        if state & !before & ENDED != 0 {
            signals = signals.and(Signals::of(Signal::Ended));
        }
        signals = signals.and(of_handshake(tcp, before, state, side));
        Self { state, signals, moments }
    }
}

/// What a state that became `to` says of how the flow began.
#[inline(always)]
fn of_handshake(tcp: bool, from: u16, to: u16, side: Side) -> Signals {
    let entered = to & !from;
    // UDP has no handshake to be completed: an answer is what there is.
    let complete = if tcp { ESTABLISHED } else { ANSWERED };
    if entered & complete != 0 {
        return Signals::of(Signal::Completed);
    }
    let unanswered = to & (ANSWERED | ESTABLISHED) == 0;
    match side {
        Side::Endpoint if entered & RESET != 0 && unanswered => Signals::of(Signal::Refused),
        _ => Signals::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{ASKED, FIN_CLIENT, FIN_ENDPOINT, REPLIED, SYNCED};
    use crate::parse::{ACK, FIN, RST, SYN};
    use crate::times::Measured;

    fn fate(before: u16, set: u16, side: Side, flags: u8, data: bool) -> Fate {
        let states = States { before, set, after: before | set };
        let packet = Packet { tcp: true, flags, side, data, age: 2 };
        assert_eq!(States::of_bits(states.bits()), states);
        assert_eq!(Packet::of_bits(packet.bits()), packet);
        let fate = Fate::of(states, packet);
        assert_eq!(Fate::of_bits(fate.bits()), fate);
        fate
    }

    fn has(fate: Fate, signals: &[Signal]) -> bool {
        fate.signals
            == signals.iter().fold(Signals::default(), |all, &one| all.and(Signals::of(one)))
    }

    #[test]
    fn a_connection_says_each_thing_once() {
        use Side::{Client, Endpoint};
        let answered = fate(0, ANSWERED | SYNCED, Endpoint, SYN | ACK, false);
        assert!(has(answered, &[]) && answered.moments.ends(Measured::Handshake));
        let asked = fate(answered.state, ESTABLISHED, Client, ACK, true);
        assert!(has(asked, &[Signal::Completed, Signal::Asked]), "{asked:?}");
        assert!(asked.moments.asks() && asked.state & ASKED != 0);
        let replied = fate(asked.state, SYNCED, Endpoint, ACK, true);
        assert!(has(replied, &[Signal::Replied]) && replied.moments.ends(Measured::Reply));
        let half = fate(replied.state, SYNCED | FIN_CLIENT, Client, FIN | ACK, false);
        assert!(has(half, &[]) && half.state & (ENDED | REPLIED) == REPLIED);
        let ended = fate(half.state, SYNCED | FIN_ENDPOINT, Endpoint, FIN | ACK, false);
        assert!(has(ended, &[Signal::EndedByFin, Signal::Ended]), "{ended:?}");
        assert!(ended.moments.ends(Measured::Life) && ended.state & ENDED != 0);
        let late = fate(ended.state, RESET, Client, RST, false);
        assert!(has(late, &[]) && !late.moments.any(), "it has ended: {late:?}");
    }

    #[test]
    fn a_refusal_is_none_of_an_established_flow() {
        let refused = fate(0, RESET, Side::Endpoint, RST | ACK, false);
        assert!(has(refused, &[Signal::Refused]), "{refused:?}");
        assert!(has(fate(RESET, RESET, Side::Endpoint, RST | ACK, false), &[]), "once");
        let client = fate(0, RESET, Side::Client, RST, false);
        assert!(has(client, &[]), "its client gave up");
        let reset = fate(ESTABLISHED, RESET, Side::Endpoint, RST, false);
        assert!(!reset.signals.has(Signal::Refused) && reset.signals.has(Signal::Ended));
    }

    #[test]
    fn an_answer_completes_a_flow_of_datagrams() {
        let packet =
            Packet { tcp: false, flags: 0, side: Side::Endpoint, data: false, age: u32::MAX };
        let states = States { before: SYNCED, set: ANSWERED, after: SYNCED | ANSWERED };
        let told = Fate::of(states, Packet::of_bits(packet.bits()));
        assert!(has(told, &[Signal::Completed]) && told.moments.ends(Measured::Reply));
        let again = Fate::of(States { before: states.after, ..states }, packet);
        assert!(has(again, &[]) && !again.moments.any());
    }
}
