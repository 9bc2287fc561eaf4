//! A real Prometheus in a namespace, and what it says.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tempfile::TempDir;

use crate::netns::Netns;

/// How long anything may take; generous, since other tests run too.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often is looked.
const POLL: Duration = Duration::from_millis(100);
/// The recorded expressions and alerts of weir.
const RULES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/prometheus/weir.rules.yaml");
/// Where it listens, in its namespace.
const ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9090);

/// Status and body of the answer to a GET that is sent in a namespace.
///
/// # Errors
///
/// As the socket's; fails if the answer is not HTTP.
pub fn get(ns: &Netns, address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let answer = ns.run(|| -> Result<String> {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        // HTTP/1.0: the body ends with the connection.
        write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no end of the header")?;
    let status = head.split(' ').nth(1).context("no status")?;
    Ok((status.parse().context("status")?, body.to_owned()))
}

/// A series of an instant query's result.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value now.
    pub value: f64,
}

impl Series {
    /// The value of a label; empty without it, as Prometheus has it.
    #[must_use]
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// A running Prometheus that scrapes one target every two seconds; it and its data end on drop.
#[derive(Debug)]
pub struct Prometheus<'a> {
    child: Child,
    ns: &'a Netns,
    directory: TempDir,
}

impl<'a> Prometheus<'a> {
    /// Starts `prometheus` in a namespace and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Shows what it wrote if it does not get ready.
    pub fn start(ns: &'a Netns, target: SocketAddr) -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("weir-prometheus-").tempdir()?;
        let path = |name: &str| directory.path().join(name);
        let config = format!(
            "global: {{scrape_interval: 2s, scrape_timeout: 2s, evaluation_interval: 2s}}\n\
             rule_files: [{RULES}]\n\
             scrape_configs:\n- job_name: weir\n  static_configs: [{{targets: ['{target}']}}]\n"
        );
        std::fs::write(path("prometheus.yml"), config)?;
        let log = File::create(path("log"))?;
        let child = ns
            .command("prometheus")
            .arg(format!("--config.file={}", path("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", path("data").display()))
            .arg(format!("--web.listen-address={ADDRESS}"))
            .args(["--log.level=warn"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("start prometheus (Debian package `prometheus`)")?;
        let mut prometheus = Self { child, ns, directory };
        prometheus.await_ready()?;
        Ok(prometheus)
    }

    fn await_ready(&mut self) -> Result<()> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if get(self.ns, ADDRESS, "/-/ready").is_ok_and(|(status, _)| status == 200) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait()? {
                bail!("prometheus ended at once, {status}:\n{}", self.log());
            }
            if Instant::now() > deadline {
                bail!("prometheus is not ready:\n{}", self.log());
            }
            std::thread::sleep(POLL);
        }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// The result of an instant query; a scalar is a series without labels.
    ///
    /// # Errors
    ///
    /// Fails with Prometheus' message if it rejects the expression.
    pub fn query(&self, expression: &str) -> Result<Vec<Series>> {
        let mut path = "/api/v1/query?query=".to_owned();
        for byte in expression.bytes() {
            // Infallible: a String takes all.
            let _ = write!(path, "%{byte:02X}");
        }
        let (status, body) = get(self.ns, ADDRESS, &path)?;
        let body: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        if status != 200 {
            bail!("{expression}: {status}: {body}");
        }
        let (kind, result) = (&body["data"]["resultType"], &body["data"]["result"]);
        let value = |pair: &Value| {
            let text = pair[1].as_str().with_context(|| format!("{expression}: {pair}"))?;
            text.parse().with_context(|| format!("{expression}: {text}"))
        };
        if kind == "scalar" {
            return Ok(vec![Series { labels: BTreeMap::new(), value: value(result)? }]);
        }
        let series = result.as_array().with_context(|| format!("{expression}: {body}"))?;
        let series = series.iter().map(|one| {
            let labels = serde_json::from_value(one["metric"].clone())?;
            Ok(Series { labels, value: value(&one["value"])? })
        });
        series.collect()
    }

    /// Waits until all of weir's rules have been evaluated, and returns their expressions.
    ///
    /// # Panics
    ///
    /// With what Prometheus says of one that is not good, after a minute.
    #[track_caller]
    pub fn await_rules(&self) -> Vec<String> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            match self.rules() {
                Ok(expressions) => return expressions,
                Err(_) if Instant::now() <= deadline => std::thread::sleep(POLL),
                Err(error) => panic!("{error:#}"),
            }
        }
    }

    fn rules(&self) -> Result<Vec<String>> {
        let (_, body) = get(self.ns, ADDRESS, "/api/v1/rules")?;
        let body: Value = serde_json::from_str(&body).with_context(|| body.clone())?;
        let groups = body["data"]["groups"].as_array().context("no groups")?;
        let rules = groups.iter().flat_map(|group| group["rules"].as_array().into_iter().flatten());
        let expression = |rule: &Value| match rule["health"].as_str() {
            Some("ok") => Ok(rule["query"].as_str().unwrap_or_default().to_owned()),
            _ => bail!("not evaluated: {rule}"),
        };
        rules.map(expression).collect()
    }

    /// Waits until `done` says so of the result of a query, and returns that.
    ///
    /// # Panics
    ///
    /// With the last result, after a minute.
    #[track_caller]
    pub fn await_query(&self, expression: &str, done: impl Fn(&[Series]) -> bool) -> Vec<Series> {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let result = self.query(expression);
            match result {
                Ok(result) if done(&result) => return result,
                Ok(_) if Instant::now() <= deadline => std::thread::sleep(POLL),
                result => panic!("{expression}: not as expected: {result:?}\n{}", self.log()),
            }
        }
    }

    /// Waits until a query has this one value.
    ///
    /// # Panics
    ///
    /// As [`Prometheus::await_query`].
    #[track_caller]
    pub fn await_value(&self, expression: &str, value: f64) {
        self.await_query(expression, |all| matches!(all, [one] if one.value == value));
    }
}

impl Drop for Prometheus<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
