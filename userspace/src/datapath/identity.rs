//! How an [`Identity`] is written down in the map IDENTITIES: words separated
//! by spaces, padded with zeros. Names and addresses have no spaces.

use std::fmt::Write as _;
use std::net::SocketAddr;

use probe_common::map;

use crate::model::{Name, Protocol, ServiceAddress};
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

/// The map's value; None if it is too long for the map.
pub(super) fn encode(identity: &Identity) -> Option<map::Identity> {
    let mut text = String::new();
    let until = match identity {
        Identity::Split { name, address, drain, until } => {
            let (socket, protocol) = (address.socket(), address.protocol);
            write!(text, "{name} {socket} {protocol} {drain}").ok()?;
            until
        }
        Identity::Subset(name) => {
            text.push_str(name.as_str());
            &None
        }
        Identity::Endpoint { split, subset, address, until } => {
            write!(text, "{split} {subset} {address}").ok()?;
            until
        }
    };
    if let Some(until) = until {
        write!(text, " {until}").ok()?;
    }
    let mut value: map::Identity = [0; 256];
    value.get_mut(..text.len())?.copy_from_slice(text.as_bytes());
    Some(value)
}

/// What the map says; None if another kind of agent wrote it.
pub(super) fn decode(
    key: &map::IdentityKey,
    value: &map::Identity,
) -> Option<(IdentityKey, Identity)> {
    let text = std::str::from_utf8(value).ok()?.trim_end_matches('\0');
    let words: Vec<&str> = text.split(' ').collect();
    let name = |at: usize| Name::new(*words.get(at)?).ok();
    let until = |at: usize| words.get(at).map(|word| word.parse().ok()).unwrap_or_default();
    Some(match key.kind {
        map::IDENTITY_SPLIT => {
            let socket: SocketAddr = words.get(1)?.parse().ok()?;
            let protocol = match *words.get(2)? {
                "TCP" => Protocol::Tcp,
                "UDP" => Protocol::Udp,
                _ => return None,
            };
            let address = ServiceAddress { ip: socket.ip(), port: socket.port(), protocol };
            let drain = words.get(3)?.parse().ok()?;
            let identity = Identity::Split { name: name(0)?, address, drain, until: until(4) };
            (IdentityKey::Split(key.id), identity)
        }
        map::IDENTITY_SUBSET => (IdentityKey::Subset(key.id), Identity::Subset(name(0)?)),
        map::IDENTITY_ENDPOINT => {
            let (split, subset, address) = (name(0)?, name(1)?, words.get(2)?.parse().ok()?);
            let identity = Identity::Endpoint { split, subset, address, until: until(3) };
            (IdentityKey::Endpoint(key.id), identity)
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_come_back_as_they_were() {
        let name = |text: &str| Name::new(text).unwrap();
        let long = name(&"x".repeat(63));
        let address = ServiceAddress {
            ip: "2001:db8::1".parse().unwrap(),
            port: 53,
            protocol: Protocol::Udp,
        };
        for until in [None, Some(u64::MAX)] {
            let cases = [
                (
                    IdentityKey::Split(7),
                    Identity::Split { name: long.clone(), address, drain: u64::MAX, until },
                ),
                (IdentityKey::Subset(8), Identity::Subset(name("v1"))),
                (
                    IdentityKey::Endpoint(9),
                    Identity::Endpoint {
                        split: long.clone(),
                        subset: long.clone(),
                        address: address.socket(),
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
        assert_eq!(decode(&junk, &[0; 256]), None);
    }
}
