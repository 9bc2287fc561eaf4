//! Expositions of samples, and the server among clients of all kinds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use probe_common::map::{
    EndpointCounters, EndpointSignals, EndpointStats, SubsetCounters, SubsetErrors, SubsetSignals,
    SubsetStats,
};
use probe_common::times::{Measured, SubsetTimes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::*;
use crate::http::RequestLimits;
use crate::model::Name;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn subset(subset: &str, weight: u32, flows: u64) -> SubsetSample {
    let stats = SubsetStats { flows, ended: 3, ended_ticks: 10, ..SubsetStats::default() };
    let signals = SubsetSignals {
        syn_retransmits: 11,
        unanswered: 12,
        syn_ack_retransmits: 13,
        asked: 14,
        replied: 15,
        ended_by_fin: 16,
        reset_by_client: 17,
        reset_before_reply: 18,
        reset_after_reply: 19,
        early_resets: 20,
    };
    let (split, wanted_share) = (name("reviews"), f64::from(weight) / 100.0);
    SubsetSample {
        split,
        subset: name(subset),
        weight,
        wanted_share,
        counters: SubsetCounters { stats, signals, errors: SubsetErrors { unreachable: 21 } },
        times: Some(times()),
        open_flows: Some(flows / 2),
    }
}

/// Handshakes of 64 units (66 us) and 96, a reply of 5 s, a flow that lived for hours.
fn times() -> Arc<SubsetTimes> {
    let mut times = SubsetTimes::ZERO;
    let numbers: &mut [u64; probe_common::times::NUMBERS] = bytemuck::cast_mut(&mut times);
    for (measured, units) in [
        (Measured::Handshake, 64),
        (Measured::Handshake, 96),
        (Measured::Reply, 5_000_000_000 >> 10),
        (Measured::Life, 10_000_000_000_000 >> 10),
    ] {
        numbers[measured as usize] += units;
        numbers[measured.number(units)] += 1;
    }
    Arc::new(times)
}

fn interface(name: &str, hook: &str, mode: &str, detached: u64) -> InterfaceSample {
    let (interface, hook, mode) = (name.to_owned(), hook.to_owned(), mode.to_owned());
    InterfaceSample { interface, hook, mode, detached }
}

fn sample() -> Sample {
    let stats = EndpointStats {
        flows: 8,
        forward_packets: 1,
        forward_bytes: 20,
        reply_packets: 3,
        reply_bytes: 40,
    };
    let signals = EndpointSignals { completed: 31, reset_after_reply: 38, ..Default::default() };
    Sample {
        unloaded: false,
        splits: vec![SplitSample {
            split: name("reviews"),
            address: "[2001:db8::10]:9080".to_owned(),
            protocol: "TCP".to_owned(),
            affinity: "None".to_owned(),
        }],
        subsets: vec![subset("v1", 80, 8), subset("v2", 20, 2)],
        endpoints: vec![EndpointSample {
            split: name("reviews"),
            subset: name("v1"),
            endpoint: "[2001:db8::1]:80".parse().unwrap(),
            phase: "draining",
            counters: EndpointCounters { stats, signals },
            open_flows: Some(4),
        }],
        interfaces: vec![interface("eth0", "xdp", "native", 2), interface("a\"b\\", "tc", "", 0)],
        reasons: BTreeMap::from([("pass_fragment".to_owned(), 0), ("reject_silent".to_owned(), 7)]),
        limits: vec![Limit { kind: "splits", used: 1, limit: 1024 }],
        flows: FlowTables {
            limits: BTreeMap::from([(("ipv4", "live"), 4096), (("ipv4", "pending"), 1024)]),
            counted: Some((
                UNIX_EPOCH + Duration::from_millis(1_500),
                BTreeMap::from([(("ipv4", "live"), [4, 1]), (("ipv6", "live"), [0, 0])]),
            )),
            full: BTreeSet::from([("ipv4", "live")]),
        },
        configuration: Configuration {
            problems: 2,
            reloaded: Some(UNIX_EPOCH + Duration::from_secs(1_700_000_000)),
        },
        tick: Duration::from_millis(1024),
        cluster: None,
    }
}

/// The lines that are not comments.
fn series(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with('#')).collect()
}

/// A cluster whose server is away.
fn cluster() -> ClusterSample {
    ClusterSample {
        connected: false,
        stale_since: Some(UNIX_EPOCH + Duration::from_secs(5)),
        objects: BTreeMap::from([("Pod".to_owned(), 7), ("Service".to_owned(), 3)]),
        failing: BTreeSet::from(["Pod".to_owned()]),
        requests: BTreeMap::from([("list".to_owned(), 9)]),
        bytes: 1000,
        outages: 2,
        rejected: 4,
    }
}

#[test]
fn a_cluster_that_is_followed_has_metrics_of_its_own() {
    let has_cluster = |text: &str| text.contains("weir_cluster");
    assert!(!has_cluster(&exposition(sample()).unwrap()));
    let text = exposition(Sample { cluster: Some(cluster()), ..sample() }).unwrap();
    let found: Vec<&str> = series(&text).into_iter().filter(|line| has_cluster(line)).collect();
    let expected = [
        "weir_cluster_connected 0",
        "weir_cluster_stale_since_timestamp_seconds 5.0",
        r#"weir_cluster_objects{kind="Pod"} 7"#,
        r#"weir_cluster_objects{kind="Service"} 3"#,
        r#"weir_cluster_kind_failing{kind="Pod"} 1"#,
        r#"weir_cluster_kind_failing{kind="Service"} 0"#,
        "weir_cluster_problems 4",
        r#"weir_cluster_requests_total{verb="list"} 9"#,
        "weir_cluster_received_bytes_total 1000",
        "weir_cluster_outages_total 2",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_sample_becomes_text() {
    let text = exposition(sample()).unwrap();
    let version = format!(
        "weir_build_info{{version=\"{}\",map_layout=\"{}\"}} 1",
        env!("CARGO_PKG_VERSION"),
        probe_common::map::ABI_VERSION
    );
    let expected = [
        version.as_str(),
        "weir_unloaded 0",
        "weir_config_problems 2",
        "weir_config_last_reload_success_timestamp_seconds 1700000000.0",
        r#"weir_interface_attached{interface="eth0",hook="xdp",mode="native"} 1"#,
        r#"weir_interface_attached{interface="a\"b\\",hook="tc",mode=""} 0"#,
        r#"weir_interface_detached_total{interface="eth0",hook="xdp"} 2"#,
        r#"weir_interface_detached_total{interface="a\"b\\",hook="tc"} 0"#,
        r#"weir_ids_used{kind="splits"} 1"#,
        r#"weir_ids_limit{kind="splits"} 1024"#,
        r#"weir_flow_table_limit{family="ipv4",table="live"} 4096"#,
        r#"weir_flow_table_limit{family="ipv4",table="pending"} 1024"#,
        r#"weir_flow_table_flows{family="ipv4",table="live",state="active"} 4"#,
        r#"weir_flow_table_flows{family="ipv4",table="live",state="expired"} 1"#,
        r#"weir_flow_table_flows{family="ipv6",table="live",state="active"} 0"#,
        r#"weir_flow_table_flows{family="ipv6",table="live",state="expired"} 0"#,
        r#"weir_flow_table_full{family="ipv4",table="live"} 1"#,
        r#"weir_flow_table_full{family="ipv6",table="live"} 0"#,
        "weir_flow_table_counted_timestamp_seconds 1.5",
        r#"weir_reason_packets_total{reason="pass_fragment"} 0"#,
        r#"weir_reason_packets_total{reason="reject_silent"} 7"#,
        r#"weir_split_info{split="reviews",address="[2001:db8::10]:9080",protocol="TCP",affinity="None"} 1"#,
        r#"weir_subset_weight{split="reviews",subset="v1"} 80"#,
        r#"weir_subset_weight{split="reviews",subset="v2"} 20"#,
        r#"weir_subset_wanted_share_ratio{split="reviews",subset="v1"} 0.8"#,
        r#"weir_subset_wanted_share_ratio{split="reviews",subset="v2"} 0.2"#,
        r#"weir_subset_flows_total{split="reviews",subset="v1"} 8"#,
        r#"weir_subset_flows_total{split="reviews",subset="v2"} 2"#,
        r#"weir_subset_rejected_packets_total{split="reviews",subset="v1"} 0"#,
        r#"weir_subset_rejected_packets_total{split="reviews",subset="v2"} 0"#,
        r#"weir_subset_completed_flows_total{split="reviews",subset="v1"} 0"#,
        r#"weir_subset_completed_flows_total{split="reviews",subset="v2"} 0"#,
        r#"weir_subset_refused_flows_total{split="reviews",subset="v1"} 0"#,
        r#"weir_subset_refused_flows_total{split="reviews",subset="v2"} 0"#,
        r#"weir_subset_ended_flows_total{split="reviews",subset="v1"} 3"#,
        r#"weir_subset_ended_flows_total{split="reviews",subset="v2"} 3"#,
        r#"weir_subset_ended_flows_duration_seconds_total{split="reviews",subset="v1"} 10.24"#,
        r#"weir_subset_ended_flows_duration_seconds_total{split="reviews",subset="v2"} 10.24"#,
        r#"weir_subset_syn_retransmits_total{split="reviews",subset="v1"} 11"#,
        r#"weir_subset_syn_retransmits_total{split="reviews",subset="v2"} 11"#,
        r#"weir_subset_unanswered_flows_total{split="reviews",subset="v1"} 12"#,
        r#"weir_subset_unanswered_flows_total{split="reviews",subset="v2"} 12"#,
        r#"weir_subset_syn_ack_retransmits_total{split="reviews",subset="v1"} 13"#,
        r#"weir_subset_syn_ack_retransmits_total{split="reviews",subset="v2"} 13"#,
        r#"weir_subset_asked_flows_total{split="reviews",subset="v1"} 14"#,
        r#"weir_subset_asked_flows_total{split="reviews",subset="v2"} 14"#,
        r#"weir_subset_replied_flows_total{split="reviews",subset="v1"} 15"#,
        r#"weir_subset_replied_flows_total{split="reviews",subset="v2"} 15"#,
        r#"weir_subset_ended_by_fin_flows_total{split="reviews",subset="v1"} 16"#,
        r#"weir_subset_ended_by_fin_flows_total{split="reviews",subset="v2"} 16"#,
        r#"weir_subset_reset_by_client_flows_total{split="reviews",subset="v1"} 17"#,
        r#"weir_subset_reset_by_client_flows_total{split="reviews",subset="v2"} 17"#,
        r#"weir_subset_reset_before_reply_flows_total{split="reviews",subset="v1"} 18"#,
        r#"weir_subset_reset_before_reply_flows_total{split="reviews",subset="v2"} 18"#,
        r#"weir_subset_reset_after_reply_flows_total{split="reviews",subset="v1"} 19"#,
        r#"weir_subset_reset_after_reply_flows_total{split="reviews",subset="v2"} 19"#,
        r#"weir_subset_early_reset_flows_total{split="reviews",subset="v1"} 20"#,
        r#"weir_subset_early_reset_flows_total{split="reviews",subset="v2"} 20"#,
        r#"weir_subset_unreachable_flows_total{split="reviews",subset="v1"} 21"#,
        r#"weir_subset_unreachable_flows_total{split="reviews",subset="v2"} 21"#,
        r#"weir_subset_active_flows{split="reviews",subset="v1"} 4"#,
        r#"weir_subset_active_flows{split="reviews",subset="v2"} 1"#,
        r#"weir_endpoint_phase{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",phase="draining"} 1"#,
        r#"weir_endpoint_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80"} 8"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="completed"} 31"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="refused"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="unanswered"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="unreachable"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="ended_by_fin"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="reset_by_client"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="reset_before_reply"} 0"#,
        r#"weir_endpoint_outcome_flows_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",outcome="reset_after_reply"} 38"#,
        r#"weir_endpoint_packets_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",direction="forward"} 1"#,
        r#"weir_endpoint_packets_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",direction="reply"} 3"#,
        r#"weir_endpoint_bytes_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",direction="forward"} 20"#,
        r#"weir_endpoint_bytes_total{split="reviews",subset="v1",endpoint="[2001:db8::1]:80",direction="reply"} 40"#,
        r#"weir_endpoint_active_flows{split="reviews",subset="v1",endpoint="[2001:db8::1]:80"} 4"#,
    ];
    let of_times = ["_bucket{", "_count{", "_sum{"];
    let found: Vec<&str> = series(&text)
        .into_iter()
        .filter(|line| !of_times.iter().any(|part| line.contains(part)))
        .collect();
    assert_eq!(found, expected);
    let family = "# HELP weir_endpoint_bytes Bytes of these packets, link layer included.\n\
                  # TYPE weir_endpoint_bytes counter\n\
                  # UNIT weir_endpoint_bytes bytes\n\
                  weir_endpoint_bytes_total{";
    assert!(text.contains(family), "{text}");
    assert!(text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn every_metric_of_the_catalog_is_served() {
    let text = exposition(Sample { cluster: Some(cluster()), ..sample() }).unwrap();
    let served: BTreeSet<&str> =
        series(&text).iter().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let names = |metric: &catalog::Metric| match metric.kind {
        catalog::Kind::Histogram => {
            ["_bucket", "_count", "_sum"].map(|part| metric.name() + part).to_vec()
        }
        _ => vec![metric.name()],
    };
    let all: BTreeSet<String> = catalog::ALL.iter().flat_map(names).collect();
    assert_eq!(served, all.iter().map(String::as_str).collect());
}

#[test]
fn times_are_histograms_that_count_up_to_each_edge() {
    let text = exposition(sample()).unwrap();
    let of = |metric: &str, part: &str| -> Vec<(String, String)> {
        let start = format!("{metric}_seconds_{part}{{");
        let lines = text.lines().filter_map(|line| line.strip_prefix(&start));
        let own = lines.filter_map(|line| line.split_once(r#"split="reviews",subset="v1"} "#));
        own.map(|(edge, value)| (edge.to_owned(), value.to_owned())).collect()
    };
    let value = |metric, part| of(metric, part)[0].1.clone();
    assert_eq!(value("weir_subset_handshake_duration", "count"), "2");
    assert_eq!(value("weir_subset_handshake_duration", "sum"), "0.00016384");
    let buckets: Vec<(f64, u64)> = of("weir_subset_handshake_duration", "bucket")
        .iter()
        .map(|(edge, count)| {
            let edge = edge.trim_start_matches("le=\"").trim_end_matches("\",");
            (edge.replace("+Inf", "inf").parse().unwrap(), count.parse().unwrap())
        })
        .collect();
    let upto = |seconds: f64| buckets.iter().rfind(|(edge, _)| *edge <= seconds);
    assert_eq!(upto(64e-6).unwrap().1, 0, "{buckets:?}");
    assert_eq!(upto(98e-6).unwrap().1, 1, "{buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 2)));
    for pair in buckets.windows(2).filter(|pair| pair[1].0.is_finite()) {
        assert!(pair[1].0 / pair[0].0 <= 1.5, "{pair:?}");
    }
    let per_ten = buckets.iter().filter(|(edge, _)| (1e-3..1e-2).contains(edge)).count();
    assert!(per_ten >= 8, "{per_ten}");
    let lives = of("weir_subset_flow_lifetime", "bucket");
    assert_eq!(lives.last().unwrap(), &("le=\"+Inf\",".to_owned(), "1".to_owned()));
    assert_eq!(lives[lives.len() - 2].1, "0", "longer than the last edge");
}

#[test]
fn what_is_not_known_yet_is_absent() {
    let mut sample = sample();
    sample.flows.counted = None;
    sample.configuration.reloaded = None;
    sample.subsets.iter_mut().for_each(|subset| subset.open_flows = None);
    sample.endpoints.iter_mut().for_each(|endpoint| endpoint.open_flows = None);
    let text = exposition(sample).unwrap();
    let found = series(&text);
    for absent in ["flow_table_flows", "flow_table_full", "_timestamp_", "active_flows"] {
        assert!(!found.iter().any(|line| line.contains(absent)), "{absent}:\n{text}");
    }
    assert!(found.contains(&r#"weir_flow_table_limit{family="ipv4",table="live"} 4096"#), "{text}");
}

/// A source that counts how often it was asked, and how often at a time.
#[derive(Default)]
struct Fake {
    unready: Vec<String>,
    broken: bool,
    /// Makes expositions long.
    padding: usize,
    asked: AtomicU32,
    now: AtomicU32,
    most: AtomicU32,
}

impl Source for Fake {
    fn sample(&self) -> anyhow::Result<Sample> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let now = self.now.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(5));
        self.now.fetch_sub(1, Ordering::SeqCst);
        anyhow::ensure!(!self.broken, "the kernel is gone");
        let mut sample = sample();
        sample.reasons.insert("x".repeat(self.padding), 1);
        Ok(sample)
    }

    fn unready(&self) -> Vec<String> {
        self.unready.clone()
    }
}

/// Clients' patience: far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes that sockets buffer; the kernel takes at least a few thousand.
const BUFFER: u32 = 4096;

async fn start(source: Fake, limits: RequestLimits) -> (SocketAddr, Arc<Fake>) {
    let socket = TcpSocket::new_v4().expect("socket");
    // What is sent and not read does not vanish in buffers.
    socket.set_send_buffer_size(BUFFER).expect("send buffer");
    socket.bind("127.0.0.1:0".parse().unwrap()).expect("loopback");
    let listener = socket.listen(64).expect("listen");
    let (address, source) = (listener.local_addr().expect("bound"), Arc::new(source));
    tokio::spawn(serve(listener, Arc::clone(&source), limits));
    (address, source)
}

/// Sends these bytes; what comes back until the server closes.
async fn talk(address: SocketAddr, request: &[u8]) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        // The server may close before it has read everything, as the answer says.
        let _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).expect("UTF-8")
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("an end of the connection")
}

async fn request(address: SocketAddr, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = talk(address, request.as_bytes()).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    assert!(head.contains("connection: close"), "{head}");
    (status.unwrap_or_else(|| panic!("{head:?}")), body.to_owned())
}

#[tokio::test]
async fn paths_and_methods() {
    let (address, source) = start(Fake::default(), LIMITS).await;
    let (status, text) = request(address, "GET", "/metrics").await;
    assert_eq!((status, text.contains("weir_subset_flows_total")), (200, true), "{text}");
    let head = talk(address, b"GET /metrics?x=y HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    let cases = [
        ("GET", "/healthz", 200, "ok\n"),
        ("GET", "/readyz", 200, "ready\n"),
        ("HEAD", "/metrics", 200, ""),
        ("HEAD", "/readyz", 200, ""),
        ("POST", "/metrics", 405, "read-only\n"),
        ("PUT", "/healthz", 405, "read-only\n"),
        ("DELETE", "/readyz", 405, "read-only\n"),
        ("GET", "/", 404, "there are /metrics, /healthz and /readyz\n"),
        ("GET", "/metrics/x", 404, "there are /metrics, /healthz and /readyz\n"),
        ("GET", "/v1/splits", 404, "there are /metrics, /healthz and /readyz\n"),
    ];
    for (method, path, status, body) in cases {
        assert_eq!(
            request(address, method, path).await,
            (status, body.to_owned()),
            "{method} {path}"
        );
    }
    assert_eq!(source.asked.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn what_is_not_ready_is_said() {
    let unready = vec!["eth0: no".to_owned(), "eth1: no".to_owned()];
    let (address, _) = start(Fake { unready, ..Fake::default() }, LIMITS).await;
    let (status, text) = request(address, "GET", "/readyz").await;
    assert_eq!((status, text.as_str()), (503, "eth0: no\neth1: no\n"));
    assert_eq!(request(address, "GET", "/healthz").await.0, 200);
}

#[tokio::test]
async fn a_failure_is_an_answer() {
    let (address, _) = start(Fake { broken: true, ..Fake::default() }, LIMITS).await;
    let answer = request(address, "GET", "/metrics").await;
    assert_eq!(answer, (500, "the kernel is gone\n".to_owned()));
}

/// Few and short connections, so that tests need not wait.
const TIGHT: RequestLimits = RequestLimits {
    connections: 2,
    head: Duration::from_millis(100),
    life: Some(Duration::from_millis(500)),
    ..LIMITS
};

#[tokio::test]
async fn clients_that_send_nothing_or_half_a_request_are_cut_off() {
    let (address, _) = start(Fake::default(), TIGHT).await;
    let mut slow = Vec::new();
    for head in ["", "GET /metrics HTT", "GET /metrics HTTP/1.1\r\nHost: x\r\n", ""] {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(head.as_bytes()).await.expect("send");
        slow.push(stream);
    }
    // Every place is taken twice over; this one gets its turn.
    assert_eq!(request(address, "GET", "/healthz").await.0, 200);
    for mut stream in slow {
        let mut answer = String::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await;
        end.expect("an end of the connection").ok();
        // Its time is over, or its place is another's.
        let told = ["HTTP/1.1 408", "HTTP/1.1 503"].iter().any(|head| answer.starts_with(head));
        assert!(answer.is_empty() || told, "{answer}");
    }
}

#[tokio::test]
async fn clients_that_do_not_read_are_cut_off() {
    let limits = RequestLimits { connections: 1, life: Some(Duration::from_secs(60)), ..TIGHT };
    let (address, _) = start(Fake { padding: 1 << 20, ..Fake::default() }, limits).await;
    let socket = TcpSocket::new_v4().expect("socket");
    socket.set_recv_buffer_size(BUFFER).expect("receive buffer");
    let mut deaf = socket.connect(address).await.expect("connect");
    deaf.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
    let mut begin = [0; 12];
    deaf.read_exact(&mut begin).await.expect("the beginning of the answer");
    assert_eq!(&begin, b"HTTP/1.1 200");
    // The only place is taken; this one gets its turn.
    assert_eq!(request(address, "GET", "/healthz").await.0, 200);
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, deaf.read_to_end(&mut rest)).await.expect("an end");
    assert!(rest.len() < 1 << 20, "the answer was cut: {} bytes", rest.len());
}

#[tokio::test]
async fn heads_of_any_size_are_rejected() {
    let (address, source) = start(Fake::default(), LIMITS).await;
    let long = format!("GET /metrics HTTP/1.1\r\nHost: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET /metrics HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (request, what) in [(long, "long"), (many, "many fields")] {
        let answer = talk(address, request.as_bytes()).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{what}: {answer}");
    }
    let answer = talk(address, b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(source.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_sample_is_taken_at_a_time_even_for_clients_that_leave() {
    let (address, source) = start(Fake::default(), LIMITS).await;
    for _ in 0..50 {
        let mut stream = TcpStream::connect(address).await.expect("connect");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("send");
    }
    let answers: Vec<_> =
        (0..8).map(|_| tokio::spawn(request(address, "GET", "/metrics"))).collect();
    for answer in answers {
        assert_eq!(answer.await.expect("a client").0, 200);
    }
    assert_eq!(source.most.load(Ordering::SeqCst), 1);
}
