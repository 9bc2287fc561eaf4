//! weir: a node agent that shifts traffic between the versions of a service, in the kernel.

pub mod model;
