//! What is measured.

use super::driver::Hook;
use super::node::Program;
use super::scene::Kind;

/// Which flows there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flows {
    /// One, over and over.
    One,
    /// Many, in turn.
    Many,
    /// New ones only, into tables with room.
    Empty,
    /// New ones only, into full tables.
    Full,
}

impl Flows {
    pub fn name(self) -> &'static str {
        match self {
            Self::One => "one",
            Self::Many => "64,000 in turn",
            Self::Empty => "into empty tables",
            Self::Full => "into full tables",
        }
    }
}

/// One line of the result.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    pub v6: bool,
    /// Of the forward direction.
    pub hook: Hook,
    pub kind: Kind,
    pub flows: Flows,
}

impl Case {
    /// In an order in which the packets of a handshake follow each other, and what comes in
    /// another second is last.
    pub fn all() -> Vec<Self> {
        use Flows::{Empty, Full, Many, One};
        use Kind::{Ack, Answer, Forward, Later, NonSplit, Reply, Syn2, Syn16, SynAck};
        let (mut cases, mut later) = (Vec::new(), Vec::new());
        for v6 in [false, true] {
            for hook in Hook::ALL {
                let mut add = |flows, kinds: &[Kind]| {
                    cases.extend(kinds.iter().map(|&kind| Self { v6, hook, kind, flows }));
                };
                for flows in [One, Many] {
                    add(flows, &[NonSplit, Forward, Reply]);
                }
                for flows in [Empty, Full] {
                    add(flows, &[Syn2, SynAck, Ack, Answer, Syn16]);
                    later.push(Self { v6, hook, kind: Later, flows });
                }
            }
        }
        cases.append(&mut later);
        cases
    }

    /// The program that meets the packet. Replies are TC's in either case.
    pub fn program(&self) -> Program {
        match self.hook {
            _ if self.kind.is_reply() => Program::TcReply,
            Hook::Tc => Program::TcForward,
            Hook::Xdp => Program::XdpForward,
        }
    }

    /// The most nanoseconds that it should take.
    pub fn aim(&self) -> Option<f64> {
        match (self.kind, self.flows) {
            (Kind::NonSplit, _) => Some(10.0),
            (Kind::Forward | Kind::Reply, Flows::One) => Some(60.0),
            (Kind::Forward | Kind::Reply, _) => Some(130.0),
            (Kind::Syn2 | Kind::Syn16, Flows::Full) => Some(700.0),
            _ => None,
        }
    }
}
