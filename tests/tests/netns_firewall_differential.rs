//! Rules drawn by lot, and packets through them: where the judge says that rules do not matter,
//! packets fare as they would without.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use weir::fast_path::{Firewall, Target};
use weir::netlink::Netlink;
use weir_tests::client::{connect_from, exchange, udp_from};
use weir_tests::netns::Netns;
use weir_tests::rng::Rng;
use weir_tests::server::{Server, read_line, say};
use weir_tests::topology::{CLIENT_V4, EndpointSpec, Topology, VIP_V4};

/// How many rule sets are drawn; `stress` sets another number, and where to begin.
const SETS: u64 = 150;
/// Where the endpoint listens.
const PORT: u16 = 80;
/// What does not come by then does not come.
const LOST: Duration = Duration::from_millis(500);
/// TTL of packets that the client and the endpoint send.
const TTL: u8 = 64;

/// Draws rules about packets of a flow, and about others.
struct Lot {
    rng: Rng,
    endpoint: Ipv4Addr,
    client_port: u16,
}

impl Lot {
    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.rng.below(of.len() as u64) as usize]
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.rng.below(100) < percent
    }

    fn address(&mut self) -> String {
        let endpoint = self.endpoint.to_string();
        let client = CLIENT_V4.to_string();
        let service = VIP_V4.to_string();
        self.one(&[
            &endpoint,
            &client,
            &service,
            "198.51.100.7",
            "10.1.0.0/16",
            "192.0.2.0/24",
            "198.51.100.0/24",
            "10.1.1.3-10.1.1.9",
            "10.1.1.0-10.1.1.2",
        ])
        .to_owned()
    }

    fn port(&mut self) -> String {
        let client = self.client_port.to_string();
        self.one(&["80", &client, "22", "443", "70-90", "8000-9000", "1-1023", "5000"]).to_owned()
    }

    fn condition(&mut self) -> String {
        let not = if self.chance(25) { "!= " } else { "" };
        let endpoint = self.endpoint;
        match self.rng.below(16) {
            0 => format!("ip saddr {not}{}", self.address()),
            1 | 2 => format!("ip daddr {not}{}", self.address()),
            3 => format!("tcp dport {not}{}", self.port()),
            4 => format!("udp dport {not}{}", self.port()),
            5 => format!("th sport {not}{}", self.port()),
            6 => format!(
                "ct state {}",
                self.one(&[
                    "new",
                    "established",
                    "invalid",
                    "related",
                    "new,established",
                    "untracked"
                ])
            ),
            7 => format!("meta mark {not}{}", self.one(&["0", "1", "0x4000", "2-9"])),
            8 => format!("meta l4proto {not}{}", self.one(&["tcp", "udp", "icmp", "{ tcp, udp }"])),
            9 => format!("ct status {}", self.one(&["dnat", "snat"])),
            10 => format!(
                "ip daddr . th dport {not}{{ {endpoint} . {}, 198.51.100.9 . 53 }}",
                self.one(&["80", "81", "22"])
            ),
            11 => format!("ip saddr {not}@{}", self.one(&["some", "ranges"])),
            12 => format!("ip daddr {not}@{}", self.one(&["some", "ranges", "timed"])),
            13 => format!("ct direction {}", self.one(&["original", "reply"])),
            14 => self
                .one(&[
                    "ip version 4",
                    "ip protocol udp",
                    "ip6 hoplimit 9",
                    "ip frag-off & 0x1fff != 0",
                    "meta protocol ip6",
                    "meta nfproto ipv4",
                    "ip ttl < 3",
                    "iifname \"veth-client\"",
                    "tcp flags syn",
                ])
                .to_owned(),
            _ => format!(
                "meta mark & {} == {}",
                self.one(&["0x1", "0xff"]),
                self.one(&["0x0", "0x1"])
            ),
        }
    }

    fn statement(&mut self, chain: &str, nat: bool) -> String {
        let endpoint = self.endpoint;
        let called = if chain == "base" { self.one(&["one", "two"]) } else { "two" };
        match self.rng.below(if nat { 12 } else { 17 }) {
            0 | 1 => "counter".to_owned(),
            2 | 3 => "accept".to_owned(),
            4 => "return".to_owned(),
            5 | 6 if chain != "two" => format!("jump {called}"),
            7 if chain != "two" => format!("goto {called}"),
            8 => "meta mark set 7".to_owned(),
            9 => "ip dscp set cs3".to_owned(),
            10 if chain != "two" => format!(
                "th dport vmap {{ 22 : drop, 80 : {}, 5000-6000 : jump {called} }}",
                self.one(&["accept", "drop", "continue", "return"])
            ),
            11 if chain != "two" => {
                format!("ip daddr vmap {{ {endpoint} : jump {called}, 198.51.100.0/24 : drop }}")
            }
            12 | 13 => "drop".to_owned(),
            14 => "ip ttl set 9".to_owned(),
            15 => "reject".to_owned(),
            _ => "counter accept".to_owned(),
        }
    }

    fn rules(&mut self, chain: &str, nat: bool) -> String {
        let mut rules = String::new();
        for _ in 0..self.rng.below(4) {
            for _ in 0..self.rng.below(4) {
                rules.push_str(&format!("{} ", self.condition()));
            }
            rules.push_str(&format!("{}\n", self.statement(chain, nat)));
        }
        rules
    }

    fn base(&mut self) -> (String, bool) {
        match self.rng.below(6) {
            0 => ("type nat hook prerouting priority -100".to_owned(), true),
            1 => ("type nat hook postrouting priority 100".to_owned(), true),
            n => {
                let hook = ["prerouting", "postrouting", "forward", "forward"][n as usize - 2];
                let priority = self.one(&["-300", "-150", "0", "50"]);
                (format!("type filter hook {hook} priority {priority}"), false)
            }
        }
    }

    /// A rule set, of one table or two.
    fn table(&mut self) -> String {
        let mut text = String::new();
        for name in ["s", "t"].iter().take(1 + self.rng.below(2) as usize) {
            let (base, nat) = self.base();
            let policy = if !nat && self.chance(10) { "drop" } else { "accept" };
            let end = if nat && self.chance(60) {
                let conditions = [self.condition(), self.condition()];
                let meta = "meta l4proto { tcp, udp }";
                let what = if base.contains("prerouting") {
                    "dnat ip to 198.51.100.3"
                } else {
                    "snat ip to 192.0.2.77"
                };
                format!("{} {meta} {what}\n", conditions.join(" "))
            } else {
                String::new()
            };
            text.push_str(&format!(
                "table inet {name} {{\n\
                 set some {{ type ipv4_addr; elements = {{ {}, 198.51.100.5 }}\n}}\n\
                 set ranges {{ type ipv4_addr; flags interval; elements = {{ {} }}\n}}\n\
                 set timed {{ type ipv4_addr; flags timeout; }}\n\
                 chain two {{\n{}}}\nchain one {{\n{}}}\n\
                 chain base {{\n{base}; policy {policy};\n{}{end}}}\n}}\n",
                self.one(&["10.1.1.2", "198.51.100.6"]),
                self.one(&[
                    "10.1.0.0/24",
                    "10.1.1.0/24",
                    "192.0.2.128-192.0.2.255",
                    "198.51.100.0/28"
                ]),
                self.rules("two", nat),
                self.rules("one", nat),
                self.rules("base", nat),
            ));
        }
        text
    }
}

/// What comes to a namespace: addresses, TTL and type of service of packets.
struct Tap(Socket);

impl Tap {
    fn new(ns: &Netns) -> Self {
        const IPV4: i32 = 0x0800_u16.to_be() as i32;
        let socket =
            ns.run(|| Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(IPV4))));
        let socket = socket.expect("a packet socket");
        socket.set_nonblocking(true).expect("non-blocking");
        Self(socket)
    }

    /// Of the packets from one address: type of service, TTL, source and destination.
    fn take(&mut self, from: IpAddr) -> Vec<(u8, u8, Ipv4Addr, Ipv4Addr)> {
        let (mut seen, mut buffer) = (Vec::new(), [0; 2048]);
        loop {
            match self.0.read(&mut buffer) {
                Ok(length) if length >= 20 => {
                    let address = |at: usize| {
                        Ipv4Addr::new(buffer[at], buffer[at + 1], buffer[at + 2], buffer[at + 3])
                    };
                    // Its own packets have their whole TTL.
                    if buffer[8] != TTL || IpAddr::V4(address(12)) == from {
                        seen.push((buffer[1], buffer[8], address(12), address(16)));
                    }
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return seen,
                Err(error) => panic!("the packet socket: {error}"),
            }
        }
    }
}

/// Speaks with the endpoint over UDP and TCP; what is wrong with that.
fn converse(topology: &Topology, port: u16, taps: &mut [Tap; 2]) -> Result<(), String> {
    const SERVICE: u8 = 0x10;
    let endpoint = topology.endpoint("a").v4;
    let to = SocketAddr::new(endpoint.into(), PORT);
    let from = SocketAddr::new(CLIENT_V4.into(), port);
    taps.iter_mut().for_each(|tap| drop(tap.take(endpoint.into())));
    topology.client.run(|| {
        let error = |what: &str, error: std::io::Error| format!("{what}: {error}");
        let socket = udp_from(from, to).map_err(|e| error("UDP", e))?;
        socket.set_read_timeout(Some(LOST)).expect("time-out");
        setsockopt(&socket, sockopt::Ipv4Tos, &SERVICE.into()).expect("IP_TOS");
        for n in 0..3 {
            let answer =
                exchange(&socket, b"hello").map_err(|e| error(&format!("datagram {n}"), e))?;
            if answer != "a" {
                return Err(format!("datagram {n}: {answer}"));
            }
        }
        let mut stream = connect_from(from, to).map_err(|e| error("connect", e))?;
        stream.set_read_timeout(Some(LOST)).expect("time-out");
        setsockopt(&stream, sockopt::Ipv4Tos, &SERVICE.into()).expect("IP_TOS");
        read_line(&mut stream).map_err(|e| error("identity", e))?;
        say(&mut stream, "hello").map_err(|e| error("echo", e))?;
        Ok(())
    })?;
    let [there, back] = taps.each_mut().map(|tap| tap.take(IpAddr::V4(Ipv4Addr::UNSPECIFIED)));
    if there.len() < 6 || back.len() < 6 {
        return Err(format!("{} and {} packets were seen", there.len(), back.len()));
    }
    for (seen, from, to) in [(&there, CLIENT_V4, endpoint), (&back, endpoint, CLIENT_V4)] {
        let is_right = |&(service, ttl, source, destination): &(u8, u8, Ipv4Addr, Ipv4Addr)| {
            // The SYN is sent before the type of service is set, and the endpoint sets none.
            ttl == TTL - 1 && (source, destination) == (from, to) && [0, SERVICE].contains(&service)
        };
        if let Some(wrong) = seen.iter().find(|packet| !is_right(packet)) {
            return Err(format!("{wrong:?} is not from {from} to {to}"));
        }
    }
    Ok(())
}

/// Counts packets that leave the node with a mark; not what the node has to say of itself.
const PROBE: &str = "table inet zz_probe {\ncounter marked { }\nchain p {\n\
                     type filter hook postrouting priority 9999;\n\
                     ip version 4 meta l4proto { tcp, udp } meta mark != 0 counter name marked\n}\n}\n";

fn number(key: &str, default: u64) -> u64 {
    std::env::var(key).map_or(default, |text| text.parse().expect(key))
}

#[test]
fn rules_that_do_not_matter_make_no_difference() {
    let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
    let (node, endpoint) = (&topology.node, topology.endpoint("a"));
    let at = SocketAddr::new(endpoint.v4.into(), PORT);
    let _servers = [
        Server::tcp(&endpoint.ns, at, "a").expect("server"),
        Server::udp(&endpoint.ns, at, "a").expect("server"),
    ];
    let mut taps = [Tap::new(&endpoint.ns), Tap::new(&topology.client)];
    converse(&topology, 9_999, &mut taps).expect("without rules");
    let service = SocketAddr::new(VIP_V4.into(), PORT);
    let targets = [6, 17].map(|protocol| Target { service, endpoint: at, protocol });
    let (mut harmless, mut refused) = (0, 0);
    let seed = number("WEIR_RULES_SEED", 0);
    let sets = number("WEIR_RULES", SETS);
    for n in seed..seed + sets {
        // Tracking would know the flow of a port that was used before.
        let client_port = 10_000 + (n % 50_000) as u16;
        let mut lot = Lot { rng: Rng::new(n), endpoint: endpoint.v4, client_port };
        let rules = lot.table();
        let file = tempfile::NamedTempFile::new().expect("file");
        std::fs::write(file.path(), format!("flush ruleset\n{rules}")).expect("rules");
        if node.output("nft", &["-f", file.path().to_str().expect("UTF-8")]).is_err() {
            refused += 1;
            continue;
        }
        let objection = node.run(|| {
            let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).expect("netlink");
            Firewall::read(&mut netlink).expect("rules").objection(targets)
        });
        if objection.is_some() {
            continue;
        }
        harmless += 1;
        node.output("nft", &[PROBE]).expect("probe");
        converse(&topology, client_port, &mut taps)
            .unwrap_or_else(|error| panic!("rules {n} do matter: {error}\n{rules}"));
        let marked = node.output("nft", &["list", "counters"]).expect("counters");
        assert!(marked.contains("packets 0 "), "rules {n} mark:\n{rules}\n{marked}");
    }
    println!("{harmless} of {sets} are harmless, {refused} are not rules");
    // The lot is the same in each run: this many are, if the judge is not too shy.
    assert!(harmless * 10 >= sets, "{harmless} of {sets}");
    assert!(refused * 5 <= sets, "{refused} of {sets} are not rules");
}
