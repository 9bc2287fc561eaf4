//! An endpoint on the clients' own link: its answers to clients there go round the node, which can
//! only say so.

mod fast_path;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use fast_path::{DATAGRAMS, LINES, TIMEOUT, setup};
use weir::model::Protocol;
use weir_tests::agent::{SPLITS, program};
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{Server, tcp_identity, udp_identity};
use weir_tests::topology::{ETH, EndpointSpec, Topology, vips};

/// The network of clients: a bridge of the node.
const LAN: &str = "lan0";
/// So long nobody waits for an answer that comes.
const LOST: Duration = Duration::from_millis(700);

/// Connects a namespace to the network, as its host of that number, with the node as its router.
fn plug(node: &Netns, ns: &Netns, number: u8) {
    let port = format!("port-{number}");
    node.ip(&[
        format!("link add {port} type veth peer name {ETH} netns {}", ns.name()),
        format!("link set {port} master {LAN}"),
        format!("link set {port} up"),
    ])
    .expect("port");
    ns.ip(&[
        format!("address add 10.9.0.{number}/24 dev {ETH}"),
        format!("address add 2001:db8:9::{number}/64 dev {ETH} nodad"),
        format!("link set {ETH} up"),
        "route add default via 10.9.0.1".to_owned(),
        "route add default via 2001:db8:9::1".to_owned(),
    ])
    .expect("host");
}

/// How many of the four services answer: TCP and UDP, of both families.
fn answers(client: &Netns, wait: Duration) -> usize {
    let ask = |vip| {
        let tcp = tcp_identity(SocketAddr::new(vip, LINES), wait);
        [tcp, udp_identity(SocketAddr::new(vip, DATAGRAMS), "x", wait)]
    };
    client.run(|| vips().into_iter().flat_map(ask).filter(Result::is_ok).count())
}

/// The services with the endpoint nearby.
fn nearby() -> String {
    let of = |vip: IpAddr| {
        let (family, ip) = if vip.is_ipv4() { ("v4", "10.9.0.3") } else { ("v6", "2001:db8:9::3") };
        [("lines", Protocol::Tcp, LINES), ("udp", Protocol::Udp, DATAGRAMS)].map(
            |(name, protocol, port)| {
                let address = SocketAddr::new(vip, port);
                SplitYaml::new(&format!("{name}-{family}"), address, protocol)
                    .subset("v1", 1, &[ip.parse().expect("address")], PORT)
                    .text()
            },
        )
    };
    vips().into_iter().flat_map(of).collect::<Vec<_>>().join("---\n")
}

/// Client and endpoint on one bridge of the node.
struct Lan {
    scene: Scene,
    client: Netns,
    near: Netns,
    _servers: (Server, Server),
}

/// The services are those of an endpoint elsewhere, which answers. `carriers` are the interfaces
/// with programs.
fn lan(carriers: &[(&'static str, &'static str)]) -> Lan {
    let topology = Topology::new(&[EndpointSpec::new("a")]).expect("topology");
    let [client, near] = [(); 2].map(|()| Netns::new().expect("namespace"));
    topology
        .node
        .ip(&[
            format!("link add {LAN} type bridge"),
            format!("address add 10.9.0.1/24 dev {LAN}"),
            format!("address add 2001:db8:9::1/64 dev {LAN} nodad"),
            format!("link set {LAN} up"),
        ])
        .expect("bridge");
    plug(&topology.node, &client, 2);
    plug(&topology.node, &near, 3);
    let at = |ip: &str| SocketAddr::new(ip.parse().expect("address"), PORT);
    let servers = (
        Server::tcp(&near, at("::"), "near").expect("TCP"),
        Server::udp(&near, at("::"), "near").expect("UDP"),
    );
    let scene = Scene::on(topology, |t| setup(t, "off").interfaces(carriers)).expect("scene");
    assert_eq!(answers(&client, TIMEOUT), 4, "the endpoint elsewhere");
    assert_eq!(scene.agent.status().expect("status").detours, [], "nothing goes round the node");
    scene.agent.replace(SPLITS, &nearby());
    Lan { scene, client, near, _servers: servers }
}

#[test]
fn an_endpoint_on_the_clients_link_is_named() {
    let Lan { scene, client, near, .. } = &lan(&[(LAN, "tc")]);
    let agent = &scene.agent;
    let status =
        agent.await_status("the endpoint nearby is named", |status| !status.detours.is_empty());
    let [link] = &status.detours[..] else { panic!("{:?}", status.detours) };
    assert_eq!((link.interface.as_str(), link.count), (LAN, 2), "{link:?}");
    assert!(link.endpoints[0].starts_with("10.9.0.3:80 ("), "{link:?}");
    assert!(link.endpoints[1].starts_with("[2001:db8:9::3]:80 ("), "{link:?}");
    let said = agent.printed(&["status"]);
    assert!(said.contains("Endpoints on a link of clients"), "{said}");
    assert!(said.contains("lan0: 10.9.0.3:80 ("), "{said}");
    let doctor = scene
        .topology
        .node
        .command(program().expect("program").to_str().expect("path"))
        .arg("--socket")
        .arg(agent.socket())
        .args(["doctor", "--config"])
        .arg(agent.directory().join("agent.yaml"))
        .output()
        .expect("doctor");
    let said = String::from_utf8_lossy(&doctor.stdout);
    assert!(said.contains("endpoint 10.9.0.3:80 ("), "{said}");
    assert!(said.contains("is on the clients' link lan0"), "{said}");
    // It is so.
    assert_eq!(answers(client, LOST), 0, "answers of the endpoint nearby");
    // What is advised helps.
    near.ip(&[
        "route add 10.9.0.2/32 via 10.9.0.1",
        "route add 2001:db8:9::2/128 via 2001:db8:9::1",
    ])
    .expect("routes");
    assert_eq!(answers(client, TIMEOUT), 4, "by this node");
}

#[test]
fn what_a_bridge_forwards_comes_from_the_service_where_its_ports_have_programs() {
    let Lan { scene, client, .. } = &lan(&[("port-*", "tc")]);
    scene.agent.await_status("it has the endpoint nearby", |_| {
        scene.agent.split("lines-v6").is_ok_and(|split| {
            split.subsets[0].endpoints[0].address.to_string() == "[2001:db8:9::3]:80"
        })
    });
    assert_eq!(answers(client, TIMEOUT), 4, "answers of the endpoint nearby");
    assert_eq!(scene.agent.status().expect("status").detours, [], "nothing goes round the node");
}
