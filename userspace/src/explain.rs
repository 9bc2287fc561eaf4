//! What a new flow gets, computed by the code that the kernel programs share.

use std::net::{IpAddr, SocketAddr};

use probe_common::address::{Address, Tuple, V4, V6};
use probe_common::map::{self, MAX_SUBSETS};
use probe_common::{choose, hash};

use crate::model::{Affinity, Split, Subset};
use crate::table::maglev;

/// The choice for a flow.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation<'a> {
    /// The hash of the flow, or of its client with client affinity.
    pub hash: u64,
    /// Of each subset, in the split's order: -log2(u) in Q24; the least over the weight wins.
    pub draws: Vec<u64>,
    /// The subset.
    pub subset: &'a Subset,
    /// The endpoint; None if the subset has none and the flow is rejected.
    pub endpoint: Option<SocketAddr>,
}

/// The seed of a subset.
pub fn subset_seed(split: &Split, subset: &Subset) -> u64 {
    let identity = format!("{}/{}", split.name(), subset.name);
    hash::identity(1, identity.as_bytes())
}

/// The tuple of a flow from `from` to the split's address; None if `from` is of another family.
fn flow_hash(seed: u64, split: &Split, from: SocketAddr) -> Option<u64> {
    let to = split.address().socket();
    let ports = (from.port().to_be(), to.port().to_be());
    let protocol = split.address().protocol.number();
    fn hash_of<A: Address>(seed: u64, affinity: Affinity, tuple: &Tuple<A>) -> u64 {
        match affinity {
            Affinity::None => hash::flow(seed, tuple),
            Affinity::ClientIp => hash::client(seed, tuple),
        }
    }
    let (sport, dport) = ports;
    let affinity = split.affinity();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let (src, dst) = (V4::from_words(words(src.into())), V4::from_words(words(dst.into())));
            let tuple = Tuple { src, dst, sport, dport, protocol, zero: [0; 3] };
            Some(hash_of(seed, affinity, &tuple))
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let (src, dst) = (V6::from_words(words(src.into())), V6::from_words(words(dst.into())));
            let tuple = Tuple { src, dst, sport, dport, protocol, zero: [0; 3] };
            Some(hash_of(seed, affinity, &tuple))
        }
        _ => None,
    }
}

/// An address as maps hold it: wire order, IPv4 in the first word.
pub fn words(ip: IpAddr) -> [u32; 4] {
    match ip {
        IpAddr::V4(ip) => [u32::from_ne_bytes(ip.octets()), 0, 0, 0],
        IpAddr::V6(ip) => bytemuck::cast(ip.octets()),
    }
}

/// Explains the choice for a new flow from `from` under the agent's hash seed.
/// None if the families differ.
pub fn explain(seed: u64, split: &Split, from: SocketAddr) -> Option<Explanation<'_>> {
    let hash = flow_hash(seed, split, from)?;
    let mut subsets = [map::Subset { seed: 0, weight: 0, len: 0, table: 0, id: 0 }; MAX_SUBSETS];
    for (entry, subset) in subsets.iter_mut().zip(split.subsets()) {
        entry.seed = subset_seed(split, subset);
        entry.weight = subset.weight;
    }
    let count = split.subsets().len();
    let at = choose::subset(hash, &subsets, count as u32)?;
    let subset = &split.subsets()[at];
    let endpoints: Vec<SocketAddr> = subset.endpoints.iter().copied().collect();
    let endpoint = maglev::size_for(endpoints.len()).filter(|&size| size > 0).map(|size| {
        let seeds: Vec<u64> = endpoints.iter().map(|&e| maglev::seed(e)).collect();
        let slot = choose::slot(hash, subsets[at].seed, size);
        endpoints[maglev::populate(&seeds, size)[slot as usize] as usize]
    });
    let draws = subsets[..count].iter().map(|s| choose::draw(hash, s.seed)).collect();
    Some(Explanation { hash, draws, subset, endpoint })
}
