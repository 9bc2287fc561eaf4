//! Collecting what is wrong with a document, and what is to be said about it.

use std::fmt::Display;
use std::net::IpAddr;

use serde::de::DeserializeOwned;

use crate::model::{Name, is_any_label};
use crate::source::{FieldPath, Node, Problem, document};

/// Collects what is found while a document is read.
pub(super) struct DocumentValidator<'a> {
    pub node: &'a Node<'a>,
    /// The document's namespace, by which short names resolve.
    pub namespace: &'a str,
    pub problems: Vec<Problem>,
    pub notes: Vec<Problem>,
}

impl DocumentValidator<'_> {
    /// The document as a `T`.
    pub(super) fn typed<T: DeserializeOwned>(&mut self) -> Option<T> {
        self.node.typed().map_err(|problem| self.problems.push(ranged(problem))).ok()
    }

    pub(super) fn problem(&mut self, at: &FieldPath, message: impl AsRef<str>) {
        self.problems.push(self.node.problem(at, message.as_ref()));
    }

    pub(super) fn note(&mut self, at: &FieldPath, message: impl AsRef<str>) {
        self.notes.push(self.node.problem(at, message.as_ref()));
    }

    /// The value, or else a problem of its field.
    pub(super) fn keep<T, E: ToString>(
        &mut self,
        at: &FieldPath,
        result: Result<T, E>,
    ) -> Option<T> {
        result.map_err(|error| self.problem(at, error.to_string())).ok()
    }

    /// A port number.
    pub(super) fn port(&mut self, at: &FieldPath, number: impl Into<i64>) -> Option<u16> {
        let number = number.into();
        if number == 0 && self.missing(at) {
            return None;
        }
        let port = u16::try_from(number).ok().filter(|&port| port != 0);
        self.keep(at, port.ok_or_else(|| out_of_range(number, 1, 65535)))
    }

    /// Whether a field that must be there is not, which is then a problem: some
    /// types of `k8s-openapi` have a default in its place.
    pub(super) fn missing(&mut self, at: &FieldPath) -> bool {
        let missing = !self.node.has(at);
        if missing {
            self.problem(at, "missing required field");
        }
        missing
    }

    /// A unicast IP address.
    pub(super) fn address(&mut self, at: &FieldPath, text: &str) -> Option<IpAddr> {
        self.keep(at, document::address(text))
    }

    /// A name as objects have.
    pub(super) fn name(&mut self, at: &FieldPath, text: &str) -> Option<Name> {
        self.keep(at, Name::of_object(text))
    }

    /// A name as Istio's subsets have: capitals, but no dots.
    pub(super) fn subset(&mut self, at: &FieldPath, text: &str) -> Option<Name> {
        if is_any_label(text) {
            return self.keep(at, Name::new(text));
        }
        let message = format!(
            "\"{text}\" is not a valid name of a subset: expected 1 to 63 letters, digits or '-', starting and ending with a letter or digit"
        );
        self.problem(at, message);
        None
    }
}

/// The ranges of integers that the types of `k8s-openapi` and of the Gateway API have as `i32`:
/// a number that is too large for that says none itself.
const RANGES: &[(&str, i64, i64)] = &[
    ("weight", 0, 1_000_000),
    ("port", 1, 65535),
    ("targetPort", 1, 65535),
    ("nodePort", 1, 65535),
];

/// The problem, with the range that a number is out of.
fn ranged(problem: Problem) -> Problem {
    let field = problem.field.rsplit('.').next().unwrap_or_default();
    let number = problem.message.strip_prefix("invalid value: integer `");
    let number = number.and_then(|rest| rest.split('`').next()?.parse::<i128>().ok());
    let range = RANGES.iter().find(|(name, _, _)| *name == field);
    match number.zip(range) {
        Some((number, (_, min, max))) => {
            Problem { message: out_of_range(number, *min, *max), ..problem }
        }
        None => {
            let unranged = range.filter(|_| problem.message.ends_with("expected an integer"));
            let range = unranged.map(|(_, min, max)| format!(" from {min} to {max}"));
            Problem { message: problem.message + &range.unwrap_or_default(), ..problem }
        }
    }
}

/// What is said of numbers out of a range.
pub(super) fn out_of_range(number: impl Display, min: i64, max: i64) -> String {
    format!("{number} is out of range, expected an integer from {min} to {max}")
}
