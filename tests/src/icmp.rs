//! ICMP and `ICMPv6` errors, written independently of weir's own code.

use std::net::IpAddr;

use crate::packet::{Ext, ICMP, ICMPV6, extension, fold, parse, pseudo_header, sum16};

/// An ICMP error to be built, about a packet that somebody sent.
///
/// All methods take and give the error by value, to be chained; [`IcmpError::build`] ends the chain.
#[derive(Clone, Debug)]
pub struct IcmpError {
    from: IpAddr,
    to: IpAddr,
    kind: [u8; 2],
    rest: [u8; 4],
    quote: Vec<u8>,
    vlan: Option<u16>,
    ip_options: Vec<u8>,
    exts: Vec<Ext>,
    trailer: usize,
}

impl IcmpError {
    /// An error of that type and code, without a quote.
    ///
    /// # Panics
    ///
    /// If the two addresses are not of one family.
    #[must_use]
    pub fn new(from: IpAddr, to: IpAddr, kind: [u8; 2]) -> Self {
        assert_eq!(from.is_ipv4(), to.is_ipv4(), "addresses of two families");
        let (quote, ip_options, exts) = Default::default();
        Self { from, to, kind, rest: [0; 4], quote, vlan: None, ip_options, exts, trailer: 0 }
    }

    /// The second word of the ICMP header, such as the MTU.
    #[must_use]
    pub fn rest(mut self, rest: [u8; 4]) -> Self {
        self.rest = rest;
        self
    }

    /// Quotes the IP packet of a frame, at most so many bytes of it.
    ///
    /// # Panics
    ///
    /// If it is no IP packet.
    #[must_use]
    pub fn quote(mut self, frame: &[u8], bytes: usize) -> Self {
        let parsed = parse(frame).expect("an IP packet");
        self.quote = frame[parsed.l3..parsed.end].to_vec();
        self.quote.truncate(bytes);
        self
    }

    /// A redirect about the IP packet of a frame, of which at most so many bytes are quoted, to a
    /// next hop on the link (RFC 792; RFC 4861, section 4.5).
    ///
    /// # Panics
    ///
    /// If it is no IP packet, or of another family than the next hop.
    #[must_use]
    pub fn redirect(from: IpAddr, to: IpAddr, hop: IpAddr, frame: &[u8], bytes: usize) -> Self {
        match hop {
            IpAddr::V4(hop) => Self::new(from, to, [5, 1]).rest(hop.octets()).quote(frame, bytes),
            IpAddr::V6(hop) => {
                let mut error = Self::new(from, to, [137, 0]).quote(frame, bytes / 8 * 8);
                let IpAddr::V6(about) = parse(frame).expect("an IP packet").destination else {
                    panic!("addresses of two families")
                };
                let units = u8::try_from(1 + error.quote.len() / 8).expect("a short quote");
                let addresses = [hop.octets(), about.octets()].concat();
                // Link-layer address of the next hop; the redirected header.
                let options = [2, 1, 2, 0, 0, 0, 0, 9, 4, units, 0, 0, 0, 0, 0, 0];
                error.quote = [&addresses[..], &options, &error.quote].concat();
                error
            }
        }
    }

    /// An 802.1Q tag.
    #[must_use]
    pub fn vlan(mut self, id: u16) -> Self {
        self.vlan = Some(id);
        self
    }

    /// IPv4 options of the error's own header, a multiple of 4 bytes.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self
    }

    /// Adds an IPv6 extension header of the error's own, in order.
    #[must_use]
    pub fn ext(mut self, ext: Ext) -> Self {
        self.exts.push(ext);
        self
    }

    /// Adds the labels of an MPLS router (RFC 4950) behind the quote, which RFC 4884 has padded to
    /// 128 bytes, and whose length is in the header.
    #[must_use]
    pub fn mpls(mut self) -> Self {
        let unit = if self.from.is_ipv4() { 4 } else { 8 };
        self.quote.resize(self.quote.len().max(128).next_multiple_of(unit), 0);
        let at = usize::from(self.from.is_ipv4());
        self.rest[at] = u8::try_from(self.quote.len() / unit).expect("a length that fits a byte");
        // Version and checksum; length, class and type of the object; two labels.
        let mut structure = vec![0x20, 0, 0, 0, 0, 12, 1, 1];
        structure.extend([0, 0x01, 0x20, 1, 0x12, 0x34, 0x51, 1]);
        let sum = !fold(sum16(&structure));
        structure[2..4].copy_from_slice(&sum.to_be_bytes());
        self.quote.extend(structure);
        self
    }

    /// So many bytes in the frame behind the IP packet.
    #[must_use]
    pub fn trailer(mut self, bytes: usize) -> Self {
        self.trailer = bytes;
        self
    }

    /// The whole frame, with valid checksums, but for those that are quoted as they are.
    ///
    /// # Panics
    ///
    /// If it has IPv4 options over IPv6, or extension headers over IPv4.
    #[must_use]
    pub fn build(&self) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
        if let Some(id) = self.vlan {
            frame.extend([0x81, 0]);
            frame.extend(id.to_be_bytes());
        }
        let mut icmp = [&self.kind[..], &[0, 0], &self.rest, &self.quote].concat();
        let protocol = if self.from.is_ipv4() { ICMP } else { ICMPV6 };
        let pseudo = match protocol {
            ICMP => Vec::new(),
            _ => pseudo_header(self.from, self.to, protocol, icmp.len()),
        };
        let sum = !fold(sum16(&pseudo) + sum16(&icmp));
        icmp[2..4].copy_from_slice(&sum.to_be_bytes());
        let length = |bytes: usize| u16::try_from(bytes).expect("fits an IP packet").to_be_bytes();
        match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                assert!(self.exts.is_empty(), "extension headers on IPv4");
                frame.extend([8, 0]);
                let own = 20 + self.ip_options.len();
                let mut header = vec![0x40 | (own / 4) as u8, 0xc0];
                header.extend(length(own + icmp.len()));
                header.extend([0xbe, 0xef, 0, 0, 61, ICMP, 0, 0]);
                header.extend(from.octets());
                header.extend(to.octets());
                header.extend(&self.ip_options);
                let sum = !fold(sum16(&header));
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                frame.extend(header);
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                assert!(self.ip_options.is_empty(), "IPv4 options over IPv6");
                frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                let mut headers: Vec<_> = self.exts.iter().map(|&ext| extension(ext, 7)).collect();
                let own = headers.iter().map(|(_, bytes)| bytes.len()).sum::<usize>();
                frame.extend(length(own + icmp.len()));
                frame.extend([headers.first().map_or(ICMPV6, |header| header.0), 61]);
                frame.extend(from.octets());
                frame.extend(to.octets());
                for i in 0..headers.len() {
                    headers[i].1[0] = headers.get(i + 1).map_or(ICMPV6, |header| header.0);
                    frame.extend(&headers[i].1);
                }
            }
            _ => unreachable!("checked on construction"),
        }
        frame.extend(icmp);
        frame.extend(vec![0xcc; self.trailer]);
        frame
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{Packet, checksums_ok};

    #[test]
    fn built_errors_are_right() {
        for ends in [["192.0.2.1:1", "198.51.100.1:2"], ["[2001:db8::1]:1", "[2001:db8::2]:2"]] {
            let [a, b] = ends.map(|end| end.parse().unwrap());
            let about = Packet::tcp(a, b).payload(b"odd").build();
            for bytes in [28, 48, 51, 63, 200] {
                let error = IcmpError::new(b.ip(), a.ip(), [3, 1]).quote(&about, bytes);
                let mut errors = vec![error.clone().vlan(3), error.clone().trailer(5)];
                if b.is_ipv6() {
                    errors.push(error.clone().ext(Ext::HopByHop(1)).ext(Ext::DestOpts(2)));
                }
                errors.push(error);
                for error in errors {
                    let frame = error.build();
                    assert!(checksums_ok(&frame), "{bytes} of {about:02x?}: {frame:02x?}");
                    let parsed = parse(&frame).unwrap();
                    assert_eq!((parsed.source, parsed.destination), (b.ip(), a.ip()));
                    let quoted = &frame[parsed.l4 + 8..parsed.end];
                    assert!(about[14..].starts_with(quoted), "{quoted:02x?}");
                }
                let error = IcmpError::new(b.ip(), a.ip(), [3, 0]).quote(&about, bytes).mpls();
                let frame = error.build();
                assert!(checksums_ok(&frame), "{bytes} with labels: {frame:02x?}");
                let structure = &frame[frame.len() - 16..];
                assert_eq!(fold(sum16(structure)), 0xffff, "{structure:02x?}");
            }
        }
    }
}
