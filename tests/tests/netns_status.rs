//! `weir status`: what the agent found in the kernel, and how full its maps are.

use std::net::SocketAddr;

use weir::api::types::StatusView;
use weir_tests::agent::{SPLITS, Setup};
use weir_tests::client::connect_from;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{CLIENT_FACING, VIP_V4, client_ip};

#[test]
fn status_says_what_the_kernel_has_and_how_full_the_maps_are() {
    let vip = SocketAddr::new(VIP_V4.into(), 9080);
    let scene = Scene::new(&["v1-a", "v2-a"], |topology| {
        let split = SplitYaml::tcp("reviews", vip)
            .subset("v1", 80, &topology.ips(&["v1-a"], vip.ip()), PORT)
            .subset("v2", 20, &topology.ips(&["v2-a"], vip.ip()), PORT);
        let lines = "flows: {max: 4096}\nlimits: {splits: 20, endpoints: 50}\n";
        Setup::default()
            .interfaces(&[(CLIENT_FACING, "xdp"), ("veth-ep*", "tc")])
            .config(lines)
            .resource(SPLITS, &split.text())
    })
    .unwrap();
    let open: Vec<_> = scene.topology.client.run(|| {
        let sources = (20_000..20_030).map(|port| SocketAddr::new(client_ip(vip.ip()), port));
        sources
            .map(|source| {
                let mut stream = connect_from(source, vip).unwrap();
                read_line(&mut stream).unwrap();
                stream
            })
            .collect()
    });
    // Flows are counted now and then.
    let status = scene.agent.await_status("flows are counted", |status| {
        status.flow_tables.iter().any(|table| table.open_flows == Some(open.len() as u64))
    });
    let table = |family: &str, table: &str| {
        let found = status.flow_tables.iter().find(|t| t.family == family && t.table == table);
        found.map(|found| (found.open_flows, found.expired, found.limit))
    };
    assert_eq!(table("ipv4", "live"), Some((Some(30), Some(0), 4096)));
    assert_eq!(table("ipv4", "pending"), Some((Some(0), Some(0), 2048)));
    assert_eq!(table("ipv6", "live"), Some((Some(0), Some(0), 4096)));
    let map =
        |kind: &str| status.maps.iter().find(|map| map.kind == kind).map(|m| (m.used, m.limit));
    assert_eq!((map("splits"), map("endpoints")), (Some((1, 20)), Some((2, 50))));
    let modes =
        status.interfaces.iter().map(|i| (i.name.as_str(), i.hook.as_str(), i.mode.as_str()));
    let modes: Vec<_> = modes.collect();
    assert!(modes.contains(&(CLIENT_FACING, "xdp", "native")), "{modes:?}");
    let tcx = status.features.iter().find(|feature| feature.name == "tcx").expect("tcx").found;
    let tc = if tcx { "tcx" } else { "clsact" };
    assert!(modes.contains(&("veth-ep1", "tc", tc)), "{modes:?}");
    for wanted in ["jit", "batch", "membarrier"] {
        let found = status.features.iter().find(|feature| feature.name == wanted);
        assert!(found.is_some_and(|feature| feature.found), "{wanted}: {found:?}");
    }
    let release = scene.topology.node.output("uname", &["-r"]).unwrap();
    assert_eq!(status.kernel, release.trim());

    let text = scene.agent.ask(&["status"]).unwrap();
    println!("{text}");
    assert!(text.starts_with("OK\n") && text.contains("ipv4 live"), "{text}");
    assert_eq!(scene.agent.ask(&["status", "--brief", "--wait"]).unwrap(), "OK\n");
    // All formats say the same.
    let json = scene.agent.ask(&["status", "-o", "json"]).unwrap();
    let yaml = scene.agent.ask(&["status", "-o", "yaml"]).unwrap();
    let json: StatusView = serde_json::from_str(&json).unwrap();
    assert_eq!(serde_yaml::from_str::<StatusView>(&yaml).unwrap().maps, json.maps);
    assert_eq!((json.maps, json.features), (status.maps, status.features));

    // A mistake is shown.
    scene.agent.replace(SPLITS, "kind: Nonsense\n");
    scene.agent.await_status("the mistake is seen", |status| !status.last_error.is_empty());
    let text = scene.agent.printed(&["status"]);
    assert!(text.starts_with("DEGRADED: 1 thing in the resources is wrong: "), "{text}");
    let code = scene.agent.weir(&["status", "--brief"]).status.code();
    assert_eq!(code, Some(1), "unless it is OK");
    assert!(text.contains("\nThe last configuration was rejected:\n  "), "{text}");
}
