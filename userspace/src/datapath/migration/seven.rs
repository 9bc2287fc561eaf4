//! Layout 7, as it differs from layout 8: pure functions of bytes.
//!
//! Entries of flows had no subset, endpoints had one. Subset ids had no generation:
//! what was in force becomes the first one. What numbers stand for was written in
//! words, and an endpoint was known by the names of its split and subset, not by its
//! service address: [`up`] and [`down`].

pub(super) mod down;
#[cfg(test)]
mod frozen;
pub(super) mod up;

use probe_common::address::Address;
use probe_common::flow::CONTESTED;
use probe_common::hash::mix;
use probe_common::map::SUBSET_INDEX;
use probe_common::new_flow::NewFlow;

/// Bytes of an endpoint now; the index of its subset was behind them.
const ENDPOINT: usize = 20;
/// Bytes of an identity.
const IDENTITY: usize = 256;
/// Where an entry of the flow tables has its endpoint; behind that is the subset now.
const OF_ENDPOINT: std::ops::Range<usize> = 8..12;
/// Where an entry had its address; before that are four bytes of nothing now.
const ADDRESS: usize = 32;

/// Maps that did not mean the same.
pub(super) const CHANGED: [&str; 14] = [
    "FLOWS_V4",
    "FLOWS_V6",
    "NEW_FLOWS_V4",
    "NEW_FLOWS_V6",
    "NEW_SETS_V4",
    "NEW_SETS_V6",
    // As it named these.
    "YOUNG_V4",
    "YOUNG_V6",
    "YOUNG_SETS_V4",
    "YOUNG_SETS_V6",
    "SPLITS",
    "TABLES",
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

/// The id of the first subset with an index.
pub(super) const fn first_generation(index: u32) -> u32 {
    1 << SUBSET_INDEX.count_ones() | index
}

/// The index of an endpoint's subset.
pub(super) fn subset(endpoint: &[u8]) -> Option<u32> {
    Some(u32::from_ne_bytes(endpoint.get(ENDPOINT..)?.try_into().ok()?))
}

/// An entry of the flow tables, as it is now; `place` says of an endpoint's id which
/// one it has now, and the id of the subset that it counts for.
pub(super) fn entry_up(entry: &[u8], place: impl Fn(u32) -> (u32, u32)) -> Option<Vec<u8>> {
    let (rest, address) = entry.split_at_checked(ADDRESS)?;
    let endpoint = u32::from_ne_bytes(rest[OF_ENDPOINT].try_into().ok()?);
    let (endpoint, subset) = place(endpoint);
    let (endpoint, subset) = (endpoint.to_ne_bytes(), subset.to_ne_bytes());
    let (before, behind) = (&rest[..OF_ENDPOINT.start], &rest[OF_ENDPOINT.end..]);
    Some([before, &endpoint, &subset, behind, &[0; 4], address].concat())
}

/// An entry of the flow tables, as it was; the flow itself, if another one with its tuple
/// may be there as well.
pub(super) fn entry_down(entry: &[u8]) -> Vec<u8> {
    let (before, behind) = (&entry[..OF_ENDPOINT.end], &entry[OF_ENDPOINT.end + 4..ADDRESS + 4]);
    let mut was = [before, behind, &entry[ADDRESS + 8..]].concat();
    let state = &mut was[OF_ENDPOINT.end..OF_ENDPOINT.end + 2];
    let known = u16::from_ne_bytes([state[0], state[1]]) & !CONTESTED;
    state.copy_from_slice(&known.to_ne_bytes());
    was
}

/// [`NewFlow::sum`], as it was.
pub(super) fn sum<A: Address>(new_flow: &NewFlow<A>) -> u32 {
    let ports = u64::from(new_flow.client_port) << 48
        | u64::from(new_flow.service_port) << 32
        | u64::from(new_flow.endpoint_port) << 16
        | u64::from(new_flow.reply_port);
    let rest = u64::from(new_flow.endpoint) << 32
        | u64::from(new_flow.created)
            ^ u64::from(new_flow.protocol) << 24
            ^ u64::from(new_flow.kind) << 16;
    let [client, service, address] = [new_flow.client, new_flow.service, new_flow.address]
        .map(|address| u64::from(address.fold()));
    let addresses = (client | service << 32) ^ address.rotate_left(16);
    (mix(addresses ^ ports.rotate_left(21) ^ rest.rotate_left(43)) >> 32) as u32 | 1
}

#[cfg(test)]
mod tests {
    use bytemuck::{bytes_of, pod_read_unaligned};
    use probe_common::address::{Tuple, V4, V6};
    use probe_common::flow::{ESTABLISHED, Entry, FORWARD, Facts};

    use super::*;

    #[test]
    fn entries_get_the_subset_of_their_endpoint_and_lose_it_again() {
        for length in [36, 48] {
            let mut entry: Vec<u8> = (1..=length).collect();
            entry[OF_ENDPOINT].copy_from_slice(&7u32.to_ne_bytes());
            entry[12..14].copy_from_slice(&ESTABLISHED.to_ne_bytes());
            let up = entry_up(&entry, |endpoint| (endpoint, endpoint * 16)).unwrap();
            assert_eq!(up.len(), usize::from(length) + 8);
            assert_eq!(up[12..16], 112u32.to_ne_bytes());
            assert_eq!(entry_down(&up), entry);
            let moved = entry_up(&entry, |_| (5, 80)).unwrap();
            assert_eq!(moved[OF_ENDPOINT], 5u32.to_ne_bytes(), "another id of the endpoint");
        }
        assert_eq!(entry_up(&[0; 20], |id| (id, 0)), None, "too short for one");
    }

    #[test]
    fn each_field_of_an_entry_is_where_it_is_now() {
        fn check<A: Address + PartialEq + std::fmt::Debug>(src: A, dst: A, to: A)
        where
            Entry<A>: bytemuck::Pod + PartialEq,
        {
            let key = Tuple { src, dst, sport: 3, dport: 4, protocol: 6, zero: [0; 3] };
            let to = Tuple { dst: to, dport: 6, ..key };
            let facts = Facts {
                endpoint: 8,
                subset: 1 << 24 | 5,
                state: ESTABLISHED,
                direction: FORWARD,
                seen: 0x0102_0304,
                created: 0x0506_0708,
                sequence: 0x090a_0b0c,
            };
            let entry = Entry::new(&key, &to, &facts);
            let contested = Entry { state: ESTABLISHED | CONTESTED, ..entry };
            let was = entry_down(bytes_of(&contested));
            let now = entry_up(&was, |endpoint| (endpoint, 1 << 24 | 5)).unwrap();
            assert_eq!(pod_read_unaligned::<Entry<A>>(&now), entry);
        }
        check(V4(1), V4(2), V4(5));
        check(V6([1, 2]), V6([3, 4]), V6([5, 6]));
    }
}
