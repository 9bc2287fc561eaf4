//! What grows, and the splits and flows that there are then.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use probe_common::map::CHUNK;
use weir::datapath::Settings;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir::table::maglev::size_for;

/// Endpoints of a subset, where it is something else that grows.
const ENDPOINTS: u32 = 3;
/// Live flows, where it is something else that grows.
const LIVE: u32 = 10_000;
/// Of all service addresses, and of destinations that are none.
pub const PORT: u16 = 80;

/// What grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Splits of a node. Flows are spread over all of them.
    Splits,
    /// Subsets of a split.
    Subsets,
    /// Endpoints of each of the two subsets of a split.
    Endpoints,
    /// Live flows, to one split.
    Flows,
}

impl Axis {
    pub const ALL: [Self; 4] = [Self::Splits, Self::Subsets, Self::Endpoints, Self::Flows];

    pub fn name(self) -> &'static str {
        match self {
            Self::Splits => "splits",
            Self::Subsets => "subsets of a split",
            Self::Endpoints => "endpoints of a subset",
            Self::Flows => "live flows",
        }
    }

    pub fn sizes(self) -> &'static [u32] {
        match self {
            Self::Splits => &[1, 10, 100, 1_000, 10_000],
            Self::Subsets => &[1, 2, 4, 8, 16],
            Self::Endpoints => &[1, 10, 100, 1_000],
            Self::Flows => &[1, 1_000, 10_000, 100_000, 1_000_000],
        }
    }

    /// How many flows are established.
    pub fn live(self, size: u32) -> u32 {
        if self == Self::Flows { size } else { LIVE }
    }

    pub fn splits(self, size: u32) -> Result<Vec<Split>> {
        let (splits, subsets, endpoints) = match self {
            Self::Splits => (size, 2, ENDPOINTS),
            Self::Subsets => (1, size, ENDPOINTS),
            Self::Endpoints => (1, 2, size),
            Self::Flows => (1, 2, ENDPOINTS),
        };
        (0..splits).map(|number| split(number, subsets, endpoints)).collect()
    }

    /// What maps are made for: the same for all sizes.
    pub fn settings(self) -> Settings {
        let default = Settings::default();
        match self {
            Self::Splits => {
                let subsets = 2 * self.sizes().iter().copied().max().unwrap_or(1);
                let chunks = size_for(ENDPOINTS as usize).unwrap_or(0).div_ceil(CHUNK as u32);
                Settings {
                    splits: subsets / 2,
                    endpoints: subsets * ENDPOINTS,
                    chunks: subsets * chunks,
                    ..default
                }
            }
            // Also for the new flows that are measured. Near its limit, an LRU table evicts.
            Self::Flows => Settings { flows: 1_250_000, ..default },
            Self::Subsets | Self::Endpoints => default,
        }
    }
}

/// A split whose addresses follow from its number.
fn split(number: u32, subsets: u32, endpoints: u32) -> Result<Split> {
    let address = |first: Ipv4Addr, at: u32| Ipv4Addr::from(u32::from(first) + at);
    let subset = |at: u32| {
        let first = (number * subsets + at) * endpoints;
        let endpoint =
            |n| SocketAddr::new(address(Ipv4Addr::new(10, 128, 0, 1), first + n).into(), 8080);
        let name = Name::new(format!("v{}", at + 1))?;
        Ok(Subset { name, weight: at + 1, endpoints: (0..endpoints).map(endpoint).collect() })
    };
    let subsets = (0..subsets).map(subset).collect::<Result<_>>()?;
    let ip = address(Ipv4Addr::new(10, 96, 0, 1), number).into();
    let service = ServiceAddress { ip, port: PORT, protocol: Protocol::Tcp };
    let name = Name::new(format!("split-{number}"))?;
    Ok(Split::new(name, service, Affinity::None, subsets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_splits_share_an_address() {
        let splits = Axis::Splits.splits(1_000).unwrap();
        let endpoints = splits.iter().flat_map(|split| split.subsets()).flat_map(|s| &s.endpoints);
        let mut all: Vec<SocketAddr> = endpoints.copied().collect();
        all.extend(splits.iter().map(|split| split.address().socket()));
        let count = all.len();
        all.sort();
        all.dedup();
        assert_eq!((count, all.len()), (7_000, 7_000));
    }
}
