//! The Kubernetes API by requests of one's own: a hundred times cheaper than a `kubectl` for each.
//!
//! `kubectl proxy` does what is hard about it, TLS; it listens at a Unix socket.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

/// How long an answer may take. Tests have servers fall silent; who asks then has to end, too.
const TIMEOUT: Duration = Duration::from_secs(10);

/// An answer: its status, and its body, which is a string if it is not JSON.
pub type Answer = (u16, Value);

/// Who is asked, as administrator.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
}

impl Api {
    /// By the proxy at that socket.
    #[must_use]
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// GET.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer, or its status is no success.
    pub fn get(&self, path: &str) -> Result<Value> {
        succeeded(path, self.call("GET", path, None)?)
    }

    /// POST of an object.
    ///
    /// # Errors
    ///
    /// As [`Api::get`].
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        succeeded(path, self.call("POST", path, Some(("application/json", body)))?)
    }

    /// PATCH by a strategic merge, which merges conditions by their type.
    ///
    /// # Errors
    ///
    /// As [`Api::get`].
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        let body = ("application/strategic-merge-patch+json", body);
        succeeded(path, self.call("PATCH", path, Some(body))?)
    }

    /// Any request, with a content type and a body.
    ///
    /// # Errors
    ///
    /// Fails if there is no answer.
    pub fn call(&self, method: &str, path: &str, body: Option<(&str, &Value)>) -> Result<Answer> {
        let (status, mut stream) = self.send(method, path, body)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).with_context(|| format!("{method} {path}"))?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// Watches, by a path with `watch=true`.
    ///
    /// # Errors
    ///
    /// As [`Api::get`].
    pub fn watch(&self, path: &str) -> Result<Watch> {
        let (status, stream) = self.send("GET", path, None)?;
        if status != 200 {
            bail!("{path}: {status}");
        }
        stream.get_ref().set_read_timeout(Some(Duration::from_millis(50)))?;
        Ok(Watch { stream, line: Vec::new() })
    }

    /// Sends a request and reads the head of the answer.
    fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &Value)>,
    ) -> Result<(u16, BufReader<UnixStream>)> {
        let mut stream = UnixStream::connect(&self.socket).context("connect to kubectl proxy")?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the body ends with the connection.
        let mut request = format!("{method} {path} HTTP/1.0\r\nHost: localhost\r\n");
        if let Some((kind, body)) = body {
            let body = body.to_string();
            let length = body.len();
            request += &format!("Content-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
        } else {
            request += "\r\n";
        }
        stream.write_all(request.as_bytes())?;
        let mut stream = BufReader::new(stream);
        let mut status = None;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).with_context(|| format!("{method} {path}"))?;
            if status.is_none() {
                let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
                status = Some(code.with_context(|| format!("{method} {path}: no HTTP: {line}"))?);
            } else if line.trim_end().is_empty() {
                return Ok((status.unwrap_or(0), stream));
            }
        }
    }
}

fn succeeded(path: &str, (status, body): Answer) -> Result<Value> {
    if (200..300).contains(&status) {
        return Ok(body);
    }
    let message = body["message"].as_str().map_or_else(|| body.to_string(), str::to_owned);
    bail!("{path}: {status}: {message}")
}

/// Events, one after the other.
#[derive(Debug)]
pub struct Watch {
    stream: BufReader<UnixStream>,
    line: Vec<u8>,
}

impl Watch {
    /// The next event; `None` if none came in a moment.
    ///
    /// # Errors
    ///
    /// Fails when the watch has ended.
    pub fn event(&mut self) -> Result<Option<Value>> {
        // What was read before a time-out stays in the line.
        match self.stream.read_until(b'\n', &mut self.line) {
            Ok(_) if self.line.ends_with(b"\n") => {
                let event = serde_json::from_slice(&self.line);
                self.line.clear();
                Ok(Some(event?))
            }
            Ok(_) => bail!("the watch ended"),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
