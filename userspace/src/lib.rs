//! weir: a node agent that shifts traffic between the versions of a service, in the kernel.

pub mod datapath;
pub mod explain;
pub mod model;
pub mod table;
