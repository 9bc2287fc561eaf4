//! Server and client.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::kernelless::{Running, flow, start, start_with};
use super::server::{LIMITS, MAX_BODY, MAX_DOCUMENTS};
use super::types::*;
use super::{Client, ClientError, SocketFile, openapi};
use crate::access::{Access, Group, acl};
use crate::http::RequestLimits;
use crate::model::Key;

mod connections;
mod schema;

const FILE: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: reviews}
spec:
  address: fd00::1
  port: 80
  subsets:
  - {name: v1, weight: 90, endpoints: []}
  - {name: v3, weight: 10, endpoints: []}
";

/// The status of the answer to a raw request.
async fn raw(socket: &Path, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    // The server does not read a body to its end that is too large, and may
    // reset the connection.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].into(), body.into())
}

fn status_of<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String) {
    match result.unwrap_err() {
        ClientError::Rejected { status, message } => (status, message),
        other => panic!("{other:?}"),
    }
}

fn map(pairs: &[(&str, u32)]) -> BTreeMap<String, u32> {
    pairs.iter().map(|&(name, weight)| (name.to_owned(), weight)).collect()
}

fn file(text: &str) -> FileText {
    FileText { name: "x.yaml".into(), text: text.into() }
}

#[tokio::test]
async fn client_and_server_agree() {
    let running = start(FILE);
    let client = Client::new(&running.socket);
    let split = client.split("reviews").await.unwrap();
    assert_eq!(split.origin.source, "weir.yaml:3");
    assert_eq!(client.splits().await.unwrap(), [split]);
    let request = ExplainRequest {
        from: "[fd00::2]:1".parse().unwrap(),
        to: "[fd00::1]:80".parse().unwrap(),
        protocol: Protocol::Udp,
    };
    let explained = client.explain(request).await.unwrap();
    assert_eq!(
        (explained.split.as_str(), explained.hash.as_str()),
        ("[fd00::2]:1 [fd00::1]:80 UDP", "0xffffffffffffffff")
    );

    // A name is sent as it is, whatever it holds.
    let missing = status_of(client.split("a/b ?ü").await);
    assert_eq!(missing, (404, "there is no split \"a/b ?ü\"; there is reviews".into()));
    assert_eq!(status_of(client.status().await), (500, "broken".into()));

    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    let gone = client.splits().await.unwrap_err().to_string();
    let socket = running.socket.display();
    assert_eq!(gone, format!("no agent answers at {socket}: is `weir agent` running?"));
}

#[tokio::test]
async fn weights_change_and_come_back() {
    let running = start(FILE);
    let client = Client::new(&running.socket);
    let request = |v1, expect: &[(&str, u32)], version| WeightsRequest {
        weights: map(&[("v1", v1)]),
        expect: map(expect),
        version,
        this_node: false,
    };
    let split = client.set_weights("reviews", &request(u32::MAX, &[], None)).await.unwrap();
    assert_eq!(split.subsets[0].weight, u32::MAX);
    assert_eq!(split.origin.version, 2);
    let overridden = split.origin.overridden.unwrap();
    assert_eq!(overridden.defined, map(&[("v1", 90), ("v3", 10)]));
    assert_eq!(overridden.since, "1970-01-01T00:00:02.000Z");

    let late = client.set_weights("reviews", &request(50, &[("v1", 90)], None)).await;
    let (status, message) = status_of(late);
    assert_eq!(status, 409);
    assert!(message.starts_with("split \"reviews\" has v1=4294967295 v3=10"), "{message}");
    assert_eq!(status_of(client.set_weights("reviews", &request(5, &[], Some(1))).await).0, 409);
    assert_eq!(status_of(client.set_weights("x", &request(5, &[], None)).await).0, 404);
    assert_eq!(status_of(client.set_weights("reviews", &WeightsRequest::default()).await).0, 400);

    let split = client.set_weights("reviews", &request(50, &[("v3", 10)], Some(2))).await.unwrap();
    assert_eq!(split.origin.version, 3);
    let back = RollbackRequest { version: Some(3), ..RollbackRequest::default() };
    let split = client.rollback("reviews", &back).await.unwrap();
    assert_eq!(split.subsets[0].weight, u32::MAX);
    let (status, _) = status_of(client.rollback("reviews", &back).await);
    assert_eq!(status, 409);

    let conditions = |expect: &str, version| ResetQuery { expect: Some(expect.into()), version };
    let reset = client.reset_weights("reviews", &conditions("v1=1,v3=10", Some(4))).await;
    assert_eq!(status_of(reset).0, 409);
    let reset = client.reset_weights("reviews", &conditions("v1=4294967295,v3=10", Some(4))).await;
    let split = reset.unwrap();
    assert_eq!((split.subsets[0].weight, split.origin.overridden), (90, None));

    let changes = client.history("reviews").await.unwrap();
    let causes: Vec<(u64, &str)> =
        changes.iter().map(|change| (change.version, change.cause.as_str())).collect();
    let expected = [(1, "file"), (2, "weights"), (3, "weights"), (4, "rollback"), (5, "reset")];
    assert_eq!(causes, expected);
    assert_eq!((&changes[0].from, &changes[4].to), (&map(&[]), &map(&[("v1", 90), ("v3", 10)])));
}

#[tokio::test]
async fn objects_are_applied_and_deleted() {
    let running = start(FILE);
    let client = Client::new(&running.socket);
    let text = FILE.replace("reviews", "ratings").replace("fd00::1", "fd00::2");
    let apply = |text: &str, dry_run| ApplyRequest {
        files: vec![file(text)],
        dry_run,
        ..ApplyRequest::default()
    };
    let view = client.apply(&apply(&text, true)).await.unwrap();
    assert!(view.dry_run);
    assert_eq!(status_of(client.split("ratings").await).0, 404, "nothing happened");
    let again = client.apply(&apply(&text, false)).await.unwrap();
    assert_eq!(again, ApplyView { dry_run: false, ..view });
    assert_eq!(again.difference.added, ["ratings"]);
    assert_eq!(client.split("ratings").await.unwrap().origin.source, "applied");

    let wrong =
        format!("{}---\n{FILE}---\napiVersion: v1\nkind: Pod\n", text.replace("80\n", "0\n"));
    let (status, message) = status_of(client.apply(&apply(&wrong, false)).await);
    let expected = [
        "x.yaml:6: spec.port: 0 is out of range, expected an integer from 1 to 65535",
        "x.yaml:21: metadata: missing required field",
    ];
    assert_eq!((status, message.lines().collect::<Vec<_>>()), (400, expected.to_vec()));
    let (status, message) = status_of(client.apply(&apply(FILE, false)).await);
    let expected =
        "x.yaml:3: metadata.name: split \"reviews\" is already defined at weir.yaml:3".to_owned();
    assert_eq!((status, message), (400, expected));

    let object = |name: &str| RequestedObject {
        kind: "TrafficSplit".into(),
        namespace: String::new(),
        name: name.into(),
    };
    let delete = |names: &[&str]| DeleteRequest {
        objects: names.iter().map(|name| object(name)).collect(),
        ..DeleteRequest::default()
    };
    assert_eq!(status_of(client.delete(&delete(&["ratings", "reviews"])).await).0, 409);
    assert_eq!(status_of(client.delete(&delete(&["ratings", "x"])).await).0, 404);
    assert_eq!(status_of(client.delete(&DeleteRequest::default()).await).0, 400);
    let request = DeleteRequest { files: vec![file(&text)], ..DeleteRequest::default() };
    let view = client.delete(&request).await.unwrap();
    assert_eq!(view.difference.removed, ["ratings"]);
    let object = Key::from(object("ratings"));
    let expected = ObjectView { object: (&object).into(), fate: FateView::Deleted };
    assert_eq!(view.objects, [expected]);
}

#[tokio::test]
async fn documents_are_bounded() {
    let running = start("");
    let client = Client::new(&running.socket);
    // More than other requests may have.
    let text = format!("# {}\n", "x".repeat(2 * MAX_BODY));
    let request =
        ApplyRequest { files: vec![file(&text)], dry_run: false, ..ApplyRequest::default() };
    client.apply(&request).await.expect("nothing is applied");
    let request = ApplyRequest {
        files: vec![file("# \n"); 10_001],
        dry_run: false,
        ..ApplyRequest::default()
    };
    let (status, message) = status_of(client.apply(&request).await);
    assert_eq!((status, message.contains("at most 10000")), (400, true), "{message}");
    let head = format!(
        "POST /v1/apply HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        MAX_DOCUMENTS + 1
    );
    assert_eq!(raw(&running.socket, &(head + &" ".repeat(MAX_DOCUMENTS + 1))).await.0, "413");
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let running = start(FILE);
    let put = |body: &str| {
        format!(
            "PUT /v1/splits/reviews/weights HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let large = format!("{{\"weights\":{{\"{}\":1}}}}", "x".repeat(MAX_BODY));
    for (request, status, says) in [
        (put("{"), "400", "EOF"),
        (put("{\"weights\":{\"v1\":-1}}"), "400", "v1"),
        (put("{\"weights\":{\"v1\":4294967296}}"), "400", "u32"),
        (put("{\"weight\":{}}"), "400", "unknown field"),
        (put("{\"weights\":{\"v2\":1}}"), "400", "there is no subset"),
        (put("{\"weights\":{\"v_2\":1}}"), "400", "not a valid name"),
        (put("{\"weights\":{\"v1\":0,\"v3\":0}}"), "400", "must not all be 0"),
        (put(&large), "413", ""),
        (get("/v1/explain?from=1.2.3.4&to=1.2.3.4:5"), "400", "from"),
        (get("/v1/explain?from=1.2.3.4:1&to=1.2.3.4:5&protocol=SCTP"), "400", "SCTP"),
        (get("/v1/flows?client=x"), "400", "is not an address"),
        (get("/v1/flows?state=open"), "400", "state"),
        (get("/v1/flows?limit=-1"), "400", "limit"),
        (get("/v1/flows?splitt=x"), "400", "splitt"),
        (get("/v2"), "404", "no such"),
        (get("/v1/splits/reviews/weights"), "405", "method"),
    ] {
        let (found, body) = raw(&running.socket, &request).await;
        assert_eq!(found, status, "{body}");
        let body: ApiError = serde_json::from_str(&body).expect(&body);
        assert!(body.error.contains(says), "{}", body.error);
    }
    let (found, body) = raw(&running.socket, &get("/v1/explain?from=1.2.3.4:1&to=1.2.3.4:5")).await;
    assert_eq!(found, "200", "{body}");
    assert!(body.contains("TCP"), "{body}");
}

#[tokio::test]
async fn flows_are_read_from_the_agent_as_fast_as_the_client_reads() {
    let running = start(FILE);
    let client = Client::new(&running.socket);
    // More than all memory: the agent never ends.
    let mut flows = client.flows(&FlowQuery::default()).await.unwrap();
    let first = flows.next().await.unwrap().expect("it does not end");
    assert_eq!(first[0], flow(0));
    // The client reads no more. What is under way fills the socket, and then nothing happens.
    let asked = || running.batches.load(Ordering::SeqCst);
    let mut before = 0;
    while asked() != before {
        before = asked();
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    assert!(before < 50, "{before},000 flows were read for a client that reads nothing");
    assert_eq!(client.split("reviews").await.unwrap().name, "reviews", "others are served");
    // It goes on where it was.
    let mut next = first.len() as u64;
    while next < 100_000 {
        for found in flows.next().await.unwrap().expect("it does not end") {
            assert_eq!(found, flow(next));
            next += 1;
        }
    }
    drop(flows);

    let query = FlowQuery { limit: Some(2500), ..FlowQuery::default() };
    let mut flows = client.flows(&query).await.unwrap();
    let mut count = 0;
    while let Some(found) = flows.next().await.unwrap() {
        count += found.len();
    }
    assert_eq!(count, 2500);
}

#[test]
fn only_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let bind = |path: &Path| SocketFile::bind(path, &Access::default());
    let socket = bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(socket);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it goes with its agent");
    // As an agent leaves it that is killed.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let socket = bind(&path).expect("a stale socket is replaced");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
    // What is there by the end may be another's.
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "data").unwrap();
    drop(socket);
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
    assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&path).unwrap(), b"data");
}

#[test]
fn planted_links_and_shared_directories_are_rejected() {
    let directory = tempfile::tempdir().unwrap();
    let [precious, run] = ["precious", "run"].map(|name| directory.path().join(name));
    std::fs::write(&precious, "data").unwrap();
    std::fs::create_dir(&run).unwrap();
    let path = run.join("weir.sock");
    let bind = || SocketFile::bind(&path, &Access::default());
    std::os::unix::fs::symlink("../precious", &path).unwrap();
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    // A link to a stale socket is no stale socket.
    let stale = directory.path().join("stale");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("../stale", &path).unwrap();
    assert_eq!(bind().unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert!(stale.exists() && path.is_symlink());
    // Where the agent makes its socket before it has its name.
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("../precious", run.join(format!(".{}", std::process::id())))
        .unwrap();
    drop(bind().expect("the link is removed, not what it leads to"));
    assert_eq!(std::fs::read(&precious).unwrap(), b"data");
    std::fs::set_permissions(&run, std::fs::Permissions::from_mode(0o1777)).unwrap();
    let error = bind().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    assert!(error.to_string().starts_with("everybody may write to"), "{error}");
}

/// A group that is none of root's.
const VIEWERS: u32 = 64_123;

fn access() -> Access {
    Access { operators: None, viewers: Some(Group { name: "viewers".into(), gid: VIEWERS }) }
}

#[test]
fn groups_may_connect_and_nobody_else() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let socket = SocketFile::bind(&path, &access()).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "nothing for others");
    let mut list = [0; 256];
    let length = rustix::fs::lgetxattr(&path, "system.posix_acl_access", &mut list).unwrap();
    // Version 2; then tag, permissions and id of owner, owning group, group, mask, others.
    let mut expected = vec![2, 0, 0, 0];
    for (tag, permissions, id) in
        [(1, 6, u32::MAX), (4, 0, u32::MAX), (8, 6, VIEWERS), (16, 6, u32::MAX), (32, 0, u32::MAX)]
    {
        expected.extend([tag, 0, permissions, 0]);
        expected.extend(id.to_le_bytes());
    }
    assert_eq!(list[..length], expected);
    let allows_just = |groups: &[u32]| acl::allows_just(&path, groups.iter().copied()).unwrap();
    assert!(allows_just(&[VIEWERS]) && !allows_just(&[]) && !allows_just(&[VIEWERS, 1]));
    drop(socket);
    let _socket = SocketFile::bind(&path, &Access::default()).unwrap();
    let allows_just = |groups: &[u32]| acl::allows_just(&path, groups.iter().copied()).unwrap();
    assert!(allows_just(&[]) && !allows_just(&[VIEWERS]));
}

#[tokio::test]
async fn each_documented_call_exists_and_answers_as_documented() {
    let running = start(FILE);
    let document = serde_json::to_value(openapi::describe()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 15, "{:?}", paths.keys());
    for (path, methods) in paths {
        for (method, call) in methods.as_object().unwrap() {
            // The agent of the test has endlessly many flows.
            let path = path.replace("{name}", "nothing").replace("/flows", "/flows?limit=1");
            let request = format!(
                "{} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
                method.to_uppercase()
            );
            let (status, body) = raw(&running.socket, &request).await;
            assert!(!body.contains("no such"), "{method} {path}: {status} {body}");
            let documented = call["responses"].as_object().unwrap();
            assert!(documented.contains_key(&status), "{method} {path}: {status}");
        }
    }
    let get = "GET /v1/openapi.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let (status, body) = raw(&running.socket, get).await;
    assert_eq!(status, "200");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), document);
}

/// With `WEIR_WRITE_DOCS=1` in the environment it writes the file instead.
#[test]
fn the_written_description_is_current() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let current = openapi::describe().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("WEIR_WRITE_DOCS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &current).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == current,
        "docs/openapi.json is not what the code says: run \
         `WEIR_WRITE_DOCS=1 cargo test -p weir --lib the_written_description_is_current`"
    );
}

/// Little time, few connections, so that tests need not wait.
const TIGHT: RequestLimits = RequestLimits {
    connections: 4,
    head: Duration::from_millis(300),
    body: Duration::from_millis(300),
    bodies: MAX_DOCUMENTS,
    ..LIMITS
};

/// Clients' patience: far more than any answer takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// Status and body of what comes until the server closes.
async fn answer_of(mut stream: UnixStream) -> (String, String) {
    let mut answer = Vec::new();
    let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    // Whoever goes on sending may find the connection reset when the answer was read.
    drop(end.expect("an end of the connection"));
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    (head[9..12].into(), body.into())
}

/// Changes a weight, as others do meanwhile.
async fn others_are_served(running: &Running, weight: u32) {
    let client = Client::new(&running.socket);
    let request = WeightsRequest { weights: map(&[("v1", weight)]), ..WeightsRequest::default() };
    let split = client.set_weights("reviews", &request).await.expect("others are served");
    assert_eq!(split.subsets[0].weight, weight);
}

#[tokio::test]
async fn requests_that_take_too_long_are_told_so() {
    let running = start_with(FILE, TIGHT, Access::default());
    let head = "PUT /v1/splits/reviews/weights HTTP/1.1\r\nHost: x\r\n\
                Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{";
    for (sent, said) in [
        ("", "no request came within 0.3 s"),
        ("GET /v1/sta", "no request came within 0.3 s"),
        (head, "the body took longer than 0.3 s"),
    ] {
        let mut stream = UnixStream::connect(&running.socket).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (status, body) = answer_of(stream).await;
        assert_eq!(
            (status.as_str(), body),
            ("408", format!("{{\"error\":\"{said}\"}}")),
            "{sent:?}"
        );
    }
    // A byte now and then is not enough.
    let mut slow = UnixStream::connect(&running.socket).await.unwrap();
    slow.write_all(head.as_bytes()).await.unwrap();
    while slow.write_all(b" ").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(answer_of(slow).await.0, "408");
}

#[tokio::test]
async fn clients_that_keep_the_agent_waiting_make_room_for_others() {
    let limits = RequestLimits { head: PATIENCE, body: PATIENCE, ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let deaf = "GET /v1/flows HTTP/1.1\r\nHost: x\r\n\r\n";
    let slow = "POST /v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
    let mut clients = Vec::new();
    for n in 0..200 {
        let mut stream = UnixStream::connect(&running.socket).await.unwrap();
        let sent = ["", "GET /v1/sta", slow, deaf][n % 4];
        // Places are taken from those who have just got them.
        let _ = stream.write_all(sent.as_bytes()).await;
        clients.push((sent, stream));
        if n % 10 == 9 {
            others_are_served(&running, 1000 + n as u32).await;
        }
    }
    let (mut told, all) = (0, clients.len());
    for (sent, stream) in
        clients.drain(..all - limits.connections).filter(|(sent, _)| *sent != deaf)
    {
        let (status, body) = answer_of(stream).await;
        assert_eq!(status, "503", "{sent:?}: {body}");
        told += 1;
    }
    assert!(told > 100, "{told} were told");
}

#[tokio::test]
async fn bodies_and_heads_without_end_are_rejected() {
    // It is what they send that ends them, and not the time that it takes.
    let limits = RequestLimits { head: PATIENCE, body: PATIENCE, ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let post = |path: &str, more: &str| {
        format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{more}\r\n")
    };
    let chunked = "Transfer-Encoding: chunked\r\n";
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    let weights = "/v1/splits/reviews/rollback";
    for (head, again, status, says) in [
        (post(weights, chunked), chunk.as_str(), "413", "the body is larger than 65536 bytes"),
        (post("/v1/apply", chunked), &chunk, "413", "the body is larger than 67108864 bytes"),
        (post(weights, ""), "GET / HTTP/1.1\r\n", "400", "EOF"),
        ("GET /v1/status HTTP/1.1\r\n".to_owned(), "a: b\r\n", "431", ""),
        (format!("GET /{} HTTP/1.1\r\n", "x".repeat(100_000)), "", "431", ""),
    ] {
        let stream = UnixStream::connect(&running.socket).await.unwrap();
        let (mut reader, mut writer) = stream.into_split();
        let again = again.to_owned();
        // As much as is taken.
        let sending = tokio::spawn(async move {
            let mut sent = writer.write_all(head.as_bytes()).await;
            while sent.is_ok() && !again.is_empty() {
                sent = writer.write_all(again.as_bytes()).await;
            }
            writer
        });
        let mut answer = Vec::new();
        let end = tokio::time::timeout(PATIENCE, reader.read_to_end(&mut answer)).await;
        drop(end.expect("an end of the connection"));
        drop(sending.await.unwrap());
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{status}: {answer:?}");
        assert!(answer.contains(says), "{answer}");
        others_are_served(&running, 77).await;
    }
}

#[tokio::test]
async fn bodies_of_all_clients_are_bounded() {
    let limits = RequestLimits { bodies: 100_000, body: PATIENCE, connections: 16, ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let head = "POST /v1/apply HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\
                Content-Length: 70000\r\n\r\n";
    let mut first = UnixStream::connect(&running.socket).await.unwrap();
    first.write_all(format!("{head}{}", " ".repeat(60_000)).as_bytes()).await.unwrap();
    let rejected = loop {
        // The first may not have been read yet.
        let (status, body) = raw(&running.socket, &format!("{head}{}", " ".repeat(70_000))).await;
        if status == "503" {
            break body;
        }
    };
    assert!(rejected.contains("all clients together send too much"), "{rejected}");
    others_are_served(&running, 5).await;
    drop(first);
    // What it had is free again.
    while raw(&running.socket, &format!("{head}{}", " ".repeat(70_000))).await.0 == "503" {}
}

#[tokio::test]
async fn clients_that_do_not_read_are_cut_off() {
    let limits = RequestLimits { stall: Duration::from_millis(300), ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let mut deaf = UnixStream::connect(&running.socket).await.unwrap();
    // Its flows never end.
    deaf.write_all(b"GET /v1/flows HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let asked = || running.batches.load(Ordering::SeqCst);
    while asked() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(limits.stall * 3).await;
    let mut rest = Vec::new();
    let end = tokio::time::timeout(PATIENCE, deaf.read_to_end(&mut rest)).await;
    drop(end.expect("an end of the connection"));
    assert!(rest.starts_with(b"HTTP/1.1 200"), "it began to answer");
    others_are_served(&running, 3).await;
}
