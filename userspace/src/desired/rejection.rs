//! Why a change of what weir is to do is rejected.

use crate::source::Problem;

/// Why a change is rejected. Nothing of it has happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Documents that are wrong, or are at odds with what is said elsewhere; a line each.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// What was asked for makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// It is not as whoever asks believes.
    #[error("{0}")]
    Conflict(String),
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    lines.join("\n")
}
