//! From layout 7 to the one after it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use bytemuck::{bytes_of, pod_read_unaligned};
use probe_common::map::{
    CHUNK, IDENTITY_ENDPOINT, IDENTITY_SPLIT, IDENTITY_SUBSET, IdentityKey, Split,
};

use super::super::content::{Content, subsets, subsets_mut};
use super::first_generation;
use crate::datapath::identity;
use crate::model::{Name, Protocol, ServiceAddress, SplitSettings};
use crate::plan::Identity;

/// How what is in maps of layout 7 is written now.
///
/// An endpoint had an id for each subset that had it, and has one for each service
/// address now: of several, the first has the flows, tables and counters of all.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Up {
    identities: BTreeMap<(u32, u32), Identity>,
    /// Subset ids by index, of all that flows may count for.
    subsets: BTreeSet<u32>,
    /// Indices of endpoints' subsets.
    subset_of: BTreeMap<u32, u32>,
    /// Ids that an endpoint had beside the one that it has.
    others: BTreeMap<u32, u32>,
}

/// What an endpoint was known by.
struct Endpoint {
    key: (ServiceAddress, SocketAddr),
    until: Option<u64>,
}

fn words(identity: &[u8]) -> Vec<&str> {
    let text = std::str::from_utf8(identity).unwrap_or_default();
    text.trim_end_matches('\0').split(' ').collect()
}

fn split(words: &[&str]) -> Option<Identity> {
    let socket: SocketAddr = words.get(1)?.parse().ok()?;
    let protocol = match *words.get(2)? {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        _ => return None,
    };
    Some(Identity::Split {
        name: Name::new(words[0]).ok()?,
        address: ServiceAddress { ip: socket.ip(), port: socket.port(), protocol },
        settings: SplitSettings {
            drain_seconds: words.get(3)?.parse().ok()?,
            ..SplitSettings::default()
        },
        until: words.get(4).and_then(|word| word.parse().ok()),
    })
}

impl Up {
    /// By what the maps say.
    pub fn of(content: &Content) -> Self {
        let mut up = Self::default();
        up.subset_of.extend(
            content.endpoints.iter().filter_map(|(&id, value)| Some((id, super::subset(value)?))),
        );
        up.subsets.extend(up.subset_of.values());
        up.subsets.extend(content.splits.values().flat_map(subsets).map(|subset| subset.id));
        // A split that was removed may have had the name of one that is there.
        let mut services = BTreeMap::new();
        for (key, value) in &content.identities {
            let words = words(value);
            match key.kind {
                IDENTITY_SPLIT => {
                    let Some(found) = split(&words) else { continue };
                    let Identity::Split { name, address, until, .. } = &found else { continue };
                    let is_there = until.is_none();
                    if is_there || !services.contains_key(name.as_str()) {
                        services.insert(name.to_string(), *address);
                    }
                    up.identities.insert((key.kind, key.id), found);
                }
                IDENTITY_SUBSET => {
                    let Ok(name) = Name::new(words[0]) else { continue };
                    up.subsets.insert(key.id);
                    up.identities.insert((key.kind, key.id), Identity::Subset(name));
                }
                _ => {}
            }
        }
        let mut endpoints = BTreeMap::new();
        for (key, value) in content.identities.iter().filter(|(k, _)| k.kind == IDENTITY_ENDPOINT) {
            let words = words(value);
            let service = services.get(words[0]);
            let address = words.get(2).and_then(|word| word.parse().ok());
            let (Some(&service), Some(address)) = (service, address) else { continue };
            let until = words.get(3).and_then(|word| word.parse().ok());
            endpoints.insert(key.id, Endpoint { key: (service, address), until });
        }
        up.endpoints(content, endpoints);
        up
    }

    fn endpoints(&mut self, content: &Content, endpoints: BTreeMap<u32, Endpoint>) {
        let in_force = content.splits.values().flat_map(subsets);
        let used: BTreeSet<u32> =
            in_force.flat_map(|subset| content.endpoints_of(subset)).collect();
        // Of several ids of an endpoint, one that gets new flows, else one that drains last.
        let mut order: Vec<u32> = endpoints.keys().copied().collect();
        order.sort_by_key(|id| {
            let until = endpoints[id].until.unwrap_or(u64::MAX);
            (!used.contains(id), std::cmp::Reverse(until), *id)
        });
        let mut first = BTreeMap::new();
        for id in order {
            let Endpoint { key: (service, address), until } = endpoints[&id];
            let known = *first.entry((service, address)).or_insert(id);
            if known != id {
                self.others.insert(id, known);
                continue;
            }
            let subset = self.subset_id(id);
            let identity = Identity::Endpoint { service, address, subset, until };
            self.identities.insert((IDENTITY_ENDPOINT, id), identity);
        }
    }

    fn subset_id(&self, endpoint: u32) -> u32 {
        first_generation(self.subset_of.get(&endpoint).copied().unwrap_or_default())
    }

    /// The id of an endpoint, of one that it had.
    pub fn endpoint(&self, id: u32) -> u32 {
        self.others.get(&id).copied().unwrap_or(id)
    }

    /// For [`super::entry_up`].
    pub fn place(&self, endpoint: u32) -> (u32, u32) {
        (self.endpoint(endpoint), self.subset_id(endpoint))
    }

    /// Whether endpoints had several ids.
    pub fn joins(&self) -> bool {
        !self.others.is_empty()
    }

    /// What is written for an element of a map; None if nothing is.
    pub fn value(&self, map: &str, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        match map {
            "ENDPOINTS" => {
                let id: u32 = pod_read_unaligned(key);
                let has_own = !self.others.contains_key(&id);
                value.get(..super::ENDPOINT).filter(|_| has_own).map(<[u8]>::to_vec)
            }
            "IDENTITIES" => {
                let IdentityKey { kind, id } = pod_read_unaligned(key);
                Some(identity::encode(self.identities.get(&(kind, id))?)?.to_vec())
            }
            "SPLITS" => {
                let mut split: Split = pod_read_unaligned(value);
                for subset in subsets_mut(&mut split) {
                    subset.id = first_generation(subset.id);
                    if subset.len == 1 {
                        subset.table = self.endpoint(subset.table);
                    }
                }
                Some(bytes_of(&split).to_vec())
            }
            "TABLES" => {
                let slots: [u32; CHUNK] = pod_read_unaligned(value);
                Some(bytes_of(&slots.map(|id| self.endpoint(id))).to_vec())
            }
            _ => Some(value.to_vec()),
        }
    }

    /// What is written into a map that layout 7 did not have.
    pub fn made(&self, map: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let ids = self.subsets.iter().filter(|_| map == "SUBSET_IDS");
        let words = |index: &u32| (index.to_ne_bytes(), first_generation(*index).to_ne_bytes());
        ids.map(words).map(|(key, value)| (key.to_vec(), value.to_vec())).collect()
    }
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;
    use probe_common::map::Subset;

    use super::*;

    fn identity(kind: u32, id: u32, text: &str) -> (IdentityKey, Vec<u8>) {
        let mut value = text.as_bytes().to_vec();
        value.resize(super::super::IDENTITY, 0);
        (IdentityKey { kind, id }, value)
    }

    fn endpoint(address: u8, subset: u32) -> Vec<u8> {
        let mut value = vec![address; super::super::ENDPOINT];
        value.extend_from_slice(&subset.to_ne_bytes());
        value
    }

    /// A split with two subsets that share an endpoint, one that drains, and one that
    /// was removed and had the same name.
    fn content() -> Content {
        let mut split = Split { count: 2, ..Split::zeroed() };
        split.subsets[0] = Subset { id: 32, len: 1, table: 5, ..Subset::zeroed() };
        split.subsets[1] = Subset { id: 33, len: 127, table: 3, ..Subset::zeroed() };
        Content {
            identities: vec![
                identity(IDENTITY_SPLIT, 2, "reviews [2001:db8::1]:80 TCP 300"),
                identity(IDENTITY_SPLIT, 1, "reviews 192.0.2.9:80 UDP 300 77"),
                identity(IDENTITY_SUBSET, 32, "v1"),
                identity(IDENTITY_SUBSET, 33, "v2"),
                identity(IDENTITY_ENDPOINT, 4, "reviews v2 [2001:db8::a]:80 88"),
                identity(IDENTITY_ENDPOINT, 5, "reviews v1 [2001:db8::a]:80"),
                identity(IDENTITY_ENDPOINT, 6, "reviews v2 [2001:db8::b]:80"),
                identity(IDENTITY_ENDPOINT, 7, "reviews v2 [2001:db8::c]:80 99"),
                identity(IDENTITY_ENDPOINT, 8, "stray v2 [2001:db8::c]:80 99"),
            ],
            endpoints: BTreeMap::from([
                (4, endpoint(0xa, 33)),
                (5, endpoint(0xa, 32)),
                (6, endpoint(0xb, 33)),
                (7, endpoint(0xc, 40)),
            ]),
            splits: BTreeMap::from([(2, split), (1, Split::zeroed())]),
            tables: BTreeMap::from([(3, BTreeSet::from([6]))]),
        }
    }

    fn value(map: &str, key: impl bytemuck::NoUninit, value: &[u8]) -> Option<Vec<u8>> {
        Up::of(&content()).value(map, bytes_of(&key), value)
    }

    fn said(kind: u32, id: u32) -> Option<Identity> {
        let key = IdentityKey { kind, id };
        let found = value("IDENTITIES", key, &[])?;
        Some(identity::decode(&key, found.as_slice().try_into().unwrap()).unwrap().1)
    }

    #[test]
    fn names_of_endpoints_lead_to_their_service() {
        let address = ServiceAddress {
            ip: "2001:db8::1".parse().unwrap(),
            port: 80,
            protocol: Protocol::Tcp,
        };
        let name = Name::new("reviews").unwrap();
        let split =
            Identity::Split { name, address, settings: SplitSettings::default(), until: None };
        assert_eq!(said(IDENTITY_SPLIT, 2), Some(split));
        let subset = Identity::Subset(Name::new("v2").unwrap());
        assert_eq!(said(IDENTITY_SUBSET, 33), Some(subset));
        let endpoint = |socket: &str, index, until| {
            let (address, service) = (socket.parse().unwrap(), address);
            let subset = first_generation(index);
            Some(Identity::Endpoint { service, address, subset, until })
        };
        assert_eq!(said(IDENTITY_ENDPOINT, 6), endpoint("[2001:db8::b]:80", 33, None));
        assert_eq!(said(IDENTITY_ENDPOINT, 7), endpoint("[2001:db8::c]:80", 40, Some(99)));
        assert_eq!(said(IDENTITY_ENDPOINT, 8), None, "of no split");
    }

    #[test]
    fn ids_of_one_endpoint_become_the_one_that_is_in_use() {
        let up = Up::of(&content());
        assert!(up.joins());
        assert_eq!(up.place(4), (5, first_generation(33)), "it counts for what it was steered to");
        assert_eq!(up.place(5), (5, first_generation(32)));
        assert_eq!(said(IDENTITY_ENDPOINT, 4), None);
        assert!(said(IDENTITY_ENDPOINT, 5).is_some());
        assert_eq!(value("ENDPOINTS", 4u32, &endpoint(0xa, 33)), None);
        assert_eq!(value("ENDPOINTS", 5u32, &endpoint(0xa, 32)), Some(vec![0xa; 20]));
        let mut slots = [6; CHUNK];
        slots[9] = 4;
        let found = value("TABLES", 3u32, bytes_of(&slots)).unwrap();
        slots[9] = 5;
        assert_eq!(found, bytes_of(&slots));
    }

    #[test]
    fn subsets_get_their_first_generation() {
        let mut split = content().splits[&2];
        split.subsets[0].table = 4;
        let found: Split = pod_read_unaligned(&value("SPLITS", 4u32, bytes_of(&split)).unwrap());
        assert_eq!(found.subsets[0].id, 1 << 24 | 32);
        assert_eq!((found.subsets[0].table, found.subsets[1].table), (5, 3));
        assert_eq!(found.subsets[2], Subset::zeroed(), "behind the last one");
        let ids = Up::of(&content()).made("SUBSET_IDS");
        let index = |(key, id): &(Vec<u8>, Vec<u8>)| {
            let (key, id): (u32, u32) = (pod_read_unaligned(key), pod_read_unaligned(id));
            assert_eq!(id, 1 << 24 | key);
            key
        };
        let indices: Vec<u32> = ids.iter().map(index).collect();
        // One that was removed, too: its flows live, and their ends must not be another's.
        assert_eq!(indices, [32, 33, 40]);
        assert!(Up::of(&content()).made("ADDRESSES").is_empty());
    }
}
