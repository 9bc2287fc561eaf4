//! What an ICMP error is about.

use super::flows::Key;
use super::sight::{self, ICMP, ICMPV6, Packet, TCP, UDP, be16};
use std::net::SocketAddr;

/// The packet that an ICMP error quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quote {
    /// Its headers; offsets are of the frame, and it may be cut short.
    pub packet: Packet,
    /// Its addresses and ports; none of a fragment other than the first.
    pub key: Option<Key>,
}

/// Types of errors: destination unreachable, time exceeded, parameter problem; of `ICMPv6` also
/// packet too big (RFC 792, RFC 4443). Redirects are for the next router alone, and source quench
/// is obsolete (RFC 6633).
fn is_error(protocol: u8, kind: u8) -> bool {
    if protocol == ICMP { matches!(kind, 3 | 11 | 12) } else { matches!(kind, 1..=4) }
}

/// What an ICMP message is about; none if it is no error, or about
/// neither TCP nor UDP nor a later fragment of whatever.
#[must_use]
pub fn quote(frame: &[u8], error: &Packet) -> Option<Quote> {
    is_error(error.protocol, frame[error.l4]).then_some(())?;
    let at = error.l4 + 8;
    let packet = if error.v4() { sight::v4(frame, at) } else { sight::v6(frame, at) }?;
    if packet.elsewhere {
        return None;
    }
    if !packet.has_transport() {
        return (packet.l4 <= error.end).then_some(Quote { packet, key: None });
    }
    matches!(packet.protocol, TCP | UDP).then_some(())?;
    // The least that is quoted of a transport header (RFC 792).
    (packet.l4 + 8 <= error.end).then_some(())?;
    Some(Quote { packet, key: Some(key(frame, &packet)?) })
}

/// Whether an ICMP message tells of a shorter way: type 5 (RFC 792), 137 of `ICMPv6` (RFC 4861),
/// which no router sends with extension headers.
#[must_use]
pub fn is_redirect(frame: &[u8], message: &Packet) -> bool {
    match (message.protocol, frame[message.l4]) {
        (ICMP, 5) => true,
        (ICMPV6, 137) => message.plain,
        _ => false,
    }
}

/// The packet that a redirect quotes, which may be cut short.
#[must_use]
pub fn redirected(frame: &[u8], redirect: &Packet) -> Option<Packet> {
    if redirect.v4() {
        return sight::v4(frame, redirect.l4 + 8);
    }
    // RFC 4861, section 4.5: target and destination, then options, of which the fourth type
    // quotes. Before it is hardly more than one.
    let mut at = redirect.l4 + 40;
    for _ in 0..4 {
        match (*frame.get(at)?, *frame.get(at + 1)?) {
            (4, _) => return sight::v6(frame, at + 8),
            (_, 0) => return None,
            (_, units) => at += 8 * usize::from(units),
        }
    }
    None
}

/// Addresses and ports of a packet.
#[must_use]
pub fn key(frame: &[u8], packet: &Packet) -> Option<Key> {
    Some(Key {
        protocol: packet.protocol,
        source: SocketAddr::new(packet.source, be16(frame, packet.l4)?),
        destination: SocketAddr::new(packet.destination, be16(frame, packet.l4 + 2)?),
    })
}
