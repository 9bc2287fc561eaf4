//! Who may use the API's socket, and that nobody who does can stall the agent.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv};
use socket2::{Domain, Socket, Type};
use weir::api::types::ChangeView;
use weir_tests::agent::{Agent, Setup, Somebody};
use weir_tests::netns::Netns;
use weir_tests::prometheus::get;

const SPLIT: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: reviews}
spec:
  address: 203.0.113.10
  port: 80
  subsets:
  - {name: v1, weight: 90, endpoints: []}
  - {name: v2, weight: 10, endpoints: []}
";

/// Groups that no node has. Of the access control list, the first would come last.
const OPERATORS: u32 = 64_200;
const VIEWERS: u32 = 64_100;
const OTHERS: u32 = 64_300;

fn start(node: &Netns, access: &str) -> Agent {
    let lines = format!("metrics: off\n{access}");
    Setup::default().config(&lines).split(SPLIT).start(node).expect("agent")
}

fn node() -> Netns {
    Netns::new().expect("namespace")
}

/// What somebody is told who looks, and who changes a weight.
fn outcome(agent: &Agent, who: &Somebody) -> [Result<(), String>; 2] {
    [&["get", "splits"][..], &["weights", "reviews", "v1=50"]].map(|arguments| {
        let output = agent.weir_as(who, arguments);
        let said = String::from_utf8_lossy(&output.stderr).trim_end().to_owned();
        match output.status.code() {
            Some(0) => Ok(()),
            Some(1) => Err(said),
            code => panic!("{who:?} {arguments:?}: {code:?}: {said}"),
        }
    })
}

fn user(gid: u32, groups: &[u32]) -> Somebody {
    Somebody { uid: 64_001, gid, groups: groups.to_vec(), overrides_permissions: false }
}

#[test]
fn groups_decide_who_may_look_and_who_may_change() {
    let node = node();
    let access = format!("access: {{operators: {OPERATORS}, viewers: '{VIEWERS}'}}\n");
    let agent = start(&node, &access);
    let file = std::fs::metadata(agent.socket()).expect("socket");
    assert_eq!((file.mode() & 0o777, file.uid()), (0o660, 0));

    let closed = format!(
        "weir: this user may not use {}: `access` in agent.yaml says which groups may, and root \
         may",
        agent.socket().display()
    );
    let who = format!("root and members of group \"{OPERATORS}\"");
    let viewer = format!("weir: user 64001 may look, but not change anything: {who} may");
    let outsider = |more: &str| format!("weir: user 64001 may not use this agent: {who}{more} may");
    let more = format!(" or group \"{VIEWERS}\"");
    // They come past the permissions, and are judged by who they are all the same.
    let overriding = Somebody { overrides_permissions: true, ..user(OTHERS, &[]) };
    for (somebody, look, change) in [
        (user(OPERATORS, &[]), Ok(()), Ok(())),
        (user(OTHERS, &[1, OPERATORS]), Ok(()), Ok(())),
        (user(VIEWERS, &[OPERATORS]), Ok(()), Ok(())),
        (user(VIEWERS, &[]), Ok(()), Err(viewer.clone())),
        (user(OTHERS, &[VIEWERS, 1]), Ok(()), Err(viewer)),
        (user(OTHERS, &[1, 2]), Err(closed.clone()), Err(closed.clone())),
        // Root's group is not root.
        (user(0, &[]), Err(closed.clone()), Err(closed)),
        (overriding, Err(outsider(&more)), Err(outsider(""))),
        (Somebody { uid: 0, ..user(OTHERS, &[]) }, Ok(()), Ok(())),
    ] {
        assert_eq!(outcome(&agent, &somebody), [look, change], "{somebody:?}");
    }
    // The answer comes also to who has much to say.
    let directory = agent.directory().join("large.yaml");
    std::fs::write(&directory, format!("{SPLIT}# {}\n", "x".repeat(7 << 20))).expect("write");
    let file = directory.to_str().expect("UTF-8");
    let output = agent.weir_as(&user(VIEWERS, &[]), &["apply", "-f", file]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with("weir: user 64001 may look, but not change anything"), "{said}");
}

#[test]
fn who_changed_what_and_why_is_known_after_a_restart() {
    let node = node();
    let mut agent = start(&node, &format!("access: {{operators: {OPERATORS}}}\n"));
    let operator = user(OPERATORS, &[]);
    let why = "p99 is 2 s, não 1; \"v1\" again";
    let change = ["weights", "reviews", "v1=100", "v2=0", "--reason", why];
    assert!(agent.weir_as(&operator, &change).status.success());
    // That is not for operators.
    let unload = agent.weir_as(&operator, &["unload", "--yes"]);
    let said = String::from_utf8_lossy(&unload.stderr).into_owned();
    assert!(said.ends_with("weir: user 64001 may not unload weir: only root may\n"), "{said}");
    agent.ask(&["rollback", "reviews"]).expect("back");
    let two_lines = agent.weir(&["rollback", "reviews", "--reason", "a\nb"]);
    assert_eq!(two_lines.status.code(), Some(2), "{two_lines:?}");
    let said = agent.stderr();
    assert!(said.contains(&format!("split reviews: changed by user 64001: {why}")), "{said}");
    let late = agent.weir(&["weights", "reviews", "v1=1", "--expect-version", "2"]);
    let late = String::from_utf8_lossy(&late.stderr).into_owned();
    assert!(late.contains(" by root (rollback)), expected version 2"), "{late}");

    agent.end(Signal::SIGKILL).expect("killed");
    agent.start_again(&node).expect("started");
    let json = agent.ask(&["history", "reviews", "-o", "json"]).expect("history");
    let changes: Vec<ChangeView> = serde_json::from_str(&json).expect("JSON");
    let told = changes.iter().map(|c| (c.cause.as_str(), c.by.as_deref(), c.reason.as_deref()));
    let expected = [
        ("file", None, None),
        ("weights", Some("user 64001"), Some(why)),
        ("rollback", Some("root"), None),
    ];
    assert_eq!(told.collect::<Vec<_>>(), expected, "{json}");
}

#[test]
fn only_root_may_unless_it_is_told_otherwise() {
    let node = node();
    let agent = start(&node, "");
    let mode = std::fs::metadata(agent.socket()).expect("socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    for somebody in [user(OPERATORS, &[VIEWERS]), user(0, &[0])] {
        for outcome in outcome(&agent, &somebody) {
            let said = outcome.expect_err("nobody else may");
            assert!(said.starts_with("weir: this user may not use"), "{said}");
        }
    }
}

#[test]
fn groups_have_names_of_the_node() {
    let node = node();
    // A group of every Unix, of number 1.
    let agent = start(&node, "access:\n  viewers: daemon\n");
    let [look, change] = outcome(&agent, &user(1, &[]));
    assert_eq!(look, Ok(()));
    assert_eq!(
        change,
        Err("weir: user 64001 may look, but not change anything: only root may".to_owned())
    );
    let config = agent.directory().join("other.yaml");
    let text = "interfaces: [{match: a}]\naccess:\n  operators: nobody-has-that\n";
    std::fs::write(&config, text).expect("write");
    let file = config.to_str().expect("UTF-8");
    let output = agent.weir(&["agent", "--config", file]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!(
        "error: {file}:3: access.operators: there is no group \"nobody-has-that\", expected the \
         name of a group (see /etc/group) or its number\n"
    );
    assert_eq!(said, expected);
}

/// Goes on until told to stop, with a new connection as soon as one breaks.
fn abuse(
    connect: impl Fn() -> io::Result<Socket>,
    stop: &AtomicBool,
    connections: &AtomicU64,
    how: Abuse,
) {
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = connect() else { continue };
        connections.fetch_add(1, Ordering::Relaxed);
        stream.set_write_timeout(Some(Duration::from_millis(100))).expect("time-out");
        if stream.write_all(how.head.as_bytes()).is_err() {
            continue;
        }
        // What does not fit waits for the agent to read it.
        while !stop.load(Ordering::Relaxed) && !is_closed(&stream, how) {
            std::thread::sleep(how.pause);
            if !how.again.is_empty() && stream.write(how.again.as_bytes()).is_err() {
                break;
            }
        }
    }
}

/// A client of the metrics port from an address of its own.
fn of_metrics() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into())?;
    socket.connect(&METRICS.into())?;
    Ok(socket)
}

/// Whether the agent is done with a connection. What it sent stays unread.
fn is_closed(stream: &Socket, how: Abuse) -> bool {
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    match recv(stream.as_raw_fd(), &mut [0], flags) {
        Ok(0) => true,
        Ok(_) => !how.again.is_empty() || how.head.is_empty(),
        Err(error) => error != Errno::EAGAIN,
    }
}

#[derive(Clone, Copy)]
struct Abuse {
    head: &'static str,
    again: &'static str,
    pause: Duration,
}

const NOTHING: Duration = Duration::from_millis(10);

/// Silence, a byte a second, deafness, heads and bodies without end.
const ABUSES: [Abuse; 6] = [
    Abuse { head: "", again: "", pause: NOTHING },
    Abuse { head: "GET /v1/status HTTP/1.1\r\n", again: "x", pause: Duration::from_secs(1) },
    Abuse {
        head: "POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n",
        again: " ",
        pause: Duration::from_secs(1),
    },
    Abuse { head: "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\n\r\n", again: "", pause: NOTHING },
    Abuse { head: "GET /v1/status HTTP/1.1\r\n", again: "a: b\r\n", pause: Duration::ZERO },
    Abuse {
        head: "POST /v1/apply HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        again: "10\r\n                \r\n",
        pause: Duration::ZERO,
    },
];

/// The same of the metrics port.
const ABUSES_OF_METRICS: [Abuse; 5] = [
    Abuse { head: "", again: "", pause: NOTHING },
    Abuse { head: "GET /metrics HTTP/1.1\r\n", again: "x", pause: Duration::from_secs(1) },
    Abuse { head: "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n", again: "", pause: NOTHING },
    Abuse { head: "GET /metrics HTTP/1.1\r\n", again: "a: b\r\n", pause: Duration::ZERO },
    Abuse {
        head: "POST /metrics HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        again: "10\r\n                \r\n",
        pause: Duration::ZERO,
    },
];
/// The metrics port.
const METRICS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9464);

/// Changes of weights among those of the socket, and among those of the metrics port.
const CHANGES: [u32; 2] = [50, 20];
/// Clients of each abuse, at least: together, several times the places that there are.
const EACH: usize = 50;

/// All changes, and as many looks at the metrics, take no longer than that.
const BOUND: Duration = Duration::from_secs(60);

/// Changes weights while hostile clients, which `connect`, do each of these.
fn change_among(
    abuses: &[Abuse],
    connect: impl Fn() -> io::Result<Socket> + Copy + Send,
    (name, changes): (&str, u32),
    mut change: impl FnMut(u32),
) {
    let (stop, connections, begun) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        let (stop, connections) = (&stop, &connections);
        for &how in abuses {
            // Those that are busy all the time share two processors with all others.
            let clients = if how.pause.is_zero() { 4 } else { EACH };
            for _ in 0..clients {
                scope.spawn(move || abuse(connect, stop, connections, how));
            }
        }
        (1..=changes).for_each(&mut change);
    });
    let (made, spent) = (connections.into_inner(), begun.elapsed());
    println!("{changes} changes of weights in {spent:.1?} among {made} connections of {name}");
    assert!(made > 200, "{made} connections of {name}");
    assert!(spent < BOUND, "{spent:?} among {made} connections of {name}");
}

#[test]
fn hostile_clients_of_the_socket_and_of_the_metrics_port_do_not_stall_the_agent() {
    let node = node();
    let lines = format!("metrics: {METRICS}\n");
    let agent = Setup::default().config(&lines).split(SPLIT).start(&node).expect("agent");
    let change = |weight| {
        agent.weights("reviews", &[("v1", weight)]).expect("weights are changed");
        let split = agent.split("reviews").expect("the agent answers");
        assert_eq!(split.subsets[0].weight, weight);
    };
    let socket = agent.socket();
    let of_socket = || UnixStream::connect(&socket).map(|s| Socket::from(OwnedFd::from(s)));
    change_among(&ABUSES, of_socket, ("hostile clients of the socket", CHANGES[0]), change);

    // Threads that are made in a namespace are in it.
    node.run(|| {
        change_among(
            &ABUSES_OF_METRICS,
            of_metrics,
            ("hostile clients of the metrics port", CHANGES[1]),
            |weight| {
                change(weight);
                let (status, metrics) = get(&node, METRICS, "/metrics").expect("metrics");
                assert_eq!(status, 200, "{metrics}");
                let series = "weir_subset_weight{split=\"reviews\",subset=\"v1\"} ";
                let found = metrics.lines().find_map(|line| line.strip_prefix(series));
                assert_eq!(found, Some(weight.to_string().as_str()), "{series} in\n{metrics}");
            },
        );
    });
    // Nothing of it is left.
    assert_eq!(agent.status().expect("status").last_error, Vec::<String>::new());
}

/// Ends the hostile clients when the test ends, however that is.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn rejected_requests_say_why() {
    let node = node();
    let agent = start(&node, "");
    let post = "POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 67108865\r\n\r\n";
    for (request, status, says) in [
        (post.to_owned(), "413", "the body is larger than 67108864 bytes"),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(9000)), "431", ""),
        ("GET".to_owned(), "408", "no request came within 5 s"),
    ] {
        let mut stream = UnixStream::connect(agent.socket()).expect("connect");
        stream.write_all(request.as_bytes()).expect("send");
        let mut answer = String::new();
        // The connection may be reset when the answer was read.
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer:?}");
        assert!(answer.contains(says), "{answer:?}");
    }
}
