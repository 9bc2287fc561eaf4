//! Which splits there are, and how they change.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};

/// Weights and endpoints of v1 and v2: how a split can be at a time.
const SHAPES: &[([u32; 2], [usize; 2])] = &[
    ([80, 20], [3, 1]),
    ([1, 0], [3, 1]),
    ([0, 1], [3, 1]),
    ([50, 50], [2, 1]),
    // Half, or all, is rejected.
    ([50, 50], [3, 0]),
    ([1, 0], [0, 1]),
    ([50, 50], [1, 1]),
];
/// How many there are.
pub const SHAPE_COUNT: u64 = SHAPES.len() as u64;

/// A service: its address, and the endpoints that it may have.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its address and port.
    pub vip: SocketAddr,
    affinity: Affinity,
    /// Endpoints of v1 (3) and v2 (1).
    pub endpoints: Vec<SocketAddr>,
}

impl Service {
    /// The split, in one of its shapes.
    ///
    /// # Panics
    ///
    /// Never: names and endpoints are valid.
    #[must_use]
    pub fn split(&self, shape: usize) -> Split {
        let (weights, counts) = SHAPES[shape];
        let (v1, v2) = self.endpoints.split_at(3);
        let subset = |name: &str, weight, endpoints: &[SocketAddr]| Subset {
            name: Name::new(name).expect("a name"),
            weight,
            endpoints: endpoints.iter().copied().collect(),
        };
        let subsets = vec![
            subset("v1", weights[0], &v1[..counts[0]]),
            subset("v2", weights[1], &v2[..counts[1]]),
        ];
        let address =
            ServiceAddress { ip: self.vip.ip(), port: self.vip.port(), protocol: self.protocol };
        let name = Name::new(self.name.as_str()).expect("a name");
        Split::new(name, address, self.affinity, subsets).expect("a split")
    }

    /// The endpoints that it has in a shape.
    pub fn endpoints_in(&self, shape: usize) -> impl Iterator<Item = SocketAddr> {
        let counts = SHAPES[shape].1;
        let (v1, v2) = self.endpoints.split_at(3);
        v1[..counts[0]].iter().chain(&v2[..counts[1]]).copied()
    }
}

/// The address of an endpoint.
#[must_use]
pub fn endpoint_ip(v4: bool, n: u8) -> IpAddr {
    if v4 {
        Ipv4Addr::new(198, 51, 100, 10 + n).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + u16::from(n)).into()
    }
}

/// The address of a client.
#[must_use]
pub fn client_ip(v4: bool, n: u8) -> IpAddr {
    if v4 {
        Ipv4Addr::new(203, 0, 113, 7 + n).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 7 + u16::from(n)).into()
    }
}

/// A router on the way.
#[must_use]
pub fn router_ip(v4: bool) -> IpAddr {
    if v4 {
        Ipv4Addr::new(192, 0, 2, 254).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0xfe, 0, 0, 0, 0, 1).into()
    }
}

/// All services: of each family and protocol two that share their endpoints, so that replies of
/// two flows can look alike, and one with client affinity.
#[must_use]
pub fn services() -> Vec<Service> {
    let mut services = Vec::new();
    for v4 in [true, false] {
        let ip: IpAddr = if v4 {
            Ipv4Addr::new(192, 0, 2, 10).into()
        } else {
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10).into()
        };
        let ports = [9080, 8081, 9080, 7000];
        let endpoints = (0..4).map(|n| SocketAddr::new(endpoint_ip(v4, n), ports[usize::from(n)]));
        let endpoints: Vec<_> = endpoints.collect();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            for (port, affinity) in
                [(9080, Affinity::None), (53, Affinity::None), (443, Affinity::ClientIp)]
            {
                services.push(Service {
                    name: format!("{protocol}-{port}-{}", if v4 { "v4" } else { "v6" })
                        .to_lowercase(),
                    protocol,
                    vip: SocketAddr::new(ip, port),
                    affinity,
                    endpoints: endpoints.clone(),
                });
            }
        }
    }
    services
}
