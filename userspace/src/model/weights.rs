//! The weights of a split, apart from it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Name, Split};

/// Weights by subset. Cheap to clone: histories hold many equal ones.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "BTreeMap<Name, u32>", from = "BTreeMap<Name, u32>")]
pub struct Weights(Arc<[(Name, u32)]>);

impl Weights {
    /// Those of all subsets of a split.
    pub fn of(split: &Split) -> Self {
        split.subsets().iter().map(|subset| (subset.name.clone(), subset.weight)).collect()
    }

    /// The weight of a subset.
    pub fn get(&self, subset: &str) -> Option<u32> {
        self.0.binary_search_by(|(name, _)| name.as_str().cmp(subset)).ok().map(|at| self.0[at].1)
    }

    /// Subsets and weights, by name.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Name, u32)> {
        self.0.iter().map(|(name, weight)| (name, *weight))
    }

    /// Whether there are none: what a split has that does not exist.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Name, u32>> for Weights {
    fn from(weights: BTreeMap<Name, u32>) -> Self {
        Self(weights.into_iter().collect())
    }
}

impl From<Weights> for BTreeMap<Name, u32> {
    fn from(weights: Weights) -> Self {
        weights.0.iter().cloned().collect()
    }
}

impl FromIterator<(Name, u32)> for Weights {
    /// The last one counts of a subset that is there twice.
    fn from_iter<T: IntoIterator<Item = (Name, u32)>>(weights: T) -> Self {
        weights.into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

impl fmt::Display for Weights {
    /// As on the command line: `v1=90 v3=10`; `-` if there are none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.pad("-");
        }
        let parts: Vec<String> =
            self.iter().map(|(name, weight)| format!("{name}={weight}")).collect();
        f.pad(&parts.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_sorted_and_found() {
        let name = |text: &str| Name::new(text).unwrap();
        let weights: Weights = [(name("v3"), 10), (name("v1"), 90)].into_iter().collect();
        assert_eq!(weights.to_string(), "v1=90 v3=10");
        assert_eq!((weights.get("v3"), weights.get("v2")), (Some(10), None));
        let json = serde_json::to_string(&weights).unwrap();
        assert_eq!(json, r#"{"v1":90,"v3":10}"#);
        assert_eq!(serde_json::from_str::<Weights>(&json).unwrap(), weights);
        assert!(serde_json::from_str::<Weights>(r#"{"v_1":90}"#).is_err(), "not a name");
        assert_eq!(Weights::default().to_string(), "-");
    }
}
