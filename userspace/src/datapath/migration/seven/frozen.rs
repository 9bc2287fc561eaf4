//! What an agent of layout 7 wrote is understood, and given back to the byte.
//!
//! `frozen/layout-7.identities` was made by the code of the last commit of that layout; the maps
//! around it are made here, since they are numbers alone.

use std::collections::{BTreeMap, BTreeSet};

use bytemuck::{Zeroable as _, bytes_of, pod_read_unaligned};
use probe_common::map::{
    IDENTITY_ENDPOINT, IDENTITY_SPLIT, IDENTITY_SUBSET, IdentityKey, Split, Subset,
};

use super::super::content::Content;
use super::down::Down;
use super::up::Up;
use super::{ENDPOINT, IDENTITY, first_generation};
use crate::datapath::identity;
use crate::model::Protocol;
use crate::plan::{Identity, IdentityKey as Key};

static WRITTEN: &str = include_str!("../../../../frozen/layout-7.identities");

/// The elements of the map, as they are in the kernel.
fn written() -> Vec<(IdentityKey, Vec<u8>)> {
    let element = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let [kind, id] = [(); 2].map(|()| words.next().unwrap().parse().unwrap());
        let mut value = words.next().unwrap().as_bytes().to_vec();
        value.resize(IDENTITY, 0);
        (IdentityKey { kind, id }, value)
    };
    WRITTEN.lines().map(element).collect()
}

/// The maps of the agent that wrote it: the endpoint 10.1.2.2 was in both subsets of `reviews.shop`,
/// under an id for each.
fn content() -> Content {
    let subset = |id, len, table| Subset { id, len, table, ..Subset::zeroed() };
    let split = |subsets: &[Subset]| {
        let mut split = Split { count: subsets.len() as u32, ..Split::zeroed() };
        split.subsets[..subsets.len()].copy_from_slice(subsets);
        split
    };
    let indices = [16, 16, 17, 17, 32, 48, 64];
    let endpoints = (0u32..).zip(indices).map(|(id, index): (u32, u32)| {
        (id, [vec![1; ENDPOINT], index.to_ne_bytes().to_vec()].concat())
    });
    Content {
        identities: written(),
        endpoints: endpoints.collect(),
        splits: BTreeMap::from([
            (1, split(&[subset(16, 127, 8), subset(17, 1, 2)])),
            (2, split(&[subset(32, 1, 4)])),
            (3, split(&[subset(48, 1, 5)])),
            (4, Split::zeroed()),
        ]),
        tables: BTreeMap::from([(8, BTreeSet::from([0, 1]))]),
    }
}

/// What it is in this layout.
fn converted() -> Content {
    let before = content();
    let up = Up::of(&before);
    let value = |map: &str, key: &[u8], value: &[u8]| up.value(map, key, value);
    Content {
        identities: before
            .identities
            .iter()
            .filter_map(|(key, old)| Some((*key, value("IDENTITIES", bytes_of(key), old)?)))
            .collect(),
        endpoints: before
            .endpoints
            .iter()
            .filter_map(|(id, old)| Some((*id, value("ENDPOINTS", bytes_of(id), old)?)))
            .collect(),
        splits: before
            .splits
            .iter()
            .map(|(id, old)| {
                let found = value("SPLITS", bytes_of(&(2 * id)), bytes_of(old)).unwrap();
                (*id, pod_read_unaligned(&found))
            })
            .collect(),
        tables: before.tables.clone(),
    }
}

#[test]
fn all_that_it_wrote_is_understood() {
    let after = converted();
    let found: BTreeMap<Key, Identity> = after
        .identities
        .iter()
        .map(|(key, value)| identity::decode(key, value.as_slice().try_into().unwrap()).unwrap())
        .collect();
    // All but the second id of an endpoint that has one now.
    assert_eq!(found.len(), WRITTEN.lines().count() - 1);
    assert!(!found.contains_key(&Key::Endpoint(2)));
    let split = |id| match &found[&Key::Split(id)] {
        Identity::Split { name, address, settings, until } => {
            (name.to_string(), *address, settings.drain_seconds, *until)
        }
        other => panic!("{other:?}"),
    };
    let endpoint = |id| match &found[&Key::Endpoint(id)] {
        Identity::Endpoint { service, address, subset, until } => {
            (*service, address.to_string(), *subset, *until)
        }
        other => panic!("{other:?}"),
    };
    for (id, name, socket, protocol, drain, until) in [
        (1, "reviews.shop", "10.96.0.10:9080", Protocol::Tcp, 300, None),
        (2, "reviews.shop.v6", "[2001:db8:f::10]:9080", Protocol::Tcp, 0, None),
        (3, "names", "10.96.0.53:53", Protocol::Udp, 86_400, None),
        (4, "gone", "10.96.0.99:80", Protocol::Tcp, 300, Some(90_000)),
    ] {
        let (found, address, kept, end) = split(id);
        assert_eq!((found.as_str(), kept, end), (name, drain, until));
        assert_eq!((address.socket().to_string().as_str(), address.protocol), (socket, protocol));
    }
    for (id, of, address, subset, until) in [
        (0, 1, "10.1.1.2:80", 16, None),
        (1, 1, "10.1.2.2:80", 16, None),
        (3, 1, "10.1.3.2:80", 17, Some(90_500)),
        (4, 2, "[2001:db8:1:1::2]:80", 32, None),
        (5, 3, "10.1.1.2:53", 48, None),
        (6, 4, "10.1.9.2:8080", 64, Some(90_000)),
    ] {
        let expected = (split(of).1, address.to_owned(), first_generation(subset), until);
        assert_eq!(endpoint(id), expected, "endpoint {id}");
    }
}

#[test]
fn it_is_given_back_to_the_byte() {
    let after = converted();
    let down = Down::of(&after);
    let back: BTreeMap<(u32, u32), Vec<u8>> = after
        .identities
        .iter()
        .map(|(key, value)| {
            let found = down.value("IDENTITIES", bytes_of(key), value).unwrap();
            ((key.kind, key.id), found)
        })
        .collect();
    let mut expected: BTreeMap<(u32, u32), Vec<u8>> =
        written().into_iter().map(|(key, value)| ((key.kind, key.id), value)).collect();
    expected.remove(&(IDENTITY_ENDPOINT, 2));
    for kind in [IDENTITY_SPLIT, IDENTITY_SUBSET, IDENTITY_ENDPOINT] {
        let of = |all: &BTreeMap<(u32, u32), Vec<u8>>| {
            all.iter()
                .filter(|((found, _), _)| *found == kind)
                .map(|((_, id), value)| format!("{id} {}", String::from_utf8_lossy(value)))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&back), of(&expected), "kind {kind}");
    }
}
