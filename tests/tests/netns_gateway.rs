//! The Gateway API's cases of weighted routing with real servers, for both families.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};

use weir::model::Protocol;
use weir_tests::agent::Setup;
use weir_tests::client::{ports, survey};
use weir_tests::scene::{PORT, Scene};
use weir_tests::stats::assert_shares;
use weir_tests::topology::{Topology, VIP_V4, VIP_V6, client_ip};

const FLOWS: u16 = 4_000;
/// Who is said to answer where a connection is refused.
const REFUSED: &str = "refused";

/// A route of its own at a listener of its own: what its references are, and who answers.
struct Case {
    what: &'static str,
    protocol: Protocol,
    refs: &'static str,
    answers: &'static [(&'static str, u64)],
}

const CASES: &[Case] = &[
    Case {
        what: "70/30/0 over TCP",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5, weight: 70}, {name: b, port: 5, weight: 30}, {name: c, port: 5, weight: 0}",
        answers: &[("a", 70), ("b", 30), ("c", 0), (REFUSED, 0)],
    },
    Case {
        what: "70/30/0 over UDP",
        protocol: Protocol::Udp,
        refs: "{name: a, port: 5, weight: 70}, {name: b, port: 5, weight: 30}, {name: c, port: 5, weight: 0}",
        answers: &[("a", 70), ("b", 30), ("c", 0), (REFUSED, 0)],
    },
    Case {
        what: "no weights are equal ones",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5}, {name: b, port: 5}, {name: c, port: 5}",
        answers: &[("a", 1), ("b", 1), ("c", 1), (REFUSED, 0)],
    },
    Case {
        what: "a Service that does not exist rejects its share",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5, weight: 5}, {name: nobody, port: 5, weight: 3}, {name: b, port: 5, weight: 2}",
        answers: &[("a", 5), ("b", 2), ("c", 0), (REFUSED, 3)],
    },
    Case {
        what: "a Service that does not exist rejects its share of datagrams",
        protocol: Protocol::Udp,
        refs: "{name: a, port: 5, weight: 5}, {name: nobody, port: 5, weight: 3}, {name: b, port: 5, weight: 2}",
        answers: &[("a", 5), ("b", 2), ("c", 0), (REFUSED, 3)],
    },
    Case {
        what: "another namespace without a grant",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5, weight: 3}, {name: b, namespace: closed, port: 5, weight: 1}",
        answers: &[("a", 3), ("b", 0), ("c", 0), (REFUSED, 1)],
    },
    Case {
        what: "another namespace with a grant",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5, weight: 3}, {name: b, namespace: open, port: 5, weight: 1}",
        answers: &[("a", 3), ("b", 1), ("c", 0), (REFUSED, 0)],
    },
    Case {
        what: "the same Services with other weights than all these",
        protocol: Protocol::Tcp,
        refs: "{name: b, port: 5, weight: 9}, {name: a, port: 5, weight: 1}",
        answers: &[("a", 1), ("b", 9), ("c", 0), (REFUSED, 0)],
    },
    Case {
        what: "all weights 0",
        protocol: Protocol::Tcp,
        refs: "{name: a, port: 5, weight: 0}",
        answers: &[("a", 0), ("b", 0), ("c", 0), (REFUSED, 1)],
    },
];

const GRANT: &str = "apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: routes, namespace: open}
spec:
  from: [{group: gateway.networking.k8s.io, kind: TCPRoute, namespace: default}]
  to: [{group: \"\", kind: Service, name: b}]
---
";

/// The port of a case's listener.
fn port(at: usize) -> u16 {
    7_000 + at as u16
}

/// A Service without an address and its slices, for both protocols and families.
fn service(topology: &Topology, namespace: &str, name: &str) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\n\
         spec: {{clusterIP: None, ports: [{{name: tcp, port: 5}}, {{name: udp, port: 5, protocol: UDP}}]}}\n---\n"
    );
    for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
        let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
        let _ = write!(
            text,
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}-{}, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}\n\
             addressType: {family}\n\
             ports: [{{name: tcp, port: {PORT}}}, {{name: udp, port: {PORT}, protocol: UDP}}]\n\
             endpoints: [{{addresses: [\"{}\"]}}]\n---\n",
            family.to_lowercase(),
            topology.endpoint(name).ip(vip),
        );
    }
    text
}

/// Everything: one Gateway with a listener for each case, and a route for each of these.
fn resources(topology: &Topology) -> String {
    let mut text = String::from(GRANT);
    for (namespace, name) in
        [("default", "a"), ("default", "b"), ("default", "c"), ("open", "b"), ("closed", "b")]
    {
        text += &service(topology, namespace, name);
    }
    let _ = write!(
        text,
        "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {{name: front}}\nspec:\n  \
         gatewayClassName: any\n  addresses: [{{value: {VIP_V4}}}, {{value: \"{VIP_V6}\"}}]\n  listeners:\n"
    );
    for (at, case) in CASES.iter().enumerate() {
        let (port, protocol) = (port(at), case.protocol);
        let _ = writeln!(text, "  - {{name: l{at}, port: {port}, protocol: {protocol}}}");
    }
    for (at, case) in CASES.iter().enumerate() {
        let _ = write!(
            text,
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: {}Route\nmetadata: {{name: r{at}}}\nspec:\n  \
             parentRefs: [{{name: front, sectionName: l{at}}}]\n  rules:\n  - backendRefs: [{}]\n",
            case.protocol, case.refs
        );
    }
    text
}

#[test]
fn routes_divide_by_their_weights_and_reject_what_leads_nowhere() {
    let scene = Scene::new(&["a", "b", "c"], |topology| {
        Setup::default().resource("resources.yaml", &resources(topology))
    })
    .unwrap();
    let errors = scene.agent.status().expect("status").last_error;
    assert!(errors.is_empty(), "{errors:?}");
    for (at, case) in CASES.iter().enumerate() {
        for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
            let what = format!("{} to {vip}", case.what);
            // Ports of its own for each case: replies of one endpoint must not collide.
            let first = 10_000 + FLOWS * at as u16;
            let sources = ports(client_ip(vip), first..first + FLOWS);
            let to = SocketAddr::new(vip, port(at));
            let answers = survey(&scene.topology.client, case.protocol, to, &sources);
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for answer in &answers {
                let who = match answer {
                    Ok(name) => name.as_str(),
                    Err(ErrorKind::ConnectionRefused) => REFUSED,
                    Err(other) => panic!("{what}: {other}"),
                };
                *counts.entry(who).or_default() += 1;
            }
            println!("{what}: {counts:?}");
            let seen: Vec<u64> =
                case.answers.iter().map(|(who, _)| counts.get(who).copied().unwrap_or(0)).collect();
            let weights: Vec<u64> = case.answers.iter().map(|(_, weight)| *weight).collect();
            assert_shares(&seen, &weights, &what);
        }
    }
}
