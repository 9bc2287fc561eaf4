//! Datagrams that do not fit a packet, through weir and back.

use std::net::{IpAddr, SocketAddr};

use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;
use weir_tests::agent::Setup;
use weir_tests::client::udp_from;
use weir_tests::resource::SplitYaml;
use weir_tests::rng::Rng;
use weir_tests::scene::{PORT, Scene};
use weir_tests::topology::{VIP_V4, VIP_V6, client_ip};

/// Bytes of a datagram: whole, cut in three, and cut in forty.
const SIZES: [usize; 3] = [1000, 4_000, 60_000];
/// Clients that send at the same time.
const CLIENTS: u16 = 8;
/// Datagrams of each size from each client.
const ROUNDS: usize = 25;

/// Sends datagrams, each after the answer to the one before.
fn converse(client: SocketAddr, vip: SocketAddr) {
    let socket = udp_from(client, vip).expect("a socket");
    let mut rng = Rng::new(client.port().into());
    let mut buffer = vec![0; 1 << 16];
    for size in (0..ROUNDS).flat_map(|_| SIZES) {
        let question: Vec<u8> = (0..size).map(|_| rng.next_u64() as u8).collect();
        socket.send(&question).expect("a datagram");
        let length = socket.recv(&mut buffer);
        let length = length.unwrap_or_else(|e| panic!("{client} to {vip}, {size} bytes: {e}"));
        let answer = &buffer[..length];
        assert!(
            answer.strip_prefix(b"v1-a ") == Some(&question)
                || answer.strip_prefix(b"v1-b ") == Some(&question),
            "{client} to {vip}, {size} bytes: {length} bytes of something else"
        );
    }
}

/// Keeps this thread, and those that it starts, on one CPU: a sender that moves to another one
/// in the middle of a datagram may have its fragments overtake each other. What comes of that is
/// tested in `kernel_fragments`.
fn stay_on_this_cpu() {
    let mut cpus = CpuSet::new();
    cpus.set(sched_getcpu().expect("a CPU")).expect("a number of a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("affinity");
}

fn check(hook: &'static str) {
    stay_on_this_cpu();
    let scene = Scene::new(&["v1-a", "v1-b"], |topology| {
        let start = Setup::default().forward(hook);
        [IpAddr::from(VIP_V4), VIP_V6.into()].into_iter().fold(start, |setup, vip| {
            let name = if vip.is_ipv4() { "v4" } else { "v6" };
            let split = SplitYaml::udp(name, SocketAddr::new(vip, PORT));
            let ips = topology.ips(&["v1-a", "v1-b"], vip);
            setup.split(&split.subset("v1", 1, &ips, PORT).text())
        })
    })
    .expect("a scene");
    for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
        scene.topology.client.run(|| {
            std::thread::scope(|scope| {
                for n in 0..CLIENTS {
                    let client = SocketAddr::new(client_ip(vip), 20_000 + n);
                    scope.spawn(move || converse(client, SocketAddr::new(vip, PORT)));
                }
            });
        });
        let datagrams = usize::from(CLIENTS) * ROUNDS * SIZES.len();
        println!("{hook}, {vip}: {datagrams} datagrams of up to 60,000 bytes there and back");
    }
    let reasons = scene.agent.status().expect("status").reasons;
    assert_eq!(reasons["pass_fragment"], 0, "{hook}: fragments that did not follow");
}

#[test]
fn datagrams_in_fragments_come_whole_forward_at_tc() {
    check("tc");
}

#[test]
fn datagrams_in_fragments_come_whole_forward_at_xdp() {
    check("xdp");
}
