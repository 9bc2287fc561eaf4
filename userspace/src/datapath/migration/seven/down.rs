//! From the layout after it to layout 7.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytemuck::{bytes_of, pod_read_unaligned};
use probe_common::hash;
use probe_common::map::{
    ENDPOINT_DRAINING, ENDPOINT_LIVE, Endpoint, IDENTITY_ENDPOINT, IdentityKey, MAX_SUBSETS, Split,
    subset_index,
};

use super::super::content::{Content, subsets, subsets_mut};
use crate::datapath::identity;
use crate::model::{ServiceAddress, is_label};
use crate::plan::Identity;

/// The longest name that is written as it is: three of them have room in an identity.
const MAX_NAME: usize = 63;

/// How what is in maps is written in layout 7.
///
/// What that cannot say is left out: generations of subsets, that an endpoint drains
/// (when it is gone stays), a client's next flow beside a live one. Names that it does
/// not take are replaced.
#[derive(Debug, Clone, Default)]
pub(in super::super) struct Down {
    identities: BTreeMap<(u32, u32), Identity>,
    /// Names of splits, by their ids.
    splits: BTreeMap<u32, String>,
    /// The split that has, or had last, a service address.
    at: BTreeMap<ServiceAddress, u32>,
    /// Names of subsets, by their indices.
    subsets: BTreeMap<u32, String>,
    /// Indices of subsets, by the endpoints that they have.
    subset_of: BTreeMap<u32, u32>,
}

/// A name, as layout 7 takes it.
fn name(name: &str) -> String {
    if name.len() <= MAX_NAME && name.split('.').all(is_label) {
        return name.to_owned();
    }
    format!("renamed-{:016x}", hash::identity(7, name.as_bytes()))
}

fn padded(text: &str) -> Option<Vec<u8>> {
    let mut value = text.as_bytes().to_vec();
    (value.len() <= super::IDENTITY).then(|| value.resize(super::IDENTITY, 0))?;
    Some(value)
}

impl Down {
    /// By what the maps say.
    pub fn of(content: &Content) -> Self {
        let mut down = Self::default();
        for (key, value) in &content.identities {
            let found = value.as_slice().try_into().ok();
            let found = found.and_then(|value| identity::decode(key, value));
            let Some((_, found)) = found else { continue };
            match &found {
                Identity::Split { name: split, address, until, .. } => {
                    down.splits.insert(key.id, name(split.as_str()));
                    // Of one that was removed, only where no other one is.
                    if until.is_none() || !down.at.contains_key(address) {
                        down.at.insert(*address, key.id);
                    }
                }
                Identity::Subset(subset) => {
                    down.subsets.insert(key.id, name(subset.as_str()));
                }
                Identity::Endpoint { .. } => {}
            }
            down.identities.insert((key.kind, key.id), found);
        }
        // Of several subsets that have it, the first one.
        for subset in content.splits.values().flat_map(subsets) {
            for endpoint in content.endpoints_of(subset) {
                down.subset_of.entry(endpoint).or_insert(subset_index(subset.id));
            }
        }
        down
    }

    /// What is written for an element of a map; None if nothing is.
    pub fn value(&self, map: &str, key: &[u8], value: &[u8]) -> Option<Vec<u8>> {
        match map {
            "ENDPOINTS" => {
                let mut endpoint: Endpoint = pod_read_unaligned(value);
                if endpoint.state == ENDPOINT_DRAINING {
                    endpoint.state = ENDPOINT_LIVE;
                }
                let subset = self.subset(pod_read_unaligned(key));
                Some([bytes_of(&endpoint), &subset.to_ne_bytes()].concat())
            }
            "IDENTITIES" => {
                let IdentityKey { kind, id } = pod_read_unaligned(key);
                padded(&self.text(id, self.identities.get(&(kind, id))?))
            }
            "SPLITS" => {
                let (mut split, index): (Split, u32) =
                    (pod_read_unaligned(value), pod_read_unaligned(key));
                for subset in subsets_mut(&mut split) {
                    subset.id = subset_index(subset.id);
                    if let Some(seed) = self.seed(index / 2, subset.id) {
                        subset.seed = seed;
                    }
                }
                Some(bytes_of(&split).to_vec())
            }
            _ => Some(value.to_vec()),
        }
    }

    /// The index of the subset that an endpoint counts for.
    fn subset(&self, endpoint: u32) -> u32 {
        let last = match self.identities.get(&(IDENTITY_ENDPOINT, endpoint)) {
            Some(Identity::Endpoint { subset, .. }) => subset_index(*subset),
            _ => 0,
        };
        self.subset_of.get(&endpoint).copied().unwrap_or(last)
    }

    /// The seed of a subset of names that were replaced: it is made of them.
    fn seed(&self, split: u32, subset: u32) -> Option<u64> {
        let names = (self.splits.get(&split)?, self.subsets.get(&subset)?);
        let text = format!("{}/{}", names.0, names.1);
        Some(hash::identity(1, text.as_bytes()))
    }

    fn text(&self, id: u32, identity: &Identity) -> String {
        let end = |until: &Option<u64>| until.map_or(String::new(), |until| format!(" {until}"));
        match identity {
            Identity::Split { name: split, address, settings, until } => {
                let drain = settings.drain_seconds;
                let (socket, protocol) = (address.socket(), address.protocol);
                format!("{} {socket} {protocol} {drain}{}", name(split.as_str()), end(until))
            }
            Identity::Subset(subset) => name(subset.as_str()),
            Identity::Endpoint { service, address, until, .. } => {
                let (split, subset) = self.names(*service, self.subset(id));
                format!("{split} {subset} {address}{}", end(until))
            }
        }
    }

    /// The names of an endpoint's split and subset. Whoever has none any more gets
    /// one for its service address: flows of it live, and must not be another's.
    fn names(&self, service: ServiceAddress, subset: u32) -> (Cow<'_, str>, Cow<'_, str>) {
        let Some(id) = self.at.get(&service) else {
            let removed =
                format!("removed-{:016x}", hash::identity(7, service.to_string().as_bytes()));
            return (Cow::Owned(removed.clone()), Cow::Owned(removed));
        };
        let split = self.splits.get(id).map_or("removed", String::as_str);
        let is_own = subset / MAX_SUBSETS as u32 == *id;
        let own = self.subsets.get(&subset).filter(|_| is_own);
        (Cow::Borrowed(split), Cow::Borrowed(own.map_or("removed", String::as_str)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use bytemuck::Zeroable as _;
    use probe_common::map::{ENDPOINT_GONE, IDENTITY_SPLIT, IDENTITY_SUBSET, Subset};

    use super::*;
    use crate::model::{Name, Protocol, SplitSettings};

    const LONG: &str = "a-name-that-is-longer-than-any-label-of-the-domain-name-system-may-be";

    fn service(port: u16) -> ServiceAddress {
        ServiceAddress { ip: "192.0.2.1".parse().unwrap(), port, protocol: Protocol::Udp }
    }

    fn content() -> Content {
        let name = |text: &str| Name::new(text).unwrap();
        let split = |text, port, until| Identity::Split {
            name: name(text),
            address: service(port),
            settings: SplitSettings::default(),
            until,
        };
        let endpoint = |port, host, subset, until| Identity::Endpoint {
            service: service(port),
            address: format!("198.51.100.{host}:80").parse().unwrap(),
            subset,
            until,
        };
        let identities = [
            (IDENTITY_SPLIT, 1, split("names", 53, None)),
            (IDENTITY_SPLIT, 2, split("names", 54, Some(9))),
            (IDENTITY_SPLIT, 3, split(LONG, 55, None)),
            (IDENTITY_SUBSET, 16, Identity::Subset(name("v1"))),
            (IDENTITY_SUBSET, 17, Identity::Subset(name("canaryV2"))),
            (IDENTITY_SUBSET, 48, Identity::Subset(name("v1"))),
            (IDENTITY_ENDPOINT, 0, endpoint(53, 1, 3 << 24 | 17, None)),
            (IDENTITY_ENDPOINT, 1, endpoint(53, 2, 3 << 24 | 17, Some(77))),
            (IDENTITY_ENDPOINT, 2, endpoint(54, 2, 1 << 24 | 32, Some(77))),
            (IDENTITY_ENDPOINT, 3, endpoint(99, 2, 1 << 24 | 16, Some(77))),
            (IDENTITY_ENDPOINT, 4, endpoint(55, 1, 1 << 24 | 48, None)),
        ];
        let encoded = |(kind, id, identity)| {
            (IdentityKey { kind, id }, identity::encode(&identity).unwrap().to_vec())
        };
        let mut names = Split { count: 2, ..Split::zeroed() };
        names.subsets[0] = Subset { id: 1 << 24 | 16, len: 1, table: 0, ..Subset::zeroed() };
        names.subsets[1] = Subset { id: 3 << 24 | 17, len: 127, table: 5, ..Subset::zeroed() };
        Content {
            identities: identities.map(encoded).to_vec(),
            endpoints: BTreeMap::new(),
            splits: BTreeMap::from([(1, names)]),
            tables: BTreeMap::from([(5, BTreeSet::from([0]))]),
        }
    }

    fn value(map: &str, key: impl bytemuck::NoUninit, value: &[u8]) -> Option<Vec<u8>> {
        Down::of(&content()).value(map, bytes_of(&key), value)
    }

    fn said(kind: u32, id: u32) -> String {
        let found = value("IDENTITIES", IdentityKey { kind, id }, &[]).unwrap();
        assert_eq!(found.len(), super::super::IDENTITY);
        String::from_utf8(found).unwrap().trim_end_matches('\0').to_owned()
    }

    #[test]
    fn identities_are_words_again() {
        let renamed = name("canaryV2");
        assert_eq!(said(IDENTITY_SPLIT, 1), "names 192.0.2.1:53 UDP 300");
        assert_eq!(said(IDENTITY_SPLIT, 2), "names 192.0.2.1:54 UDP 300 9");
        assert_eq!(said(IDENTITY_SUBSET, 16), "v1");
        assert_eq!(said(IDENTITY_ENDPOINT, 0), "names v1 198.51.100.1:80", "the first that has it");
        let draining = format!("names {renamed} 198.51.100.2:80 77");
        assert_eq!(said(IDENTITY_ENDPOINT, 1), draining, "the one that had it last");
        assert_eq!(said(IDENTITY_ENDPOINT, 2), "names removed 198.51.100.2:80 77");
        let stray = said(IDENTITY_ENDPOINT, 3);
        assert!(stray.starts_with("removed-") && stray.ends_with(" 198.51.100.2:80 77"), "{stray}");
    }

    #[test]
    fn names_that_layout_7_does_not_take_are_replaced_in_names_and_in_seeds() {
        for (kind, id) in [(IDENTITY_SPLIT, 3), (IDENTITY_SUBSET, 17), (IDENTITY_ENDPOINT, 4)] {
            let said = said(kind, id);
            let first = said.split(' ').next().unwrap();
            assert!(first.starts_with("renamed-") && is_label(first), "{said}");
        }
        assert_ne!(name(LONG), name("canaryV2"));
        let names = content().splits[&1];
        let found: Split = pod_read_unaligned(&value("SPLITS", 3u32, bytes_of(&names)).unwrap());
        assert_eq!(found.subsets[0].seed, hash::identity(1, b"names/v1"), "as it was");
        let text = format!("names/{}", name("canaryV2"));
        assert_eq!(found.subsets[1].seed, hash::identity(1, text.as_bytes()));
        assert_eq!([found.subsets[0].id, found.subsets[1].id], [16, 17], "without generation");
    }

    #[test]
    fn endpoints_get_their_subset_and_no_longer_drain() {
        let state = |state| {
            let endpoint = Endpoint { state, port: 5, ..Endpoint::zeroed() };
            let found = value("ENDPOINTS", 1u32, bytes_of(&endpoint)).unwrap();
            assert_eq!(super::super::subset(&found), Some(17));
            pod_read_unaligned::<Endpoint>(&found[..20]).state
        };
        assert_eq!(state(ENDPOINT_LIVE), ENDPOINT_LIVE);
        assert_eq!(state(ENDPOINT_DRAINING), ENDPOINT_LIVE);
        assert_eq!(state(ENDPOINT_GONE), ENDPOINT_GONE);
    }
}
