//! When the way past the node's stack is closed: whatever on the node would see or change
//! forwarded packets, a firewall above all, must go on doing so.

mod fast_path;

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read as _};
use std::net::SocketAddr;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TcAttachType};
use fast_path::{LINES, LOST, TIMEOUT, counted, echo, scene, tcp_flow, udp_flow};
use nix::sys::signal::Signal;
use weir::datapath::{Object, Settings};
use weir::fast_path::{Devices, Filters};
use weir_tests::client::exchange;
use weir_tests::netns::Netns;
use weir_tests::server::connect;
use weir_tests::topology::{CLIENT_FACING, VIP_V4, vips};

#[test]
fn a_firewall_closes_the_way_and_opens_it_when_it_goes() {
    let scene = scene("auto");
    let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
    for vip in vips() {
        let mut stream = tcp_flow(client, vip);
        echo(&mut stream).expect("before the rule");
        let endpoint = scene.topology.endpoint("a").ip(vip);
        let family = if vip.is_ipv4() { "ip" } else { "ip6" };
        let rules = format!(
            "table inet fw {{ chain fw {{ type filter hook forward priority 0; \
             {family} daddr {endpoint} drop\n}}\n}}"
        );
        let begun = Instant::now();
        node.output("nft", &[&rules]).expect("rule");
        let status = agent.await_status("the way is closed", |s| !s.fast_path.used);
        let spent = begun.elapsed();
        println!("{vip}: closed after {spent:?}: {}", status.fast_path.reason);
        assert!(spent < Duration::from_secs(1), "{vip}: closed after {spent:?}");
        let reason = status.fast_path.reason;
        let bar = format!("of inet fw fw: meta nfproto == {} ", if vip.is_ipv4() { 2 } else { 10 });
        assert!(reason.starts_with("nftables has rule ") && reason.contains(&bar), "{reason}");
        assert!(reason.contains(&format!("{family} daddr == {endpoint} drop")), "{reason}");
        stream.set_read_timeout(Some(LOST)).expect("time-out");
        let kind = echo(&mut stream).map_err(|error| error.kind());
        assert_eq!(kind, Err(ErrorKind::WouldBlock), "{vip}: the rule drops");

        let begun = Instant::now();
        node.output("nft", &["delete table inet fw"]).expect("no rule");
        agent.await_status("the way is open", |s| s.fast_path.used);
        println!("{vip}: open after {:?}", begun.elapsed());
        stream.set_read_timeout(Some(TIMEOUT)).expect("time-out");
        // What was dropped is sent again.
        let mut late = [0; 5];
        stream.read_exact(&mut late).expect("after the rule");
        let before = counted(agent, "redirected");
        echo(&mut stream).expect("after the rule");
        assert!(counted(agent, "redirected") > before, "{vip}");
    }
}

#[test]
fn what_does_not_tell_of_itself_is_found_too() {
    let scene = scene("auto");
    let (node, agent) = (&scene.topology.node, &scene.agent);
    let await_closed = |reason: &str| {
        let status = agent.await_status(reason, |s| !s.fast_path.used);
        assert_eq!(status.fast_path.reason, reason);
    };
    let await_open = |what: &str| {
        agent.await_status(what, |s| s.fast_path.used);
    };
    for qdisc in ["clsact", "ingress"] {
        node.output("tc", &["qdisc", "add", "dev", CLIENT_FACING, qdisc]).expect(qdisc);
        await_closed(&format!("{qdisc} is behind weir on veth-client"));
        node.output("tc", &["qdisc", "del", "dev", CLIENT_FACING, qdisc]).expect(qdisc);
        await_open(&format!("{qdisc} is gone"));
    }

    let settings = Settings { flows: 1024, ..Settings::default() };
    let mut object = Object::load(&settings).expect("any programs");
    let program = object.ebpf().program_mut("weir_tc_reply").expect("a program");
    let program: &mut SchedClassifier = program.try_into().expect("a classifier");
    let link = node.run(|| program.attach(CLIENT_FACING, TcAttachType::Ingress)).expect("attach");
    let id = program.info().expect("its number").id();
    await_closed(&format!("program {id} is behind weir on veth-client"));
    program.detach(link).expect("detach");
    await_open("the program is gone");

    let policy =
        ["xfrm", "policy", "add", "src", "198.51.100.0/24", "dir", "fwd", "action", "block"];
    node.output("ip", &policy).expect("policy");
    await_closed("1 IPsec policies");
    node.output("ip", &["xfrm", "policy", "flush"]).expect("no policy");
    await_open("policies are gone");

    // Neither does a chain bar that sees no forwarded packets.
    node.output("nft", &["table inet fw { chain fw { type filter hook input priority 0\n}\n}"])
        .expect("chain");
    // One of ip6tables does, and is there until the namespace ends.
    node.run(|| use_legacy_table("mangle")).expect("legacy table");
    await_closed("ip6tables (legacy) has table mangle");
}

#[test]
fn filters_at_ingress_are_listed_whatever_they_hang_on() {
    let ns = Netns::new().expect("namespace");
    ns.ip(&["link add veth-a type veth peer name veth-b"]).expect("link");
    let tc = |line: &str| {
        // Returns TC_ACT_UNSPEC.
        let program = line.starts_with("filter").then_some(["bytecode", "1,6 0 0 4294967295"]);
        let words: Vec<&str> = line.split(' ').chain(program.into_iter().flatten()).collect();
        ns.output("tc", &words).unwrap_or_else(|error| panic!("{line}: {error}"));
    };
    let list = || {
        ns.run(|| {
            let mut devices = Devices::new().expect("netlink");
            let found = devices.list().expect("interfaces");
            let (&index, device) =
                found.iter().find(|(_, device)| device.name == "veth-a").expect("it");
            let filters = devices.ingress_filters(index).expect("filters");
            let places = filters.iter().map(|filter| (filter.priority, filter.handle));
            (device.filters, places.collect::<BTreeSet<_>>())
        })
    };
    assert_eq!(list(), (None, BTreeSet::new()));
    for (qdisc, name) in [(Filters::Clsact, "clsact"), (Filters::Ingress, "ingress")] {
        tc(&format!("qdisc add dev veth-a {name}"));
        assert_eq!(list(), (Some(qdisc), BTreeSet::new()), "{name}");
        tc("filter add dev veth-a parent ffff:fff2 prio 9 handle 4 bpf");
        if qdisc.has_egress() {
            tc("filter add dev veth-a egress prio 8 bpf");
        }
        // The one without a handle stands for all of its priority.
        assert_eq!(list(), (Some(qdisc), BTreeSet::from([(9, 0), (9, 4)])), "{name}");
        tc(&format!("qdisc del dev veth-a {name}"));
    }
}

/// Asks about a table of ip6tables, upon which the kernel makes it.
fn use_legacy_table(name: &str) -> std::io::Result<()> {
    /// IP6T_SO_GET_INFO.
    const GET_INFO: libc::c_int = 64;
    /// `struct ip6t_getinfo`.
    const SIZE: usize = 84;
    let mut info = [0_u8; SIZE];
    info[..name.len()].copy_from_slice(name.as_bytes());
    let socket = socket2::Socket::new(
        socket2::Domain::IPV6,
        socket2::Type::RAW,
        Some(socket2::Protocol::from(libc::IPPROTO_RAW)),
    )?;
    let mut length = SIZE as libc::socklen_t;
    // SAFETY: a buffer of the length that is given.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_IPV6,
            GET_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn on_is_the_operators_word() {
    let scene = scene("on");
    let (client, node, agent) = (&scene.topology.client, &scene.topology.node, &scene.agent);
    // The first one has the stack ask for neighbours.
    tcp_flow(client, VIP_V4.into());
    let mut stream = tcp_flow(client, VIP_V4.into());
    let rules = "table inet fw { chain fw { type filter hook forward priority 0; drop\n}\n}";
    node.output("nft", &[rules]).expect("rule");
    // Notices come at once: whoever follows them has done so when a later change is seen.
    std::thread::sleep(Duration::from_secs(1));
    let before = counted(agent, "redirected");
    echo(&mut stream).expect("past the rule");
    assert!(counted(agent, "redirected") >= before + 2);
    let status = agent.status().expect("status");
    assert_eq!(status.fast_path.reason, "fastPath: on, whatever else is on the node");
    // So do new connections, from their first packet on.
    echo(&mut tcp_flow(client, VIP_V4.into())).expect("past the rule");
    // And those that the stack has to begin, end there.
    let ifname = &scene.topology.endpoint("a").node_ifname;
    node.output("ip", &["neigh", "flush", "dev", ifname]).expect("flush");
    let refused = client.run(|| connect(SocketAddr::new(VIP_V4.into(), LINES), LOST));
    assert_eq!(refused.map(drop).map_err(|error| error.kind()), Err(ErrorKind::TimedOut));
}

#[test]
fn nobody_watches_so_the_way_closes() {
    for (signal, setting, stays) in [
        (Signal::SIGTERM, "auto", false),
        (Signal::SIGKILL, "auto", false),
        (Signal::SIGKILL, "on", true),
    ] {
        let what = format!("{signal}, {setting}");
        let mut scene = scene(setting);
        let socket = udp_flow(&scene.topology.client, VIP_V4.into(), 20_000);
        let before = counted(&scene.agent, "redirected");
        exchange(&socket, b"hello").expect("answer");
        assert!(counted(&scene.agent, "redirected") > before, "{what}");
        scene.agent.end(signal).expect("end");
        // Longer than a choice is valid, and a tick.
        std::thread::sleep(Duration::from_secs(5));
        let before = counted(&scene.agent, "redirected");
        exchange(&socket, b"hello").unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(counted(&scene.agent, "redirected") > before, stays, "{what}");
    }
}
