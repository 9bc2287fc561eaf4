use super::*;
use crate::rng::Rng;

fn ends(v4: bool) -> (SocketAddr, SocketAddr) {
    let (a, b) = if v4 {
        ("192.0.2.200:40000", "203.0.113.10:80")
    } else {
        ("[2001:db8:2::200]:40000", "[2001:db8:f::10]:80")
    };
    (a.parse().unwrap(), b.parse().unwrap())
}

/// A packet of every shape.
fn shapes() -> Vec<Packet> {
    let mut shapes = Vec::new();
    for v4 in [true, false] {
        let (a, b) = ends(v4);
        for base in [Packet::tcp(a, b).tcp_options(&[2, 4, 5, 0xb4]), Packet::udp(a, b)] {
            for tags in 0..3 {
                for size in [0, 1, 2, 1000] {
                    let mut packet = base.clone().payload(&vec![0xa5; size]);
                    for tag in 0..tags {
                        packet = packet.vlan(if tag == 0 { 0x88a8 } else { 0x8100 }, 7);
                    }
                    shapes.push(packet.clone());
                    if v4 {
                        shapes.push(packet.ip_options(&[0x94, 4, 0, 0, 1]));
                    } else {
                        packet = packet.ext(Ext::HopByHop(1)).ext(Ext::DestOpts(3));
                        shapes.push(packet.clone());
                        shapes.push(packet.ext(Ext::Routing(0)).ext(Ext::AtomicFragment));
                    }
                }
            }
        }
    }
    shapes
}

#[test]
fn a_known_packet() {
    // The IPv4 header of the classic worked example of the checksum.
    let header = [
        0x45, 0, 0, 0x73, 0, 0, 0x40, 0, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0, 1, 0xc0, 0xa8, 0,
        0xc7,
    ];
    assert_eq!(fold(sum16(&header)), 0xffff);
    let (a, b) = ends(true);
    let frame = Packet::udp(a, b).payload(b"hi").build();
    assert_eq!(frame.len(), 14 + 20 + 8 + 2);
    assert_eq!(frame[12..16], [8, 0, 0x45, 0]);
    assert_eq!(frame[34..40], [0x9c, 0x40, 0, 80, 0, 10]);
}

#[test]
fn built_packets_are_right() {
    for packet in shapes() {
        let frame = packet.build();
        assert!(checksums_ok(&frame), "{packet:?}");
        let expected = Tuple {
            protocol: packet.protocol,
            source: packet.source,
            destination: packet.destination,
        };
        assert_eq!(tuple(&frame), Some(expected));
        assert_eq!(payload(&frame), Some(&packet.payload[..]));
        let parsed = parse(&frame).unwrap();
        assert_eq!((parsed.vlans, parsed.end), (packet.vlans.len(), frame.len()));
        assert!(!parsed.fragment);
    }
}

#[test]
fn every_flipped_bit_of_covered_bytes_shows() {
    for packet in shapes().iter().filter(|p| p.payload.len() < 3) {
        let frame = packet.build();
        let parsed = parse(&frame).unwrap();
        // From the transport header on; on IPv4 the header, too.
        let from = if parsed.source.is_ipv4() { parsed.l3 } else { parsed.l4 };
        for bit in from * 8..parsed.end * 8 {
            let mut bad = frame.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(!checksums_ok(&bad), "bit {bit} of {packet:?}");
        }
    }
}

#[test]
fn another_source_makes_another_right_packet() {
    for v4 in [true, false] {
        let (a, b) = ends(v4);
        let other = if v4 { "10.255.254.3:65535" } else { "[2001:db8:ffff::fffe]:65535" };
        let other: SocketAddr = other.parse().unwrap();
        for shape in [Packet::tcp as fn(_, _) -> Packet, Packet::udp] {
            let mut frame = shape(a, b).payload(b"odd").build();
            set_source(&mut frame, other);
            assert_eq!(frame, shape(other, b).payload(b"odd").build(), "{other}");
        }
    }
}

#[test]
fn udp_without_checksum() {
    for v4 in [true, false] {
        let (a, b) = ends(v4);
        let frame = Packet::udp(a, b).payload(b"x").zero_checksum().build();
        assert_eq!(checksums_ok(&frame), v4);
    }
}

#[test]
fn ethernet_padding_is_not_covered() {
    let (a, b) = ends(true);
    let mut frame = Packet::tcp(a, b).build();
    frame.resize(64, 0x55);
    assert!(checksums_ok(&frame));
    assert_eq!(payload(&frame), Some(&[][..]));
}

#[test]
fn fragments() {
    for v4 in [true, false] {
        let (a, b) = ends(v4);
        let whole = Packet::udp(a, b).payload(&[7; 100]);
        let frames = whole.build_fragments(43);
        assert_eq!(frames.len(), 3);
        let mut data: Vec<u8> = Vec::new();
        for (i, frame) in frames.iter().enumerate() {
            let parsed = parse(frame).unwrap();
            assert!(parsed.fragment && checksums_ok(frame));
            assert_eq!(parsed.first, i == 0);
            assert_eq!(tuple(frame).is_some(), i == 0);
            data.extend(&frame[parsed.l4..parsed.end]);
        }
        assert_eq!(data, whole.transport());
    }
}

#[test]
fn flags_and_numbers() {
    let (a, b) = ends(false);
    let frame = Packet::tcp(a, b).flags(PSH | ACK).seq(5).ack(6).payload(b"x").build();
    assert_eq!(tcp_flags(&frame), Some(PSH | ACK));
    assert_eq!(tcp_seq_ack(&frame), Some((5, 6)));
}

#[test]
fn splitmix64_reference() {
    let mut rng = Rng::new(1_234_567);
    let expected = [6_457_827_717_110_365_317, 3_203_168_211_198_807_973];
    assert_eq!([rng.next_u64(), rng.next_u64()], expected);
}

#[test]
fn anything_can_be_judged() {
    let (mut rng, shapes) = (Rng::new(1), shapes());
    for _ in 0..50_000 {
        let mut frame = shapes[rng.below(shapes.len() as u64) as usize].build();
        mutate(&mut frame, &mut rng);
        let _ = (checksums_ok(&frame), tuple(&frame), payload(&frame), tcp_seq_ack(&frame));
    }
}
