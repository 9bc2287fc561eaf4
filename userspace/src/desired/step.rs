//! A change of what weir is to do, before it happens.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use super::sources::Base;
use super::{Author, Difference, Op, Transaction};
use crate::model::{Key, Name, Split, Weights};
use crate::resource::Resolver;
use crate::source::Problem;

/// A split that is not to be what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitChange {
    /// Its name.
    pub name: Name,
    /// What it was, if it was.
    pub before: Option<Arc<Split>>,
    /// What it is to be, if it is to be.
    pub after: Option<Arc<Split>>,
}

/// What becomes of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It was not there before.
    Created,
    /// It was there, and something else.
    Changed,
    /// It was there, and the same.
    Unchanged,
    /// It is there no more.
    Deleted,
}

/// What an operator should hear of, beside what was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The definition's weights changed: the newer intention is in force.
    OverrideEnded {
        /// The split.
        split: Name,
        /// The weights of the override.
        overridden: Weights,
        /// The weights that are defined now; empty if the split is gone.
        defined: Weights,
    },
    /// The definition changed, and endpoints of it are out of force as before.
    StaysDrained {
        /// The split.
        split: Name,
        /// The endpoints.
        endpoints: Vec<SocketAddr>,
    },
    /// The definition does not have endpoints any more that `weir drain` took out.
    DrainsEnded {
        /// The split.
        split: Name,
        /// The endpoints.
        endpoints: Vec<SocketAddr>,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OverrideEnded { split, overridden, defined } if defined.is_empty() => {
                write!(f, "split {split}: its override {overridden} is over, as the split is gone")
            }
            Self::OverrideEnded { split, overridden, defined } => write!(
                f,
                "split {split}: the override {overridden} is over, \
                 as the weights in its definition changed to {defined}"
            ),
            Self::StaysDrained { split, endpoints } => {
                let endpoints = listed(endpoints);
                write!(
                    f,
                    "split {split}: {endpoints} gets no new flows, since `weir drain` took it out"
                )
            }
            Self::DrainsEnded { split, endpoints } => {
                let endpoints = listed(endpoints);
                write!(
                    f,
                    "split {split}: its definition does not have {endpoints} any more, which `weir drain` had taken out"
                )
            }
        }
    }
}

fn listed(endpoints: &[SocketAddr]) -> String {
    let endpoints: Vec<String> = endpoints.iter().map(ToString::to_string).collect();
    endpoints.join(", ")
}

/// A change that was found good and has not happened yet: [`super::DesiredState`]
/// makes it, and takes it back with [`super::DesiredState::accept`] when the kernel
/// and the state directory have it.
#[derive(Debug, Clone)]
pub struct Step {
    /// For the state directory. Without operations if nothing has to be kept.
    pub transaction: Transaction,
    /// The splits to put into force or withdraw, by name.
    pub changes: Vec<SplitChange>,
    /// What becomes of the objects that were named.
    pub objects: Vec<(Key, Fate)>,
    /// For the log.
    pub events: Vec<Event>,
    /// What is to be said about documents of the call.
    pub notes: Vec<Problem>,
    /// The number of splits afterwards.
    pub(super) splits: usize,
    pub(super) definitions: BTreeMap<Name, Option<Arc<Split>>>,
    pub(super) base: Option<Box<Base>>,
    pub(super) completes: bool,
}

impl Step {
    /// The same, of that author.
    #[must_use]
    pub fn by(mut self, author: &Author) -> Self {
        for op in &mut self.transaction.ops {
            match op {
                Op::Changed(_, change) => change.author = Some(Box::new(author.clone())),
                // Those of before have theirs.
                Op::Drains(_, drains) => {
                    for drain in drains.values_mut().filter(|drain| drain.author.is_none()) {
                        drain.author = Some(Box::new(author.clone()));
                    }
                }
                _ => {}
            }
        }
        self
    }

    /// The splits whose weights it changes, for the log.
    pub fn shifted(&self) -> Vec<Name> {
        let name = |op: &Op| match op {
            Op::Changed(name, _) => Some(name.clone()),
            _ => None,
        };
        self.transaction.ops.iter().filter_map(name).collect()
    }

    /// Whether it may change what is wrong with documents.
    pub fn is_about_documents(&self) -> bool {
        self.base.is_some()
    }

    /// What documents come to, if it is about them.
    pub fn resolver(&self) -> Option<&Resolver> {
        self.base.as_ref().map(|base| &base.resolver)
    }

    /// Whether it says for the first time all that an origin has.
    pub fn completes(&self) -> bool {
        self.completes
    }

    /// What it changes, and how many flows move. Takes milliseconds for splits
    /// of many endpoints: better not under a lock.
    pub fn difference(&self) -> Difference {
        let mut difference = Difference::default();
        for change in &self.changes {
            difference.add(change.before.as_deref(), change.after.as_deref());
        }
        difference.unchanged = self.splits - difference.added.len() - difference.changed.len();
        difference
    }
}
