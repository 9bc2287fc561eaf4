//! The agent from outside: it starts, steers, and goes.

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sys::signal::Signal;
use weir_tests::agent::Setup;
use weir_tests::resource::SplitYaml;
use weir_tests::server::{Server, tcp_identity};
use weir_tests::topology::{EndpointSpec, Topology, VIP_V4};

const TIMEOUT: Duration = Duration::from_secs(5);

#[test]
fn sigterm_detaches_everything() {
    let topology = Topology::new(&[EndpointSpec::new("v1-a")]).expect("topology");
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let endpoint = topology.endpoint("v1-a");
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 80);
    let _server = Server::tcp(&endpoint.ns, any, "v1-a").unwrap();
    let split = SplitYaml::tcp("reviews", vip).subset("v1", 1, &[endpoint.v4.into()], 80).text();
    let mut agent = Setup::default().split(&split).start(&topology.node).unwrap();
    assert_eq!(topology.client.run(|| tcp_identity(vip, TIMEOUT)).unwrap(), "v1-a");
    let status = agent.end(Signal::SIGTERM).unwrap();
    assert!(status.success(), "{status}");
}
