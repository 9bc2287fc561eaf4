//! How long things take, as the programs measure it, under BPF_PROG_TEST_RUN; and whose flows are
//! measured.

mod kernel;

use std::time::{Duration, Instant};

use kernel::talk::Talk;
use kernel::{Cast, FORWARD, Hook, Node, casts, settings, split};
use probe_common::map::EndpointSignals;
use probe_common::times::{LONG_LIFE, Measured, UNIT_SHIFT};
use weir::datapath::{Clock, Settings};
use weir::model::{Affinity, Protocol};
use weir_tests::icmp::IcmpError;
use weir_tests::packet::{ACK, FIN, Packet, RST, SYN};

/// What lies between two packets.
const PAUSE: Duration = Duration::from_millis(3);

/// Between when the first of two packets was sent and when the second one was.
struct Span {
    before: Instant,
    sent: Instant,
}

impl Span {
    /// Sends the first one.
    fn begin<T>(send: impl FnOnce() -> T) -> (Self, T) {
        let before = Instant::now();
        let result = send();
        (Self { before, sent: Instant::now() }, result)
    }

    /// Sends the second one, after a pause; the least and the most time that is between the two,
    /// in units.
    fn end(&self, send: impl FnOnce()) -> [u64; 2] {
        std::thread::sleep(PAUSE);
        let least = self.sent.elapsed();
        send();
        let units = |time: Duration| (time.as_nanos() >> UNIT_SHIFT) as u64;
        // Each end is rounded down.
        [units(least).saturating_sub(1), units(self.before.elapsed()) + 1]
    }
}

/// Sums and numbers of times that were measured of a subset.
fn measured(talk: &mut Talk<'_>, subset: &str) -> [(u64, u64); 3] {
    let split = talk.split.clone();
    let times = talk.node.times(&split, subset).expect("it is measured");
    for measured in Measured::ALL.into_iter().filter(|&measured| times.count(measured) == 1) {
        // One alone is in the bucket that it belongs to.
        let found = times.quantile(measured, 0.5).unwrap();
        let sum = times.sum(measured);
        assert!(found.abs_diff(sum) * 4 <= sum + 4, "{measured:?}: {found} for {sum}");
    }
    Measured::ALL.map(|measured| (times.sum(measured), times.count(measured)))
}

/// Each case of hook and family, of flows that stay new ones and of those that live on.
fn each(protocol: Protocol, mut case: impl FnMut(Talk<'_>, &str)) {
    for cast in &casts() {
        for (hook, is_new) in FORWARD.iter().flat_map(|&hook| [(hook, true), (hook, false)]) {
            let mut talk = Talk::new(cast, hook, protocol);
            talk.is_new = is_new;
            case(talk, &format!("{cast} {hook:?}, new: {is_new}"));
        }
    }
}

fn assert_within((sum, count): (u64, u64), wanted: [u64; 2], what: &str) {
    assert_eq!(count, 1, "{what}");
    assert!((wanted[0]..=wanted[1]).contains(&sum), "{what}: {sum} is not in {wanted:?}");
}

#[test]
fn handshakes_replies_and_lives_are_measured() {
    each(Protocol::Tcp, |mut talk, what| {
        let (life, endpoint) = Span::begin(|| talk.syn());
        // A SYN that is sent again does not begin it anew.
        std::thread::sleep(PAUSE);
        talk.syn();
        let handshake = life.end(|| talk.syn_ack(endpoint));
        talk.syn_ack(endpoint);
        assert_within(measured(&mut talk, "v1")[0], handshake, &format!("{what}: handshake"));
        talk.send(|p| p);
        if !talk.is_new {
            talk.node.let_pass(1);
            talk.send(|p| p);
        }
        // What counts is the first question, not when the handshake was complete.
        std::thread::sleep(PAUSE);
        let (reply, _) = Span::begin(|| talk.send(|p| p.payload(b"question")));
        talk.reply(endpoint, |p| p);
        let reply = reply.end(|| talk.reply(endpoint, |p| p.payload(b"answer")));
        talk.reply(endpoint, |p| p.payload(b"more"));
        talk.send(|p| p.payload(b"another question"));
        talk.reply(endpoint, |p| p.payload(b"another answer"));
        assert_within(measured(&mut talk, "v1")[1], reply, &format!("{what}: reply"));
        talk.reply(endpoint, |p| p.flags(FIN | ACK));
        let life = life.end(|| {
            talk.send(|p| p.flags(FIN | ACK));
        });
        talk.reply(endpoint, |p| p.flags(RST | ACK));
        assert_within(measured(&mut talk, "v1")[2], life, &format!("{what}: life"));
        assert_eq!(measured(&mut talk, "v2"), [(0, 0); 3], "{what}: v2");
    });
}

#[test]
fn a_server_that_speaks_first_is_measured_from_the_end_of_the_handshake() {
    each(Protocol::Tcp, |mut talk, what| {
        let endpoint = talk.syn();
        talk.syn_ack(endpoint);
        std::thread::sleep(PAUSE);
        let (reply, _) = Span::begin(|| talk.send(|p| p));
        if !talk.is_new {
            talk.node.let_pass(1);
            talk.send(|p| p);
        }
        let reply = reply.end(|| talk.reply(endpoint, |p| p.payload(b"220 ready")));
        assert_within(measured(&mut talk, "v1")[1], reply, what);
        // A question after that has its answer already, for all that is known.
        talk.send(|p| p.payload(b"EHLO"));
        talk.reply(endpoint, |p| p.payload(b"250"));
        assert_within(measured(&mut talk, "v1")[1], reply, what);
    });
}

#[test]
fn a_flow_that_ends_by_a_reset_of_its_endpoint_has_lived() {
    each(Protocol::Tcp, |mut talk, what| {
        let (life, endpoint) = Span::begin(|| talk.open());
        let life = life.end(|| talk.reply(endpoint, |p| p.flags(RST | ACK)));
        let [(_, handshakes), reply, lived] = measured(&mut talk, "v1");
        assert_within(lived, life, what);
        assert_eq!((handshakes, reply), (1, (0, 0)), "{what}");
    });
}

/// What is kept in units wraps around after an hour.
#[test]
fn a_long_life_is_told_by_ticks() {
    each(Protocol::Tcp, |mut talk, what| {
        talk.open();
        let ticks = u64::from(LONG_LIFE * 5);
        talk.node.begin_earlier(ticks as u32);
        talk.send(|p| p.flags(RST));
        let unit = Clock::new().tick_units();
        assert_within(measured(&mut talk, "v1")[2], [ticks * unit, (ticks + 2) * unit], what);
    });
}

#[test]
fn of_flows_from_their_middle_and_of_handshakes_that_fail_nothing_is_measured() {
    each(Protocol::Tcp, |mut talk, what| {
        let endpoint = talk.send(|p| p.payload(b"of a flow that was there before"));
        talk.reply(endpoint, |p| p.payload(b"its answer"));
        talk.send(|p| p.flags(RST));
        assert_eq!(measured(&mut talk, "v1"), [(0, 0); 3], "{what}: adopted");
        talk.node.forget();
        let endpoint = talk.syn();
        talk.reply(endpoint, |p| p.flags(RST | ACK).seq(0));
        assert_eq!(measured(&mut talk, "v1"), [(0, 0); 3], "{what}: refused");
    });
}

#[test]
fn the_first_answer_to_a_datagram_is_measured() {
    for cast in &casts() {
        let mut talk = Talk::new(cast, Hook::Tc, Protocol::Udp);
        let (reply, endpoint) = Span::begin(|| talk.send(|p| p));
        talk.send(|p| p);
        let reply = reply.end(|| talk.reply(endpoint, |p| p));
        talk.reply(endpoint, |p| p);
        let [handshake, replied, life] = measured(&mut talk, "v1");
        assert_within(replied, reply, &format!("{cast}"));
        assert_eq!([handshake, life], [(0, 0); 2], "{cast}");
    }
}

/// Subsets come and go; each that is there has a histogram, as far as there are any, and an empty
/// one.
#[test]
fn histograms_are_of_the_subsets_that_are_there() {
    let mut node = Node::with(&Settings { histograms: 2, ..settings() });
    let cast = &casts()[0];
    let of = |name: &str, subsets: &[(&str, u32)]| {
        let subsets: Vec<_> =
            subsets.iter().map(|&(name, weight)| (name, weight, &cast.v1[..1])).collect();
        split(name, (cast.vip, Protocol::Tcp), Affinity::None, &subsets)
    };
    let three = of("reviews", &[("v1", 1), ("v2", 0), ("v3", 0)]);
    node.publish(&three);
    let has = |node: &mut Node, split: &weir::model::Split, names: &[&str]| -> Vec<bool> {
        names.iter().map(|name| node.times(split, name).is_some()).collect()
    };
    assert_eq!(has(&mut node, &three, &["v1", "v2", "v3"]), [true, true, false]);
    let syn = Packet::tcp(cast.client, cast.vip).flags(SYN).build();
    node.pass(Hook::Tc, &syn);
    let answer = Packet::tcp(cast.v1[0], cast.client).flags(SYN | ACK).ack(1).build();
    node.pass(Hook::Reply, &answer);
    let handshakes = |node: &mut Node, split: &weir::model::Split, name: &str| {
        node.times(split, name).map(|times| times.count(Measured::Handshake))
    };
    assert_eq!(handshakes(&mut node, &three, "v1"), Some(1));
    // v1 goes, and another one comes.
    let other = of("reviews", &[("v2", 1), ("v4", 0)]);
    node.publish(&other);
    assert_eq!(handshakes(&mut node, &other, "v2"), Some(0));
    assert_eq!(has(&mut node, &other, &["v4"]).len(), 1);
    node.withdraw(&other);
    let last = of("ratings", &[("v1", 1), ("v2", 0)]);
    node.publish(&last);
    let found = ["v1", "v2"].map(|name| handshakes(&mut node, &last, name));
    assert!(found.iter().flatten().all(|&count| count == 0), "{found:?}");
}

/// A router says that there is no way, before anybody has answered.
#[test]
fn flows_whose_first_packet_does_not_get_there_are_counted_once() {
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        for cast in &casts() {
            let mut talk = Talk::new(cast, Hook::Tc, protocol);
            let endpoint = talk.first();
            let error = |talk: &mut Talk<'_>, kind: [u8; 2]| {
                let sent = match protocol {
                    Protocol::Tcp => Packet::tcp(cast.client, endpoint).flags(SYN),
                    Protocol::Udp => Packet::udp(cast.client, endpoint).payload(b"question"),
                };
                let router = router(cast);
                let error = IcmpError::new(router, cast.client.ip(), kind);
                talk.node.pass(Hook::Reply, &error.quote(&sent.build(), 64).build());
            };
            let (too_big, no_way, later) = if cast.vip.is_ipv4() {
                ([3, 4], [3, 1], [11, 0])
            } else {
                ([2, 0], [1, 3], [3, 0])
            };
            let unreachable = |talk: &mut Talk<'_>| {
                let split = talk.split.clone();
                let subset = talk.node.subset(&split, "v1").errors.unreachable;
                (subset, talk.node.endpoint_signals(&split, endpoint).unreachable)
            };
            error(&mut talk, too_big);
            assert_eq!(unreachable(&mut talk), (0, 0), "{cast}: it is too long, and gets there");
            error(&mut talk, no_way);
            error(&mut talk, no_way);
            error(&mut talk, later);
            assert_eq!(unreachable(&mut talk), (1, 1), "{cast} {protocol}: no way");
            // Who has answered can be reached; what becomes of later packets is no first one's.
            talk.node.forget();
            talk.open();
            error(&mut talk, no_way);
            assert_eq!(unreachable(&mut talk), (1, 1), "{cast} {protocol}: answered before");
        }
    }
}

fn router(cast: &Cast) -> std::net::IpAddr {
    let text = if cast.vip.is_ipv4() { "192.0.2.254" } else { "2001:db8:fe::1" };
    text.parse().unwrap()
}

#[test]
fn an_endpoint_counts_what_becomes_of_its_flows() {
    each(Protocol::Tcp, |mut talk, what| {
        let mut wanted = EndpointSignals::default();
        let endpoint = talk.syn();
        talk.node.begin_earlier(3);
        talk.syn();
        wanted.unanswered += 1;
        talk.reply(endpoint, |p| p.flags(RST | ACK).seq(0));
        wanted.refused += 1;
        let end = |talk: &mut Talk<'_>, end: &dyn Fn(&mut Talk<'_>)| {
            talk.node.forget();
            assert_eq!(talk.open(), endpoint);
            end(talk);
        };
        end(&mut talk, &|talk| {
            talk.reply(endpoint, |p| p.flags(FIN | ACK));
            talk.send(|p| p.flags(FIN | ACK));
        });
        end(&mut talk, &|talk| {
            talk.send(|p| p.flags(RST));
        });
        end(&mut talk, &|talk| talk.reply(endpoint, |p| p.flags(RST | ACK)));
        end(&mut talk, &|talk| {
            talk.reply(endpoint, |p| p.payload(b"greeting"));
            talk.reply(endpoint, |p| p.seq(5008).flags(RST | ACK));
        });
        wanted.completed = 4;
        (wanted.ended_by_fin, wanted.reset_by_client) = (1, 1);
        (wanted.reset_before_reply, wanted.reset_after_reply) = (1, 1);
        let split = talk.split.clone();
        assert_eq!(talk.node.endpoint_signals(&split, endpoint), wanted, "{what}");
    });
}
