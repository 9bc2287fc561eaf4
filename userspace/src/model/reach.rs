//! Addresses at which no other host is reached.

use std::net::IpAddr;

/// Why what is sent to an address from another host arrives at nobody.
pub fn nowhere(ip: IpAddr) -> Option<&'static str> {
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    if ip.is_loopback() {
        Some("a loopback address: the kernel drops what comes to it from other hosts")
    } else if is_link_local {
        Some("a link-local address, another host's on each link: routers do not forward to it")
    } else if ip.is_multicast() || ip == IpAddr::from([255; 4]) {
        Some("no address of one host, and a connection is with one")
    } else if ip.is_unspecified() {
        Some("the unspecified address, which is nobody's")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_other_host_reaches_is_told_from_what_is_somebodys() {
        for (text, says) in [
            ("127.0.0.9", "loopback"),
            ("::1", "loopback"),
            ("169.254.7.7", "link-local"),
            ("fe80::1", "link-local"),
            ("239.1.1.1", "no address of one host"),
            ("ff05::2", "no address of one host"),
            ("255.255.255.255", "no address of one host"),
            ("0.0.0.0", "unspecified"),
            ("::", "unspecified"),
        ] {
            let why = nowhere(text.parse().unwrap());
            assert!(why.is_some_and(|why| why.contains(says)), "{text}: {why:?}");
        }
        for text in ["192.0.2.1", "10.0.0.1", "2001:db8::1", "fd00::1", "169.253.255.255"] {
            assert_eq!(nowhere(text.parse().unwrap()), None, "{text}");
        }
    }
}
