//! Integers of a range.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// An integer as it was written, of which [`Ranged::get`] gives the value if it
/// is in `MIN..=MAX`. Reading one fails only for what is no integer, so that a
/// document's other problems are found as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranged<const MIN: u64, const MAX: u64>(i128);

impl<const MIN: u64, const MAX: u64> Ranged<MIN, MAX> {
    /// An integer, in range or not.
    pub const fn new(value: u64) -> Self {
        Self(value as i128)
    }

    /// The value, or what is wrong with it.
    pub fn get(self) -> Result<u64, String> {
        match u64::try_from(self.0) {
            Ok(value) if (MIN..=MAX).contains(&value) => Ok(value),
            _ => {
                Err(format!("{} is out of range, expected an integer from {MIN} to {MAX}", self.0))
            }
        }
    }
}

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Ranged<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Integer<const MIN: u64, const MAX: u64>;

        impl<const MIN: u64, const MAX: u64> Visitor<'_> for Integer<MIN, MAX> {
            type Value = i128;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "an integer from {MIN} to {MAX}")
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<i128, E> {
                Ok(value.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<i128, E> {
                Ok(value.into())
            }
        }
        deserializer.deserialize_any(Integer::<MIN, MAX>).map(Self)
    }
}
