//! Why a request came to nothing, by what follows from it.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use hyper::StatusCode;
use hyper::header::{HeaderMap, RETRY_AFTER};
use kube::client::AuthError;
use serde::Deserialize;

/// The longest pause that a server can ask for.
const LONGEST_WISH: Duration = Duration::from_secs(60);
/// What is shown of a server's message, in characters.
const SHOWN: usize = 300;

/// What a request came to instead of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// There was no answer, or none that ended: the server may be away.
    Unreachable(String),
    /// The server does not know who asks: what is known of it is to be read again.
    Unauthorized(String),
    /// The server is there, but not for this now; perhaps it says when it is.
    Busy(String, Option<Duration>),
    /// Who asks may not do that.
    Forbidden(String),
    /// There is no such thing.
    Missing,
    /// The object is not what who asks takes it for, or is there already.
    Conflict(String),
    /// What was asked for is too old: everything is to be listed again.
    Gone(String),
    /// Another error of the server, or an answer that cannot be read.
    Rejected(String),
}

/// An error as API servers write it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub code: u16,
    pub reason: String,
    pub message: String,
}

impl Failure {
    /// Of an answer that is not a good one.
    pub(super) fn of_answer(code: StatusCode, headers: &HeaderMap, body: &[u8]) -> Self {
        let Status { message, .. } = serde_json::from_slice(body).unwrap_or_default();
        let message = match message.trim() {
            "" => code.canonical_reason().unwrap_or("no reason given").to_owned(),
            message => message.to_owned(),
        };
        let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        Self::of_code(code.as_u16(), message, seconds.map(Duration::from_secs))
    }

    /// Of an error that came as an event.
    pub(super) fn of_status(status: Status) -> Self {
        let Status { code, reason, message } = status;
        match reason.as_str() {
            "Expired" | "Gone" => Self::of_code(410, message, None),
            _ => Self::of_code(code, message, None),
        }
    }

    fn of_code(code: u16, message: String, pause: Option<Duration>) -> Self {
        let message: String = message.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        match code {
            401 => Self::Unauthorized(message),
            403 => Self::Forbidden(message),
            404 => Self::Missing,
            409 => Self::Conflict(message),
            410 => Self::Gone(message),
            429 | 502 | 503 | 504 => Self::Busy(message, pause.map(|p| p.min(LONGEST_WISH))),
            code => Self::Rejected(format!("{code}: {message}")),
        }
    }

    /// Whether the server may be away for everybody.
    pub fn is_loss(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Unauthorized(_))
    }

    /// Whether it is likely to be over soon, so that it is worth waiting for.
    pub fn is_passing(&self) -> bool {
        self.is_loss() || matches!(self, Self::Busy(..) | Self::Gone(_))
    }
}

impl Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(why) => write!(f, "no answer: {why}"),
            Self::Unauthorized(why) => write!(f, "not authenticated: {why}"),
            Self::Busy(why, _) => write!(f, "the API server is busy: {why}"),
            Self::Forbidden(why) => write!(f, "forbidden: {why}"),
            Self::Missing => f.write_str("not served"),
            Self::Conflict(why) => write!(f, "changed meanwhile: {why}"),
            Self::Gone(why) => write!(f, "too old: {why}"),
            Self::Rejected(why) => f.write_str(why),
        }
    }
}

/// An error with what it came from, each once: some errors repeat their source. What helpers for
/// tokens wrote is left out, since that may be a token.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<AuthError>() {
            Some(AuthError::AuthExecRun { cmd, status, .. }) => {
                return format!("{cmd}, which gives tokens, failed: {status}");
            }
            Some(AuthError::AuthExecParse(_)) => {
                return "what gives tokens answered no ExecCredential".to_owned();
            }
            _ => {}
        }
        let own = error.to_string();
        if !text.contains(&own) {
            text = format!("{text}: {own}");
        }
        next = error.source();
    }
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}
