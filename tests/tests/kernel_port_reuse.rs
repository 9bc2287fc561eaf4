//! One client port, used a thousand times, under BPF_PROG_TEST_RUN: each connection follows the
//! weights of its time, however the one before it ended.

mod kernel;

use std::net::SocketAddr;

use kernel::talk::{CLIENT, ENDPOINT, Talk};
use kernel::{Cast, FORWARD, Hook, Node, TCP_IDLE, UDP_IDLE, casts, settings};
use probe_common::flow::CLOSING;
use probe_common::reason::Reason;
use weir::datapath::Settings;
use weir::model::Protocol;
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN};

/// Connections that use the port.
const CONNECTIONS: u32 = 1000;
/// After so many, new ones go to the other subset: a change of weights waits for the kernel's grace
/// period.
const SHIFT: u32 = 20;

/// How a connection ends.
struct Ending {
    name: &'static str,
    protocol: Protocol,
    end: fn(&mut Talk<'_>, SocketAddr),
    /// What may still come, once the next connection is made.
    late: fn(&mut Talk<'_>, SocketAddr),
}

const fn ending(name: &'static str, end: fn(&mut Talk<'_>, SocketAddr)) -> Ending {
    Ending { name, protocol: Protocol::Tcp, end, late: |_, _| {} }
}

/// The last packet of the old endpoint, once more: it waits in TIME_WAIT, or for an ACK that was
/// lost.
fn repeated_fin(talk: &mut Talk<'_>, endpoint: SocketAddr) {
    let fin = Packet::tcp(endpoint, talk.cast.client).flags(FIN | ACK).seq(ENDPOINT).ack(CLIENT);
    talk.node.pass(Hook::Reply, &fin.build());
}

/// The client opens a connection that begins so far behind the one that it has lost. The endpoint
/// is asked, as by a NAT of the kernel: its challenge (RFC 5961, 4.2) is answered with a RST, and
/// the SYN is sent again.
fn anew(talk: &mut Talk<'_>, endpoint: SocketAddr, behind: u32) {
    let syn = talk.send(|p| p.flags(SYN).seq(CLIENT.wrapping_add(behind)).ack(0));
    assert_eq!(syn, endpoint, "its SYN");
    talk.reply(endpoint, |p| p);
    assert_eq!(talk.send(|p| p.flags(RST).ack(0)), endpoint, "its answer to the challenge");
}

fn endings() -> Vec<Ending> {
    vec![
        Ending {
            late: repeated_fin,
            ..ending("FIN of the client, then of the endpoint", |t, e| {
                t.send(|p| p.flags(FIN | ACK));
                t.reply(e, |p| p.flags(FIN | ACK).ack(CLIENT.wrapping_add(1)));
                t.send(|p| p.seq(CLIENT.wrapping_add(1)).ack(ENDPOINT + 1));
            })
        },
        Ending {
            late: repeated_fin,
            ..ending("FIN of the endpoint, then of the client", |t, e| {
                t.reply(e, |p| p.flags(FIN | ACK));
                t.send(|p| p.flags(FIN | ACK).ack(ENDPOINT + 1));
                t.reply(e, |p| p.seq(ENDPOINT + 1).ack(CLIENT.wrapping_add(1)));
            })
        },
        ending("FIN of the endpoint alone", |t, e| t.reply(e, |p| p.flags(FIN | ACK))),
        ending("RST of the client", |t, _| _ = t.send(|p| p.flags(RST))),
        ending("RST of the endpoint", |t, e| t.reply(e, |p| p.flags(RST | ACK))),
        ending("time-out", |t, _| t.node.let_pass(TCP_IDLE * 2)),
        ending("none, and a client that knows nothing of it", |t, e| anew(t, e, 1 << 28)),
        ending("the same, a moment later", |t, e| anew(t, e, 1 << 19)),
        Ending {
            protocol: Protocol::Udp,
            ..ending("time-out of UDP", |t, _| t.node.let_pass(UDP_IDLE * 2))
        },
    ]
}

#[test]
fn a_client_port_used_a_thousand_times_over_ipv4_follows_the_weights_each_time() {
    each_connection_follows_the_weights(&casts()[0]);
}

#[test]
fn a_client_port_used_a_thousand_times_over_ipv6_follows_the_weights_each_time() {
    each_connection_follows_the_weights(&casts()[1]);
}

fn each_connection_follows_the_weights(cast: &Cast) {
    for hook in FORWARD {
        // A small table, which is looked through often.
        let mut node = Node::with(&Settings { flows: 1024, ..settings() });
        for ending in endings() {
            let what = format!("{cast} {hook:?}, {}", ending.name);
            node.forget();
            let mut talk = Talk::on(node, cast, hook, ending.protocol);
            let (mut old, before) = (talk.open(), talk.node.reason(Reason::FlowReused));
            for n in 0..CONNECTIONS {
                let wanted = (n / SHIFT).is_multiple_of(2);
                if n.is_multiple_of(SHIFT) {
                    let weights = if wanted { [0, 1] } else { [1, 0] };
                    talk.split = talk.node.reviews(cast, ending.protocol, weights);
                }
                (ending.end)(&mut talk, old);
                let new = talk.open();
                let v2 = cast.v2.contains(&new);
                assert_eq!(v2, wanted, "{what}: connection {n} went to {new}");
                if old != new {
                    // Those of the same endpoint would have the numbers of the new connection.
                    (ending.late)(&mut talk, old);
                }
                let mut marked = 0;
                let mut look = |state: u16| marked += usize::from(state & CLOSING != 0);
                talk.node.each_v4(|_, entry| look(entry.state));
                talk.node.each_v6(|_, entry| look(entry.state));
                assert_eq!(marked, 0, "{what}: connection {n} is marked as about to end");
                old = new;
            }
            let reused = talk.node.reason(Reason::FlowReused) - before;
            assert_eq!(reused, u64::from(CONNECTIONS), "{what}");
            node = talk.node;
            println!("{what}: {CONNECTIONS} connections, each by the weights of its time");
        }
    }
}
