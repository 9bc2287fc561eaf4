//! Live connections while splits and subsets get other names and share out the same endpoints
//! anew: flows know addresses alone.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::connect_from;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::Scene;
use weir_tests::server::{Server, say};
use weir_tests::topology::{Topology, client_ip, vips};

const SERVICE: u16 = 9080;
/// Where the endpoints answer lines.
const LINES: u16 = 9000;
/// Longer than a drain time of a second, and what follows it.
const DRAINED: Duration = Duration::from_millis(2_500);
/// Connections of each family: each endpoint has some, but for one time in 10^8.
const CONNECTIONS: u16 = 48;

/// Names and endpoints of subsets.
type Subsets = &'static [(&'static str, &'static [&'static str])];

/// What comes one after the other: a split's name, its subsets, and what is new.
const HISTORY: [(&str, Subsets, &str); 6] = [
    ("shop", &[("v1", &["a", "b"]), ("v2", &["c"])], "as it began"),
    ("shop", &[("blue", &["a", "b"]), ("green", &["c"])], "subsets have other names"),
    ("shop", &[("blue", &["a"]), ("green", &["b", "c"])], "an endpoint moved"),
    ("shop", &[("green", &["a"]), ("blue", &["b", "c"])], "names were exchanged"),
    ("store", &[("all", &["a", "b", "c"])], "the split has another name"),
    ("shop", &[("v2", &["c"]), ("v1", &["b", "a"])], "as it was before, in another order"),
];

fn splits(topology: &Topology, name: &str, subsets: Subsets) -> String {
    let texts = vips().map(|vip| {
        let family = if vip.is_ipv4() { "v4" } else { "v6" };
        let split = SplitYaml::tcp(&format!("{name}-{family}"), SocketAddr::new(vip, SERVICE));
        let split = subsets.iter().fold(split, |split, (subset, endpoints)| {
            split.subset(subset, 1, &topology.ips(endpoints, vip), LINES)
        });
        split.text().replace("  affinity", "  drainSeconds: 1\n  affinity")
    });
    texts.join("---\n")
}

fn connections(scene: &Scene, vip: IpAddr) -> Vec<(TcpStream, String)> {
    let from = |port| SocketAddr::new(client_ip(vip), port);
    let to = SocketAddr::new(vip, SERVICE);
    let client = &scene.topology.client;
    let connect = |port| client.run(|| connect_from(from(port), to));
    let all = (20_000..20_000 + CONNECTIONS).map(|port| {
        let mut stream = connect(port).unwrap_or_else(|e| panic!("{vip} from {port}: {e}"));
        let answer = say(&mut stream, "hello").expect("an answer");
        (stream, answer)
    });
    all.collect()
}

#[test]
fn a_connection_stays_whatever_the_names_of_what_has_its_endpoint() {
    for hook in ["tc", "xdp"] {
        let (name, subsets, _) = HISTORY[0];
        let scene = Scene::new(&["a", "b", "c"], |topology| {
            Setup::default().forward(hook).split(&splits(topology, name, subsets))
        })
        .expect("scene");
        let mut servers = Vec::new();
        for endpoint in ["a", "b", "c"] {
            let end = scene.topology.endpoint(endpoint);
            for vip in vips() {
                let at = SocketAddr::new(end.ip(vip), LINES);
                servers.push(Server::lines(&end.ns, at, endpoint).expect("server"));
            }
        }
        let mut open: Vec<_> =
            vips().into_iter().flat_map(|vip| connections(&scene, vip)).collect();
        for (name, subsets, what) in &HISTORY[1..] {
            scene.agent.replace(SPLITS, &splits(&scene.topology, name, subsets));
            scene.agent.await_status(what, |_| {
                ["v4", "v6"].iter().all(|family| {
                    let split = scene.agent.split(&format!("{name}-{family}"));
                    let wanted = |split: weir::api::types::SplitView| {
                        let found = split.subsets.iter();
                        found.map(|s| (s.name.clone(), s.endpoints.len())).eq(subsets
                            .iter()
                            .map(|(name, endpoints)| ((*name).to_owned(), endpoints.len())))
                    };
                    split.is_ok_and(wanted)
                })
            });
            std::thread::sleep(DRAINED);
            for (stream, before) in &mut open {
                let peer = stream.local_addr().expect("an address");
                let now = say(stream, "hello");
                let now = now.unwrap_or_else(|e| panic!("{hook}, {what}: {peer} to {before}: {e}"));
                assert_eq!(&now, before, "{hook}, {what}: {peer} moved");
            }
        }
        let servers_asked: std::collections::BTreeSet<_> = open.iter().map(|(_, to)| to).collect();
        assert_eq!(servers_asked.len(), 3, "{servers_asked:?}");
    }
}
