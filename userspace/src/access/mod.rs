//! Who may talk to the agent, and what each may make it do.
//!
//! [`Access`] is the policy: a pure function of what `agent.yaml` says and of
//! the [`Credentials`] of who asks. The socket's permissions ([`acl`]) and the
//! judgement of each request follow from it; [`peer`] asks the kernel who is at
//! the other end.

pub mod acl;
pub mod peer;
mod policy;

pub use policy::{Access, Credentials, Denial, Group, Need, Role};
