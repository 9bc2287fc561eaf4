//! Configurations, good and bad.

use std::time::Duration;

use super::{AgentConfig, FastPath, Forward, KernelLog, Kubernetes, Mode, Reports};
use crate::access::{Access, Group};
use crate::resource::{Istio, Policy, Services};
use crate::source::Problem;

fn problems(text: &str) -> Vec<String> {
    let groups = |name: &str| match name {
        "ops" => Ok(Some(10)),
        "broken" => Err(std::io::Error::other("no answer")),
        _ => Ok(None),
    };
    let found = AgentConfig::parse_with("f", text, &groups).err().unwrap_or_default();
    found.iter().map(Problem::to_string).collect()
}

#[test]
fn defaults() {
    let config = AgentConfig::parse("f", "interfaces:\n- match: veth-*\n").unwrap();
    assert_eq!(config.interfaces[0].pattern(), "veth-*");
    assert_eq!(config.resources.to_str(), Some("/etc/weir/resources.d"));
    assert_eq!(config.state.to_str(), Some("/var/lib/weir"));
    assert_eq!(config.bpffs.to_str(), Some("/sys/fs/bpf/weir"));
    assert_eq!(config.socket.to_str(), Some("/run/weir/weir.sock"));
    assert_eq!(config.access, Access::default());
    assert_eq!(config.metrics, Some("127.0.0.1:9464".parse().unwrap()));
    assert_eq!(config.fast_path, FastPath::Auto);
    assert_eq!(config.flows.max, 262_144);
    assert_eq!(config.flows.tcp_idle, Duration::from_secs(7200));
    assert_eq!(config.flows.udp_idle, Duration::from_secs(60));
    let limits = (config.limits.splits, config.limits.endpoints, config.limits.table_slots);
    assert_eq!(limits, (1024, 8192, 1_048_576));
    assert_eq!(config.hash_seed, 0);
    assert_eq!(config.kernel_log, KernelLog::Off);
}

#[test]
fn the_installed_configuration_says_the_defaults_and_chooses_no_interface() {
    let text = super::template::TEMPLATE;
    // Prose follows "# "; a setting its key, or its indentation below another.
    let uncomment = |line: &str| match line.strip_prefix('#') {
        Some(text) if !text.starts_with(' ') || text.starts_with("  ") => text.to_owned(),
        _ => line.to_owned(),
    };
    let all: Vec<String> = text.lines().map(uncomment).collect();
    let interfaces = "interfaces: [{match: no-interface-is-chosen}]";
    let defaults = format!("{:?}", AgentConfig::parse("f", interfaces).unwrap());
    for text in [text, &all.join("\n")] {
        let config = AgentConfig::parse("agent.yaml", text).unwrap();
        assert_eq!(format!("{config:?}"), defaults);
        // The kernel's limit, without its null byte.
        assert!(config.interfaces[0].pattern().len() > libc::IFNAMSIZ - 1);
    }
    let settings = all.iter().filter(|line| line.starts_with(char::is_alphabetic)).count();
    assert_eq!(settings, 14, "every setting is there: {all:#?}");
}

#[test]
fn all_is_read_and_the_first_match_wins() {
    let config = AgentConfig::parse(
        "f",
        "interfaces:\n- {match: veth-x*, forward: xdp}\n- {match: 'veth-*'}\n- {match: 'eth[0-1]', forward: tc}\n\
         resources: /r\nstate: /s\nsocket: /t\nmetrics: '[::]:80'\nfastPath: off\nflows: {max: 1024, tcpIdle: 1h 30m, udpIdle: 1s}\n\
         hashSeed: 0x5eed\nkernelLog: rare\notherPorts: answer\nlimits: {splits: 1, endpoints: 2, tableSlots: 4096}\n",
    )
    .unwrap();
    assert_eq!(config.metrics, Some("[::]:80".parse().unwrap()));
    assert_eq!(config.fast_path, FastPath::Off);
    assert_eq!(config.forward_for("veth-x1"), Some(Forward::Xdp));
    assert_eq!(config.forward_for("veth-1"), Some(Forward::Tc));
    assert_eq!(config.forward_for("eth1"), Some(Forward::Tc));
    assert_eq!(config.forward_for("eth2"), None);
    assert_eq!(config.hash_seed, 0x5eed);
    assert_eq!(config.kernel_log, KernelLog::Rare);
    assert_eq!(config.flows.tcp_idle, Duration::from_secs(5400));
    assert_eq!(config.limits.table_slots, 4096);
}

#[test]
fn metrics_can_be_turned_off() {
    for off in ["off", "'off'", "null", "~", ""] {
        let text = format!("interfaces: [{{match: a}}]\nmetrics: {off}\n");
        let config =
            AgentConfig::parse("f", &text).unwrap_or_else(|found| panic!("{off}: {found:?}"));
        assert_eq!(config.metrics, None, "{off}");
    }
}

#[test]
fn groups_have_names_or_numbers() {
    let groups = |name: &str| Ok((name == "ops").then_some(10));
    let group = |name: &str, gid| Some(Group { name: name.into(), gid });
    for (text, operators, viewers) in [
        ("{}", None, None),
        ("{operators: ops}", group("ops", 10), None),
        ("{viewers: 20}", None, group("20", 20)),
        ("{operators: '0', viewers: ops}", group("0", 0), group("ops", 10)),
        ("{operators: 4294967294, viewers: null}", group("4294967294", 4_294_967_294), None),
    ] {
        let text = format!("interfaces: [{{match: a}}]\naccess: {text}\n");
        let config = AgentConfig::parse_with("f", &text, &groups);
        let config = config.unwrap_or_else(|found| panic!("{text}: {found:?}"));
        assert_eq!(config.access, Access { operators, viewers }, "{text}");
    }
}

#[test]
fn bad_groups() {
    let cases: &[(&str, &str)] = &[
        (
            "@\naccess:\n  operators: ops\n  viewers: nobody-there",
            "f:4: access.viewers: there is no group \"nobody-there\", expected the name of a group (see /etc/group) or its number",
        ),
        (
            "@\naccess:\n  operators: broken",
            "f:3: access.operators: cannot look up group \"broken\" (no answer), expected the name of a group (see /etc/group) or its number",
        ),
        (
            "@\naccess:\n  operators: ''",
            "f:3: access.operators: there is no group \"\", expected the name of a group (see /etc/group) or its number",
        ),
        (
            "@\naccess:\n  operators: 4294967295",
            "f:3: access.operators: 4294967295 is out of range, expected an integer from 0 to 4294967294",
        ),
        (
            "@\naccess:\n  operators: [ops]",
            "f:3: access.operators: invalid type: list, expected the name of a group or its number",
        ),
        (
            "@\naccess:\n  operators: ops\n  viewers: 10",
            "f:4: access.viewers: group \"10\" are the operators, who may look anyway; expected another group",
        ),
        (
            "@\naccess:\n  operator: ops",
            "f:3: access.operator: unknown field `operator`, expected `operators` or `viewers`",
        ),
    ];
    for (text, expected) in cases {
        let text = text.replace("@", "interfaces: [{match: a}]");
        assert_eq!(problems(&text), [*expected], "{text}");
    }
}

#[test]
fn a_cluster_is_followed_if_it_is_named() {
    let cluster = |text: &str| {
        let text = format!("interfaces: [{{match: a}}]\n{text}");
        AgentConfig::parse("f", &text).unwrap().kubernetes
    };
    assert_eq!(cluster(""), None);
    assert_eq!(cluster("kubernetes: null"), None);
    let default = Kubernetes {
        kubeconfig: None,
        mode: Mode::Steer,
        policy: Policy::default(),
        reports: Reports::default(),
    };
    assert_eq!(cluster("kubernetes: {}"), Some(default));
    let text = "kubernetes: {kubeconfig: /etc/weir/kubeconfig, services: all, istio: labelled, mode: observe, addresses: [198.51.100.0/24, 2001:db8::/32]}";
    let found = cluster(text).unwrap();
    assert_eq!(found.kubeconfig, Some("/etc/weir/kubeconfig".into()));
    assert_eq!(found.mode, Mode::Observe);
    let Policy { services, istio, addresses } = found.policy;
    assert_eq!((services, istio, addresses.len()), (Services::All, Istio::Labelled, 2));
    let found = cluster("kubernetes: {reports: {pause: 30s}}").unwrap();
    let expected = Reports { pause: Duration::from_secs(30), ..Reports::default() };
    assert_eq!(found.reports, expected);
}

#[test]
fn bad_clusters() {
    let cases: &[(&str, &str)] = &[
        (
            "@\nkubernetes: {kubeconfig: kube/config}",
            "f:2: kubernetes.kubeconfig: \"kube/config\" is not an absolute path, expected one such as \"/run/weir\"",
        ),
        (
            "@\nkubernetes: {services: some}",
            "f:2: kubernetes.services: unknown value `some`, expected `routed` or `all`",
        ),
        (
            "@\nkubernetes: {istio: yes}",
            "f:2: kubernetes.istio: unknown value `yes`, expected one of `auto`, `labelled`, `all`",
        ),
        (
            "@\nkubernetes:\n  reports: {pause: 20ms}",
            "f:3: kubernetes.reports.pause: \"20ms\" is out of range, expected a duration from 100ms to 10m",
        ),
        (
            "@\nkubernetes: {reports: {renewal: often}}",
            "f:2: kubernetes.reports.renewal: \"often\" is not a duration, expected a duration from 1s to 1h",
        ),
        (
            "@\nkubernetes: {addresses: [198.51.100.1/24]}",
            "f:2: kubernetes.addresses[0]: \"198.51.100.1/24\" has bits set behind its prefix of 24, expected a network such as \"198.51.100.0/24\" or \"2001:db8::/32\"",
        ),
        (
            "@\nkubernetes:\n  addresses:\n  - everywhere",
            "f:4: kubernetes.addresses[0]: \"everywhere\" is not a network in CIDR notation, expected a network such as \"198.51.100.0/24\" or \"2001:db8::/32\"",
        ),
    ];
    for (text, expected) in cases {
        let text = text.replace("@", "interfaces: [{match: a}]");
        assert_eq!(problems(&text), [*expected], "{text}");
    }
}

#[test]
fn bad_configurations() {
    let listen = "is not an address with a port, expected one such as \"127.0.0.1:9464\" or \"[::1]:9464\", or off";
    let duration = "expected a duration from 1s to 30d such as \"90s\" or \"2h\"";
    let cases: &[(&str, &str)] = &[
        ("state: /s", "f:1: interfaces: missing required field"),
        (
            "interfaces: [eth0]",
            "f:1: interfaces[0]: invalid type: string \"eth0\", expected a mapping such as {match: eth0}",
        ),
        ("interfaces: []", "f:1: interfaces: no interfaces, expected at least one entry"),
        (
            "interfaces:\n- {match: ''}",
            "f:2: interfaces[0].match: empty pattern, expected a glob such as \"veth-*\"",
        ),
        (
            "interfaces:\n- {match: 'a['}",
            "f:2: interfaces[0].match: invalid pattern \"a[\": unclosed character class; missing ']', expected a glob such as \"veth-*\"",
        ),
        (
            "interfaces:\n- {match: a}\n- match: b\n  forward: skb",
            "f:4: interfaces[1].forward: unknown value `skb`, expected `tc` or `xdp`",
        ),
        (
            "@\nflows:\n  max: 1023",
            "f:3: flows.max: 1023 is out of range, expected an integer from 1024 to 16777216",
        ),
        (
            "@\nflows:\n  max: 16777217",
            "f:3: flows.max: 16777217 is out of range, expected an integer from 1024 to 16777216",
        ),
        (
            "@\nflows:\n  tcpIdle: 60",
            &format!("f:3: flows.tcpIdle: invalid type: integer `60`, {duration}"),
        ),
        (
            "@\nflows:\n  tcpIdle: soon",
            &format!("f:3: flows.tcpIdle: \"soon\" is not a duration, {duration}"),
        ),
        (
            "@\nflows:\n  udpIdle: 31d",
            &format!("f:3: flows.udpIdle: \"31d\" is out of range, {duration}"),
        ),
        (
            "@\nflows:\n  udpIdle: 999ms",
            &format!("f:3: flows.udpIdle: \"999ms\" is out of range, {duration}"),
        ),
        (
            "@\nflow: {}",
            "f:2: flow: unknown field `flow`, expected one of `interfaces`, `resources`, `state`, `bpffs`, `socket`, `access`, `metrics`, `fastPath`, `otherPorts`, `flows`, `hashSeed`, `kernelLog`, `limits`, `kubernetes`",
        ),
        (
            "@\nfastPath: false",
            "f:2: fastPath: invalid type: boolean `false`, expected one of `auto`, `on`, `off`",
        ),
        ("@\nflows: 7", "f:2: flows: invalid type: integer `7`, expected a mapping"),
        (
            "@\nfastPath: yes",
            "f:2: fastPath: unknown value `yes`, expected one of `auto`, `on`, `off`",
        ),
        (
            "@\nhashSeed: -1",
            "f:2: hashSeed: -1 is out of range, expected an integer from 0 to 18446744073709551615",
        ),
        (
            "@\nstate: lib/weir",
            "f:2: state: \"lib/weir\" is not an absolute path, expected one such as \"/run/weir\"",
        ),
        (
            "@\nlimits: {splits: 0}",
            "f:2: limits.splits: 0 is out of range, expected an integer from 1 to 65536",
        ),
        ("@\n@", "f:2: interfaces: key is defined twice (first on line 1)"),
        ("@\n---\n@", "f:3: more than one document, expected one configuration"),
        ("@\nmetrics: localhost", &format!("f:2: metrics: \"localhost\" {listen}")),
        ("@\nmetrics: 127.0.0.1:0", &format!("f:2: metrics: \"127.0.0.1:0\" {listen}")),
        ("@\nmetrics: '::1:9464'", &format!("f:2: metrics: \"::1:9464\" {listen}")),
        ("@\nmetrics: 9464", "f:2: metrics: invalid type: integer `9464`, expected a string"),
        ("@\nmetrics: false", "f:2: metrics: invalid type: boolean `false`, expected a string"),
        ("# nothing", "f: empty, expected a configuration"),
    ];
    for (text, expected) in cases {
        let text = text.replace("@", "interfaces: [{match: a}]");
        assert_eq!(problems(&text), [*expected], "{text}");
    }
    let all = "interfaces: []\nstate: s\nflows: {max: 1, udpIdle: 0s}";
    assert_eq!(problems(all).len(), 4);
}
