//! Server and client against an agent that is none.

use std::path::PathBuf;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;
use crate::api::types::{Protocol, SubsetView};
use crate::api::{Client, ClientError};

/// Has the split "reviews".
struct Fake;

fn view(weight: u32) -> SplitView {
    let subset = SubsetView {
        name: "v1".into(),
        weight,
        target_share: 1.0,
        observed_share: None,
        flows: 0,
        total_flows: 7,
        rejected: 0,
        endpoints: Vec::new(),
    };
    SplitView {
        name: "reviews".into(),
        address: "fd00::1".parse().unwrap(),
        port: 80,
        protocol: Protocol::Tcp,
        affinity: "None".into(),
        changed: 3,
        source: "weir.yaml".into(),
        subsets: vec![subset],
    }
}

impl Control for Fake {
    async fn splits(&self) -> Result<Vec<SplitView>, Failure> {
        Ok(vec![view(1)])
    }

    async fn split(&self, name: String) -> Result<SplitView, Failure> {
        match name.as_str() {
            "reviews" => Ok(view(1)),
            _ => Err(Failure::NotFound(format!("there is no split \"{name}\""))),
        }
    }

    async fn set_weights(
        &self,
        _: String,
        weights: BTreeMap<String, u32>,
    ) -> Result<SplitView, Failure> {
        match weights.get("v1") {
            None => Err(Failure::Invalid("no v1".into())),
            Some(13) => Err(Failure::Conflict("busy".into())),
            Some(&weight) => Ok(view(weight)),
        }
    }

    async fn explain(&self, request: ExplainRequest) -> Result<ExplainView, Failure> {
        let ExplainRequest { from, to, protocol } = request;
        let (split, subset) = (format!("{from} {to} {protocol}"), "v1".into());
        Ok(ExplainView { split, subset, endpoint: None, hash: u64::MAX, candidates: vec![] })
    }

    async fn status(&self) -> Result<StatusView, Failure> {
        Err(Failure::Internal("broken".into()))
    }
}

struct Running {
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<io::Result<()>>,
    _directory: TempDir,
}

fn start() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("run/weir.sock");
    let listener = bind(&socket).unwrap();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(serve(listener, Arc::new(Fake), async move {
        let _ = stopped.await;
    }));
    Running { socket, stop, task, _directory: directory }
}

/// The status of the answer to a raw request.
async fn raw(socket: &Path, request: &str) -> (String, String) {
    let mut stream = UnixStream::connect(socket).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // The server may reset a connection whose body it did not read.
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

#[tokio::test]
async fn client_and_server_agree() {
    let running = start();
    let client = Client::new(&running.socket);
    assert_eq!(client.splits().await.unwrap(), [view(1)]);
    assert_eq!(client.split("reviews").await.unwrap(), view(1));
    let weights = |w| BTreeMap::from([("v1".to_owned(), w)]);
    let changed = client.set_weights("reviews", weights(u32::MAX)).await.unwrap();
    assert_eq!(changed, view(u32::MAX));
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
    assert_eq!(status_of(client.set_weights("reviews", weights(13)).await), (409, "busy".into()));
    assert_eq!(status_of(client.set_weights("reviews", BTreeMap::new()).await).0, 400);
    assert_eq!(status_of(client.status().await), (500, "broken".into()));

    running.stop.send(()).unwrap();
    running.task.await.unwrap().unwrap();
    let gone = client.splits().await.unwrap_err().to_string();
    let socket = running.socket.display();
    assert_eq!(gone, format!("no agent answers at {socket}: is `weir agent` running?"));
}

#[tokio::test]
async fn bad_requests_are_told_what_is_wrong() {
    let running = start();
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
        (put("{\"weights\":{\"v2\":1}}"), "400", "no v1"),
        (put(&large), "413", ""),
        (get("/v1/explain?from=1.2.3.4&to=1.2.3.4:5"), "400", "from"),
        (get("/v1/explain?from=1.2.3.4:1&to=1.2.3.4:5&protocol=SCTP"), "400", "SCTP"),
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
