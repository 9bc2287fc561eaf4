//! Server and client.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::kernelless::{flow, start};
use super::server::{MAX_BODY, MAX_DOCUMENTS};
use super::types::*;
use super::{Client, ClientError, bind, openapi};

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
        ClientError::Refused { status, message } => (status, message),
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
        (explained.split.as_str(), explained.hash),
        ("[fd00::2]:1 [fd00::1]:80 UDP", u64::MAX)
    );

    // A name is sent as it is, whatever it holds.
    let missing = status_of(client.split("a/b ?ü").await);
    assert_eq!(missing, (404, "there is no split \"a/b ?ü\"".into()));
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
    let apply = |text: &str, dry_run| ApplyRequest { files: vec![file(text)], dry_run };
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

    let object = |name: &str| ObjectName {
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
    assert_eq!(view.objects, [ObjectView { object: object("ratings"), fate: FateView::Deleted }]);
}

#[tokio::test]
async fn documents_are_bounded() {
    let running = start("");
    let client = Client::new(&running.socket);
    // More than other requests may have.
    let text = format!("# {}\n", "x".repeat(2 * MAX_BODY));
    let request = ApplyRequest { files: vec![file(&text)], dry_run: false };
    client.apply(&request).await.expect("nothing is applied");
    let request = ApplyRequest { files: vec![file("# \n"); 10_001], dry_run: false };
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
        (put("{\"weights\":{\"V2\":1}}"), "400", "not a valid name"),
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

#[tokio::test]
async fn only_a_stale_socket_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("weir.sock");
    let listener = bind(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    let listener = bind(&path).expect("a stale socket is replaced");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "nothing is left over");
    drop(listener);

    let file = directory.path().join("precious");
    std::fs::write(&file, "data").unwrap();
    assert_eq!(bind(&file).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read(&file).unwrap(), b"data");
}

#[tokio::test]
async fn each_documented_call_exists_and_answers_as_documented() {
    let running = start(FILE);
    let document = serde_json::to_value(openapi::describe()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 12, "{:?}", paths.keys());
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
            // Those that any call may give are not repeated at each.
            let any = ["400", "500"].contains(&status.as_str());
            assert!(any || documented.contains_key(&status), "{method} {path}: {status}");
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
