//! The splits, the packets of each kind, and what must come out of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use weir::explain::explain;
use weir::model::{Affinity, Name, Protocol, ServiceAddress, Split, Subset};
use weir_tests::packet::{ACK, Packet, SYN, checksums_ok, tuple};

use super::node::SEED;

/// Bytes behind the headers: those that are restored reach into them.
pub const PAYLOAD: [u8; 46] = [0x77; 46];
/// Endpoints of each subset.
const ENDPOINTS: usize = 3;

/// A kind of packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// From a client to another destination.
    NonSplit,
    /// From a client, of an established flow to the split with two subsets.
    Forward,
    /// Reply of an established flow.
    Reply,
    /// First packet of a flow to the split with two subsets.
    Syn2,
    /// First packet of a flow to the split with sixteen subsets.
    Syn16,
    /// What the endpoint says to the first packet of a flow to the split with two subsets.
    SynAck,
    /// The client's answer, which makes the flow an established one, with its first data.
    Ack,
    /// The first data of the endpoint.
    Answer,
    /// The flow's first packet in another second, with which it moves to the flow tables.
    Later,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::NonSplit => "non-split",
            Self::Forward => "established forward",
            Self::Reply => "established reply",
            Self::Syn2 => "new flow: SYN, 2 subsets",
            Self::Syn16 => "new flow: SYN, 16 subsets",
            Self::SynAck => "new flow: SYN-ACK",
            Self::Ack => "new flow: ACK with data",
            Self::Answer => "new flow: first answer",
            Self::Later => "flow that lives on",
        }
    }

    /// Whether it comes from an endpoint.
    pub fn is_reply(self) -> bool {
        matches!(self, Self::Reply | Self::SynAck | Self::Answer)
    }
}

/// Service addresses and clients of one family.
pub struct Scene {
    pub v6: bool,
    /// Two subsets, 90 to 10.
    pub two: Split,
    /// Sixteen subsets, of weights 1 to 16.
    pub sixteen: Split,
}

impl Scene {
    pub fn new(v6: bool) -> Result<Self> {
        Ok(Self {
            v6,
            two: split(v6, 0x10, &[90, 10])?,
            sixteen: split(v6, 0x20, &std::array::from_fn::<u32, 16, _>(|at| at as u32 + 1))?,
        })
    }

    pub fn family(&self) -> &'static str {
        if self.v6 { "IPv6" } else { "IPv4" }
    }

    /// The split that packets of this kind are addressed to or come from.
    pub fn split(&self, kind: Kind) -> &Split {
        if kind == Kind::Syn16 { &self.sixteen } else { &self.two }
    }

    /// The client of flow `n`: a thousand ports on each of many addresses.
    pub fn client(&self, n: u32) -> SocketAddr {
        let (host, port) = (n / 1000, 1024 + (n % 1000) as u16 * 61);
        let ip = if self.v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 7, 0, 0, 0, 0, 1 + host as u16).into()
        } else {
            Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 7, 0, 1)) + host).into()
        };
        SocketAddr::new(ip, port)
    }

    /// The endpoint that flow `n` must get.
    pub fn endpoint(&self, kind: Kind, n: u32) -> Result<SocketAddr> {
        explain(SEED, self.split(kind), self.client(n))
            .and_then(|explanation| explanation.endpoint)
            .context("a split without endpoints")
    }

    /// The packet of flow `n`, which was steered to `endpoint`.
    pub fn packet(&self, kind: Kind, n: u32, endpoint: SocketAddr) -> Vec<u8> {
        let (client, vip) = (self.client(n), self.split(kind).address().socket());
        let packet = match kind {
            Kind::NonSplit => Packet::tcp(client, address(self.v6, 0x99)).flags(ACK),
            Kind::Syn2 | Kind::Syn16 => Packet::tcp(client, vip).flags(SYN),
            Kind::SynAck => Packet::tcp(endpoint, client).flags(SYN | ACK).seq(0).ack(2),
            Kind::Ack | Kind::Later | Kind::Forward => Packet::tcp(client, vip).flags(ACK).ack(1),
            Kind::Reply | Kind::Answer => Packet::tcp(endpoint, client).flags(ACK),
        };
        packet.payload(&PAYLOAD).build()
    }

    /// Whether `out` is what must become of the packet of flow `n`.
    pub fn check(&self, kind: Kind, n: u32, endpoint: SocketAddr, out: &[u8]) -> Result<()> {
        let (client, vip) = (self.client(n), self.split(kind).address().socket());
        let seen = tuple(out).context("not even a TCP packet came out")?;
        let wanted = match kind {
            Kind::NonSplit => (client, address(self.v6, 0x99)),
            Kind::Syn2 | Kind::Syn16 | Kind::Ack | Kind::Later | Kind::Forward => {
                (client, endpoint)
            }
            Kind::SynAck | Kind::Reply | Kind::Answer => (vip, client),
        };
        let what = format!("{}, {}, flow {n}", kind.name(), self.family());
        ensure!(
            (seen.source, seen.destination) == wanted,
            "{what}: came out as {seen:?} instead of {wanted:?}"
        );
        ensure!(checksums_ok(out), "{what}: wrong checksum");
        if kind == Kind::NonSplit {
            ensure!(out == self.packet(kind, n, endpoint), "{what}: was changed");
        }
        Ok(())
    }
}

fn address(v6: bool, host: u8) -> SocketAddr {
    let ip: IpAddr = if v6 {
        Ipv6Addr::new(0x2001, 0xdb8, 0xf, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(203, 0, 113, host).into()
    };
    SocketAddr::new(ip, 9080)
}

fn split(v6: bool, host: u8, weights: &[u32]) -> Result<Split> {
    let socket = address(v6, host);
    let subsets = (0_u16..).zip(weights).map(|(at, &weight)| {
        let endpoint = |n| {
            let ip: IpAddr = if v6 {
                Ipv6Addr::new(0x2001, 0xdb8, 1, at, 0, 0, 0, 1 + n as u16).into()
            } else {
                Ipv4Addr::new(198, 51, 100, at as u8 * 10 + n as u8 + 1).into()
            };
            SocketAddr::new(ip, 8080)
        };
        let name = Name::new(format!("v{}", at + 1))?;
        Ok(Subset { name, weight, endpoints: (0..ENDPOINTS).map(endpoint).collect() })
    });
    let family = if v6 { "v6" } else { "v4" };
    let name = Name::new(format!("split-{family}-{}", weights.len()))?;
    let address = ServiceAddress { ip: socket.ip(), port: socket.port(), protocol: Protocol::Tcp };
    Ok(Split::new(name, address, Affinity::None, subsets.collect::<Result<_>>()?)?)
}
