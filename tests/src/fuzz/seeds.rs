//! What coverage-guided fuzzing begins with: a whole frame of every shape.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::icmp::IcmpError;
use crate::packet::{ACK, Ext, Packet, SYN};

/// The fuzz targets: `fuzz/src/bin`.
const TARGETS: [&str; 4] = ["parse", "rewrite", "icmp", "fragment"];

/// Frames of every shape that the parser knows.
fn frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for ends in
        [["203.0.113.7:41000", "192.0.2.10:9080"], ["[2001:db8:7::7]:41000", "[2001:db8::10]:9080"]]
    {
        let [from, to]: [SocketAddr; 2] = ends.map(|end| end.parse().expect("an address"));
        let shapes: [fn(Packet) -> Packet; 3] =
            [|p| p, |p| p.vlan(0x8100, 7), |p| p.vlan(0x88a8, 7).vlan(0x8100, 8)];
        for shape in shapes {
            frames.push(shape(Packet::tcp(from, to).flags(SYN)).build());
            frames.push(shape(Packet::udp(from, to).payload(b"odd")).build());
        }
        let tcp = Packet::tcp(from, to).flags(ACK).payload(&[7; 40]);
        frames.push(tcp.clone().tcp_options(&[1; 12]).build());
        frames.push(Packet::udp(from, to).zero_checksum().payload(b"x").build());
        frames.extend(tcp.build_fragments(24));
        if from.is_ipv4() {
            frames.push(tcp.clone().ip_options(&[1; 8]).build());
        } else {
            let exts = [Ext::HopByHop(1), Ext::DestOpts(2), Ext::Routing(0), Ext::AtomicFragment];
            frames.extend(exts.map(|ext| tcp.clone().ext(ext).build()));
            frames.push(exts.iter().fold(tcp.clone(), |packet, &ext| packet.ext(ext)).build());
            frames.extend(tcp.clone().ext(Ext::HopByHop(1)).build_fragments(24));
        }
        let kinds: &[[u8; 2]] =
            if from.is_ipv4() { &[[3, 4], [11, 0], [12, 0]] } else { &[[1, 4], [2, 0], [4, 1]] };
        for &kind in kinds {
            for about in [tcp.build(), Packet::udp(from, to).payload(b"datagram").build()] {
                frames.push(IcmpError::new(to.ip(), from.ip(), kind).quote(&about, 68).build());
            }
        }
    }
    frames
}

/// Writes the corpora of all targets below a directory.
///
/// # Errors
///
/// As the file system's.
pub fn write(directory: &Path) -> io::Result<()> {
    for target in TARGETS {
        let directory = directory.join(target);
        std::fs::create_dir_all(&directory)?;
        for (n, frame) in frames().iter().enumerate() {
            // Direction, address and ports come before it: see the target.
            let place: Vec<u8> = (0..21).map(|byte| byte * 7 + n as u8).collect();
            let place = if target == "rewrite" { place } else { Vec::new() };
            std::fs::write(
                directory.join(format!("seed-{n:02}")),
                [place, frame.clone()].concat(),
            )?;
        }
    }
    Ok(())
}
