//! What the agent may do once it has started, and that it needs no more.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use weir::privilege::hooks_are_listed;
use weir_tests::agent::{Agent, SPLITS, Setup};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::tcp_identity;
use weir_tests::topology::{Topology, VIP_V4};

/// CAP_NET_ADMIN and CAP_BPF: capability.h.
const NEEDED: u64 = 1 << 12 | 1 << 39;
/// What it takes to list BPF links.
const SYS_ADMIN: u64 = 1 << 21;

fn vip(port: u16) -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), port)
}

fn split(topology: &Topology, name: &str, port: u16) -> String {
    let ips = topology.ips(&["a"], VIP_V4.into());
    SplitYaml::tcp(name, vip(port)).subset("v1", 1, &ips, PORT).text()
}

/// The status files of all threads of the agent.
fn threads(agent: &Agent) -> Vec<String> {
    let tasks = PathBuf::from(format!("/proc/{}/task", agent.pid().expect("it runs")));
    let tasks = std::fs::read_dir(&tasks).expect("threads").map(|task| task.expect("thread"));
    // A thread may end meanwhile.
    tasks.filter_map(|task| std::fs::read_to_string(task.path().join("status")).ok()).collect()
}

/// Makes sure of the capabilities of every thread; how many there are.
#[track_caller]
fn check(agent: &Agent, needed: u64) -> usize {
    let threads = threads(agent);
    for status in &threads {
        let field = |name: &str| {
            let found =
                status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
            found.unwrap_or_else(|| panic!("no {name}: {status}"))
        };
        let needed = format!("{needed:016x}");
        for (set, expected) in [
            ("CapEff", needed.as_str()),
            ("CapPrm", &needed),
            ("CapBnd", &needed),
            ("CapInh", "0000000000000000"),
            ("CapAmb", "0000000000000000"),
            ("NoNewPrivs", "1"),
        ] {
            assert_eq!(field(set), expected, "{set} of {}", field("Name"));
        }
    }
    threads.len()
}

#[track_caller]
fn reaches(scene: &Scene, port: u16) {
    let found = scene.topology.client.run(|| tcp_identity(vip(port), Duration::from_secs(10)));
    assert_eq!(found.expect("steered"), "a", "{port}");
}

#[test]
fn the_agent_does_all_its_work_with_two_capabilities() {
    let mut scene = Scene::new(&["a"], |topology| {
        let lines = "hashSeed: 0x5eed\nkernelLog: rare\nfastPath: on\n";
        Setup::default().config(lines).split(&split(topology, "reviews", 9080))
    })
    .unwrap();
    check(&scene.agent, NEEDED);
    reaches(&scene, 9080);
    scene.agent.await_status("the fast path is used", |status| status.fast_path.used);

    // An interface that comes, and goes.
    scene.topology.node.ip(&["link add veth-later type veth peer name later"]).unwrap();
    let attached = |status: &weir::api::types::StatusView, name: &str| {
        status.interfaces.iter().any(|view| view.name == name && view.error.is_none())
    };
    scene.agent.await_status("it is taken", |status| attached(status, "veth-later"));
    scene.topology.node.ip(&["link del veth-later"]).unwrap();
    scene.agent.await_status("it is left", |s| s.interfaces.iter().all(|i| i.name != "veth-later"));

    // A file, documents, weights, what is gone; counters and flow tables.
    scene.agent.write(SPLITS, &split(&scene.topology, "ratings", 9081));
    while scene.agent.split("ratings").is_err() {}
    reaches(&scene, 9081);
    let applied = scene.agent.directory().join("applied.yaml");
    std::fs::write(&applied, split(&scene.topology, "votes", 9082)).unwrap();
    let applied = applied.to_str().unwrap();
    scene.agent.ask(&["apply", "-f", applied]).unwrap();
    reaches(&scene, 9082);
    scene.agent.weights("votes", &[("v1", 7)]).unwrap();
    let flows = scene.agent.ask(&["flows", "--split", "votes"]).unwrap();
    assert!(flows.contains("votes"), "{flows}");
    scene.agent.ask(&["delete", "-f", applied]).unwrap();
    let count = check(&scene.agent, NEEDED);
    println!("{count} threads have CAP_NET_ADMIN and CAP_BPF, and no other capability");
    assert!(count > 2, "{count} threads");

    // An agent that replaces the programs of another in their links.
    scene.agent.end(Signal::SIGKILL).unwrap();
    scene.agent.start_again(&scene.topology.node).unwrap();
    reaches(&scene, 9081);
    check(&scene.agent, NEEDED);
    let stopped = scene.agent.end(Signal::SIGTERM).unwrap();
    assert!(stopped.success(), "{stopped}");
    assert!(!scene.agent.socket().exists(), "its socket is gone");
    for wrong in ["denied", "permitted", "ermission"] {
        assert!(!scene.agent.stderr().contains(wrong), "{}", scene.agent.stderr());
    }
}

#[test]
fn the_agent_takes_itself_out_of_the_kernel_with_two_capabilities() {
    let mut scene = Scene::new(&["a"], |topology| {
        let setup = Setup::default().config("fastPath: off\n").argument("--unload-on-exit");
        setup.split(&split(topology, "reviews", 9080))
    })
    .unwrap();
    check(&scene.agent, NEEDED);
    let stopped = scene.agent.end(Signal::SIGTERM).unwrap();
    assert!(stopped.success(), "{stopped}: {}", scene.agent.stderr());
    assert!(!scene.agent.pins().dir().exists());
}

#[test]
fn listing_links_is_kept_only_for_the_fast_path_of_kernels_that_list_no_hooks() {
    let scene = Scene::new(&["a"], |topology| {
        Setup::default().config("fastPath: auto\n").split(&split(topology, "reviews", 9080))
    })
    .unwrap();
    let listed = scene.topology.node.run(hooks_are_listed);
    println!("the kernel lists netfilter's hooks: {listed}");
    check(&scene.agent, if listed { NEEDED } else { NEEDED | SYS_ADMIN });
    // What is at netfilter's hooks, IPsec and TCX can be looked at: nothing.
    scene.agent.await_status("the fast path is used", |status| status.fast_path.used);
}
