//! Istio's samples, by `kubectl apply` of the files as they are, on three nodes that agree.
//! Needs root.

use std::net::SocketAddr;

use weir::api::types::{ExplainRequest, Protocol};
use weir_tests::cluster::phase;
use weir_tests::cluster::programs::Definitions;
use weir_tests::cluster::steered::{FOLLOW, Steered};
use weir_tests::samples::{Sample, Samples};

const FLOWS: u16 = 1_500;
/// What the workloads' images do is not what is tested here.
const IMAGES: [&str; 7] = [
    "docker.io/istio/examples-bookinfo-productpage-v1:1.20.1",
    "docker.io/istio/examples-bookinfo-details-v1:1.20.1",
    "docker.io/istio/examples-bookinfo-ratings-v1:1.20.1",
    "docker.io/istio/examples-bookinfo-reviews-v1:1.20.1",
    "docker.io/istio/examples-bookinfo-reviews-v2:1.20.1",
    "docker.io/istio/examples-bookinfo-reviews-v3:1.20.1",
    "docker.io/istio/tcp-echo-server:1.2",
];

/// The Service of the gateway that the tcp-echo sample is routed by, which Istio would bring.
const GATEWAY: &str = "
apiVersion: v1
kind: Service
metadata: {name: ingressgateway}
spec:
  selector: {istio: ingressgateway}
  ports: [{name: tcp, port: 31400}]
";

fn apply(steered: &Steered, samples: &Samples, sample: Sample) {
    let directory = tempfile::tempdir().unwrap();
    let path = samples.file(sample, directory.path());
    steered.kubectl().run(&["apply", "-f", path.to_str().expect("UTF-8")]);
}

/// That all agents say the same of each of these connections, and not of all of them the same.
fn assert_agreement(steered: &Steered, to: SocketAddr) {
    let mut subsets = std::collections::BTreeSet::new();
    for port in 20_000..20_200 {
        let from = SocketAddr::new("10.130.0.77".parse().unwrap(), port);
        let answers: Vec<_> = steered
            .agents
            .iter()
            .map(|agent| {
                let request = ExplainRequest { from, to, protocol: Protocol::Tcp };
                agent.explain(request).unwrap()
            })
            .collect();
        for answer in &answers {
            let first = &answers[0];
            assert_eq!(
                (&answer.split, &answer.subset, answer.endpoint, &answer.hash),
                (&first.split, &first.subset, first.endpoint, &first.hash),
                "{from}"
            );
        }
        subsets.insert(answers[0].subset.clone());
    }
    assert!(subsets.len() > 1, "{subsets:?}");
}

#[test]
fn istios_samples_are_steered_by_as_they_are_and_three_nodes_agree() {
    let experimental = [Definitions::Istio, Definitions::GatewayExperimental];
    let steered = Steered::start(3, &experimental, FOLLOW).unwrap();
    let samples = Samples::find();
    IMAGES.iter().for_each(|image| steered.cluster.kubelet.identify(image));
    apply(&steered, &samples, Sample::Bookinfo);
    phase("reviews", || steered.cluster.await_pods("default", "app=reviews", 3));
    apply(&steered, &samples, Sample::DestinationRules);
    apply(&steered, &samples, Sample::AllV1);
    let reviews = steered.addresses("default", "reviews")[0];
    let of = |version: &str| format!("reviews-{version}-");
    let [v1, v2, v3] = ["v1", "v2", "v3"].map(of);
    let mut clients: Vec<_> = (0..3).map(|node| steered.client(node)).collect();
    let mut assert_shares = |what: &str, to: SocketAddr, of: &[(&str, u64)]| {
        for client in &mut clients {
            client.assert_shares(what, to, FLOWS, of);
        }
    };
    phase("steered", || steered.await_split("reviews.default", &[("v1", 1, 1)]));
    assert_shares("all v1", reviews, &[(&v1, 1)]);
    apply(&steered, &samples, Sample::Reviews5050);
    steered.await_split("reviews.default", &[("v1", 50, 1), ("v3", 50, 1)]);
    assert_shares("50 v3", reviews, &[(&v1, 50), (&v2, 0), (&v3, 50)]);
    assert_agreement(&steered, reviews);
    apply(&steered, &samples, Sample::Reviews9010);
    steered.await_split("reviews.default", &[("v1", 90, 1), ("v2", 10, 1)]);
    assert_shares("90/10", reviews, &[(&v1, 90), (&v2, 10)]);
    apply(&steered, &samples, Sample::ReviewsV3);
    steered.await_split("reviews.default", &[("v3", 1, 1)]);
    assert_shares("v3", reviews, &[(&v3, 1)]);

    apply(&steered, &samples, Sample::Echo);
    steered.kubectl().apply(GATEWAY);
    apply(&steered, &samples, Sample::EchoV1);
    phase("tcp-echo", || steered.cluster.await_pods("default", "app=tcp-echo", 2));
    let gateway = steered.addresses("default", "ingressgateway")[0];
    let split = "31400.tcp-echo-gateway.default";
    phase("steered", || steered.await_split(split, &[("v1", 1, 1)]));
    assert_shares("tcp-echo", gateway, &[("tcp-echo-v1-", 1)]);
    apply(&steered, &samples, Sample::Echo8020);
    steered.await_split(split, &[("v1", 80, 1), ("v2", 20, 1)]);
    assert_shares("tcp-echo", gateway, &[("tcp-echo-v1-", 80), ("tcp-echo-v2-", 20)]);
    assert_agreement(&steered, gateway);
}
