//! Names of splits and subsets.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A DNS name (RFC 1123 subdomain), as Kubernetes has for objects: labels of
/// lower-case letters, digits and '-', at most 63 characters each, starting and
/// ending with a letter or digit, separated by '.'; at most 253 characters in
/// all. Splits and subsets are known by such names, in maps' seeds as on the
/// command line. Cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Name(Arc<str>);

/// The longest name, in characters.
const MAX_LENGTH: usize = 253;

/// Why a string is not a [`Name`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" is not a valid name: expected labels of 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit, separated by '.'"
)]
pub struct NameError(String);

impl Name {
    /// Checks `name`.
    pub fn new(name: impl Into<String>) -> Result<Self, NameError> {
        let name = name.into();
        let good = name.len() <= MAX_LENGTH && name.split('.').all(is_label);
        if good { Ok(Self(name.into())) } else { Err(NameError(name)) }
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a string is a DNS label (RFC 1123), in lower case.
pub fn is_label(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
    matches!(text.len(), 1..=63)
        && text.bytes().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
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
    fn names_are_dns_names() {
        let long = |end: &str| format!("{}{end}", "x.".repeat(126));
        for good in ["a", "v1", "reviews", "a-b", "reviews.default", &"x".repeat(63), &long("x")] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "-a",
            "a-",
            "V1",
            "a..b",
            ".a",
            "a.",
            "a.-b",
            "a b",
            "ä",
            &"x".repeat(64),
            &long("xx"),
        ] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
