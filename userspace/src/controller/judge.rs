//! On which nodes an object is in force: a pure function of what is known of nodes.

use std::collections::BTreeMap;
use std::fmt;

use crate::cluster::{Activity, Report};
use crate::resource::Kind;

/// The most nodes that are named.
const NAMED: usize = 10;

/// An object whose generation is to be in force.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The version at which this generation of it was there.
    pub since: u64,
}

/// What is known of a node on which it has to be in force.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    /// What its agent reported last.
    pub report: Option<&'a Report>,
    /// Whether that was renewed in time.
    pub is_fresh: bool,
}

/// Why an object is not known to be in force on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lag {
    /// Nothing was reported.
    Silent,
    /// Reports have ended.
    Stale,
    /// The agent does something else than to steer.
    Idle(Activity),
    /// No interface has weir's programs.
    Detached,
    /// Interfaces do not have them that should.
    Failing(String),
    /// What was reported was so before this generation was there.
    Behind,
    /// There are more exceptions than were named.
    Unknown,
    /// It is one of the exceptions.
    Exception(String),
}

/// On which nodes an object is in force.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// On how many it is.
    pub ready: usize,
    /// On how many it has to be.
    pub total: usize,
    /// Of the others the first, by name, and why.
    pub lagging: Vec<(String, Lag)>,
}

/// Judges an object by all nodes on which it has to be in force.
pub fn judge(subject: &Subject<'_>, nodes: &BTreeMap<&str, Node<'_>>) -> Verdict {
    let mut verdict = Verdict { total: nodes.len(), ..Verdict::default() };
    for (name, node) in nodes {
        match lag(subject, node) {
            None => verdict.ready += 1,
            Some(lag) if verdict.lagging.len() < NAMED => {
                verdict.lagging.push(((*name).to_owned(), lag));
            }
            Some(_) => {}
        }
    }
    verdict
}

/// Why it is not known to be in force on a node; `None` if it is.
fn lag(subject: &Subject<'_>, node: &Node<'_>) -> Option<Lag> {
    let Some(report) = node.report else { return Some(Lag::Silent) };
    if !node.is_fresh {
        return Some(Lag::Stale);
    }
    if report.activity != Activity::Steering {
        return Some(Lag::Idle(report.activity));
    }
    if report.watermark(subject.kind).is_none_or(|version| version < subject.since) {
        return Some(Lag::Behind);
    }
    let resource = crate::cluster::resource(subject.kind);
    let exception = report.exceptions.iter().find(|exception| {
        exception.name == subject.name
            && exception.namespace == subject.namespace
            && exception.resource == resource
    });
    if let Some(exception) = exception {
        return Some(Lag::Exception(format!("{}: {}", exception.reason, exception.message)));
    }
    if report.more_exceptions > 0 {
        return Some(Lag::Unknown);
    }
    if let Some(failing) = report.failing.first() {
        return Some(Lag::Failing(failing.clone()));
    }
    (!report.attached).then_some(Lag::Detached)
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent => f.write_str("no agent has reported"),
            Self::Stale => f.write_str("its agent reports no more"),
            Self::Idle(Activity::Unloaded) => f.write_str("weir was unloaded"),
            Self::Idle(Activity::Observing | Activity::Steering) => {
                f.write_str("its agent only observes")
            }
            Self::Detached => f.write_str("no interface has weir's programs"),
            Self::Failing(interface) => write!(f, "interface {interface}"),
            Self::Behind => f.write_str("not yet"),
            Self::Unknown => f.write_str("its agent has more exceptions than it reports"),
            Self::Exception(why) => f.write_str(why),
        }
    }
}

impl Verdict {
    /// Whether it is in force wherever it has to be; not if that is nowhere.
    pub fn is_in_force(&self) -> bool {
        self.total > 0 && self.ready == self.total
    }
}

impl fmt::Display for Verdict {
    /// One sentence.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ready, total, lagging } = self;
        if *total == 0 {
            return f.write_str("no node has Pods or interfaces to steer for");
        }
        if self.is_in_force() {
            let nodes =
                if *total == 1 { "the one node".to_owned() } else { format!("all {total} nodes") };
            return write!(f, "in force on {nodes}");
        }
        let behind = total - ready;
        write!(f, "not in force on {behind} of {total} nodes: ")?;
        for (index, (name, lag)) in lagging.iter().enumerate() {
            let comma = if index == 0 { "" } else { "; " };
            write!(f, "{comma}{name} ({lag})")?;
        }
        match behind - lagging.len() {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}
