//! HAProxy in TCP mode, as Debian builds it: two threads, no log, its default way of choosing
//! (weighted turns), no splicing, which is not its default.

use anyhow::Result;
use weir_tests::topology::Topology;

use super::proxy::{self, Program};
use super::{Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

const PROGRAM: Program<'_> =
    Program { path: "/usr/sbin/haproxy", package: "Debian's package `haproxy`" };

pub fn install(topology: &Topology) -> Result<Installed> {
    let endpoints = endpoints(topology);
    let mut config = format!(
        "global\n    nbthread 2\n\
         defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 60s\n    \
         timeout server 60s\n\
         listen bench\n    bind {}\n    balance roundrobin\n",
        service()
    );
    for ((ip, weight), at) in endpoints.iter().zip(WEIGHTS).zip(1..) {
        config += &format!("    server e{at} {ip}:{PORT} weight {weight}\n");
    }
    proxy::start(topology, &PROGRAM, &["-db", "-f"], &config)
}
