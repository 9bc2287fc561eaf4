//! The life of a TCP connection, as far as it matters whether a SYN is the first packet of
//! another one.
//!
//! Which sequence number of a side is the last that is known is not told exactly: a number that is
//! within reach may be noted or not, once a second it is. So the model knows a range; if that
//! leaves open what a segment does, it says so ([`Connection::leaves_open`]).

/// TCP flags.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

/// How far a sequence number may be behind one that is known.
const BEHIND: i64 = 1 << 16;
/// How far it may be before it.
const REACH: i64 = 1 << 20;
/// From how far before it on it is always noted.
const STRIDE: i64 = 1 << 17;
/// The widest range in which anything is certain.
const WIDEST: i64 = 1 << 19;

/// What matters of a TCP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Flags.
    pub flags: u8,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
}

impl Segment {
    /// Whether all of these flags are set.
    #[must_use]
    pub fn has(self, flags: u8) -> bool {
        self.flags & flags == flags
    }

    /// Whether it asks for a connection: a SYN, whatever else is set but RST.
    #[must_use]
    pub fn opens(self) -> bool {
        self.has(SYN) && !self.has(RST)
    }

    /// Whether it asks for a connection, and speaks of no other one.
    #[must_use]
    pub fn opens_alone(self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == SYN
    }
}

/// Which sequence number of a side is known: one from the first to the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Known(u32, u32);

/// How far a number is before another one.
fn ahead(seq: u32, of: u32) -> i64 {
    i64::from(seq.wrapping_sub(of).cast_signed())
}

fn in_window(seq: u32, known: u32) -> bool {
    (-BEHIND..REACH).contains(&ahead(seq, known))
}

impl Known {
    /// Whether a number is within reach; none if that depends.
    fn reaches(self, seq: u32) -> Option<bool> {
        let Self(low, high) = self;
        let (low, high, narrow) =
            (in_window(seq, low), in_window(seq, high), ahead(high, low) <= WIDEST);
        (low == high && narrow).then_some(low)
    }

    /// A segment that is no ordinary one: its number is noted if it is within reach.
    fn note(&mut self, seq: u32) {
        if self.reaches(seq) == Some(true) {
            *self = Self(seq, seq);
        } else {
            self.follow(seq);
        }
    }

    /// An ordinary segment: its number may be noted if it is within reach, and is if it is
    /// far enough before what is known.
    fn follow(&mut self, seq: u32) {
        if self.reaches(seq) == Some(false) {
            return;
        }
        let Self(low, high) = *self;
        let surely = ahead(seq, high) >= STRIDE && self.reaches(seq) == Some(true);
        let low = if ahead(seq, low) < 0 { seq } else { low };
        let high = if ahead(seq, high) > 0 { seq } else { high };
        // What is too far behind would have been moved.
        let behind = seq.wrapping_sub((STRIDE - 1) as u32);
        let moved = self.reaches(seq) == Some(true) && ahead(behind, low) > 0;
        *self = if surely {
            Self(seq, seq)
        } else if moved {
            Self(behind, high)
        } else {
            Self(low, high)
        };
    }
}

/// What is known of the connection's two sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connection {
    /// Both sides have spoken.
    live: bool,
    /// The first segment was one of the middle.
    adopted: bool,
    client: Option<Known>,
    /// None until it has spoken.
    endpoint: Option<Known>,
    fin_client: bool,
    fin_endpoint: bool,
    reset: bool,
}

impl Connection {
    /// As of its first packet, a SYN or one from its middle.
    #[must_use]
    pub fn of(first: Segment) -> Self {
        let next = first.seq.wrapping_add(u32::from(first.has(SYN)));
        let adopted = !first.has(SYN);
        Self { adopted, client: Some(Known(next, next)), ..Self::default() }
    }

    /// Whether it has ended: then its tuple is free for another flow. It has not if one side alone
    /// has sent a FIN: the other one may go on (RFC 9293, section 3.6).
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.reset || (self.fin_client && self.fin_endpoint)
    }

    /// Whether a SYN is the first packet of another connection between the same ends.
    #[must_use]
    pub fn gives_way_to(&self, syn: Segment) -> bool {
        let closing = self.fin_client || self.fin_endpoint || self.reset;
        // One that is sent again has the number of the first one.
        let next = syn.seq.wrapping_add(1);
        closing || (!self.live && self.client != Some(Known(next, next)))
    }

    /// Whether both sides have spoken.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Whether nobody has answered yet.
    #[must_use]
    pub fn is_silent(&self) -> bool {
        self.endpoint.is_none()
    }

    /// Whether a SYN is the first packet of this connection once more.
    #[must_use]
    pub fn began_with(&self, syn: Segment) -> bool {
        let next = syn.seq.wrapping_add(1);
        syn.opens() && self.client == Some(Known(next, next))
    }

    /// Whether a segment, of whoever sent the SYN, shows that its sender got the answer to that,
    /// whose number nobody else knows.
    #[must_use]
    pub fn is_proved_by(&self, segment: Segment) -> bool {
        let (Some(client), Some(endpoint)) = (self.client, self.endpoint) else { return false };
        segment.has(ACK)
            && segment.flags & (SYN | RST) == 0
            && !self.reset
            && segment.ack == endpoint.0
            && (0..BEHIND).contains(&ahead(segment.seq, client.0))
    }

    /// Whether it depends on which numbers were noted what a segment does.
    #[must_use]
    pub fn leaves_open(&self, from_client: bool, segment: Segment) -> bool {
        let known = if from_client { self.client } else { self.endpoint };
        let matters = segment.flags & (FIN | RST) != 0 || (from_client && self.reset);
        matters && known.is_some_and(|known| known.reaches(segment.seq).is_none())
    }

    /// The client sends.
    pub fn sent(&mut self, segment: Segment) {
        if self.live { self.sent_live(segment) } else { self.sent_pending(segment) }
    }

    /// A SYN that is no first packet changes nothing; FIN and RST count within reach. The
    /// handshake is complete when the client confirms what the endpoint has said.
    fn sent_pending(&mut self, segment: Segment) {
        let Some(client) = self.client else { return };
        if segment.has(SYN) {
            return;
        }
        let ends = segment.flags & (FIN | RST) != 0;
        if ends {
            if client.reaches(segment.seq) != Some(true) {
                return;
            }
            if segment.has(RST) {
                self.reset = true;
            } else {
                self.fin_client = true;
            }
        }
        let Some(endpoint) = self.endpoint else { return };
        let known = self.adopted || (0..BEHIND).contains(&ahead(segment.ack, endpoint.0));
        if known && !self.reset {
            self.live = true;
            self.client = Some(Known(segment.seq, segment.seq));
        }
    }

    fn sent_live(&mut self, segment: Segment) {
        let Some(client) = &mut self.client else { return };
        let reached = client.reaches(segment.seq) == Some(true);
        if segment.has(RST) {
            self.reset |= reached;
        } else if segment.has(SYN) {
            // Of somebody who knows nothing of this connection: its number says nothing.
        } else if segment.has(FIN) {
            self.fin_client |= reached;
            client.note(segment.seq);
        } else if self.reset {
            client.note(segment.seq);
            // Who goes on has not reset it: somebody else has guessed.
            self.reset &= !reached;
        } else {
            client.follow(segment.seq);
        }
    }

    /// The endpoint sends.
    pub fn answered(&mut self, segment: Segment) {
        if self.live { self.answered_live(segment) } else { self.answered_pending(segment) }
    }

    fn answered_pending(&mut self, segment: Segment) {
        let (Some(client), seq) = (self.client, segment.seq) else { return };
        let within = self.endpoint.and_then(|known| known.reaches(seq));
        if segment.has(RST) {
            // A rejection confirms the SYN (RFC 9293, section 3.10.7.3).
            let rejects = self.adopted || (0..BEHIND).contains(&ahead(segment.ack, client.0));
            let first = self.endpoint.is_none() && !self.reset;
            if (first && rejects) || within == Some(true) {
                self.reset = true;
            }
            return;
        }
        if segment.has(FIN) && within != Some(false) {
            self.fin_endpoint = true;
        }
        if segment.has(SYN) {
            let next = seq.wrapping_add(1);
            self.endpoint = Some(Known(next, next));
        } else if self.endpoint.is_none() {
            self.endpoint = Some(Known(seq, seq));
        }
    }

    fn answered_live(&mut self, segment: Segment) {
        let Some(endpoint) = &mut self.endpoint else { return };
        let reached = endpoint.reaches(segment.seq) == Some(true);
        if segment.has(RST) {
            self.reset |= reached;
            return;
        }
        if segment.has(SYN) {
            return;
        }
        self.fin_endpoint |= segment.has(FIN) && reached;
        if segment.has(FIN) {
            endpoint.note(segment.seq);
        } else {
            endpoint.follow(segment.seq);
        }
    }
}
