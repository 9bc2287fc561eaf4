//! Matches of the older iptables, which nftables' compatible rules call (`nft_compat`): structs
//! of linux/netfilter/xt_*.h, in the machine's order.

use super::bits::Answer;

/// A match. Of each kind only the revisions and settings are read whose meaning is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Match {
    /// Matches everything.
    Comment,
    /// The connection's state.
    State {
        /// Which states, by `XT_CONNTRACK_STATE_BIT`.
        states: u16,
        /// None of them.
        inverted: bool,
        /// Something else has to be so as well.
        and_more: bool,
    },
    /// The packet's mark, of which these bits are this.
    Mark {
        /// The bits' value.
        mark: u32,
        /// Which bits.
        mask: u32,
        /// Something else.
        inverted: bool,
    },
    /// Ports, of packets of one protocol.
    Ports {
        /// The protocol's number.
        protocol: u8,
        /// The source port is one of a range.
        source: PortRange,
        /// The destination port is.
        destination: PortRange,
        /// Something else has to be so as well.
        and_more: bool,
    },
    /// Some packets, nobody knows which. It changes nothing.
    Unknown(String),
}

/// Ports, both ends included, or all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first.
    pub low: u16,
    /// The last.
    pub high: u16,
    /// The others.
    pub inverted: bool,
}

impl PortRange {
    /// Whether a port is in the range; None is one that is not known.
    pub fn has(&self, port: Option<u16>) -> Answer {
        let all = self.low == 0 && self.high == u16::MAX;
        match port {
            Some(port) => Answer::from((self.low..=self.high).contains(&port) != self.inverted),
            None if all => Answer::from(!self.inverted),
            None => Answer::Maybe,
        }
    }
}

/// Matches that only look at the packet and what is known of it: they keep no account, and never
/// drop the packet (`hotdrop`).
const PURE: &[&str] = &[
    "addrtype", "connmark", "cpu", "devgroup", "dscp", "ecn", "helper", "hl", "iprange", "length",
    "mac", "owner", "physdev", "pkttype", "policy", "rpfilter", "time", "tos", "ttl",
];

impl Match {
    /// The match of that name, revision and struct. None if what it does is not known.
    pub fn of(name: String, revision: u32, info: &[u8]) -> Option<Self> {
        match (name.as_str(), revision) {
            ("comment", 0) => Some(Self::Comment),
            ("conntrack", 1..=3) => conntrack(revision, info),
            ("mark", 1) => mark(info),
            ("tcp", 0) => ports(6, info, 11, 2),
            ("udp", 0) => ports(17, info, 8, 0),
            // Random, or each n-th, which keeps account.
            ("statistic", 0) if u16_at(info, 0)? == 0 => Some(Self::Unknown(name)),
            _ if PURE.contains(&name.as_str()) => Some(Self::Unknown(name)),
            _ => None,
        }
    }
}

fn u16_at(info: &[u8], at: usize) -> Option<u16> {
    info.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

fn u32_at(info: &[u8], at: usize) -> Option<u32> {
    info.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// `struct xt_conntrack_mtinfo1` to 3.
fn conntrack(revision: u32, info: &[u8]) -> Option<Match> {
    const STATE: u16 = 1;
    /// That "state" was written instead of "conntrack".
    const ALIAS: u16 = 1 << 13;
    let (flags, inverted) = (u16_at(info, 146)?, u16_at(info, 148)?);
    let states = if revision == 1 { u16::from(*info.get(150)?) } else { u16_at(info, 150)? };
    if flags & STATE == 0 {
        return Some(Match::Unknown("conntrack".to_owned()));
    }
    Some(Match::State {
        states,
        inverted: inverted & STATE != 0,
        and_more: flags & !(STATE | ALIAS) != 0,
    })
}

/// `struct xt_mark_mtinfo1`.
fn mark(info: &[u8]) -> Option<Match> {
    let (mark, mask) = (u32_at(info, 0)?, u32_at(info, 4)?);
    Some(Match::Mark { mark, mask, inverted: *info.get(8)? != 0 })
}

/// `struct xt_tcp` and `struct xt_udp`, whose last byte, at `last`, says what is inverted; before
/// it, `more` bytes are masks of what else has to be so, and one before these.
fn ports(protocol: u8, info: &[u8], last: usize, more: usize) -> Option<Match> {
    let inverts = *info.get(last)?;
    let range = |at, bit: u8| {
        let (low, high) = (u16_at(info, at)?, u16_at(info, at + 2)?);
        Some(PortRange { low, high, inverted: inverts & bit != 0 })
    };
    // Of TCP: an option, and a mask of flags.
    let and_more = more > 0 && info.get(8..10)?.iter().any(|&byte| byte != 0);
    let and_more = and_more || inverts & !3 != 0;
    Some(Match::Ports { protocol, source: range(0, 1)?, destination: range(4, 2)?, and_more })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(low: u16, high: u16) -> Vec<u8> {
        [low.to_ne_bytes(), high.to_ne_bytes()].concat()
    }

    #[test]
    fn ports_are_read_of_both_protocols() {
        let range = |low, high, inverted| PortRange { low, high, inverted };
        let tcp = [ends(0, 65535), ends(80, 81), vec![0, 0, 0, 2]].concat();
        let expected = Match::Ports {
            protocol: 6,
            source: range(0, 65535, false),
            destination: range(80, 81, true),
            and_more: false,
        };
        assert_eq!(Match::of("tcp".to_owned(), 0, &tcp), Some(expected));
        for more in [[1, 0, 0, 0], [0, 2, 2, 0], [0, 0, 0, 4]] {
            let tcp = [ends(0, 65535), ends(80, 81), more.to_vec()].concat();
            let found = Match::of("tcp".to_owned(), 0, &tcp);
            assert!(matches!(found, Some(Match::Ports { and_more: true, .. })), "{more:?}");
        }
        let udp = [ends(1, 2), ends(53, 53), vec![1, 0]].concat();
        let expected = Match::Ports {
            protocol: 17,
            source: range(1, 2, true),
            destination: range(53, 53, false),
            and_more: false,
        };
        assert_eq!(Match::of("udp".to_owned(), 0, &udp), Some(expected));
        assert_eq!(Match::of("udp".to_owned(), 0, &udp[..8]), None, "too short");
    }

    #[test]
    fn ranges_of_ports_hold_for_known_ones_and_for_all() {
        let range = |low, high, inverted| PortRange { low, high, inverted };
        for (range, port, expected) in [
            (range(80, 81, false), Some(80), Answer::Yes),
            (range(80, 81, false), Some(82), Answer::No),
            (range(80, 81, true), Some(82), Answer::Yes),
            (range(80, 81, false), None, Answer::Maybe),
            (range(0, 65535, false), None, Answer::Yes),
            (range(0, 65535, true), None, Answer::No),
        ] {
            assert_eq!(range.has(port), expected, "{range:?} {port:?}");
        }
    }

    #[test]
    fn the_state_of_a_connection_is_read_whatever_the_revision() {
        let mut info = vec![0; 168];
        info[146..152].copy_from_slice(&[1, 32, 1, 0, 8, 0]);
        let expected = Match::State { states: 8, inverted: true, and_more: false };
        for revision in 1..=3 {
            let found = Match::of("conntrack".to_owned(), revision, &info);
            assert_eq!(found, Some(expected.clone()), "{revision}");
        }
        assert_eq!(Match::of("conntrack".to_owned(), 4, &info), None);
        info[146] = 3;
        let found = Match::of("conntrack".to_owned(), 3, &info);
        assert!(matches!(found, Some(Match::State { and_more: true, .. })));
        info[146] = 2;
        let found = Match::of("conntrack".to_owned(), 3, &info);
        assert_eq!(found, Some(Match::Unknown("conntrack".to_owned())));
    }

    #[test]
    fn what_keeps_account_is_not_known() {
        let of = |name: &str, info: &[u8]| Match::of(name.to_owned(), 0, info);
        for name in ["limit", "recent", "hashlimit", "quota", "set", "connlimit", "nfacct"] {
            assert_eq!(of(name, &[0; 64]), None, "{name}");
        }
        assert_eq!(of("statistic", &[1, 0, 0, 0]), None, "each n-th");
        assert_eq!(of("statistic", &[0; 4]), Some(Match::Unknown("statistic".to_owned())));
        assert_eq!(of("addrtype", &[]), Some(Match::Unknown("addrtype".to_owned())));
        assert_eq!(of("comment", &[]), Some(Match::Comment));
    }
}
