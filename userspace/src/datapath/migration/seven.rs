//! Layout 7, as it differs from layout 8: pure functions of bytes.
//!
//! Entries of flows had no subset, endpoints had one; and what endpoints are
//! called had the names of split and subset in it, where now the service address
//! is.

use std::collections::BTreeMap;

use probe_common::address::Address;
use probe_common::hash::mix;
use probe_common::map::{IDENTITY_ENDPOINT, IDENTITY_SPLIT, IDENTITY_SUBSET, IdentityKey};
use probe_common::young::Young;

/// Where in an entry of the flow tables the subset is now.
const SUBSET: usize = 32;
/// Bytes of an endpoint now; the subset was behind them.
const ENDPOINT: usize = 20;

/// Maps that did not mean the same.
pub(super) const CHANGED: [&str; 8] = [
    "FLOWS_V4",
    "FLOWS_V6",
    "YOUNG_V4",
    "YOUNG_V6",
    "YOUNG_SETS_V4",
    "YOUNG_SETS_V6",
    "ENDPOINTS",
    "IDENTITIES",
];

/// What was counted in REASONS, in order.
pub(super) const REASONS: &[&str] = &[
    "pass_fragment",
    "pass_unparsed",
    "pass_reply_untracked",
    "pass_no_flow_reset",
    "reject_no_endpoint",
    "reject_endpoint_gone",
    "reject_silent",
    "reject_no_port",
    "flow_table_full",
    "entry_torn",
    "rewrite_failed",
    "redirected",
    "stack_headers",
    "stack_mark",
    "stack_ttl",
    "stack_mtu",
    "stack_no_neighbour",
    "stack_route",
    "flow_reused",
    "flow_adopted",
    "icmp_translated",
    "pass_icmp_untracked",
    "flow_port_changed",
];

/// The subset of an endpoint.
pub(super) fn subset(endpoint: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(endpoint.get(ENDPOINT..)?.try_into().ok()?))
}

/// An endpoint, as it is now.
pub(super) fn endpoint_up(endpoint: &[u8]) -> Option<Vec<u8>> {
    Some(endpoint.get(..ENDPOINT)?.to_vec())
}

/// An endpoint, as it was.
pub(super) fn endpoint_down(endpoint: &[u8], subset: u32) -> Vec<u8> {
    [endpoint, &subset.to_ne_bytes()].concat()
}

/// An entry of the flow tables, as it is now; `subset` is of an endpoint's number.
pub(super) fn entry_up(entry: &[u8], subset: impl Fn(u32) -> u32) -> Option<Vec<u8>> {
    let endpoint = u32::from_ne_bytes(entry.get(8..12)?.try_into().ok()?);
    let (before, behind) = entry.split_at_checked(SUBSET)?;
    Some([before, &subset(endpoint).to_ne_bytes(), behind].concat())
}

/// An entry of the flow tables, as it was.
pub(super) fn entry_down(entry: &[u8]) -> Vec<u8> {
    [&entry[..SUBSET], &entry[SUBSET + 4..]].concat()
}

/// [`Young::sum`], as it was.
pub(super) fn sum<A: Address>(young: &Young<A>) -> u32 {
    let ports = u64::from(young.client_port) << 48
        | u64::from(young.service_port) << 32
        | u64::from(young.endpoint_port) << 16
        | u64::from(young.reply_port);
    let rest = u64::from(young.endpoint) << 32
        | u64::from(young.created) ^ u64::from(young.protocol) << 24 ^ u64::from(young.kind) << 16;
    let [client, service, address] =
        [young.client, young.service, young.address].map(|address| u64::from(address.fold()));
    let addresses = (client | service << 32) ^ address.rotate_left(16);
    (mix(addresses ^ ports.rotate_left(21) ^ rest.rotate_left(43)) >> 32) as u32 | 1
}

/// What the numbers in maps stand for.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// Service addresses, and protocols, by the names of their splits.
    services: BTreeMap<String, String>,
    /// Names of splits, by their numbers.
    splits: BTreeMap<u32, String>,
    /// Names of subsets, by their numbers.
    subsets: BTreeMap<u32, String>,
    /// The numbers of endpoints' subsets.
    pub of_endpoints: BTreeMap<u32, u32>,
}

fn text(identity: &[u8]) -> Option<&str> {
    Some(std::str::from_utf8(identity).ok()?.trim_end_matches('\0'))
}

fn padded(text: &str, length: usize) -> Option<Vec<u8>> {
    let mut value = text.as_bytes().to_vec();
    (value.len() <= length).then(|| value.resize(length, 0))?;
    Some(value)
}

impl Names {
    /// Takes in what a number stands for.
    pub fn add(&mut self, key: IdentityKey, identity: &[u8]) {
        let Some(text) = text(identity) else { return };
        let words: Vec<&str> = text.split(' ').collect();
        match (key.kind, &words[..]) {
            (IDENTITY_SPLIT, [name, address, protocol, ..]) => {
                self.services.insert((*name).to_owned(), format!("{address} {protocol}"));
                self.splits.insert(key.id, (*name).to_owned());
            }
            (IDENTITY_SUBSET, [name, ..]) => {
                self.subsets.insert(key.id, (*name).to_owned());
            }
            _ => {}
        }
    }

    /// What a number stands for, as it is written now; None if nobody knows.
    pub fn up(&self, key: IdentityKey, identity: &[u8]) -> Option<Vec<u8>> {
        if key.kind != IDENTITY_ENDPOINT {
            return Some(identity.to_vec());
        }
        let (split, rest) = text(identity)?.split_once(' ')?;
        let (_, rest) = rest.split_once(' ')?;
        padded(&format!("{} {rest}", self.services.get(split)?), identity.len())
    }

    /// What a number stands for, as it was written. An endpoint that is in no table
    /// any more is taken for one of a subset that its service has.
    pub fn down(&self, key: IdentityKey, identity: &[u8]) -> Option<Vec<u8>> {
        if key.kind != IDENTITY_ENDPOINT {
            return Some(identity.to_vec());
        }
        let words: Vec<&str> = text(identity)?.splitn(3, ' ').collect();
        let [address, protocol, rest] = words[..] else { return None };
        let service = format!("{address} {protocol}");
        let (id, split) = self.splits.iter().find(|(_, name)| {
            self.services.get(*name).is_some_and(|address| *address == service)
        })?;
        let numbers = id * 16..(id + 1) * 16;
        let own = self.of_endpoints.get(&key.id).filter(|subset| numbers.contains(subset));
        let name = own.and_then(|subset| self.subsets.get(subset));
        let any = || self.subsets.range(numbers.clone()).next().map(|(_, name)| name);
        padded(&format!("{split} {} {rest}", name.or_else(any)?), identity.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(text: &str) -> Vec<u8> {
        padded(text, 256).unwrap()
    }

    const fn key(kind: u32, id: u32) -> IdentityKey {
        IdentityKey { kind, id }
    }

    #[test]
    fn entries_get_the_subset_of_their_endpoint_and_lose_it_again() {
        for length in [36, 48] {
            let mut entry: Vec<u8> = (1..=length).collect();
            entry[8..12].copy_from_slice(&7u32.to_ne_bytes());
            let up = entry_up(&entry, |endpoint| endpoint * 16).unwrap();
            assert_eq!(up.len(), usize::from(length) + 4);
            assert_eq!(up[SUBSET..SUBSET + 4], 112u32.to_ne_bytes());
            assert_eq!(entry_down(&up), entry);
        }
        assert_eq!(entry_up(&[0; 20], |_| 0), None, "too short for one");
    }

    #[test]
    fn endpoints_lose_their_subset_and_get_it_again() {
        let endpoint: Vec<u8> = (0..24).collect();
        let subset = subset(&endpoint).unwrap();
        assert_eq!(endpoint_down(&endpoint_up(&endpoint).unwrap(), subset), endpoint);
    }

    #[test]
    fn names_of_endpoints_lead_to_their_service_and_back() {
        let mut names = Names::default();
        names.add(key(IDENTITY_SPLIT, 2), &identity("reviews [2001:db8::1]:80 TCP 300"));
        names.add(key(IDENTITY_SUBSET, 32), &identity("v1"));
        names.add(key(IDENTITY_SUBSET, 33), &identity("v2"));
        names.of_endpoints.insert(9, 33);
        for until in ["", " 77"] {
            let was = identity(&format!("reviews v2 198.51.100.1:80{until}"));
            let now = identity(&format!("[2001:db8::1]:80 TCP 198.51.100.1:80{until}"));
            assert_eq!(names.up(key(IDENTITY_ENDPOINT, 9), &was), Some(now.clone()));
            assert_eq!(names.down(key(IDENTITY_ENDPOINT, 9), &now), Some(was));
        }
        let draining = identity("[2001:db8::1]:80 TCP 198.51.100.2:80 77");
        let was = identity("reviews v1 198.51.100.2:80 77");
        assert_eq!(names.down(key(IDENTITY_ENDPOINT, 10), &draining), Some(was));
        let split = identity("reviews [2001:db8::1]:80 TCP 300");
        assert_eq!(names.up(key(IDENTITY_SPLIT, 2), &split), Some(split.clone()));
        let stray = identity("ratings v1 198.51.100.1:80");
        assert_eq!(names.up(key(IDENTITY_ENDPOINT, 3), &stray), None, "of no known split");
    }
}
