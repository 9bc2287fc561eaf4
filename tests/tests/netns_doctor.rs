//! `weir doctor` on a node on which things are broken, one at a time.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType, Xdp, XdpMode};
use nix::sys::signal::Signal;
use serde::Deserialize;
use weir::datapath::Settings;
use weir_tests::agent::{SPLITS, Setup, Somebody, program};
use weir_tests::client::connect_from;
use weir_tests::loaded::Loaded;
use weir_tests::netns::Netns;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::{Server, connect, tcp_identity};
use weir_tests::topology::{CLIENT_FACING, CLIENT_V4, Topology, VIP_V4, VIP_V6};

fn scene() -> Scene {
    let splits = |topology: &Topology| {
        let [v4, v6] = [VIP_V4.into(), VIP_V6.into()].map(|ip| SocketAddr::new(ip, 9080));
        let reviews =
            SplitYaml::tcp("reviews", v4).subset("v1", 1, &topology.ips(&["a"], v4.ip()), PORT);
        let ratings =
            SplitYaml::tcp("ratings", v6).subset("v1", 1, &topology.ips(&["b"], v6.ip()), PORT);
        [reviews, ratings].map(|split| split.text()).join("---\n")
    };
    Scene::new(&["a", "b"], |topology| Setup::default().resource(SPLITS, &splits(topology)))
        .unwrap()
}

#[derive(Debug, Deserialize)]
struct Report {
    problems: usize,
    findings: Vec<Finding>,
}

#[derive(Debug, Deserialize)]
struct Finding {
    check: String,
    level: String,
    text: String,
    advice: Option<String>,
}

/// What `weir doctor` writes on the node, and its exit code.
fn doctor(scene: &Scene, arguments: &[&str]) -> (i32, String) {
    let mut command = scene.topology.node.command(program().unwrap().to_str().unwrap());
    command.arg("--socket").arg(scene.agent.socket()).arg("doctor");
    command.arg("--config").arg(scene.agent.directory().join("agent.yaml")).args(arguments);
    let output = command.output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
}

/// The problems that it finds: check and text.
fn problems(scene: &Scene) -> Vec<(String, String)> {
    let (code, text) = doctor(scene, &["-o", "json"]);
    let report: Report = serde_json::from_str(&text).unwrap();
    assert_eq!(code, i32::from(report.problems > 0), "{report:?}");
    let found: Vec<_> = report
        .findings
        .into_iter()
        .filter(|finding| finding.level == "problem")
        .inspect(|finding| assert!(finding.advice.is_some(), "{finding:?}"))
        .map(|finding| (finding.check, finding.text))
        .collect();
    assert_eq!(found.len(), report.problems);
    found
}

/// Sees that this one thing is found and nothing else.
#[track_caller]
fn finds(scene: &Scene, check: &str, says: &str) {
    let found = problems(scene);
    let [(of, text)] = &found[..] else { panic!("{says}: {found:?}") };
    assert_eq!(of, check, "{text}");
    assert!(text.contains(says), "{says}: {text}");
    println!("{check}: {text}");
}

#[track_caller]
fn finds_nothing(scene: &Scene) {
    assert_eq!(problems(scene), []);
}

#[test]
fn each_thing_that_is_broken_on_the_node_is_found() {
    let scene = scene();
    let node = &scene.topology.node;
    let (code, text) = doctor(&scene, &[]);
    println!("{text}");
    assert_eq!(code, 0, "{text}");
    assert!(text.ends_with("no problem was found\n"), "{text}");
    assert!(text.contains("no route to service address 203.0.113.10"), "{text}");
    finds_nothing(&scene);

    let rp_filter = format!("net/ipv4/conf/{CLIENT_FACING}/rp_filter");
    for (key, bad, good, check, says) in [
        ("net/ipv4/ip_forward", "0", "1", "forwarding", "net.ipv4.ip_forward is 0"),
        ("net/ipv6/conf/all/forwarding", "0", "1", "forwarding", "net.ipv6.conf.all.forwarding"),
        (&rp_filter, "1", "0", "rp_filter", "veth-client: reverse paths are filtered strictly"),
    ] {
        node.sysctl(key, bad).unwrap();
        finds(&scene, check, says);
        node.sysctl(key, good).unwrap();
        finds_nothing(&scene);
    }
    node.ip(&["route del 10.1.1.0/24 dev veth-ep1"]).unwrap();
    finds(&scene, "routes", "no route to endpoint 10.1.1.2:80 (reviews, v1)");
    let (code, text) = doctor(&scene, &[]);
    println!("{text}");
    assert_eq!(code, 1);
    assert_eq!(doctor(&scene, &["--ignore", "routes"]).0, 0);
    node.ip(&["route add unreachable 10.1.1.2/32"]).unwrap();
    finds(&scene, "routes", "no route to endpoint 10.1.1.2:80 (reviews, v1)");
    node.ip(&["route del unreachable 10.1.1.2/32", "route add 10.1.1.0/24 dev veth-ep1"]).unwrap();
    finds_nothing(&scene);

    // An interface that matches and can carry no programs, and that nobody has named.
    node.ip(&["tuntap add dev veth-tun mode tun"]).unwrap();
    scene.agent.await_status("the interface is seen", |s| s.interfaces.len() == 4);
    finds_nothing(&scene);
    node.ip(&["link del veth-tun"]).unwrap();
    scene.agent.await_status("the interface is gone", |s| s.interfaces.len() == 3);
    let splits = std::fs::read_to_string(scene.agent.resources().join(SPLITS)).unwrap();
    scene.agent.replace(SPLITS, "kind: Nonsense\n");
    scene.agent.await_status("the mistake is seen", |s| !s.last_error.is_empty());
    let found = problems(&scene);
    assert!(!found.is_empty() && found.iter().all(|(check, _)| check == "resources"), "{found:?}");
    scene.agent.replace(SPLITS, &splits);
    scene.agent.await_status("the mistake is mended", |s| s.last_error.is_empty());
    finds_nothing(&scene);
}

/// So many handshakes at a time, which nobody answers, though they are sent again after three seconds.
fn try_in_vain(scene: &Scene, vip: SocketAddr, count: usize) {
    std::thread::scope(|scope| {
        let one =
            || scene.topology.client.run(|| connect(vip, Duration::from_millis(3500)).is_err());
        let tries: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        assert!(tries.into_iter().all(|one| one.join().unwrap()), "{vip} answers");
    });
}

#[track_caller]
fn finds_among_others(scene: &Scene, check: &str, says: &str) {
    let found = problems(scene);
    let text = found.iter().find(|(of, text)| of == check && text.contains(says));
    println!("{check}: {}", text.unwrap_or_else(|| panic!("{says}: {found:?}")).1);
}

#[test]
fn what_became_of_connections_is_judged() {
    let scene = Scene::new(&["a", "b", "c"], |topology| {
        let of = |name: &str| topology.ips(&[name], VIP_V4.into());
        let vip = |port| SocketAddr::new(VIP_V4.into(), port);
        let closed = SplitYaml::tcp("closed", vip(9098)).subset("v1", 1, &[], PORT);
        let silent = SplitYaml::tcp("silent", vip(9081)).subset("v1", 1, &of("b"), PORT);
        let walled = SplitYaml::tcp("walled", vip(9082)).subset("v1", 1, &of("c"), 4321);
        let reviews = SplitYaml::tcp("reviews", vip(9080))
            .subset("v1", 50, &of("a"), PORT)
            // Nobody listens there.
            .subset("v3", 50, &of("a"), 9);
        let documents = [closed, silent, walled, reviews].map(|split| split.text());
        Setup::default().resource(SPLITS, &documents.join("---\n"))
    })
    .unwrap();
    let node = &scene.topology.node;
    let vip = |port| SocketAddr::new(VIP_V4.into(), port);
    let found = problems(&scene);
    let checks: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["endpoints"], "{found:?}");
    try_in_vain(&scene, vip(9098), 1);
    finds_among_others(
        &scene,
        "endpoints",
        "split closed: subset v1 has no endpoint: 100.00% of new connections are rejected; 1 packet ",
    );

    // Refused, and a neighbour from then on.
    try_in_vain(&scene, vip(9082), 1);
    // One host has another address by now, packets to another are dropped, and answers to a
    // client leave by an interface without weir.
    let b = scene.topology.endpoint("b");
    b.ns.ip(&[&format!("addr del {}/24 dev eth0", b.v4)]).unwrap();
    node.ip(&[&format!("neigh flush to {}", b.v4)]).unwrap();
    let rules = "table inet f { chain c { type filter hook forward priority 0; \
                 tcp dport 4321 counter drop; }; }";
    node.output("nft", &[rules]).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| try_in_vain(&scene, vip(9081), 6));
        scope.spawn(|| try_in_vain(&scene, vip(9082), 4));
    });
    let says = format!("endpoint {}:80 (silent, v1) does not answer ARP requests on veth-ep", b.v4);
    finds_among_others(&scene, "neighbours", &says);
    let c = scene.topology.endpoint("c").v4;
    let says = format!(
        "4 handshakes with endpoint {c}:4321 (walled, v1) are without an answer, whose link \
         answers: a firewall"
    );
    finds_among_others(&scene, "handshakes", &says);
    finds_among_others(&scene, "handshakes", " packets dropped by inet f c (handle ");
    node.ip(&[
        "link add other type veth peer name beyond",
        "link set other up",
        "link set beyond up",
        &format!("route add {CLIENT_V4}/32 dev other"),
        &format!("route add {VIP_V4}/32 dev veth-client"),
    ])
    .unwrap();
    let says = format!("answers to {CLIENT_V4} leave by other, where weir is not");
    finds_among_others(&scene, "replies", &says);
    let says = format!("service address {VIP_V4} (closed) is in the network of veth-client");
    finds_among_others(&scene, "service_addresses", &says);
    node.ip(&[&format!("route del {VIP_V4}/32 dev veth-client"), "link del other"]).unwrap();

    // All of a version that is compared with no other.
    let said = scene.agent.printed(&["status", "--brief"]);
    let says = "new connections to v1 in the last ";
    assert!(said.contains("split silent: 100.00% of the") && said.contains(says), "{said}");

    let refused = scene.topology.client.run(|| {
        let ask = |port| connect_from(SocketAddr::new(CLIENT_V4.into(), port), vip(9080)).is_err();
        (20_000..20_120).filter(|&port| ask(port)).count()
    });
    assert!((20..100).contains(&refused), "{refused} of 120 by half");
    finds_among_others(&scene, "versions", "split reviews: 100.00% of the ");
    let said = scene.agent.printed(&["status", "--brief"]);
    assert!(
        said.contains("to v3 in the last ") && said.contains(" were refused, and 0.00%"),
        "{said}"
    );
}

#[test]
fn what_passes_weir_by_and_what_nobody_can_reach_is_named() {
    // No program is where the client's packets come in.
    let scene = Scene::new(&["a"], |topology| {
        let vip = |port| SocketAddr::new(VIP_V4.into(), port);
        let ips = topology.ips(&["a"], VIP_V4.into());
        let reviews = SplitYaml::tcp("reviews", vip(9080)).subset("v1", 1, &ips, PORT);
        let lost = SplitYaml::tcp("lost", vip(9081)).subset(
            "v1",
            1,
            &["169.254.7.7".parse().unwrap()],
            PORT,
        );
        let nobody = SplitYaml::tcp("nobody", vip(9082)).subset("v1", 1, &ips, PORT).text();
        Setup::default()
            .interfaces(&[("veth-ep*", "tc"), ("eth7", "tc")])
            .resource(SPLITS, &[reviews.text(), lost.text()].join("---\n"))
            .resource("nobody.yaml", &nobody.replace(&ips[0].to_string(), "127.0.0.1"))
            .resource("many.yaml", &nobody.replace(&ips[0].to_string(), "239.1.1.1"))
    })
    .unwrap();
    let node = &scene.topology.node;
    finds_among_others(&scene, "interfaces", "`match: eth7` in agent.yaml matches no interface");
    let says = "endpoint 169.254.7.7:80 (lost, v1) is a link-local address";
    finds_among_others(&scene, "endpoints", says);
    for (file, says) in [("nobody", "127.0.0.1:80 is a loopback"), ("many", "239.1.1.1:80 is mult")]
    {
        let says =
            format!("{file}.yaml:13: spec.subsets[0].endpoints[0]: the address of endpoint {says}");
        finds_among_others(&scene, "resources", &says);
    }
    let status = scene.agent.printed(&["status"]);
    println!("{status}");
    let (verdict, _) = status.split_once('\n').unwrap();
    for says in ["DEGRADED: ", "2 things in the resources", "split lost: endpoint 169.254.7.7:80"] {
        assert!(verdict.contains(says), "{says}: {verdict}");
    }

    // The node answers for the service address itself, and tracks connections.
    let silent = problems(&scene).iter().all(|(check, _)| check != "elsewhere");
    assert!(silent, "nobody has asked yet");
    let rules = "table inet t { chain c { type filter hook prerouting priority 0; \
                 ct state new counter; }; }";
    node.output("nft", &[rules]).unwrap();
    node.ip(&[&format!("addr add {VIP_V4}/32 dev lo")]).unwrap();
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let _server = Server::tcp(node, vip, "the node").unwrap();
    let answer = scene.topology.client.run(|| tcp_identity(vip, Duration::from_secs(5)));
    assert_eq!(answer.unwrap(), "the node", "weir is not asked");
    let says = "split reviews has counted no new connection, and connection tracking knows 1 \
                connection to its address";
    finds_among_others(&scene, "elsewhere", says);
}

#[test]
fn another_node_another_file_and_another_user_are_not_judged() {
    let scene = scene();
    let weir = program().unwrap();
    let (weir, own) = (weir.to_str().unwrap(), scene.agent.directory().join("agent.yaml"));
    let ask = |ns: &Netns, config: &Path| {
        let mut command = ns.command(weir);
        command.arg("--socket").arg(scene.agent.socket()).args(["doctor", "--config"]).arg(config);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let only = |said: &str, says: &[&str]| {
        println!("{said}");
        assert!(said.ends_with("\n1 problem was found\n") && said.lines().count() == 3, "{said}");
        assert!(says.iter().all(|text| said.contains(text)), "{says:?}: {said}");
    };
    let (code, said) = ask(&scene.topology.client, &own);
    only(&said, &["the agent is in another network namespace", "ip netns exec NAME weir doctor"]);
    assert_eq!(code, Some(1));
    let another = scene.agent.directory().join("another.yaml");
    let mended = format!("-> weir doctor --config {}", own.display());
    for (text, says) in [
        (Some("interfaces: [{match: \"veth-*\"}]\n"), "another.yaml: it says nothing about that"),
        (Some("interface: {}\n"), "(which is wrong: "),
        (None, "cannot read the file"),
    ] {
        let _ = std::fs::remove_file(&another);
        text.into_iter().for_each(|text| std::fs::write(&another, text).unwrap());
        let (_, said) = ask(&scene.topology.node, &another);
        only(&said, &[says, &mended]);
    }
    let nobody = Somebody { uid: 65_534, gid: 65_534, ..Somebody::default() };
    let own = own.to_str().unwrap();
    let output = scene.agent.weir_as(&nobody, &["doctor", "--config", own]);
    only(&String::from_utf8_lossy(&output.stdout), &["this user may not use", "sudo weir doctor"]);

    // Its own file, broken since it started: whose the programs are is not known then.
    std::fs::write(own, "interfaces: 7\n").unwrap();
    finds(&scene, "config", "agent.yaml:1: interfaces: ");
}

#[test]
fn programs_of_others_on_its_interfaces_are_found() {
    let scene = scene();
    let node = &scene.topology.node;
    finds_nothing(&scene);
    // Of the same name as weir's own: what tells them apart is who attached them.
    let mut loaded = Loaded::new(&Settings { flows: 1024, ..Settings::default() }).unwrap();
    let tc: &mut SchedClassifier =
        loaded.object().ebpf().program_mut("weir_tc_reply").unwrap().try_into().unwrap();
    let link = node.run(|| tc.attach(CLIENT_FACING, TcAttachType::Egress)).unwrap();
    finds(&scene, "programs", "veth-client: another program is at TC egress: weir_tc_reply");
    tc.detach(link).unwrap();
    finds_nothing(&scene);
    let xdp: &mut Xdp =
        loaded.object().ebpf().program_mut("weir_xdp_forward").unwrap().try_into().unwrap();
    let link = node.run(|| xdp.attach("veth-ep1", XdpMode::Skb)).unwrap();
    finds(&scene, "programs", "veth-ep1: another program is at XDP: weir_xdp_forwar");
    xdp.detach(link).unwrap();
    finds_nothing(&scene);

    let tc = |line: &str| node.output("tc", &line.split(' ').collect::<Vec<_>>()).unwrap();
    tc("qdisc add dev veth-client clsact");
    finds_nothing(&scene);
    node.output(
        "tc",
        &[
            "filter",
            "add",
            "dev",
            "veth-client",
            "ingress",
            "prio",
            "7",
            "bpf",
            "bytecode",
            // Returns TC_ACT_UNSPEC: the packet goes on.
            "1,6 0 0 4294967295",
        ],
    )
    .unwrap();
    finds(&scene, "programs", "another program is at TC ingress: a bpf filter of priority 7");
    tc("qdisc del dev veth-client clsact");
    finds_nothing(&scene);
}

#[test]
fn doctor_works_without_an_agent_and_says_so() {
    let mut scene = scene();
    scene.agent.end(Signal::SIGTERM).unwrap();
    finds(&scene, "agent", "no agent answers at");
    let (_, text) = doctor(&scene, &[]);
    println!("{text}");
    // What the files say is checked, and the programs that are attached are still weir's own.
    assert!(text.contains("2 splits are in the files"), "{text}");
    assert!(text.contains("client-facing: veth-"), "{text}");
    scene.topology.node.sysctl("net/ipv4/ip_forward", "0").unwrap();
    scene.topology.node.ip(&["route del 2001:db8:1:2::/64 dev veth-ep2"]).unwrap();
    let found = problems(&scene);
    let checks: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["agent", "forwarding", "routes"], "{found:?}");
    let config = scene.agent.directory().join("agent.yaml");
    std::fs::write(&config, "interfaces: 7\n").unwrap();
    let found = problems(&scene);
    let checks: Vec<&str> = found.iter().map(|(check, _)| check.as_str()).collect();
    assert_eq!(checks, ["config", "agent", "interfaces"], "{found:?}");
}
