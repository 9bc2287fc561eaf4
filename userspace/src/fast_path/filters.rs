//! Filters of TC, as the kernel lists them.

use std::fmt;

use crate::netlink::{attribute, number, text};

/// `struct tcmsg`, of messages about qdiscs and filters.
pub(super) const MESSAGE: usize = 20;
/// TCA_KIND.
const KIND: u16 = 1;
/// TC_H_CLSACT with TC_H_MIN_INGRESS: where filters at ingress hang, of both qdiscs.
const INGRESS: u32 = 0xffff_fff2;
/// TC_H_CLSACT with TC_H_MIN_EGRESS.
const EGRESS: u32 = 0xffff_fff3;

/// A qdisc that has room for filters. An interface has one of them at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filters {
    /// At ingress and at egress.
    Clsact,
    /// The classic one, at ingress alone.
    Ingress,
}

impl Filters {
    /// The one that a message of the kernel's list of qdiscs is about.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        match kind(message)?.as_str() {
            "clsact" => Some(Self::Clsact),
            "ingress" => Some(Self::Ingress),
            _ => None,
        }
    }

    /// Its name, as tc(8) has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clsact => "clsact",
            Self::Ingress => "ingress",
        }
    }

    /// Whether packets that leave may meet filters, too.
    pub fn has_egress(self) -> bool {
        self == Self::Clsact
    }
}

/// Whether the qdisc that a message is about does more, perhaps, than to let
/// packets leave in turn. Those that kernels put on devices of themselves do not,
/// but for `fq`, which can have rates.
pub(super) fn shapes(message: &[u8]) -> bool {
    const PLAIN: [&str; 5] = ["noqueue", "mq", "pfifo_fast", "fq_codel", "pfifo"];
    kind(message).is_none_or(|kind| !PLAIN.contains(&kind.as_str()))
}

/// A filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// The kind of its classifier: `bpf`, `u32` ...
    pub kind: String,
    /// Filters of a lower one see packets first.
    pub priority: u16,
    /// Which one, of those with its priority; 0 stands for all of them.
    pub handle: u32,
}

impl Filter {
    /// The one that a message of the kernel's list of filters is about.
    pub(super) fn of(message: &[u8]) -> Option<Self> {
        let word = |at: usize| message.get(at..).and_then(number).map(i32::cast_unsigned);
        Some(Self { kind: kind(message)?, handle: word(8)?, priority: (word(16)? >> 16) as u16 })
    }

    /// Whether it is the one of that priority and handle, or stands for it.
    pub fn is_at(&self, priority: u16, handle: u32) -> bool {
        self.priority == priority && [0, handle].contains(&self.handle)
    }

    /// Whether it sees packets after the filter of that priority and handle, or
    /// might: the order of filters of one priority is their classifier's.
    pub fn is_behind(&self, priority: u16, handle: u32) -> bool {
        self.priority >= priority && !self.is_at(priority, handle)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TC filter {} of priority {}", self.kind, self.priority)
    }
}

/// Asks for the filters at the egress of an interface.
pub(super) fn at_egress(index: u32) -> [u8; MESSAGE] {
    at(index, EGRESS)
}

/// Asks for the filters at the ingress of an interface.
pub(super) fn at_ingress(index: u32) -> [u8; MESSAGE] {
    at(index, INGRESS)
}

fn at(index: u32, parent: u32) -> [u8; MESSAGE] {
    let mut message = [0; MESSAGE];
    message[4..8].copy_from_slice(&index.to_ne_bytes());
    message[12..16].copy_from_slice(&parent.to_ne_bytes());
    message
}

fn kind(message: &[u8]) -> Option<String> {
    attribute(message.get(MESSAGE..)?, KIND).map(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::encode;

    fn message(handle: u32, info: u32, kind: &[u8]) -> Vec<u8> {
        let words = [0, 7, handle, INGRESS, info];
        words.iter().flat_map(|word| word.to_ne_bytes()).chain(encode(KIND, kind)).collect()
    }

    #[test]
    fn both_qdiscs_with_filters_are_known() {
        let of = |kind: &[u8]| Filters::of(&message(0xffff_0000, 1, kind));
        assert_eq!(of(b"clsact\0"), Some(Filters::Clsact));
        assert_eq!(of(b"ingress\0"), Some(Filters::Ingress));
        assert_eq!(of(b"noqueue\0"), None);
        assert_eq!(Filters::of(&[]), None);
    }

    #[test]
    fn what_may_hold_packets_back_is_told_from_what_lets_them_leave_in_turn() {
        for (kind, expected) in [
            (b"mq\0".as_slice(), false),
            (b"noqueue\0", false),
            (b"fq_codel\0", false),
            (b"pfifo_fast\0", false),
            (b"fq\0", true),
            (b"htb\0", true),
            (b"tbf\0", true),
            (b"netem\0", true),
        ] {
            assert_eq!(shapes(&message(1, 1, kind)), expected, "{}", kind.escape_ascii());
        }
        assert!(shapes(&[]), "what is not known");
    }

    #[test]
    fn filters_behind_ours_are_told_from_ours_and_those_before() {
        const PROTOCOL: u32 = 0x0003;
        let cases = [
            ("before", 1, 10, false, false),
            // All of a priority are announced by one without a handle.
            ("of our priority", 0, 100, false, true),
            ("ours", 1, 100, false, true),
            ("another of our priority", 2, 100, true, false),
            ("behind", 1, 101, true, false),
            ("announced, behind", 0, 49_152, true, false),
        ];
        for (what, handle, priority, behind, at) in cases {
            let message = message(handle, priority << 16 | PROTOCOL, b"matchall\0");
            let filter = Filter::of(&message).unwrap();
            assert_eq!(filter.is_behind(100, 1), behind, "{what}");
            assert_eq!(filter.is_at(100, 1), at, "{what}");
            assert_eq!(filter.to_string(), format!("TC filter matchall of priority {priority}"));
        }
        assert_eq!(Filter::of(&[0; MESSAGE]), None);
    }
}
