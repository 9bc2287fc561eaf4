//! Each check, by a healthy node of which one thing is changed.

mod outcome;

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::access::{Access, Group};
use crate::api::types::{
    FeatureView, FlowTableView, InterfaceView, KubernetesView, MapView, StatusView, TroubleView,
};

fn status() -> StatusView {
    let feature = |name: &str| FeatureView { name: name.into(), found: true, note: "good".into() };
    let table = |table: &str| FlowTableView {
        family: "ipv4".into(),
        table: table.into(),
        open_flows: Some(100),
        expired: Some(900),
        limit: 1000,
        full_since: None,
    };
    let interface = InterfaceView {
        name: "eth0".into(),
        index: 2,
        hook: "tc".into(),
        mode: "tcx".into(),
        ..InterfaceView::default()
    };
    StatusView {
        version: "0.1.0".into(),
        started: "1970-01-01T00:00:00.000Z".into(),
        config: "/etc/weir/agent.yaml".into(),
        network_namespace: 7,
        interfaces: vec![interface],
        features: ["tcx", "jit", "batch", "membarrier", "route-mtu"].map(feature).into(),
        maps: vec![MapView { kind: "endpoints".into(), used: 2, limit: 10 }],
        flow_tables: vec![table("live"), table("pending")],
        ..StatusView::default()
    }
}

fn healthy() -> Facts {
    let endpoint = |address: &str, route| Endpoint {
        subset: "v1".into(),
        address: address.parse().unwrap(),
        route,
    };
    let split = |name: &str, address: &str, endpoints| Split {
        name: name.into(),
        address: address.parse().unwrap(),
        route: NextHop::Via { interface: "eth1".into(), gateway: false },
        endpoints,
    };
    let via = || NextHop::Via { interface: "eth1".into(), gateway: true };
    Facts {
        config: Ok(()),
        file: Some("/etc/weir/agent.yaml".into()),
        network_namespace: 7,
        access: Some(Access::default()),
        access_in_force: Some(true),
        agent: Agent::Runs(Box::new(status())),
        release: "6.18.4-arch1".into(),
        bpffs: ("/sys/fs/bpf/weir".into(), true),
        jit: Some(1),
        forward_v4: Some(true),
        forward_v6: Some(true),
        answers: Some(false),
        interfaces: vec![Interface {
            name: "eth0".into(),
            kind: Some("veth".into()),
            rp_filter: Some(2),
            forwards: Some(true),
            offloads: Some(Offloads { gro: true, tso: true, checksums: true, vlans: true }),
            ..Interface::default()
        }],
        links: BTreeSet::new(),
        splits: vec![
            split(
                "reviews",
                "192.0.2.10",
                vec![endpoint("198.51.100.1:80", via()), endpoint("198.51.100.2:80", via())],
            ),
            split("ratings", "2001:db8::10", vec![endpoint("[2001:db8:1::1]:80", via())]),
        ],
        stats: Some(outcome::stats()),
        waiting: Vec::new(),
        neighbours: BTreeMap::new(),
        proxied: BTreeSet::new(),
        elsewhere: BTreeMap::new(),
        drops: Vec::new(),
        carriers: ["eth0".to_owned()].into(),
        unmatched: Vec::new(),
    }
}

fn silent(facts: &mut Facts) {
    facts.agent = Agent::Silent("no agent answers".into());
}

fn says(facts: &mut Facts, change: impl FnOnce(&mut StatusView)) {
    let Agent::Runs(status) = &mut facts.agent else { panic!() };
    change(status);
}

#[test]
fn what_is_not_the_agents_is_said_and_not_judged() {
    type Change = fn(&mut Facts);
    let cases: [(Change, &str, &str); 4] = [
        (
            |f| says(f, |s| s.network_namespace = 8),
            "another network namespace",
            "ip netns exec NAME weir doctor",
        ),
        (
            |f| says(f, |s| s.config = "/opt/agent.yaml".into()),
            "the agent runs with /opt/agent.yaml, and this looks at /etc/weir/agent.yaml",
            "weir doctor --config /opt/agent.yaml",
        ),
        (
            |f| {
                f.file = Some("/root/reviews.yaml".into());
                f.config = Err("reviews.yaml:1: unknown field".into());
            },
            "looks at /root/reviews.yaml (which is wrong: reviews.yaml:1: unknown field): it says",
            "weir doctor --config /etc/weir/agent.yaml",
        ),
        (|f| f.agent = Agent::Denied("this user may not".into()), "this user may not", "sudo"),
    ];
    for (change, said, todo) in cases {
        let mut facts = healthy();
        // What would be found there is not looked for.
        facts.jit = Some(0);
        change(&mut facts);
        let Report { problems, findings } = examine(&facts, &[]);
        assert_eq!((problems, findings.len()), (1, 1), "{said}: {findings:?}");
        assert!(findings[0].text.contains(said), "{findings:?}");
        assert!(findings[0].advice.as_ref().unwrap().contains(todo), "{findings:?}");
    }
    // An older agent says neither, and what cannot be known is no difference.
    let mut facts = healthy();
    says(&mut facts, |status| (status.network_namespace, status.config) = (0, String::new()));
    assert_eq!(examine(&facts, &[]).problems, 0);
}

#[test]
fn where_no_file_is_the_defaults_are_and_that_is_said() {
    let mut facts = healthy();
    (facts.file, facts.access, facts.answers) = (None, None, None);
    let found = examine(&facts, &[]);
    assert_eq!((found.problems, found.findings[0].level), (0, Level::Note));
    assert!(found.findings[0].text.contains("there is no /etc/weir/agent.yaml"), "{found:?}");
}

#[test]
fn nothing_is_found_on_a_healthy_node() {
    let report = examine(&healthy(), &[]);
    assert_eq!(report.problems, 0);
    let names: Vec<&str> = report.findings.iter().map(|finding| finding.check).collect();
    assert_eq!(names, CHECKS);
    for finding in report.findings {
        assert_eq!((finding.level, finding.advice), (Level::Ok, None), "{}", finding.text);
    }
}

fn to_router() -> NextHop {
    NextHop::Via { interface: "eth0".into(), gateway: true }
}

fn to_neighbour() -> NextHop {
    NextHop::Via { interface: "eth0".into(), gateway: false }
}

fn trouble() -> TroubleView {
    let since = "1970-01-01T00:00:02.000Z".into();
    TroubleView { what: "serving metrics".into(), error: "busy".into(), since }
}

/// What changes, the check that finds it, how bad it is, and what it says.
type Case = (fn(&mut Facts), &'static str, Level, &'static str);

const CASES: &[Case] = &[
    (|f| f.config = Err("a.yaml:1: no".into()), "config", Level::Problem, "a.yaml:1: no"),
    (
        // Whose the programs are is not known then.
        |f| {
            f.config = Err("agent.yaml:7: no".into());
            f.interfaces[0].others = vec![Filter { hook: "TC ingress", name: "own".into() }];
        },
        "config",
        Level::Problem,
        "agent.yaml:7: no",
    ),
    (
        |f| f.access_in_force = Some(false),
        "access",
        Level::Problem,
        "the permissions of the API's socket are not those",
    ),
    (silent, "agent", Level::Problem, "no agent answers"),
    (
        |f| says(f, |s| s.last_error = vec!["x.yaml:3: no".into()]),
        "resources",
        Level::Problem,
        "x.yaml:3: no",
    ),
    (
        |f| says(f, |s| s.rejected = vec!["TrafficSplit/x: no".into()]),
        "resources",
        Level::Problem,
        "TrafficSplit/x: no",
    ),
    (
        |f| says(f, |s| s.takeover.error = Some("rejected".into())),
        "agent",
        Level::Note,
        "connections that others translated before are not known: rejected",
    ),
    (|f| f.release = "5.4.0".into(), "kernel", Level::Problem, "5.4.0 is older than 5.10"),
    (|f| f.release = "6.1.0-21-amd64".into(), "kernel", Level::Note, "has no TCX"),
    (|f| f.release = "plan9".into(), "kernel", Level::Note, "no release of Linux"),
    (
        |f| says(f, |s| s.features[2].found = false),
        "kernel",
        Level::Problem,
        "the kernel has no batch",
    ),
    (
        |f| {
            says(f, |s| {
                s.features[4].found = false;
                s.fast_path.used = true;
            });
        },
        "kernel",
        Level::Problem,
        "the kernel has no route-mtu",
    ),
    (|f| says(f, |s| s.features[1].found = false), "jit", Level::Problem, "interpreted"),
    (|f| f.bpffs.1 = false, "bpffs", Level::Problem, "/sys/fs/bpf/weir is not on a bpffs"),
    (|f| f.interfaces.clear(), "interfaces", Level::Problem, "no interface matches"),
    (
        |f| f.unmatched = vec![("eth7".into(), true)],
        "interfaces",
        Level::Problem,
        "`match: eth7` in agent.yaml matches no interface",
    ),
    (
        |f| f.unmatched = vec![("pod*".into(), false)],
        "interfaces",
        Level::Note,
        "`match: pod*` in agent.yaml matches no interface",
    ),
    (
        |f| says(f, |s| s.interfaces[0].error = Some("busy".into())),
        "interfaces",
        Level::Problem,
        "eth0: the programs are not attached: busy",
    ),
    (
        |f| f.interfaces[0].others = vec![Filter { hook: "TC ingress", name: "spy".into() }],
        "programs",
        Level::Problem,
        "eth0: another program is at TC ingress: spy",
    ),
    (|f| f.forward_v4 = Some(false), "forwarding", Level::Problem, "net.ipv4.ip_forward is 0"),
    (
        |f| f.forward_v6 = Some(false),
        "forwarding",
        Level::Problem,
        "net.ipv6.conf.all.forwarding is 0",
    ),
    (
        |f| f.interfaces[0].forwards = Some(false),
        "forwarding",
        Level::Problem,
        "net.ipv4.conf.eth0.forwarding is 0",
    ),
    (|f| f.interfaces[0].rp_filter = Some(1), "rp_filter", Level::Problem, "eth0: reverse paths"),
    (|f| f.interfaces[0].xdp = true, "offloads", Level::Note, "XDP on a veth"),
    (
        |f| {
            (f.interfaces[0].xdp, f.interfaces[0].kind) = (true, None);
            says(f, |s| s.fast_path.used = true);
        },
        "offloads",
        Level::Note,
        "eth0: steered packets go through the stack, though the fast path is used",
    ),
    (
        |f| {
            let some = Offloads { gro: false, tso: true, checksums: false, vlans: true };
            f.interfaces[0].offloads = Some(some);
        },
        "offloads",
        Level::Note,
        "eth0: off are tx",
    ),
    (
        |f| {
            let some = Offloads { gro: false, tso: true, checksums: true, vlans: true };
            (f.interfaces[0].offloads, f.interfaces[0].kind) = (Some(some), None);
        },
        "offloads",
        Level::Note,
        "eth0: off are gro",
    ),
    (
        |f| f.splits[0].endpoints[1].route = NextHop::None("unreachable".into()),
        "routes",
        Level::Problem,
        "no route to endpoint 198.51.100.2:80 (reviews, v1): unreachable",
    ),
    (
        |f| f.splits[1].route = NextHop::None("unreachable".into()),
        "routes",
        Level::Note,
        "no route to service address 2001:db8::10",
    ),
    (
        |f| says(f, |s| s.troubles = vec![trouble()]),
        "agent",
        Level::Problem,
        "serving metrics fails since 1970-01-01T00:00:02.000Z: busy",
    ),
    (
        |f| f.splits[0].route = to_router(),
        "loops",
        Level::Problem,
        "what comes to 192.0.2.10 and is for no split, such as pings, is sent on by eth0",
    ),
    (
        |f| (f.answers, f.splits[1].route) = (Some(true), NextHop::Local),
        "loops",
        Level::Problem,
        "2001:db8::10 is an address of the node itself",
    ),
    (
        |f| {
            f.links = ["eth0".to_owned()].into();
            f.splits[0].endpoints[1].route = to_neighbour();
        },
        "detours",
        Level::Note,
        "endpoint 198.51.100.2:80 (reviews, v1) is on the clients' link eth0",
    ),
    (
        |f| says(f, |s| s.flow_tables[0].open_flows = Some(801)),
        "tables",
        Level::Problem,
        "the ipv4 table of live flows is 80 % full",
    ),
    (
        |f| says(f, |s| s.flow_tables[0].full_since = Some("1970-01-01T00:00:02.000Z".into())),
        "tables",
        Level::Problem,
        "the ipv4 table of live flows is full since 1970-01-01T00:00:02.000Z",
    ),
    (
        |f| says(f, |s| s.flow_tables[1].open_flows = Some(1000)),
        "tables",
        Level::Problem,
        "the ipv4 table of pending flows is 100 % full",
    ),
    (|f| says(f, |s| s.maps[0].used = 9), "tables", Level::Problem, "9 of 10 endpoints are taken"),
];

#[test]
fn each_thing_that_is_wrong_is_found_by_its_check_alone() {
    for (change, check, level, text) in CASES {
        let mut facts = healthy();
        change(&mut facts);
        let report = examine(&facts, &[]);
        let found: Vec<&Finding> =
            report.findings.iter().filter(|finding| finding.level != Level::Ok).collect();
        let [finding] = found[..] else { panic!("{text}: {found:?}") };
        assert_eq!((finding.check, finding.level), (*check, *level), "{text}");
        assert!(finding.text.contains(text), "{text}: {}", finding.text);
        assert!(finding.advice.as_ref().is_some_and(|advice| !advice.is_empty()), "{text}");
        assert_eq!(report.problems, usize::from(*level == Level::Problem), "{text}");

        let ignored = [(*check).to_owned()];
        assert_eq!(examine(&facts, &ignored).problems, 0, "{text}");
    }
}

#[test]
fn what_cannot_matter_is_no_problem() {
    // Endpoints on the node itself need no forwarding.
    let mut facts = healthy();
    (facts.forward_v4, facts.forward_v6) = (Some(false), Some(false));
    let endpoints = facts.splits.iter_mut().flat_map(|split| &mut split.endpoints);
    endpoints.for_each(|endpoint| endpoint.route = NextHop::Local);
    assert_eq!(examine(&facts, &[]).problems, 0);
    // What is not known is no problem either, but for the agent that does not say it.
    let mut facts = healthy();
    silent(&mut facts);
    (facts.jit, facts.forward_v4, facts.interfaces[0].offloads) = (None, None, None);
    let report = examine(&facts, &[]);
    assert_eq!(report.problems, 1, "{report:?}");
    assert!(report.findings.iter().any(|f| f.check == "jit" && f.level == Level::Note));
}

#[test]
fn a_service_address_goes_round_only_where_the_node_sends_it_back() {
    for (change, problems) in [
        ((|_| ()) as fn(&mut Facts), 1),
        (|f| f.answers = Some(true), 0),
        (|f| f.forward_v4 = Some(false), 0),
        (|f| f.splits[0].route = to_neighbour(), 0),
        (|f| f.splits[0].route = NextHop::Local, 0),
        (|f| f.splits[0].route = NextHop::None("unreachable".into()), 0),
    ] {
        let mut facts = healthy();
        facts.splits[0].route = to_router();
        change(&mut facts);
        let report = examine(&facts, &["forwarding".to_owned()]);
        let loops = report.findings.iter().filter(|one| one.check == "loops");
        let found = loops.filter(|one| one.level == Level::Problem).count();
        assert_eq!(found, problems, "{report:?}");
    }
}

#[test]
fn clients_on_the_node_itself_are_said_not_to_be_steered() {
    let report = examine(&healthy(), &[]);
    let found = report.findings.iter().find(|one| one.check == "own_clients").unwrap();
    assert!(found.text.contains("connections of the node itself are not steered"), "{found:?}");
}

#[test]
fn who_may_use_the_api_is_said() {
    let group = |name: &str, gid| Some(Group { name: name.into(), gid });
    for (access, expected) in [
        (Some(Access::default()), "only root may use the API"),
        (
            Some(Access { operators: group("ops", 1), viewers: None }),
            "root and members of group \"ops\" may use the API",
        ),
        (
            Some(Access { operators: None, viewers: group("all", 1) }),
            "only root may change things, root and members of group \"all\" may look",
        ),
        (None, "not known without a configuration"),
    ] {
        let report = examine(&Facts { access, ..healthy() }, &[]);
        let found = report.findings.iter().find(|finding| finding.check == "access");
        assert_eq!(found.map(|finding| finding.text.as_str()), Some(expected));
    }
}

#[test]
fn an_address_without_a_route_is_told_once() {
    let mut facts = healthy();
    let lost = || NextHop::None("unreachable".into());
    let again = Endpoint {
        subset: "v2".into(),
        address: "198.51.100.1:81".parse().unwrap(),
        route: lost(),
    };
    facts.splits[0].endpoints[0].route = lost();
    facts.splits[0].endpoints.push(again);
    assert_eq!(examine(&facts, &[]).problems, 1);
}

#[test]
fn a_cluster_that_cannot_be_followed_is_named() {
    let with = |view: KubernetesView| {
        let status = StatusView { kubernetes: Some(view), ..status() };
        Facts { agent: Agent::Runs(Box::new(status)), ..healthy() }
    };
    let of = |facts: &Facts| -> Vec<(Level, String, String)> {
        let found = examine(facts, &[]).findings.into_iter().filter(|f| f.check == "cluster");
        found.map(|f| (f.level, f.text, f.advice.unwrap_or_default())).collect()
    };
    let server = Some("https://192.0.2.1:6443".to_owned());
    let fine = KubernetesView { server: server.clone(), connected: true, ..Default::default() };
    let found = of(&with(fine.clone()));
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].0, found[0].1.as_str()),
        (Level::Ok, "https://192.0.2.1:6443 is followed: 0 objects")
    );
    let errors = vec!["cannot list services: forbidden".to_owned(), "no route to host".to_owned()];
    let rejected = vec!["cluster TrafficSplit/a: no".to_owned()];
    let found = of(&with(KubernetesView { errors, rejected, ..fine }));
    let levels: Vec<Level> = found.iter().map(|found| found.0).collect();
    assert_eq!(levels, [Level::Problem, Level::Problem, Level::Note]);
    assert!(found[0].2.contains("ClusterRole") && !found[1].2.contains("ClusterRole"));
}
