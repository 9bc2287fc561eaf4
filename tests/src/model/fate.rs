//! What is to become of a packet.

use std::net::IpAddr;

use super::flows::Key;
use super::quote::Quote;
use super::sight::Packet;

/// What is to become of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on as it came.
    Untouched,
    /// It goes on with other addresses and ports.
    Rewritten(Packet, Key),
    /// A fragment without ports: it goes on with other addresses.
    Following(Packet, [IpAddr; 2]),
    /// An ICMP error: it goes on with these addresses, about a packet with others.
    Translated(Packet, Quote, [IpAddr; 2], About),
    /// An echo request: it becomes its reply.
    Echoed(Packet),
    /// It is rejected.
    Rejected(Packet, Rejection),
    /// Nobody is told.
    Dropped,
}

/// The packet that an error is about, as its sender knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum About {
    /// One with ports.
    Packet(Key),
    /// A fragment other than the first.
    Fragment([IpAddr; 2]),
}

/// How a packet is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Who sent it is told.
    Sender,
    /// The client is told that its connection is over, in the name of the service.
    Receiver(Key),
}
