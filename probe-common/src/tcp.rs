//! How TCP segments change the state of a flow: a pure function of what is known
//! of the flow, and of the segment.
//!
//! A flow is pending until both sides have spoken: until its client confirms the
//! number of its endpoint's SYN. From then on, of either side only what is near
//! the number that is known of it counts (see [`in_window`]): whoever is not on
//! the way between the two can close nothing but by a guess.

use crate::flow::{
    ADOPTED, ANSWERED, ESTABLISHED, FIN_CLIENT, FIN_ENDPOINT, RESET, SYNCED, confirms, in_window,
    to_note,
};
use crate::parse::{ACK, FIN, RST, SYN};

/// Who sent a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The client, in the forward direction.
    Client,
    /// The endpoint, in the reply direction.
    Endpoint,
}

/// What counts of a segment; numbers in host order.
#[derive(Debug, Clone, Copy)]
pub struct Segment {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub sequence: u32,
    /// Acknowledgement number; of an established flow, it does not count.
    pub acknowledged: u32,
}

/// What is known of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    /// [`ESTABLISHED`] and the like; [`SYNCED`] is of the segment's side.
    pub state: u16,
    /// The sequence number of the segment's side, see [`crate::flow::Entry::sequence`].
    pub own: u32,
    /// That of the other side; of an established flow, it does not count.
    pub other: u32,
}

/// How exactly the numbers of an established flow are to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noting {
    /// Each that is within reach: for who writes what is known of the flow anyway.
    Each,
    /// One that is a stride ahead, see [`to_note`]: for who sees every packet.
    Strides,
}

/// What a segment changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Change {
    /// Bits of the state that are set: what happened, whether it had happened before or not.
    pub set: u16,
    /// Bits that are cleared.
    pub cleared: u16,
    /// The number that is known of the segment's side now, if that is to be noted.
    pub sequence: Option<u32>,
}

impl Change {
    const NONE: Self = Self { set: 0, cleared: 0, sequence: None };

    const fn set(set: u16) -> Self {
        Self { set, ..Self::NONE }
    }

    /// The state after it.
    #[inline(always)]
    pub const fn of(self, state: u16) -> u16 {
        (state | self.set) & !self.cleared
    }
}

/// What a segment of a side changes. A SYN that begins another flow is none of it: see
/// [`claim`], and who looks flows up.
#[inline(always)]
pub fn transition(known: Known, segment: Segment, side: Side, noting: Noting) -> Change {
    if known.state & ESTABLISHED != 0 {
        return established(known, segment, side, noting);
    }
    match side {
        Side::Client => pending_client(known, segment),
        Side::Endpoint => pending_endpoint(known, segment),
    }
}

/// By a segment of the client, while its handshake is not complete.
#[inline(always)]
fn pending_client(known: Known, segment: Segment) -> Change {
    let Segment { flags, sequence, acknowledged } = segment;
    if flags & SYN != 0 {
        // Once more; or it began another flow.
        return Change::NONE;
    }
    let mut set = 0;
    if flags & (FIN | RST) != 0 {
        if !in_window(sequence, known.own) {
            return Change::NONE;
        }
        set = if flags & RST != 0 { RESET } else { FIN_CLIENT };
    }
    // Of a flow that was adopted, nobody knows what its endpoint has sent before.
    let agrees = known.state & ADOPTED != 0 || confirms(acknowledged, known.other);
    if (known.state | set) & (RESET | ANSWERED) == ANSWERED && agrees {
        return Change { set: set | ESTABLISHED, cleared: 0, sequence: Some(sequence) };
    }
    Change::set(set)
}

/// By a segment of the endpoint, while the handshake is not complete.
#[inline(always)]
fn pending_endpoint(known: Known, segment: Segment) -> Change {
    let Segment { flags, sequence, acknowledged } = segment;
    let state = known.state;
    let belongs = state & SYNCED != 0 && in_window(sequence, known.own);
    let first = state & ANSWERED == 0;
    if flags & RST != 0 {
        let is_refusal = state & (ANSWERED | RESET) == 0
            && (confirms(acknowledged, known.other) || state & ADOPTED != 0);
        return if is_refusal || belongs { Change::set(RESET) } else { Change::NONE };
    }
    let fin = if flags & FIN != 0 && (first || belongs) { FIN_ENDPOINT } else { 0 };
    let answer = ANSWERED | SYNCED | fin;
    if flags & SYN != 0 {
        return Change { set: answer, cleared: 0, sequence: Some(sequence.wrapping_add(1)) };
    }
    if first {
        return Change { set: answer, cleared: 0, sequence: Some(sequence) };
    }
    Change::set(fin)
}

/// By a segment of either side of an established flow.
#[inline(always)]
fn established(known: Known, segment: Segment, side: Side, noting: Noting) -> Change {
    let Segment { flags, sequence, .. } = segment;
    // Where nothing is known of the side, any number is the first one.
    if known.state & SYNCED != 0 && !in_window(sequence, known.own) {
        // Whether it was sent to end a flow that is not its sender's, or is merely
        // late: its receiver knows, and answers if it was neither.
        return Change::NONE;
    }
    if flags & RST != 0 {
        return Change::set(RESET);
    }
    if flags & SYN != 0 {
        // Sent again, or by a client that knows nothing of this flow: its number
        // must not become the one by which a RST is judged.
        return Change::NONE;
    }
    if flags & FIN != 0 {
        let fin = if side == Side::Client { FIN_CLIENT } else { FIN_ENDPOINT };
        return Change { set: SYNCED | fin, cleared: 0, sequence: Some(sequence) };
    }
    // A client that goes on did not reset: somebody else's guess was right.
    let cleared = if side == Side::Client { RESET } else { 0 };
    let is_noted =
        noting == Noting::Each || known.state & cleared != 0 || to_note(sequence, known.own);
    Change { set: SYNCED, cleared, sequence: is_noted.then_some(sequence) }
}

/// What a segment of a live flow's client says of a pending flow beside it, with the same
/// tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Nothing: it is the live flow's.
    None,
    /// Its SYN once more.
    Again,
    /// The client is at both ends of its handshake.
    Proved,
}

/// See [`Claim`]; `state` is that of the pending flow, `opened` and `answered` are the
/// numbers behind the SYNs of its client and of its endpoint.
#[inline(always)]
pub fn claim(state: u16, [opened, answered]: [u32; 2], segment: Segment) -> Claim {
    let Segment { flags, sequence, acknowledged } = segment;
    if flags & (SYN | RST) == SYN {
        return if sequence.wrapping_add(1) == opened { Claim::Again } else { Claim::None };
    }
    // One number out of 2^32 is right, and nobody but the client has seen it.
    let is_proved = flags & (RST | ACK) == ACK
        && state & (ANSWERED | RESET) == ANSWERED
        && acknowledged == answered
        && confirms(sequence, opened);
    if is_proved { Claim::Proved } else { Claim::None }
}

#[cfg(test)]
mod tests;
