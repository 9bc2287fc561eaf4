//! nginx with its stream module, as Debian builds them: two processes with a listening socket
//! each, no log, its default way of choosing (weighted turns).

use anyhow::Result;
use weir_tests::topology::Topology;

use super::proxy::{self, Program};
use super::{Installed, WEIGHTS, endpoints, service};
use crate::e2e::server::PORT;

const PROGRAM: Program<'_> = Program {
    path: "/usr/sbin/nginx",
    package: "Debian's packages `nginx-light` and `libnginx-mod-stream`",
};
/// Where the second of them has it.
const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";

pub fn install(topology: &Topology) -> Result<Installed> {
    let servers = endpoints(topology).into_iter().zip(WEIGHTS);
    // An endpoint that fails once would else get nothing for ten seconds.
    let servers = servers
        .map(|(ip, weight)| format!("    server {ip}:{PORT} weight={weight} max_fails=0;\n"));
    let config = format!(
        "load_module {MODULE};\n\
         daemon off;\nworker_processes 2;\nworker_rlimit_nofile 65536;\n\
         pid nginx.pid;\nerror_log stderr alert;\n\
         events {{ worker_connections 16384; }}\n\
         stream {{\n  \
         upstream bench {{\n    zone bench 64k;\n{}  }}\n  \
         server {{ listen {} reuseport; proxy_pass bench; }}\n\
         }}\n",
        servers.collect::<String>(),
        service(),
    );
    let arguments = ["-p", "./", "-e", "stderr", "-c"];
    proxy::start(topology, &PROGRAM, &arguments, &config)
}
