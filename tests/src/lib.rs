//! Test harness of weir.
//!
//! * [`applies`]: what is written to a state directory under crashes.
//! * [`attachment`]: what others can do to an attachment.
//! * [`agent`]: the real `weir agent` in a namespace, and its command line.
//! * [`client`]: many flows from chosen addresses and ports.
//! * [`cluster`]: a Kubernetes cluster of namespaces, with a real control plane.
//! * [`flood`]: packets of invented clients by the million.
//! * [`resource`]: the YAML of a split.
//! * [`samples`]: the resources of Istio's traffic-shifting tasks.
//! * [`shelf`]: resource files as `kubectl apply` and `delete` would leave them.
//! * [`netns`]: network namespaces which go away by themselves.
//! * [`machine`]: a machine with a systemd of its own, to install packages on.
//! * [`path`]: a long way from client to endpoint, one link of which is narrow.
//! * [`tmux`]: a terminal without a person.
//! * [`topology`]: client, node and endpoints, wired up and routed.
//! * [`scene`]: topology, servers and agent together.
//! * [`prometheus`]: a real Prometheus, and what it says.
//! * [`server`]: servers that say who they are, and clients for them.
//! * [`loaded`]: programs and maps, attached nowhere.
//! * [`blank`]: their maps as they were when they were loaded.
//! * [`fuzz`]: generated frames over loaded programs.
//! * [`model`]: what weir does to a packet, as a specification.
//! * [`content`]: what bulk transfers carry.
//! * [`rng`]: random numbers that are the same in each run.
//! * [`stats`]: does this sample follow these weights?
//! * [`packet`]: frames and checksums, written independently of weir's own code.
//! * [`icmp`]: ICMP errors, likewise.
//! * [`watch`]: what comes to an interface, and from whom.

pub mod agent;
pub mod applies;
pub mod attachment;
pub mod blank;
pub mod client;
pub mod cluster;
pub mod content;
pub mod flood;
pub mod fuzz;
pub mod icmp;
pub mod kube_proxy;
pub mod loaded;
pub mod machine;
pub mod model;
pub mod netns;
pub mod packet;
pub mod path;
pub mod priorities;
pub mod prometheus;
pub mod resource;
pub mod rng;
pub mod samples;
pub mod scene;
pub mod server;
pub mod shelf;
pub mod stats;
pub mod tmux;
pub mod topology;
pub mod watch;
