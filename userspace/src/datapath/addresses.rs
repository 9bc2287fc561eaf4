//! The service addresses at which what is for no split is answered.

use std::collections::HashSet;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use probe_common::map::ServiceKey;

use super::DatapathError;
use crate::explain::words;

/// The map's name.
const MAP: &str = "ADDRESSES";

/// The map of these addresses; see [`super::Settings::other_ports`].
#[derive(Debug)]
pub struct Addresses {
    map: HashMap<MapData, ServiceKey, u32>,
}

impl Addresses {
    /// The map of an object, which is not to be taken from it again.
    pub fn of(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let map = ebpf.take_map(MAP).ok_or(DatapathError::Missing(MAP))?;
        Ok(Self { map: map.try_into().map_err(rejected)? })
    }

    /// Has these addresses in the map, and no others.
    pub fn put(&mut self, wanted: impl IntoIterator<Item = IpAddr>) -> Result<(), DatapathError> {
        let wanted: HashSet<ServiceKey> = wanted.into_iter().map(key).collect();
        let found = self.map.keys().collect::<Result<HashSet<_>, _>>().map_err(rejected)?;
        for gone in found.difference(&wanted) {
            self.map.remove(gone).map_err(rejected)?;
        }
        for new in wanted.difference(&found) {
            self.map.insert(new, 0, 0).map_err(rejected)?;
        }
        Ok(())
    }
}

fn rejected(source: aya::maps::MapError) -> DatapathError {
    DatapathError::Map { map: MAP, source }
}

/// An address, of no port and no protocol.
fn key(ip: IpAddr) -> ServiceKey {
    let family = if ip.is_ipv4() { 4 } else { 6 };
    ServiceKey { address: words(ip), port: 0, protocol: 0, family }
}
