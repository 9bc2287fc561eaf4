//! Rules of nftables, as nft(8) writes them and the kernel lists them, are judged as they work.

mod firewalls;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewalls::FORWARD;
use weir::netlink::Netlink;
use weir::nftables::{Class, Family, Judge, Objection, State, generation, read};
use weir_tests::netns::Netns;

/// Steps that a test's rules may take.
const PATIENCE: usize = 1_000_000;

/// An endpoint, of a Pod.
const POD_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 244, 1, 5));
const POD_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 5));

/// Packets to an endpoint's port 8080 from anybody.
fn forward(pod: IpAddr, state: State) -> Class {
    Class {
        family: if pod.is_ipv4() { Family::IPV4 } else { Family::IPV6 },
        protocol: 6,
        source: None,
        source_port: None,
        destination: Some(pod),
        destination_port: Some(8080),
        state,
        is_reply: false,
    }
}

/// The answers.
fn reply(pod: IpAddr) -> Class {
    Class {
        source: Some(pod),
        source_port: Some(8080),
        destination: None,
        destination_port: None,
        state: State::Established,
        is_reply: true,
        ..forward(pod, State::Established)
    }
}

/// What packets of a steered flow are, one after the other.
fn flow(pod: IpAddr) -> [Class; 3] {
    [forward(pod, State::New), forward(pod, State::Established), reply(pod)]
}

/// Loads rules into a namespace in place of those that are there.
fn load(ns: &Netns, rules: &str) {
    let file = tempfile::NamedTempFile::new().expect("file");
    std::fs::write(file.path(), format!("flush ruleset\n{rules}")).expect("rules");
    let path = file.path().to_str().expect("a path in UTF-8");
    ns.output("nft", &["-f", path]).unwrap_or_else(|error| panic!("{rules}\n{error:#}"));
}

fn judged(ns: &Netns, classes: &[Class]) -> Option<Objection> {
    ns.run(|| {
        let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).expect("netlink");
        let (_, ruleset) = read(&mut netlink).expect("rules");
        let mut judge = Judge::new(&ruleset, PATIENCE);
        classes.iter().find_map(|class| judge.objection(class))
    })
}

/// A chain at `forward`.
fn at_forward(sets: &str, rules: &str) -> String {
    format!(
        "table inet t {{\n{sets}\nchain other {{ }}\nchain c {{\n\
         type filter hook forward priority 0; policy accept;\n{rules}\n}}\n}}\n"
    )
}

#[test]
fn rules_matter_that_may_match_and_do_something() {
    let ns = Netns::new().expect("namespace");
    for (sets, rules, expected) in FORWARD {
        load(&ns, &at_forward(sets, &rules.replace("; ", "\n")));
        let [first, later, _] = flow(POD_V4);
        let found = judged(&ns, &[first, later]);
        assert_eq!(found.is_some(), *expected, "{sets} {rules}: {found:?}");
    }
    // Clients have any port.
    for (rules, expected) in [
        ("tcp dport 22 drop", true),
        ("tcp sport 22 drop", false),
        ("tcp sport 8080 drop", true),
        ("ct direction reply tcp dport 22 drop", true),
        ("ct direction original tcp dport 22 drop", false),
        ("ct state established accept; drop", false),
        ("ip saddr 10.244.1.6 drop", false),
        ("ip saddr 10.244.1.4/31 drop", true),
        ("ip daddr 192.0.2.0/24 drop", true),
    ] {
        load(&ns, &at_forward("", &rules.replace("; ", "\n")));
        let found = judged(&ns, &[reply(POD_V4)]);
        assert_eq!(found.is_some(), expected, "reply, {rules}: {found:?}");
    }
}

#[test]
fn chains_matter_where_packets_come_by() {
    let ns = Netns::new().expect("namespace");
    let both = [POD_V4, POD_V6].map(|pod| flow(pod).to_vec());
    for (family, hook, expected) in [
        ("ip", "type filter hook prerouting priority -300", [true, false]),
        ("ip", "type filter hook input priority 0", [false, false]),
        ("ip6", "type filter hook forward priority 0", [false, true]),
        ("inet", "type filter hook postrouting priority 300", [true, true]),
        ("inet", "type filter hook output priority 0", [false, false]),
        ("bridge", "type filter hook forward priority 0", [false, false]),
        ("inet", "type nat hook prerouting priority -100", [true, true]),
        ("inet", "type filter hook ingress device lo priority 0", [true, true]),
        ("netdev", "type filter hook ingress device lo priority 0", [true, true]),
        ("netdev", "type filter hook egress device lo priority 0", [true, true]),
    ] {
        load(&ns, &format!("table {family} t {{\nchain c {{\n{hook};\ncounter drop\n}}\n}}\n"));
        let found = both.each_ref().map(|classes| judged(&ns, classes).is_some());
        assert_eq!(found, expected, "{family} {hook}");
    }
    let policy =
        "table ip t {\nchain c {\ntype filter hook forward priority 0; policy drop;\n}\n}\n";
    load(&ns, policy);
    let found = judged(&ns, &flow(POD_V4)).expect("it matters");
    assert_eq!(found.to_string(), "ip t c: policy drop");
    load(&ns, &policy.replace("{\nchain", "{\nflags dormant;\nchain"));
    assert_eq!(judged(&ns, &flow(POD_V4)), None, "dormant");
    // Of a flow that has begun, no chain of type nat is asked.
    let nat =
        "table ip t {\nchain c {\ntype nat hook postrouting priority 100;\nmasquerade\n}\n}\n";
    load(&ns, nat);
    assert_eq!(judged(&ns, &[reply(POD_V4), forward(POD_V4, State::Established)]), None);
    let found = judged(&ns, &[forward(POD_V4, State::New)]).expect("it matters");
    assert_eq!(found.text, "masq (masq)");
}

#[test]
fn what_bars_is_named_as_people_write_it() {
    let ns = Netns::new().expect("namespace");
    for (rules, expected) in [
        (
            "ct state new tcp dport 8080 drop",
            "ct state new meta l4proto == 6 th dport == 8080 drop",
        ),
        ("ip daddr 10.244.0.0/16 reject", "meta nfproto == 2 ip daddr == 10.244.0.0/16 reject"),
        ("iifname \"eth0\" oifname \"cni*\" log", "iifname == \"eth0\" oifname == \"cni*\" log"),
        ("meta mark & 0xff == 0 log", "meta mark & 0xff == 0x0 log"),
    ] {
        load(&ns, &at_forward("", rules));
        let found = judged(&ns, &flow(POD_V4)).expect(rules);
        let what = found.text.split(" (").next().unwrap_or_default();
        assert_eq!(what, expected);
        assert_eq!((found.table.as_str(), found.chain.as_str()), ("t", "c"));
        let listed = ns.output("nft", &["-a", "list", "table", "inet", "t"]).expect("list");
        let handle = format!("# handle {}\n", found.handle.expect("a rule"));
        assert!(listed.contains(&handle), "{handle} in {listed}");
    }
}

#[test]
fn the_generation_grows_with_each_change() {
    let ns = Netns::new().expect("namespace");
    let now = || {
        ns.run(|| {
            let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).expect("netlink");
            generation(&mut netlink).expect("generation")
        })
    };
    let before = now();
    assert_eq!(now(), before);
    load(&ns, &at_forward("set s { type ipv4_addr; }", ""));
    let loaded = now();
    assert_ne!(loaded, before);
    ns.output("nft", &["add", "element", "inet", "t", "s", "{ 10.0.0.1 }"]).expect("an element");
    assert_ne!(now(), loaded);
}

/// kube-proxy's own, and those of its endpoints that are steered.
const KUBE_PROXY: &str = include_str!("firewalls/kube_proxy.nft");
const KUBE_PODS: [&str; 2] = ["10.129.7.10", "2001:db8:1:1::7:10"];

/// Packets of all kinds of flows to an endpoint's port 8080.
fn flows(pod: IpAddr) -> Vec<Class> {
    let of = |protocol| {
        let mut classes = flow(pod).to_vec();
        classes.push(forward(pod, State::Related));
        classes.iter_mut().for_each(|class| class.protocol = protocol);
        classes
    };
    [of(6), of(17)].concat()
}

#[test]
fn kube_proxys_rules_are_harmless_to_packets_that_go_to_endpoints() {
    let ns = Netns::new().expect("namespace");
    load(&ns, KUBE_PROXY);
    for pod in KUBE_PODS {
        assert_eq!(judged(&ns, &flows(pod.parse().expect("an address"))), None, "{pod}");
    }
    for (service, port) in [
        ("10.96.10.56", 80),
        ("10.96.51.63", 82),
        ("192.0.2.60", 85),
        ("10.0.1.1", 31273),
        ("10.96.77.77", 80),
    ] {
        let to = service.parse().expect("an address");
        let class = Class { destination_port: Some(port), ..forward(to, State::New) };
        let found = judged(&ns, &[class]).unwrap_or_else(|| panic!("{service} is no endpoint"));
        assert_eq!(found.table, "kube-proxy", "{service}: {found}");
    }
}

#[test]
fn each_change_of_kube_proxys_rules_that_matters_bars() {
    let ns = Netns::new().expect("namespace");
    let pod = "10.129.7.10".parse().expect("an address");
    // What is written instead of what, and whether it matters to packets to the endpoint.
    for (from, to, expected) in [
        ("ct status dnat ip saddr", "ip saddr", true),
        ("mark & 0x00004000 != 0x00000000", "mark & 0x00004000 == 0x00000000", true),
        ("ip daddr 10.96.0.0/16 drop", "ip daddr 10.0.0.0/8 drop", true),
        ("ip daddr 10.96.0.0/16 drop", "ip daddr 10.98.0.0/16 drop", false),
        ("ip daddr @cluster-ips reject", "ip saddr @cluster-ips reject", true),
        ("ip daddr @cluster-ips reject", "ip daddr != @cluster-ips reject", true),
        ("elements = { 10.96.0.1,", "elements = { 10.129.7.10, 10.96.0.1,", true),
        ("elements = { 10.96.0.1,", "elements = { 10.129.8.10, 10.96.0.1,", false),
        ("elements = { 10.96.51.63 . tcp . 82", "elements = { 10.129.7.10 . tcp . 8080", true),
        ("elements = { 10.96.51.63 . tcp . 82", "elements = { 10.129.7.10 . tcp . 82", false),
        ("elements = { 192.0.2.60 . tcp . 85", "elements = { 10.129.7.10 . tcp . 8080", true),
        ("elements = { 10.96.10.56 . tcp . 80", "elements = { 10.129.7.10 . tcp . 8080", true),
        ("elements = { 10.0.1.1 }", "elements = { 10.129.7.10 }", false),
        ("tcp . 31713 : goto external-NEMVP7RS", "tcp . 8080 : goto external-NEMVP7RS", false),
        ("jump services\n", "meta mark set 1\njump services\n", true),
        ("jump masquerading\n", "masquerade\n", true),
        (
            "filter hook forward priority filter; policy accept",
            "filter hook forward priority filter; policy drop",
            true,
        ),
        (
            "filter hook input priority filter; policy accept",
            "filter hook input priority filter; policy drop",
            false,
        ),
        ("ct state new jump cluster-ips-check", "ct state established drop", true),
        ("ct state new jump cluster-ips-check", "ct state new log", true),
        ("ct state new jump cluster-ips-check", "ct state new counter", false),
        ("ct state new jump cluster-ips-check", "ct state new quota 1 mbytes", true),
        ("ct state new jump cluster-ips-check", "limit rate 5/second", true),
        ("flags dynamic,timeout\n", "flags timeout\n", false),
    ] {
        let rules = KUBE_PROXY.replacen(from, to, 1);
        assert_ne!(rules, KUBE_PROXY, "{from}");
        load(&ns, &rules);
        let found = judged(&ns, &flows(pod));
        assert_eq!(found.is_some(), expected, "{from} -> {to}: {found:?}");
    }
}

/// As kube-proxy has them, for so many Services with two endpoints each.
fn many(services: u16) -> String {
    let [mut map, mut chains, mut ips] = [const { String::new() }; 3];
    for n in 0..services {
        let [high, low] = n.to_be_bytes();
        map.push_str(&format!("10.96.{high}.{low} . tcp . 80 : goto service-{n},\n"));
        ips.push_str(&format!("10.96.{high}.{low},"));
        chains.push_str(&format!(
            "chain service-{n} {{ meta l4proto tcp dnat ip to numgen random mod 2 map {{ \
             0 : 10.129.{high}.{low} . 8080, 1 : 10.130.{high}.{low} . 8080 }}\n}}\n"
        ));
    }
    format!(
        "table ip k {{\nset ips {{ type ipv4_addr; elements = {{ {ips} }}\n}}\n{chains}\
         map m {{ type ipv4_addr . inet_proto . inet_service : verdict;\n\
         elements = {{ {map} }}\n}}\n\
         chain pre {{ type nat hook prerouting priority dstnat;\n\
         ip daddr @ips ip saddr != 10.128.0.0/9 meta mark set 5\n\
         ip daddr . meta l4proto . th dport vmap @m\n}}\n}}\n"
    )
}

#[test]
fn thousands_of_services_take_no_more_steps_than_a_few_for_each_endpoint() {
    const SERVICES: u16 = 5_000;
    /// A rule takes some four.
    const STEPS: usize = 100;
    let ns = Netns::new().expect("namespace");
    load(&ns, &many(SERVICES));
    ns.run(|| {
        let begun = std::time::Instant::now();
        let mut netlink = Netlink::open(libc::NETLINK_NETFILTER).expect("netlink");
        let (_, ruleset) = read(&mut netlink).expect("rules");
        println!("read after {:?}", begun.elapsed());
        let mut judge = Judge::new(&ruleset, usize::from(SERVICES) * STEPS);
        for n in 0..SERVICES {
            let [high, low] = n.to_be_bytes();
            let pod = Ipv4Addr::new(10, 129, high, low).into();
            for class in flow(pod) {
                assert_eq!(judge.objection(&class), None, "{pod}");
            }
        }
        println!("judged after {:?}", begun.elapsed());
        let service = Class {
            destination_port: Some(80),
            ..forward(Ipv4Addr::new(10, 96, 1, 1).into(), State::New)
        };
        assert!(judge.objection(&service).is_some());
    });
}
