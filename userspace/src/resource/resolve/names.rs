//! The names of splits and subsets.
//!
//! They are stable, since the seeds of subsets come from them: adding a port,
//! an address or a route renames nothing that was there.
//!
//! A split is named after what is addressed:
//!
//! - a Service or ServiceEntry: `SERVICE.NAMESPACE`, or the host if it is none of a cluster;
//! - a listener of a Gateway: `LISTENER.GATEWAY.NAMESPACE`;
//! - a port of an Istio Gateway: `PORT.GATEWAY.NAMESPACE`.
//!
//! All ports of a service but the first add `.PORT-PROTOCOL`. All addresses but
//! the first add `.ipv4` or `.ipv6` if they are the first of their family, else
//! `.ip-ADDRESS` with dashes. What is too long for a name ends in a hash, see
//! [`derived_split`].
//!
//! A subset is named after the subset of the DestinationRule, or else after the
//! service. Where two of a split would have one name, both add the service's
//! name, then its namespace, then the port.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::model::{Family, Name, NameError, derived_split};
use crate::resource::core::Port;

/// The suffix of a port of a service.
pub(super) fn of_port(index: usize, port: &Port) -> String {
    match index {
        0 => String::new(),
        _ => format!(".{}-{}", port.number, port.protocol.to_string().to_lowercase()),
    }
}

/// The name of the split of one of the addresses.
pub(super) fn split(base: &str, addresses: &[IpAddr], index: usize) -> Result<Name, NameError> {
    Name::of_object(derived_split(&format!("{base}{}", of_address(addresses, index))))
}

/// The suffix of one of the addresses.
fn of_address(addresses: &[IpAddr], index: usize) -> String {
    let ip = addresses[index];
    let family = |ip: &IpAddr| Family::of(*ip);
    if index == 0 {
        return String::new();
    }
    if !addresses[..index].iter().map(family).any(|other| other == Family::of(ip)) {
        return format!(".{}", Family::of(ip).to_string().to_lowercase());
    }
    let text = match ip {
        IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
        // Not shortened: a label must not end in a dash.
        IpAddr::V6(ip) => ip.segments().map(|part| format!("{part:x}")).join("-"),
    };
    format!(".ip-{text}")
}

/// A name for each, from its candidates, which go from the shortest to one that
/// is nobody else's: those with one name take their next candidates.
pub(super) fn subsets(candidates: &[&[String]]) -> Vec<String> {
    let mut level = vec![0; candidates.len()];
    loop {
        let mut taken: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (at, names) in candidates.iter().enumerate() {
            taken.entry(&names[level[at]]).or_default().push(at);
        }
        let mut moved = false;
        for at in taken.into_values().filter(|who| who.len() > 1).flatten() {
            if level[at] + 1 < candidates[at].len() {
                level[at] += 1;
                moved = true;
            }
        }
        if !moved {
            let names = candidates.iter().zip(&level).map(|(names, &level)| names[level].clone());
            return names.collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_addresses_have_suffixes() {
        let ips: Vec<IpAddr> = ["192.0.2.1", "2001:db8::", "192.0.2.2", "2001:db8::1"]
            .map(|ip| ip.parse().unwrap())
            .into();
        let names: Vec<String> =
            (0..4).map(|at| split("a.b", &ips, at).unwrap().to_string()).collect();
        let expected = ["a.b", "a.b.ipv6", "a.b.ip-192-0-2-2", "a.b.ip-2001-db8-0-0-0-0-0-1"];
        assert_eq!(names, expected);
    }

    #[test]
    fn only_names_that_collide_grow() {
        let ladder = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let all = [
            ladder("v1 v1.reviews v1.reviews.shop"),
            ladder("v1 v1.ratings v1.ratings.shop"),
            ladder("v2 v2.reviews v2.reviews.shop"),
            ladder("v1 v1.reviews v1.reviews.other"),
        ];
        let all: Vec<&[String]> = all.iter().map(Vec::as_slice).collect();
        assert_eq!(subsets(&all), ["v1.reviews.shop", "v1.ratings", "v2", "v1.reviews.other"]);
    }
}
