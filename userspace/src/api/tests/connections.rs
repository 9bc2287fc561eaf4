//! Connections that are kept for more than one request.

use super::*;

/// One answer from a connection that is kept: status and body.
async fn answer(stream: &mut UnixStream) -> (String, String) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.expect("a length").parse().unwrap()];
    stream.read_exact(&mut body).await.expect("a whole body");
    (head[9..12].to_owned(), String::from_utf8(body).unwrap())
}

const GET: &[u8] = b"GET /v1/splits HTTP/1.1\r\nHost: x\r\n\r\n";

/// What is waited for no longer than a server that works takes by far.
async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("not in time: {what}"))
}

async fn ask(stream: &mut UnixStream) {
    stream.write_all(GET).await.unwrap();
    let (status, body) = soon("an answer", answer(stream)).await;
    assert_eq!(status, "200");
    assert!(body.contains("\"reviews\""), "{body}");
}

/// That the server closes a connection and says nothing more.
async fn assert_closed(mut stream: UnixStream) {
    let mut rest = Vec::new();
    soon("the end", stream.read_to_end(&mut rest)).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&rest), "");
}

#[tokio::test]
async fn a_connection_takes_one_request_after_the_other_and_is_closed_when_it_is_idle() {
    let limits = RequestLimits { idle: Some(Duration::from_millis(300)), ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    for _ in 0..20 {
        ask(&mut stream).await;
    }
    // A mistake of one request is not the end of the connection.
    stream.write_all(b"GET /v1/nothing HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    assert_eq!(soon("an answer", answer(&mut stream)).await.0, "404");
    ask(&mut stream).await;
    assert_closed(stream).await;
}

#[tokio::test]
async fn idle_connections_give_way_to_new_ones() {
    let limits = RequestLimits { idle: Some(PATIENCE * 100), ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let mut idle = Vec::new();
    for _ in 0..2 * limits.connections {
        let mut stream = UnixStream::connect(&running.socket).await.unwrap();
        ask(&mut stream).await;
        idle.push(stream);
    }
    // Those that came first are closed, the others are kept.
    let mut kept = idle.split_off(limits.connections);
    for stream in idle {
        assert_closed(stream).await;
    }
    for stream in &mut kept {
        ask(stream).await;
    }
}

#[tokio::test]
async fn idle_connections_do_not_keep_the_server() {
    let limits = RequestLimits { idle: Some(PATIENCE * 100), ..TIGHT };
    let running = start_with(FILE, limits, Access::default());
    let mut stream = UnixStream::connect(&running.socket).await.unwrap();
    ask(&mut stream).await;
    running.stop.send(()).unwrap();
    soon("the server's end", running.task).await.unwrap().unwrap();
    assert_closed(stream).await;
}
