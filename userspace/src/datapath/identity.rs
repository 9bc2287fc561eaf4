//! How an [`Identity`] is written down in the map IDENTITIES: JSON, padded with
//! zeros. Fields go by name, so that a build that knows more of them reads what one
//! that knew fewer wrote, and the other way round.

use std::net::SocketAddr;

use probe_common::map;
use serde::{Deserialize, Serialize};

use crate::model::{Name, Protocol, ServiceAddress, SplitSettings};
use crate::plan::{Identity, IdentityKey};

/// The map's key.
pub(super) fn key(key: IdentityKey) -> map::IdentityKey {
    let (kind, id) = match key {
        IdentityKey::Split(id) => (map::IDENTITY_SPLIT, id),
        IdentityKey::Subset(id) => (map::IDENTITY_SUBSET, id),
        IdentityKey::Endpoint(id) => (map::IDENTITY_ENDPOINT, id),
    };
    map::IdentityKey { kind, id }
}

/// What is written down of a split.
#[derive(Serialize, Deserialize)]
struct SplitText {
    name: Name,
    service: ServiceText,
    #[serde(flatten)]
    settings: SplitSettings,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// What is written down of a subset.
#[derive(Serialize, Deserialize)]
struct SubsetText {
    name: Name,
}

/// What is written down of an endpoint.
#[derive(Serialize, Deserialize)]
struct EndpointText {
    service: ServiceText,
    address: SocketAddr,
    subset: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

/// A service address: protocol number and socket.
#[derive(Serialize, Deserialize)]
struct ServiceText(u8, SocketAddr);

impl From<ServiceAddress> for ServiceText {
    fn from(address: ServiceAddress) -> Self {
        Self(address.protocol.number(), address.socket())
    }
}

impl ServiceText {
    fn address(&self) -> Option<ServiceAddress> {
        let Self(number, socket) = *self;
        let mut known = [Protocol::Tcp, Protocol::Udp].into_iter();
        let protocol = known.find(|protocol| protocol.number() == number)?;
        Some(ServiceAddress { ip: socket.ip(), port: socket.port(), protocol })
    }
}

/// The map's value; None if it is too long for the map.
pub(super) fn encode(identity: &Identity) -> Option<map::Identity> {
    let text = match identity.clone() {
        Identity::Split { name, address, settings, until } => {
            serde_json::to_vec(&SplitText { name, service: address.into(), settings, until })
        }
        Identity::Subset(name) => serde_json::to_vec(&SubsetText { name }),
        Identity::Endpoint { service, address, subset, until } => {
            serde_json::to_vec(&EndpointText { service: service.into(), address, subset, until })
        }
    };
    let text = text.ok()?;
    let mut value: map::Identity = [0; size_of::<map::Identity>()];
    value.get_mut(..text.len())?.copy_from_slice(&text);
    Some(value)
}

/// What the map says; None if another kind of agent wrote it.
pub(super) fn decode(
    key: &map::IdentityKey,
    value: &map::Identity,
) -> Option<(IdentityKey, Identity)> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    Some(match key.kind {
        map::IDENTITY_SPLIT => {
            let SplitText { name, service, settings, until } = serde_json::from_str(text).ok()?;
            let address = service.address()?;
            (IdentityKey::Split(key.id), Identity::Split { name, address, settings, until })
        }
        map::IDENTITY_SUBSET => {
            let SubsetText { name } = serde_json::from_str(text).ok()?;
            (IdentityKey::Subset(key.id), Identity::Subset(name))
        }
        map::IDENTITY_ENDPOINT => {
            let EndpointText { service, address, subset, until } =
                serde_json::from_str(text).ok()?;
            let service = service.address()?;
            (IdentityKey::Endpoint(key.id), Identity::Endpoint { service, address, subset, until })
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Affinity;

    #[test]
    fn identities_come_back_as_they_were() {
        let name = |text: &str| Name::new(text).unwrap();
        let long = name(&[&*"x".repeat(63), &*"y".repeat(63), &*"z".repeat(63)].join("."));
        let address = ServiceAddress {
            ip: "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
            port: 65_535,
            protocol: Protocol::Udp,
        };
        let settings = SplitSettings { affinity: Affinity::ClientIp, drain_seconds: u64::MAX };
        for until in [None, Some(u64::MAX)] {
            let cases = [
                (
                    IdentityKey::Split(7),
                    Identity::Split { name: long.clone(), address, settings, until },
                ),
                (IdentityKey::Subset(8), Identity::Subset(long.clone())),
                (
                    IdentityKey::Endpoint(9),
                    Identity::Endpoint {
                        service: address,
                        address: address.socket(),
                        subset: u32::MAX,
                        until,
                    },
                ),
            ];
            for (id, identity) in cases {
                let value = encode(&identity).unwrap();
                assert_eq!(decode(&key(id), &value), Some((id, identity)));
            }
        }
        let junk = map::IdentityKey { kind: 0, id: 1 };
        assert_eq!(decode(&junk, &[0; size_of::<map::Identity>()]), None);
    }

    #[test]
    fn what_a_later_build_wrote_beside_is_passed_over() {
        let mut value: map::Identity = [0; size_of::<map::Identity>()];
        let text = br#"{"name": "v1", "later": [1, 2]}"#;
        value[..text.len()].copy_from_slice(text);
        let id = IdentityKey::Subset(3);
        let identity = Identity::Subset(Name::new("v1").unwrap());
        assert_eq!(decode(&key(id), &value), Some((id, identity)));
    }

    #[test]
    fn settings_go_by_name() {
        let key = map::IdentityKey { kind: map::IDENTITY_SPLIT, id: 7 };
        let read = |text: &str| {
            let mut value: map::Identity = [0; size_of::<map::Identity>()];
            value[..text.len()].copy_from_slice(text.as_bytes());
            match decode(&key, &value) {
                Some((IdentityKey::Split(7), Identity::Split { settings, .. })) => settings,
                other => panic!("{other:?}"),
            }
        };
        let of = |settings: &str| {
            read(&format!(r#"{{"name":"a","service":[6,"10.0.0.1:80"]{settings}}}"#))
        };
        let affinity = Affinity::ClientIp;
        let both = SplitSettings { affinity, drain_seconds: 5 };
        assert_eq!(of(r#","drainSeconds":5,"affinity":"ClientIP""#), both, "in any order");
        assert_eq!(of(""), SplitSettings::default(), "what is not there has its default");
        assert_eq!(of(r#","affinity":"ClientIP""#), affinity.into());
        assert_eq!(of(r#","later":{"x":1},"drainSeconds":5,"affinity":"ClientIP""#), both);
        assert_eq!(of(r#","drain":5"#).drain_seconds, 5, "as it was called before");
    }
}
