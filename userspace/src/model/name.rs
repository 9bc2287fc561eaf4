//! Names of splits and subsets.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A name of a split or subset: letters, digits and '-', in parts that start and
/// end with a letter or digit, separated by '.'; at most 253 characters in all.
/// Splits have names without capitals, as Kubernetes has for objects
/// ([`Name::of_object`]); Istio's subsets may have some. Splits and subsets are
/// known by such names, in maps' seeds as on the command line. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(Arc<str>);

/// The longest name, in characters.
const MAX_NAME: usize = 253;

/// Why a string is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{text}\" is not a valid name: expected at most 253 characters: {letters}, digits or '-', starting and ending with a letter or digit, in parts separated by '.'"
)]
pub struct NameError {
    text: String,
    letters: &'static str,
}

impl Name {
    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        Self::checked(name.into(), "letters", |_| true)
    }

    /// The same for the name of an object, which has no capitals: a DNS
    /// subdomain name (RFC 1123) as Kubernetes checks it, whose parts may be as
    /// long as the whole.
    pub fn of_object(name: impl Into<String>) -> Result<Self, NameError> {
        Self::checked(name.into(), "lower-case letters", |c| !c.is_ascii_uppercase())
    }

    fn checked(
        text: String,
        letters: &'static str,
        allowed: impl Fn(u8) -> bool,
    ) -> Result<Self, NameError> {
        let good = text.len() <= MAX_NAME && text.split('.').all(is_part);
        if good && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(NameError { text, letters })
        }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_part(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    !text.is_empty() && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether a string is a DNS label (RFC 1123), of letters of both cases.
pub fn is_any_label(text: &str) -> bool {
    text.len() <= 63 && is_part(text)
}

/// Whether a string is a DNS label (RFC 1123), in lower case.
pub fn is_label(text: &str) -> bool {
    is_any_label(text) && !text.bytes().any(|c| c.is_ascii_uppercase())
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(name: String) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_kubernetes_and_of_istio() {
        let long = |end: &str| format!("{}{end}", "x.".repeat(126));
        let (part, whole) = ("x".repeat(64), "x".repeat(253));
        for good in ["a", "v1", "reviews", "a-b", "reviews.default", &part, &whole, &long("x")] {
            assert!(Name::new(good).is_ok() && Name::of_object(good).is_ok(), "{good}");
        }
        for capital in ["V1", "Blue", "canaryV2", "Blue.reviews.shop"] {
            assert!(Name::new(capital).is_ok() && Name::of_object(capital).is_err(), "{capital}");
        }
        let longer = format!("{whole}x");
        for bad in
            ["", "-a", "a-", "a..b", ".a", "a.", "a.-b", "a b", "a_b", "ä", &longer, &long("xx")]
        {
            assert!(Name::new(bad).is_err() && Name::of_object(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn labels_are_at_most_63_characters() {
        assert!(is_label(&"x".repeat(63)) && !is_label(&"x".repeat(64)));
        assert!(is_any_label("canaryV2") && !is_label("canaryV2") && !is_any_label("v1.2"));
    }
}
