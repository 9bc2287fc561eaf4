//! What the steps of the packet walk say.

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// On its way, changed or not.
    Pass = 0,
    /// The frame was turned into an answer: back out of the same interface.
    Answer = 1,
    /// Dropped; a reason was counted.
    Drop = 2,
    /// Of no known flow. Never the last word.
    Unknown = 3,
    /// Rewritten, on its way.
    Steered = 4,
    /// At ingress: perhaps a reply of an endpoint, not looked at yet.
    FromEndpoint = 5,
    /// Of a flow that has moved to the flow tables. Never the last word.
    Grown = 6,
    /// Of a live flow, or of another one with its tuple. Never the last word.
    Contested = 7,
    /// Untouched, and for the other generation to deal with; see [`super::generations`].
    Elsewhere = 8,
    /// At ingress: an ICMP error that is perhaps an endpoint's or about a packet to one.
    Stray = 9,
    /// At egress: an ICMP redirect. Never the last word.
    Redirect = 10,
    /// At ingress: a fragment other than the first, perhaps an endpoint's.
    StrayFragment = 11,
}

impl Verdict {
    /// For a packet that the stack is to see, though it was steered.
    #[inline(always)]
    pub fn by_the_stack(self) -> Self {
        if self == Self::Steered { Self::Pass } else { self }
    }

    /// The verdict of a global function, which returns a number.
    #[inline(always)]
    pub fn of(number: u32) -> Self {
        match number {
            0 => Self::Pass,
            1 => Self::Answer,
            2 => Self::Drop,
            4 => Self::Steered,
            5 => Self::FromEndpoint,
            6 => Self::Grown,
            7 => Self::Contested,
            8 => Self::Elsewhere,
            9 => Self::Stray,
            10 => Self::Redirect,
            11 => Self::StrayFragment,
            _ => Self::Unknown,
        }
    }
}
