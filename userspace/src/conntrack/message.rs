//! Messages about connections. Numbers are those of linux/netfilter/nfnetlink_conntrack.h,
//! nf_conntrack_common.h and nf_conntrack_tcp.h.

use std::net::{IpAddr, SocketAddr};

use super::{Connection, Entry, Phase};
use crate::netlink::{attribute, encode, word};

/// NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET.
pub const GET: u16 = 1 << 8 | 1;
/// NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET_STATS.
pub const GET_STATISTICS: u16 = 1 << 8 | 5;

/// Before the attributes: family, version, resource id.
const HEADER: usize = 4;
/// NLA_F_NESTED.
const NESTED: u16 = 1 << 15;

const CTA_TUPLE_ORIG: u16 = 1;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_ZONE: u16 = 18;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4: [u16; 2] = [1, 2];
const CTA_IP_V6: [u16; 2] = [3, 4];
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_PORTS: [u16; 2] = [2, 3];
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;

const IPS_SEEN_REPLY: u32 = 1 << 1;
const IPS_DST_NAT: u32 = 1 << 5;

/// What a message about a family begins with.
pub fn header(family: libc::c_int) -> [u8; HEADER] {
    [family as u8, 0, 0, 0]
}

/// The number of connections in an answer to [`GET_STATISTICS`].
pub fn count(message: &[u8]) -> Option<u32> {
    attribute(message.get(HEADER..)?, CTA_STATS_GLOBAL_ENTRIES).and_then(word)
}

fn half(bytes: &[u8]) -> Option<u16> {
    bytes.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// What a message says of a connection of TCP or UDP; None of others, or if it is malformed.
pub fn entry(message: &[u8]) -> Option<Entry> {
    let attributes = message.get(HEADER..)?;
    let tuple = attribute(attributes, CTA_TUPLE_ORIG)?;
    let (ip, transport) = (attribute(tuple, CTA_TUPLE_IP)?, attribute(tuple, CTA_TUPLE_PROTO)?);
    let protocol = *attribute(transport, CTA_PROTO_NUM)?.first()?;
    let is_tcp = i32::from(protocol) == libc::IPPROTO_TCP;
    if !is_tcp && i32::from(protocol) != libc::IPPROTO_UDP {
        return None;
    }
    let end = |side: usize| {
        let kinds = [CTA_IP_V4[side], CTA_IP_V6[side]];
        let ip = kinds.into_iter().find_map(|kind| attribute(ip, kind)).and_then(address)?;
        let port = attribute(transport, CTA_PROTO_PORTS[side]).and_then(half)?;
        Some(SocketAddr::new(ip, port))
    };
    let zone = attribute(attributes, CTA_ZONE).and_then(half).unwrap_or_default();
    let connection = Connection { client: end(0)?, service: end(1)?, protocol, zone };
    let status = attribute(attributes, CTA_STATUS).and_then(word).unwrap_or_default();
    let state = || {
        let of_tcp = attribute(attribute(attributes, CTA_PROTOINFO)?, CTA_PROTOINFO_TCP)?;
        attribute(of_tcp, CTA_PROTOINFO_TCP_STATE)?.first().copied()
    };
    Some(Entry {
        connection,
        answered: status & IPS_SEEN_REPLY != 0,
        translated: status & IPS_DST_NAT != 0,
        // Of a connection without a state nothing speaks against its being live.
        phase: is_tcp.then(|| state().map_or(Phase::Lives, phase)),
    })
}

/// The phase of a state of `enum tcp_conntrack`.
fn phase(state: u8) -> Phase {
    match state {
        // SYN_SENT, SYN_RECV, ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK; SYN_SENT2.
        1..=6 | 9 => Phase::Lives,
        // TIME_WAIT.
        7 => Phase::Lingers,
        _ => Phase::Over,
    }
}

/// Asks for a connection.
pub fn question(connection: &Connection) -> Vec<u8> {
    let Connection { client, service, protocol, zone } = connection;
    let (family, kinds) = match client {
        SocketAddr::V4(_) => (libc::AF_INET, CTA_IP_V4),
        SocketAddr::V6(_) => (libc::AF_INET6, CTA_IP_V6),
    };
    let octets = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ends = [client, service];
    let ips: Vec<u8> =
        kinds.iter().zip(ends).flat_map(|(&kind, end)| encode(kind, &octets(end.ip()))).collect();
    let ports = CTA_PROTO_PORTS.iter().zip(ends);
    let ports = ports.flat_map(|(&kind, end)| encode(kind, &end.port().to_be_bytes()));
    let transport: Vec<u8> = encode(CTA_PROTO_NUM, &[*protocol]).into_iter().chain(ports).collect();
    let tuple = [encode(CTA_TUPLE_IP | NESTED, &ips), encode(CTA_TUPLE_PROTO | NESTED, &transport)];
    let mut message = header(family).to_vec();
    message.extend(encode(CTA_TUPLE_ORIG | NESTED, &tuple.concat()));
    if *zone != 0 {
        message.extend(encode(CTA_ZONE, &zone.to_be_bytes()));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCP: u8 = 6;
    const UDP: u8 = 17;

    fn connection(client: &str, service: &str, protocol: u8, zone: u16) -> Connection {
        let [client, service] = [client, service].map(|text| text.parse().unwrap());
        Connection { client, service, protocol, zone }
    }

    fn connections() -> [Connection; 3] {
        [
            connection("192.0.2.200:40000", "203.0.113.10:80", TCP, 0),
            connection("[2001:db8::200]:40001", "[2001:db8:f::10]:53", UDP, 0),
            connection("192.0.2.200:40002", "203.0.113.10:80", TCP, 7),
        ]
    }

    /// What the kernel would say of it: the tuple of a question is that of an answer.
    fn answer(of: &Connection, status: u32, state: Option<u8>) -> Vec<u8> {
        let mut message = question(of);
        // The other direction, which does not count.
        let (client, service) = (of.service, of.client);
        let back = question(&Connection { client, service, zone: 0, ..*of });
        let mut reply = back[HEADER..].to_vec();
        reply[2] = 2;
        message.extend(reply);
        message.extend(encode(CTA_STATUS, &status.to_be_bytes()));
        if let Some(state) = state {
            let of_tcp =
                encode(CTA_PROTOINFO_TCP | NESTED, &encode(CTA_PROTOINFO_TCP_STATE, &[state]));
            message.extend(encode(CTA_PROTOINFO | NESTED, &of_tcp));
        }
        message
    }

    #[test]
    fn connections_are_read_as_their_clients_began_them() {
        for of in connections() {
            let state = (of.protocol == TCP).then_some(3);
            let found = entry(&answer(&of, IPS_SEEN_REPLY | IPS_DST_NAT, state)).unwrap();
            assert_eq!(found.connection, of);
            assert!(found.answered && found.translated && found.is_live(), "{found:?}");
        }
    }

    #[test]
    fn what_would_be_cut_is_live() {
        let [tcp, udp, _] = connections();
        let (both, nat) = (IPS_SEEN_REPLY | IPS_DST_NAT, IPS_DST_NAT);
        let cases = [
            (tcp, both, Some(3), true, "established"),
            (tcp, IPS_SEEN_REPLY, Some(3), true, "to the node itself"),
            (tcp, nat, Some(1), true, "a handshake"),
            (tcp, nat, Some(9), true, "both begin"),
            (tcp, 0, Some(3), false, "a packet that led nowhere"),
            (tcp, both, Some(4), true, "one side has closed it"),
            (tcp, both, Some(6), true, "nearly over"),
            (tcp, both, Some(7), false, "both sides have closed it"),
            (tcp, both, Some(8), false, "reset"),
            (tcp, both, Some(0), false, "nothing"),
            (tcp, both, None, true, "a kernel that tells no state"),
            (udp, both, None, true, "answered"),
            (udp, nat, None, false, "not answered"),
        ];
        for (of, status, state, expected, what) in cases {
            assert_eq!(entry(&answer(&of, status, state)).unwrap().is_live(), expected, "{what}");
        }
    }

    #[test]
    fn what_is_malformed_or_of_other_protocols_is_nothing() {
        let [tcp, ..] = connections();
        let whole = answer(&tcp, 0, Some(3));
        let tuple = question(&tcp).len();
        for length in 0..tuple {
            assert_eq!(entry(&whole[..length]), None, "{length} bytes");
        }
        for length in tuple..whole.len() {
            assert_eq!(entry(&whole[..length]).unwrap().connection, tcp, "{length} bytes");
        }
        assert_eq!(entry(&answer(&Connection { protocol: 1, ..tcp }, 0, None)), None, "ICMP");
    }

    #[test]
    fn the_number_of_connections_is_read() {
        let message = [header(0).to_vec(), encode(1, &[0, 0, 1, 2]), encode(2, &[0; 4])].concat();
        assert_eq!(count(&message), Some(258));
        assert_eq!(count(&header(0)), None);
    }

    #[test]
    fn a_question_is_as_the_kernel_has_it() {
        let [tcp, ..] = connections();
        let expected: &[u8] = &[
            2, 0, 0, 0, // AF_INET
            52, 0, 1, 128, // the tuple of the original direction
            20, 0, 1, 128, 8, 0, 1, 0, 192, 0, 2, 200, 8, 0, 2, 0, 203, 0, 113,
            10, // addresses
            28, 0, 2, 128, 5, 0, 1, 0, 6, 0, 0, 0, // TCP
            6, 0, 2, 0, 0x9c, 0x40, 0, 0, 6, 0, 3, 0, 0, 80, 0, 0, // ports
        ];
        assert_eq!(question(&tcp), expected);
    }
}
