//! Who asks for a change, and why: the user at the other end of the socket, and what headers of
//! the request add.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, StatusCode};
use nix::unistd::{Uid, User};
use percent_encoding::percent_decode;

use super::handlers::Rejected;
use crate::access::Credentials;
use crate::desired::{self, Author};

/// Why: text, percent-encoded where it is not of ASCII.
pub(super) const REASON: HeaderName = HeaderName::from_static("weir-reason");
/// Who has become root, by `sudo`. Only root may set it: from others it is ignored.
pub(super) const SUDO_USER: HeaderName = HeaderName::from_static("weir-sudo-user");

/// The most bytes of the name of a user.
const MAX_USER: usize = 64;

/// The author of a request.
pub(super) struct Signed(pub Author);

impl<S: Sync> FromRequestParts<S> for Signed {
    type Rejection = Rejected;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rejected> {
        let uid = parts.extensions.get::<Credentials>().map(|client| client.uid);
        let author = author(uid, &parts.headers);
        author.map(Self).map_err(|message| Rejected(StatusCode::BAD_REQUEST, message))
    }
}

fn author(uid: Option<u32>, headers: &HeaderMap) -> Result<Author, String> {
    let user = uid.map_or_else(|| "unknown".to_owned(), user);
    let sudo = text(headers, &SUDO_USER)?.filter(|_| uid == Some(0));
    let by = match sudo {
        Some(who) if is_user(&who) => format!("{user} (sudo: {who})"),
        Some(who) => return Err(format!("{SUDO_USER}: {who:?} is no name of a user")),
        None => user,
    };
    let reason = text(headers, &REASON)?.map(|text| desired::reason(&text)).transpose();
    Ok(Author { by, reason: reason.map_err(|error| format!("{REASON}: {error}"))? })
}

fn text(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, String> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let decoded = percent_decode(value.as_bytes()).decode_utf8();
    decoded.map(|text| Some(text.into_owned())).map_err(|_| format!("{name}: not UTF-8 text"))
}

/// The user's name, or the number of one who has none here.
fn user(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("user {uid}"), |user| user.name)
}

/// Names of directories' users may hold spaces.
fn is_user(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_USER && name.chars().all(desired::is_plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(uid: u32, headers: &[(HeaderName, &str)]) -> Result<String, String> {
        let headers = headers.iter().map(|(name, value)| (name.clone(), value.parse().unwrap()));
        author(Some(uid), &headers.collect()).map(|author| author.to_string())
    }

    #[test]
    fn root_may_say_for_whom_and_anybody_why() {
        let why = (REASON, "p99%20n%C3%A3o, 2 s");
        assert_eq!(of(0, &[]), Ok("root".into()));
        assert_eq!(of(0, std::slice::from_ref(&why)), Ok("root: p99 não, 2 s".into()));
        assert_eq!(
            of(0, &[(SUDO_USER, "alice"), why]),
            Ok("root (sudo: alice): p99 não, 2 s".into())
        );
        assert_eq!(of(4_000_000_001, &[(SUDO_USER, "alice")]), Ok("user 4000000001".into()));
    }

    #[test]
    fn what_would_not_be_one_line_is_rejected() {
        let rejected = |header, value| of(0, &[(header, value)]).unwrap_err();
        assert!(rejected(REASON, "a%0Ab").contains("weir-reason: a reason has the control"));
        assert_eq!(rejected(REASON, "%ff"), "weir-reason: not UTF-8 text");
        assert_eq!(rejected(SUDO_USER, "a%09b"), "weir-sudo-user: \"a\\tb\" is no name of a user");
        assert_eq!(of(0, &[(SUDO_USER, "a%20b")]), Ok("root (sudo: a b)".into()));
    }
}
