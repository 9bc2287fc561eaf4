//! The life of a TCP connection, as far as it matters whether a SYN is the first packet of
//! another one.

/// TCP flags.
pub const FIN: u8 = 0x01;
/// SYN.
pub const SYN: u8 = 0x02;
/// RST.
pub const RST: u8 = 0x04;
/// ACK.
pub const ACK: u8 = 0x10;

/// How far a sequence number may be behind one that is known.
const BEHIND: u32 = 1 << 16;
/// How far it may be before it.
const REACH: u32 = 1 << 20;
/// How far it must be before it to be noted.
const STRIDE: u32 = 1 << 17;

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

    /// Whether it asks for a connection.
    #[must_use]
    pub fn opens(self) -> bool {
        self.has(SYN) && !self.has(ACK)
    }
}

/// What is known of the connection's two sides.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Connection {
    /// Both sides have spoken.
    pub live: bool,
    /// The endpoint has.
    answered: bool,
    client: Option<u32>,
    endpoint: Option<u32>,
    fin_client: bool,
    fin_endpoint: bool,
    reset: bool,
}

fn within(seq: u32, known: u32) -> bool {
    let ahead = seq.wrapping_sub(known);
    ahead < REACH || ahead.wrapping_neg() <= BEHIND
}

fn follow(seq: u32, known: &mut Option<u32>) {
    match *known {
        None => *known = Some(seq),
        Some(at) if (STRIDE..REACH).contains(&seq.wrapping_sub(at)) => *known = Some(seq),
        Some(_) => {}
    }
}

impl Connection {
    /// As of its first packet, a SYN or one from its middle.
    #[must_use]
    pub fn of(first: Segment) -> Self {
        let syn = u32::from(first.has(SYN));
        let client = Some(first.seq.wrapping_add(syn));
        Self { client, fin_client: first.has(FIN), ..Self::default() }
    }

    /// Whether a SYN is the first packet of another connection.
    #[must_use]
    pub fn gives_way_to(&self, syn: Segment) -> bool {
        let ending = self.fin_client || self.fin_endpoint || self.reset;
        let again = self.client == Some(syn.seq.wrapping_add(1));
        ending || (!self.live && !again)
    }

    /// The client sends.
    pub fn sent(&mut self, segment: Segment) {
        let known = self.client.is_none_or(|known| within(segment.seq, known));
        self.reset = false;
        if segment.has(RST) {
            self.reset = known;
            return;
        }
        self.fin_client |= segment.has(FIN) && known;
        if self.answered && segment.has(ACK) && known {
            self.live = true;
        }
        follow(segment.seq, &mut self.client);
    }

    /// The endpoint sends.
    pub fn answered(&mut self, segment: Segment) {
        let confirms = segment.has(ACK)
            && self.client.is_none_or(|next| segment.ack.wrapping_sub(next) < BEHIND);
        let known = match self.endpoint {
            Some(known) => within(segment.seq, known),
            None => confirms,
        };
        if segment.has(RST) {
            self.reset |= known;
            return;
        }
        self.fin_endpoint |= segment.has(FIN) && known;
        self.answered |= confirms;
        let syn = u32::from(segment.has(SYN));
        follow(segment.seq.wrapping_add(syn), &mut self.endpoint);
    }
}
