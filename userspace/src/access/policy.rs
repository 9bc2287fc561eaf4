//! The policy.

use std::fmt;

/// The user that may do everything.
const ROOT: u32 = 0;

/// A group of the node's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// As the configuration calls it: a name, or a number.
    pub name: String,
    /// Its number.
    pub gid: u32,
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group \"{}\"", self.name)
    }
}

/// Who may use the API, beside root and the agent's own user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Whose members may look and change.
    pub operators: Option<Group>,
    /// Whose members may look.
    pub viewers: Option<Group>,
}

/// Who is at the other end of a connection, as the kernel says.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// The user.
    pub uid: u32,
    /// The primary group.
    pub gid: u32,
    /// The supplementary groups.
    pub groups: Vec<u32>,
}

impl Credentials {
    fn is_in(&self, group: Option<&Group>) -> bool {
        group.is_some_and(|group| self.gid == group.gid || self.groups.contains(&group.gid))
    }
}

/// What somebody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Look and change.
    Operator,
    /// Look.
    Viewer,
    /// Nothing.
    Denied,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It only looks.
    Look,
    /// It may change something.
    Change,
    /// It takes weir out of the kernel, which is the administrator's.
    Unload,
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// They may look, but not change.
    #[error("user {uid} may look, but not change anything: {who} may")]
    Change {
        /// The user.
        uid: u32,
        /// Who may.
        who: String,
    },
    /// They may look and change, but not end it all.
    #[error("user {uid} may not unload weir: only root may")]
    Unload {
        /// The user.
        uid: u32,
    },
    /// They may do nothing.
    #[error("user {uid} may not use this agent: {who} may")]
    Use {
        /// The user.
        uid: u32,
        /// Who may.
        who: String,
    },
}

impl Access {
    /// What somebody may do to an agent that runs as user `own`.
    pub fn role(&self, own: u32, who: &Credentials) -> Role {
        if who.uid == ROOT || who.uid == own || who.is_in(self.operators.as_ref()) {
            Role::Operator
        } else if who.is_in(self.viewers.as_ref()) {
            Role::Viewer
        } else {
            Role::Denied
        }
    }

    /// Whether somebody may do what a request does.
    pub fn judge(&self, own: u32, who: &Credentials, need: Need) -> Result<(), Denial> {
        let uid = who.uid;
        match (self.role(own, who), need) {
            (Role::Operator, Need::Unload) if uid != ROOT && uid != own => {
                Err(Denial::Unload { uid })
            }
            (Role::Operator, _) | (Role::Viewer, Need::Look) => Ok(()),
            (Role::Viewer, Need::Change | Need::Unload) => {
                Err(Denial::Change { uid, who: self.who(Need::Change) })
            }
            (Role::Denied, need) => Err(Denial::Use { uid, who: self.who(need) }),
        }
    }

    /// Who may do that, for people.
    pub fn who(&self, need: Need) -> String {
        let viewers = self.viewers.as_ref().filter(|_| need == Need::Look);
        let groups: Vec<String> =
            self.operators.iter().chain(viewers).map(ToString::to_string).collect();
        match groups.as_slice() {
            [] => "only root".to_owned(),
            groups => format!("root and members of {}", groups.join(" or ")),
        }
    }

    /// The groups whose members may connect.
    pub fn groups(&self) -> impl Iterator<Item = u32> {
        self.operators.iter().chain(&self.viewers).map(|group| group.gid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: u32 = 7;

    fn group(name: &str, gid: u32) -> Option<Group> {
        Some(Group { name: name.into(), gid })
    }

    fn who(uid: u32, gid: u32, groups: &[u32]) -> Credentials {
        Credentials { uid, gid, groups: groups.to_vec() }
    }

    #[test]
    fn users_and_groups_decide() {
        let none = Access::default();
        let both = Access { operators: group("ops", 10), viewers: group("20", 20) };
        let operators = Access { viewers: None, ..both.clone() };
        let viewers = Access { operators: None, ..both.clone() };
        use Role::{Denied, Operator, Viewer};
        for (access, who, expected) in [
            (&none, who(0, 0, &[]), Operator),
            (&none, who(0, 99, &[99]), Operator),
            (&none, who(OWN, 99, &[]), Operator),
            // The group of root is no root.
            (&none, who(1000, 0, &[0]), Denied),
            (&none, who(1000, 10, &[20]), Denied),
            (&both, who(1000, 10, &[]), Operator),
            (&both, who(1000, 99, &[98, 10]), Operator),
            (&both, who(1000, 20, &[]), Viewer),
            (&both, who(1000, 99, &[20]), Viewer),
            (&both, who(1000, 20, &[10]), Operator),
            (&both, who(10, 99, &[]), Denied),
            (&both, who(1000, 99, &[]), Denied),
            (&operators, who(1000, 20, &[20]), Denied),
            (&viewers, who(1000, 10, &[10]), Denied),
            (&viewers, who(0, 20, &[20]), Operator),
        ] {
            assert_eq!(access.role(OWN, &who), expected, "{access:?} {who:?}");
        }
    }

    #[test]
    fn denials_say_who_may() {
        let both = Access { operators: group("ops", 10), viewers: group("20", 20) };
        let said = |access: &Access, gid, need| {
            access.judge(OWN, &who(1000, gid, &[]), need).map_err(|denial| denial.to_string())
        };
        let no = |text: &str| Err(text.to_owned());
        assert_eq!(said(&both, 10, Need::Change), Ok(()));
        assert_eq!(said(&both, 20, Need::Look), Ok(()));
        assert_eq!(
            said(&both, 10, Need::Unload),
            no("user 1000 may not unload weir: only root may")
        );
        for uid in [0, OWN] {
            assert_eq!(both.judge(OWN, &who(uid, 99, &[]), Need::Unload), Ok(()), "user {uid}");
        }
        assert_eq!(
            said(&both, 20, Need::Change),
            no(
                "user 1000 may look, but not change anything: root and members of group \"ops\" may"
            )
        );
        assert_eq!(
            said(&both, 99, Need::Look),
            no("user 1000 may not use this agent: root and members of group \"ops\" or group \
                \"20\" may")
        );
        let viewers = Access { operators: None, ..both };
        assert_eq!(
            said(&viewers, 20, Need::Change),
            no("user 1000 may look, but not change anything: only root may")
        );
        assert_eq!(
            said(&Access::default(), 99, Need::Look),
            no("user 1000 may not use this agent: only root may")
        );
    }
}
