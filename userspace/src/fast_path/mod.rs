//! Whether steered packets may go past the node's stack.
//!
//! What goes past the stack goes past netfilter, IPsec and other programs, too.
//! Hence, unless the operator says otherwise, it is done only where none of
//! these would see a forwarded packet: [`Survey`] finds them, [`choose`] decides.

mod choice;
mod devices;
mod filters;
mod firewall;
mod macs;
mod nfnetlink;
mod obstacle;
mod on_link;
mod routes;
mod survey;
mod xdp_devices;

pub use choice::{Choice, choose};
pub use devices::{Device, Devices, peers, unseen};
pub use filters::{Filter, Filters};
pub use firewall::{Firewall, Target};
pub use macs::macs;
pub use nfnetlink::Notices;
pub use obstacle::Obstacle;
pub use on_link::{client_links, on_link};
pub use routes::{RouteMtus, Routes};
pub use survey::Survey;
pub use xdp_devices::{Drivers, XdpFeatures, xdp_devices};
