//! What fails for now, and is tried again: told once in the log when it begins
//! and when it is over, and shown for as long as it lasts.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tracing::{error, info};

use crate::api::types::TroubleView;
use crate::desired::Time;

/// What the agent goes on trying.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Work {
    /// To read the files of resources and put them into force.
    Files,
    /// To be told when they change.
    Watch,
    /// To put into force what a cluster says.
    Cluster,
    /// To report to a cluster what is in force.
    Report,
    /// To be told which interfaces there are.
    Interfaces,
    /// To see whether the programs are where they were attached.
    Attachments,
    /// To have the maps where the next agent finds them.
    Pins,
    /// To detach from interfaces that are not the agent's any more.
    Detach,
    /// To listen where metrics are served.
    Metrics,
    /// To wait until no program uses what goes out of force.
    Grace,
    /// To write the journal anew.
    Journal,
    /// To take endpoints out whose drain time is over.
    Drain,
    /// To count flows and clear away what has ended.
    Census,
    /// To say which way packets may go.
    FastPath,
    /// To say what interfaces and routes there are.
    Topology,
}

impl Work {
    /// What is tried, in status and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Files => "putting files into force",
            Self::Cluster => "putting the cluster's objects into force",
            Self::Report => "reporting to the cluster what is in force",
            Self::Watch => "watching the directory of resources",
            Self::Interfaces => "watching network interfaces",
            Self::Attachments => "verifying that the programs are attached",
            Self::Pins => "keeping the maps for the next agent",
            Self::Detach => "detaching from interfaces",
            Self::Metrics => "serving metrics",
            Self::Grace => "waiting for a grace period",
            Self::Journal => "rewriting the journal",
            Self::Drain => "taking out endpoints that have drained",
            Self::Census => "counting flows",
            Self::FastPath => "telling the programs about the fast path",
            Self::Topology => "telling the programs about network interfaces",
        }
    }
}

/// What fails for now.
#[derive(Debug, Default)]
pub(super) struct Troubles(Mutex<BTreeMap<Work, Trouble>>);

#[derive(Debug)]
struct Trouble {
    error: String,
    since: SystemTime,
}

impl Troubles {
    /// How an attempt ended: with this error, or well.
    pub fn note(&self, work: Work, error: Option<String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let what = work.name();
        match (all.get_mut(&work), error) {
            (None, None) => {}
            (Some(_), None) => {
                all.remove(&work);
                info!("{what}: works again");
            }
            (Some(known), Some(error)) if known.error == error => {}
            (known, Some(error)) => {
                error!("{what}: {error}; it is tried again");
                let since = known.map_or_else(SystemTime::now, |known| known.since);
                all.insert(work, Trouble { error, since });
            }
        }
    }

    /// As [`Troubles::note`], of a result; its value if there is one.
    pub fn of<T, E: Into<anyhow::Error>>(&self, work: Work, result: Result<T, E>) -> Option<T> {
        match result {
            Ok(value) => {
                self.note(work, None);
                Some(value)
            }
            Err(error) => {
                self.note(work, Some(format!("{:#}", error.into())));
                None
            }
        }
    }

    /// Why that fails, if it does.
    pub fn error(&self, work: Work) -> Option<String> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&work).map(|trouble| trouble.error.clone())
    }

    /// For status.
    pub fn views(&self) -> Vec<TroubleView> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let view = |(work, trouble): (&Work, &Trouble)| TroubleView {
            what: work.name().to_owned(),
            error: trouble.error.clone(),
            since: Time::from(trouble.since).to_string(),
        };
        all.iter().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trouble_is_shown_since_it_began_and_until_it_is_over() {
        let troubles = Troubles::default();
        let shown = || {
            let views = troubles.views();
            views.into_iter().map(|view| (view.what, view.error, view.since)).collect::<Vec<_>>()
        };
        troubles.note(Work::Metrics, None);
        assert_eq!(shown(), []);
        troubles.note(Work::Metrics, Some("busy".into()));
        let since = shown()[0].2.clone();
        troubles.note(Work::Metrics, Some("still busy".into()));
        troubles.of(Work::Files, Err::<(), _>(anyhow::anyhow!("full").context("cannot write")));
        let files = &shown()[0];
        assert_eq!(
            (files.0.as_str(), files.1.as_str()),
            (Work::Files.name(), "cannot write: full")
        );
        assert_eq!(shown()[1], ("serving metrics".into(), "still busy".into(), since));
        assert_eq!(troubles.of(Work::Files, Ok::<_, std::io::Error>(7)), Some(7));
        troubles.note(Work::Metrics, None);
        assert_eq!(shown(), []);
    }
}
