//! New flows on two CPUs at once, under BPF_PROG_TEST_RUN: writers of one set of new flows do
//! not undo each other's work.

mod kernel;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use kernel::cpus::stay_on_cpu;
use kernel::{Cast, Hook, Node, casts, client_number, settings, split, with_port};
use weir::datapath::Settings;
use weir::model::{Affinity, Protocol};
use weir_tests::packet::{Packet, tuple};

/// Flows that each of two CPUs makes, in 128 sets.
const FLOWS: u16 = 60_000;
/// The oldest of eight in a set makes way for a new one. Within that time, the other CPU makes some
/// flows in all sets: eight in that of a flow are out of the question. Nor does anybody who waits
/// for a turn give up so soon. Of a thread that was held up for longer, the flow may have had to
/// make way.
const AT_ONCE: Duration = Duration::from_micros(30);

/// Makes new flows, and looks whether each finds its way back at once; how many that could be said
/// of, and how many did not.
fn make_flows(
    cast: &Cast,
    [forward, reply]: [&SchedClassifier; 2],
    port: u16,
    live: bool,
) -> (usize, Vec<SocketAddr>) {
    let (mut seen, mut lost, mut buffer) = (0, Vec::new(), [0; 256]);
    let mut run = |program: &SchedClassifier, frame: &[u8]| {
        let options = TestRunOptions {
            data_in: Some(frame),
            data_out: Some(&mut buffer),
            ..TestRunOptions::default()
        };
        let result = program.test_run(options).unwrap_or_else(|error| panic!("{cast}: {error}"));
        tuple(&buffer[..result.data_size_out as usize]).expect("a tuple")
    };
    for n in 0..FLOWS {
        let client = with_port(client_number(cast, n), port);
        let question = Packet::udp(client, cast.vip).payload(b"question").build();
        let answer = Packet::udp(cast.v2[0], client).payload(b"answer").build();
        let begun = Instant::now();
        let there = run(forward, &question);
        let back = run(reply, &answer);
        let spent = begun.elapsed();
        assert_eq!(there.destination, cast.v2[0], "{cast}: {client}");
        if spent < AT_ONCE {
            seen += 1;
            if back.source != cast.vip {
                lost.push(client);
            }
        }
        if live {
            run(forward, &question);
        }
    }
    (seen, lost)
}

#[test]
fn flows_that_begin_on_two_cpus_at_once_are_all_kept() {
    check(false);
}

/// To make room for a new flow, one that lives is moved to the flow tables first.
#[test]
fn flows_that_begin_on_two_cpus_at_once_among_live_ones_are_all_kept() {
    check(true);
}

fn check(live: bool) {
    for cast in &casts() {
        let mut node = Node::untouched(&Settings { flows: 1024, ..settings() });
        let subsets: [(&str, u32, &[SocketAddr]); 1] = [("v2", 1, &cast.v2)];
        node.publish(&split("names", (cast.vip, Protocol::Udp), Affinity::None, &subsets));
        let programs = node
            .programs([Hook::Tc, Hook::Reply])
            .map(|program| <&SchedClassifier>::try_from(program).expect("a classifier"));
        let results = std::thread::scope(|scope| {
            let threads = [0, 1].map(|number| {
                scope.spawn(move || {
                    stay_on_cpu(number);
                    make_flows(cast, programs, 41_000 + number as u16, live)
                })
            });
            threads.map(|thread| thread.join().expect("a thread"))
        });
        let seen: usize = results.iter().map(|(seen, _)| seen).sum();
        let lost: Vec<_> = results.iter().flat_map(|(_, lost)| lost).collect();
        println!("{cast}: {seen} flows on two CPUs, {} lost", lost.len());
        assert!(seen > usize::from(FLOWS), "{cast}: too few at once to say");
        assert!(lost.is_empty(), "{cast}: {} of {seen} flows lost: {lost:?}", lost.len());
    }
}
