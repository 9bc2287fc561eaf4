//! The configuration as it is written.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use super::access::Written;
use super::{FastPath, Forward, KernelLog, OtherPorts, kubernetes};
use crate::source::ranged::Ranged;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Agent {
    pub interfaces: Vec<Interface>,
    #[serde(default = "resources")]
    pub resources: String,
    #[serde(default = "state")]
    pub state: String,
    #[serde(default = "bpffs")]
    pub bpffs: String,
    #[serde(default = "socket")]
    pub socket: String,
    #[serde(default)]
    pub access: Access,
    #[serde(default = "metrics")]
    pub metrics: Option<String>,
    #[serde(default)]
    pub fast_path: FastPath,
    #[serde(default)]
    pub other_ports: OtherPorts,
    #[serde(default)]
    pub flows: Flows,
    #[serde(default = "seed")]
    pub hash_seed: Ranged<0, { u64::MAX }>,
    #[serde(default)]
    pub kernel_log: KernelLog,
    #[serde(default)]
    pub limits: RawLimits,
    pub kubernetes: Option<kubernetes::Written>,
}

fn resources() -> String {
    "/etc/weir/resources.d".to_owned()
}

fn state() -> String {
    "/var/lib/weir".to_owned()
}

pub(super) fn bpffs() -> String {
    "/sys/fs/bpf/weir".to_owned()
}

fn socket() -> String {
    "/run/weir/weir.sock".to_owned()
}

/// Only this node can read it: there is no other protection.
fn metrics() -> Option<String> {
    Some("127.0.0.1:9464".to_owned())
}

fn seed() -> Ranged<0, { u64::MAX }> {
    Ranged::new(0)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a mapping such as {match: eth0}")]
pub(super) struct Interface {
    #[serde(rename = "match")]
    pub pattern: String,
    #[serde(default)]
    pub forward: Forward,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Access {
    pub operators: Option<Written>,
    pub viewers: Option<Written>,
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Flows {
    pub max: Ranged<1024, 16_777_216>,
    pub tcp_idle: Period,
    pub udp_idle: Period,
}

/// A duration as it is written. A number alone does not say of what.
pub(super) struct Period(pub String);

/// What a [`Period`] has to be.
pub(super) const PERIOD: &str = "a duration from 1s to 30d such as \"90s\" or \"2h\"";

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(PERIOD)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<String, E> {
                Ok(text.to_owned())
            }
        }
        deserializer.deserialize_any(Text).map(Self)
    }
}

impl Default for Flows {
    fn default() -> Self {
        let (tcp_idle, udp_idle) = (Period("2h".to_owned()), Period("60s".to_owned()));
        Self { max: Ranged::new(262_144), tcp_idle, udp_idle }
    }
}

#[derive(Deserialize)]
#[serde(default, rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct RawLimits {
    pub splits: Ranged<1, 65_536>,
    pub endpoints: Ranged<1, 1_048_576>,
    pub table_slots: Ranged<1024, 67_108_864>,
    pub histograms: Ranged<1, 65_536>,
}

impl Default for RawLimits {
    fn default() -> Self {
        Self {
            splits: Ranged::new(1024),
            endpoints: Ranged::new(8192),
            table_slots: Ranged::new(1_048_576),
            histograms: Ranged::new(256),
        }
    }
}
