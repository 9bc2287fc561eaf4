//! Answers of a line of JSON for each thing, read as they come.

use std::marker::PhantomData;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::ClientError;
use super::client::Connection;

/// The longest line, in bytes.
const MAX_LINE: usize = 1 << 20;

/// An answer that is being read. The agent goes no further than it is read.
#[derive(Debug)]
pub struct Lines<T> {
    body: Incoming,
    _connection: Connection,
    /// The beginning of a line.
    rest: Vec<u8>,
    things: PhantomData<T>,
}

impl<T: DeserializeOwned> Lines<T> {
    pub(super) fn new(body: Incoming, connection: Connection) -> Self {
        Self { body, _connection: connection, rest: Vec::new(), things: PhantomData }
    }

    /// The next things, which may be none; None at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<T>>, ClientError> {
        let Some(frame) = self.body.frame().await else {
            // Each line ends.
            return match self.rest.is_empty() {
                true => Ok(None),
                false => Err(ClientError::Protocol("it ends within a line".to_owned())),
            };
        };
        let frame = frame.map_err(|error| {
            ClientError::Protocol(format!("it broke off, the agent's log may say why: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { return Ok(Some(Vec::new())) };
        self.rest.extend_from_slice(&data);
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let lines = self.rest[..whole].split_inclusive(|&byte| byte == b'\n');
        let things = lines.map(serde_json::from_slice).collect::<Result<_, _>>();
        self.rest.drain(..whole);
        if self.rest.len() > MAX_LINE {
            return Err(ClientError::Protocol("a line is too long".to_owned()));
        }
        things.map(Some).map_err(ClientError::protocol)
    }
}
