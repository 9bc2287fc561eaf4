//! Groups as they are written, by name or number, to groups that there are.

use std::fmt;
use std::io;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::access::Group;

/// Finds the number of a group by its name; None if there is no such group.
pub(super) type Lookup<'a> = &'a dyn Fn(&str) -> io::Result<Option<u32>>;

/// Asks the node.
pub(super) fn lookup(name: &str) -> io::Result<Option<u32>> {
    let found = nix::unistd::Group::from_name(name)?;
    Ok(found.map(|group| group.gid.as_raw()))
}

/// A group as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written(String);

const EXPECTED: &str = "expected the name of a group (see /etc/group) or its number";

impl Written {
    /// The group, or what is wrong with it.
    pub fn resolve(self, lookup: Lookup<'_>) -> Result<Group, String> {
        let Self(name) = self;
        if name.bytes().all(|byte| byte.is_ascii_digit()) && !name.is_empty() {
            // The highest is no group: it says "none" to system calls.
            return match name.parse() {
                Ok(gid) if gid != u32::MAX => Ok(Group { name, gid }),
                _ => Err(format!(
                    "{name} is out of range, expected an integer from 0 to {}",
                    u32::MAX - 1
                )),
            };
        }
        match lookup(&name) {
            Ok(Some(gid)) => Ok(Group { name, gid }),
            Ok(None) => Err(format!("there is no group \"{name}\", {EXPECTED}")),
            Err(error) => Err(format!("cannot look up group \"{name}\" ({error}), {EXPECTED}")),
        }
    }
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameOrNumber;

        impl Visitor<'_> for NameOrNumber {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the name of a group or its number")
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<String, E> {
                Ok(name.to_owned())
            }

            fn visit_u64<E: Error>(self, gid: u64) -> Result<String, E> {
                Ok(gid.to_string())
            }
        }
        deserializer.deserialize_any(NameOrNumber).map(Self)
    }
}
