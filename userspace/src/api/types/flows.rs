//! The flow table, a flow at a time.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Protocol;

/// A flow: one connection, or one conversation by UDP; both directions together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlowView {
    /// The transport protocol.
    pub protocol: Protocol,
    /// The client's address and port.
    #[schema(value_type = String)]
    pub client: SocketAddr,
    /// The service's address and port.
    #[schema(value_type = String)]
    pub service: SocketAddr,
    /// Its split, if the agent knows it.
    pub split: Option<String>,
    /// Its subset, if the agent knows it.
    pub subset: Option<String>,
    /// Where its packets go.
    #[schema(value_type = String)]
    pub endpoint: SocketAddr,
    /// Where it is in its life.
    pub state: FlowState,
    /// Seconds since the client's last packet, to about one.
    pub idle_seconds: u64,
    /// Seconds since the client's first packet, to about one.
    pub age_seconds: u64,
}

/// Where a flow is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum FlowState {
    /// Only the client has spoken, or the endpoint has answered it once.
    Pending,
    /// Both sides have spoken.
    Established,
    /// One side has closed its direction.
    Closing,
    /// Both sides have closed it; its place in the table is free for others.
    Closed,
    /// One side has reset it; its place in the table is free for others.
    Reset,
    /// It was silent for longer than `flows` in the agent's configuration
    /// allows; its place in the table is free for others.
    Expired,
}

impl FlowState {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Established, Self::Closing, Self::Closed, Self::Reset, Self::Expired];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Established => "established",
            Self::Closing => "closing",
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Expired => "expired",
        }
    }
}

impl std::fmt::Display for FlowState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for FlowState {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("\"{text}\" is not a state of flows: expected one of {names}")
        })
    }
}

/// An address, with a port or with any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Party {
    /// The address.
    pub ip: IpAddr,
    /// The port; None for any.
    pub port: Option<u16>,
}

impl Party {
    /// Whether a socket has this address.
    pub fn is(self, socket: SocketAddr) -> bool {
        self.ip == socket.ip() && self.port.is_none_or(|port| port == socket.port())
    }
}

impl FromStr for Party {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Self { ip: socket.ip(), port: Some(socket.port()) });
        }
        match text.parse() {
            Ok(ip) => Ok(Self { ip, port: None }),
            Err(_) => Err(format!(
                "\"{text}\" is not an address: expected one such as 192.0.2.7, 192.0.2.7:9080 or \
                 [2001:db8::7]:9080"
            )),
        }
    }
}

impl std::fmt::Display for Party {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl TryFrom<String> for Party {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Party> for String {
    fn from(party: Party) -> Self {
        party.to_string()
    }
}

/// Which flows to show: those that fit all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FlowQuery {
    /// Of this split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Of subsets of this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subset: Option<String>,
    /// To this endpoint: an address, or address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub endpoint: Option<Party>,
    /// From this client: an address, or address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    pub client: Option<Party>,
    /// In this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<FlowState>,
    /// At most so many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parties_are_addresses_with_or_without_a_port() {
        let socket: SocketAddr = "[2001:db8::7]:80".parse().unwrap();
        for (text, fits) in [
            ("2001:db8::7", true),
            ("[2001:db8::7]:80", true),
            ("[2001:db8::7]:81", false),
            ("2001:db8::8", false),
            ("192.0.2.7:80", false),
        ] {
            let party: Party = text.parse().expect(text);
            assert_eq!(party.is(socket), fits, "{text}");
            assert_eq!(party.to_string(), text);
        }
        for text in ["", "192.0.2.7:", "192.0.2.7:65536", "192.0.2.0/24", "v1"] {
            let error = text.parse::<Party>().expect_err(text);
            assert!(error.starts_with(&format!("\"{text}\" is not an address")), "{error}");
        }
    }

    #[test]
    fn states_are_read_as_they_are_written() {
        for state in FlowState::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
            assert_eq!(serde_json::to_value(state).unwrap(), state.name());
        }
        let error = "open".parse::<FlowState>().unwrap_err();
        assert!(
            error
                .ends_with("expected one of pending, established, closing, closed, reset, expired")
        );
    }
}
