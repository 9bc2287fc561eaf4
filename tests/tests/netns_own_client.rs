//! An endpoint that is its own client, through a node whose stack would not take a packet from the
//! service's address: it is the node's own, or has no way back (rp_filter).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use weir::model::Protocol;
use weir_tests::agent::Setup;
use weir_tests::client::{connect_from, exchange, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{CLIENT_FACING, EndpointSpec, Topology, VIP_V4, VIP_V6, vips};

const SERVICE: u16 = 9080;
/// A SYN that is lost is sent again after a second.
const AT_ONCE: Duration = Duration::from_millis(900);

/// Makes a node's stack what a test needs.
type Prepare = fn(&Topology);

/// What the stack of the node has against packets from the service's address.
const STACKS: [(&str, Prepare); 2] = [
    ("the service's address is the node's own", |topology| {
        let own =
            [VIP_V4.to_string(), VIP_V6.to_string()].map(|ip| format!("address add {ip} dev lo"));
        topology.node.ip(&own).expect("addresses of lo");
    }),
    ("rp_filter=2", |topology| {
        for name in ["all", CLIENT_FACING, &topology.endpoint("a").node_ifname] {
            let key = format!("net/ipv4/conf/{name}/rp_filter");
            topology.node.sysctl(&key, "2").expect("rp_filter");
        }
    }),
];

#[test]
fn an_endpoint_reaches_itself_past_a_stack_that_does_not_take_the_services_address() {
    for (stack, prepare) in STACKS {
        let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
        prepare(&topology);
        let scene = Scene::on(topology, |t| {
            let mut setup = Setup::default().config("hashSeed: 0x5eed\nfastPath: auto\n");
            for (vip, protocol) in
                vips().into_iter().flat_map(|vip| [Protocol::Tcp, Protocol::Udp].map(|p| (vip, p)))
            {
                let family = if vip.is_ipv4() { "v4" } else { "v6" };
                let name = format!("{protocol}-{family}").to_lowercase();
                let split = SplitYaml::new(&name, SocketAddr::new(vip, SERVICE), protocol);
                setup = setup.split(&split.subset("v1", 1, &t.ips(&["a"], vip), PORT).text());
            }
            setup
        })
        .expect("scene");
        let endpoint = scene.topology.endpoint("a");
        for vip in vips() {
            let to = SocketAddr::new(vip, SERVICE);
            for port in 10_000..10_010 {
                let what = format!("{stack}, {vip}, port {port}");
                let source = SocketAddr::new(endpoint.ip(vip), port);
                let start = Instant::now();
                let stream = endpoint.ns.run(|| connect_from(source, to));
                let mut stream = stream.unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(read_line(&mut stream).expect(&what), "a", "{what}");
                let took = start.elapsed();
                assert!(took < AT_ONCE, "{what}: a SYN was lost: {took:?}");
                let socket = endpoint.ns.run(|| udp_from(source, to)).expect(&what);
                socket.set_read_timeout(Some(AT_ONCE)).expect("a time-out");
                for n in 0..3 {
                    let answer = exchange(&socket, b"x");
                    let answer = answer.unwrap_or_else(|e| panic!("{what}, datagram {n}: {e}"));
                    assert_eq!(answer, "a", "{what}");
                }
            }
        }
    }
}
