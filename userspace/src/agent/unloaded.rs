//! What an agent is after it was told to unload: it holds nothing in the kernel, tells so to who
//! asks, and does nothing else until it is restarted. Started again by itself it could not load:
//! it has given up the capabilities which that takes.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use probe_common::map::ABI_VERSION;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};

use crate::api::types::{
    ApplyView, ChangeView, DocumentView, ExplainRequest, ExplainView, FlowQuery, HealthView,
    SplitView, StatsQuery, StatsView, StatusView, UnloadedView, Verdict,
};
use crate::api::{self, Control, Failure, FlowStream};
use crate::config::AgentConfig;
use crate::datapath;
use crate::desired::{Author, DrainGuard, Guard, Time};
use crate::metrics::{self, Sample, Source};
use crate::model::{Key, Name};
use crate::resource::Declarations;

/// An agent that was told to unload.
pub(super) struct Unloaded {
    author: Author,
    at: Time,
    /// What was not taken out of the kernel, and why.
    error: Option<String>,
    /// The file of its configuration.
    config: String,
}

impl Unloaded {
    /// After `result` of an attempt that `author` asked for.
    pub fn after(config: &AgentConfig, author: Author, result: Result<()>) -> Self {
        let error = result.err().map(|error| format!("{error:#}"));
        match &error {
            None => info!("unloaded by {author}: programs are detached, maps are gone"),
            Some(error) => error!("unloaded by {author}, but for what failed: {error}"),
        }
        let at = SystemTime::now().into();
        Self { author, at, error, config: config.file.display().to_string() }
    }

    fn reason(&self) -> String {
        let (by, at) = (&self.author, &self.at);
        let failed = self.error.as_ref().map(|error| format!("; not all of it is gone: {error}"));
        let failed = failed.unwrap_or_default();
        format!(
            "unloaded {at} by {by}: nothing is steered until the agent is restarted \
             (systemctl restart weir){failed}"
        )
    }

    fn no<T>(&self) -> Result<T, Failure> {
        Err(Failure::Conflict(self.reason()))
    }

    /// Answers who asks, until SIGTERM or SIGINT.
    pub async fn wait(
        self,
        config: &AgentConfig,
        listener: UnixListener,
        scrapes: Option<std::net::TcpListener>,
    ) -> Result<()> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let this = Arc::new(self);
        let scrapes = scrapes.map(TcpListener::from_std).transpose().unwrap_or_else(|error| {
            warn!("metrics are not served any more: {error}");
            None
        });
        if let Some(scrapes) = scrapes {
            tokio::spawn(metrics::serve(scrapes, Arc::clone(&this), metrics::LIMITS));
        }
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let server = api::serve(listener, config.access.clone(), this, async {
            let _ = stopped.await;
        });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            served = server => return served.context("the API's server ended"),
        }
        drop(stop);
        Ok(())
    }
}

impl Source for Unloaded {
    fn sample(&self) -> Result<Sample> {
        Ok(Sample { unloaded: true, ..Sample::default() })
    }

    fn unready(&self) -> Vec<String> {
        vec![self.reason()]
    }
}

impl Control for Unloaded {
    async fn splits(&self) -> Result<Vec<SplitView>, Failure> {
        self.no()
    }

    async fn split(&self, _: String) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn documents(&self) -> Result<Vec<DocumentView>, Failure> {
        self.no()
    }

    async fn apply(&self, _: Declarations, _: bool, _: Author) -> Result<ApplyView, Failure> {
        self.no()
    }

    async fn delete(&self, _: Vec<Key>, _: bool, _: Author) -> Result<ApplyView, Failure> {
        self.no()
    }

    async fn set_weights(
        &self,
        _: String,
        _: BTreeMap<Name, u32>,
        _: Guard,
        _: Author,
    ) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn reset_weights(&self, _: String, _: Guard, _: Author) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn rollback(
        &self,
        _: String,
        _: Option<u64>,
        _: Guard,
        _: Author,
    ) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn drain(
        &self,
        _: String,
        _: String,
        _: DrainGuard,
        _: Author,
    ) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn undrain(&self, _: String, _: String, _: Author) -> Result<SplitView, Failure> {
        self.no()
    }

    async fn history(&self, _: String) -> Result<Vec<ChangeView>, Failure> {
        self.no()
    }

    async fn explain(&self, _: ExplainRequest) -> Result<ExplainView, Failure> {
        self.no()
    }

    async fn flows(self: Arc<Self>, _: FlowQuery) -> Result<FlowStream, Failure> {
        self.no()
    }

    async fn stats(self: Arc<Self>, _: StatsQuery) -> Result<StatsView, Failure> {
        self.no()
    }

    async fn unload(&self, _: Author) -> Result<(), Failure> {
        self.no()
    }

    async fn status(&self) -> Result<StatusView, Failure> {
        Ok(StatusView {
            health: HealthView { verdict: Verdict::Failed, reasons: vec![self.reason()] },
            version: env!("CARGO_PKG_VERSION").to_owned(),
            map_layout: ABI_VERSION,
            config: self.config.clone(),
            network_namespace: datapath::own_network(),
            unloaded: Some(UnloadedView {
                since: self.at.to_string(),
                by: self.author.by.clone(),
                reason: self.author.reason.clone(),
                error: self.error.clone(),
            }),
            ..StatusView::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unloaded(result: Result<()>) -> Unloaded {
        let config = AgentConfig::parse("agent.yaml", "interfaces: [{match: eth0}]").unwrap();
        let author = Author { by: "alice".to_owned(), reason: Some("maintenance".to_owned()) };
        Unloaded::after(&config, author, result)
    }

    #[tokio::test]
    async fn an_unloaded_agent_has_failed_is_not_ready_and_says_by_whom_and_what_is_left() {
        for (result, left) in [
            (Ok(()), None),
            (Err(anyhow::Error::msg("a link is busy")), Some("not all of it is gone: a link")),
        ] {
            let agent = unloaded(result);
            assert!(agent.sample().unwrap().unloaded);
            let why = agent.unready().join("; ");
            assert!(why.contains("by alice: maintenance: nothing is steered until"), "{why}");
            assert_eq!(why.contains("not all"), left.is_some(), "{why}");
            assert!(left.is_none_or(|left| why.contains(left)), "{why}");
            let status = Control::status(&agent).await.unwrap();
            assert_eq!(status.health.verdict, Verdict::Failed);
            assert_eq!(status.health.reasons.join("; "), why);
            let view = status.unloaded.unwrap();
            assert_eq!((view.by.as_str(), view.error.is_some()), ("alice", left.is_some()));
            let rejected = agent.splits().await.expect_err("nothing is steered");
            assert!(rejected.to_string().contains(&why), "{rejected}");
        }
    }
}
