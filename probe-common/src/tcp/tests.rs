//! Conversations, segment by segment, and what is known of the flow after each.

use super::*;
use crate::flow::is_closed;

/// A flow among those whose handshake may not be complete, as tables keep it.
#[derive(Debug, Clone, Copy)]
struct Flow {
    state: u16,
    /// Of the client, of the endpoint.
    numbers: [u32; 2],
}

const C: Side = Side::Client;
const E: Side = Side::Endpoint;

impl Flow {
    /// After the client's SYN.
    fn begun(sequence: u32) -> Self {
        Self { state: 0, numbers: [sequence.wrapping_add(1), 0] }
    }

    /// After a segment from its middle.
    fn adopted(sequence: u32) -> Self {
        Self { state: ADOPTED, numbers: [sequence, 0] }
    }

    fn see(&mut self, side: Side, flags: u8, sequence: u32, acknowledged: u32) {
        let forward = side == Side::Client;
        let [own, other] = if forward { [0, 1] } else { [1, 0] };
        // What a client counts is known from its first packet; SYNCED is of the endpoint.
        let synced = if forward { SYNCED } else { 0 };
        let known = Known {
            state: self.state | synced,
            own: self.numbers[own],
            other: self.numbers[other],
        };
        let segment = Segment { flags, sequence, acknowledged };
        let change = transition(known, segment, side, Noting::Strides);
        let synced = self.state & SYNCED;
        self.state = change.of(self.state | if forward { SYNCED } else { 0 });
        if forward {
            self.state = self.state & !SYNCED | synced;
        }
        if let Some(sequence) = change.sequence {
            self.numbers[own] = sequence;
        }
    }
}

/// A segment, and the state after it (without [`SYNCED`]).
type Row = (Side, u8, u32, u32, u16);

fn play(what: &str, mut flow: Flow, rows: &[Row]) -> Flow {
    for (at, &(side, flags, sequence, acknowledged, state)) in rows.iter().enumerate() {
        flow.see(side, flags, sequence, acknowledged);
        assert_eq!(flow.state & !SYNCED, state, "{what}, segment {at}");
    }
    flow
}

const PSH: u8 = 8;
const LIVE: u16 = ANSWERED | ESTABLISHED;
const CLIENT: u32 = 1000;
const SERVER: u32 = 0xffff_ff00;
/// Behind the server's SYN.
const NEXT: u32 = SERVER + 1;

/// Client's SYN 1000, endpoint's SYN near the end of all numbers, then the ACK.
fn established() -> Flow {
    let rows = [(E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED), (C, ACK, CLIENT + 1, NEXT, LIVE)];
    play("a handshake", Flow::begun(CLIENT), &rows)
}

#[test]
fn a_handshake_is_complete_when_its_client_confirms_the_answer() {
    let flow = established();
    assert_eq!(flow.numbers, [CLIENT + 1, NEXT]);
    assert!(flow.state & SYNCED != 0);
    play("the last ACK again", flow, &[(C, ACK, CLIENT + 1, NEXT, LIVE)]);
    play(
        "retransmits",
        Flow::begun(CLIENT),
        &[
            (C, SYN, CLIENT, 0, 0),
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (C, SYN, CLIENT, 0, ANSWERED),
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            // Nobody else knows what the endpoint's number is.
            (C, ACK, CLIENT + 1, NEXT.wrapping_sub(1), ANSWERED),
            (C, ACK, CLIENT + 1, 0x8000_0000, ANSWERED),
            (C, ACK | PSH, CLIENT + 1, NEXT, LIVE),
        ],
    );
    play(
        "data with the SYN, and before the handshake is complete",
        Flow::begun(CLIENT),
        &[
            (E, SYN | ACK, SERVER, CLIENT + 6, ANSWERED),
            (E, ACK | PSH, NEXT, CLIENT + 6, ANSWERED),
            (C, ACK, CLIENT + 6, NEXT + 100, LIVE),
        ],
    );
    play(
        "an endpoint that draws another number",
        Flow::begun(CLIENT),
        &[
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (E, SYN | ACK, 77, CLIENT + 1, ANSWERED),
            (C, ACK, CLIENT + 1, NEXT, ANSWERED),
            (C, ACK, CLIENT + 1, 78, LIVE),
        ],
    );
    play(
        "both open at once (RFC 9293, 3.5)",
        Flow::begun(CLIENT),
        &[
            (E, SYN, SERVER, 0, ANSWERED),
            (C, SYN | ACK, CLIENT, NEXT, ANSWERED),
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (C, ACK, CLIENT + 1, NEXT, LIVE),
        ],
    );
}

#[test]
fn a_handshake_is_refused_by_who_confirms_it() {
    let begun = Flow::begun(CLIENT);
    play("refused", begun, &[(E, RST | ACK, 0, CLIENT + 1, RESET)]);
    play("confirms nothing", begun, &[(E, RST | ACK, 0, CLIENT, 0)]);
    play("of another attempt", begun, &[(E, RST | ACK, 0, CLIENT + 70_000, 0)]);
    play(
        "after the answer, only from where that came",
        begun,
        &[
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (E, RST | ACK, 5_000_000, CLIENT + 1, ANSWERED),
            (E, RST, NEXT, 0, ANSWERED | RESET),
        ],
    );
    play(
        "ended by its endpoint, only from where the answer came",
        begun,
        &[
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (E, FIN | ACK, 5_000_000, CLIENT + 1, ANSWERED),
            (E, FIN | ACK, NEXT, CLIENT + 1, ANSWERED | FIN_ENDPOINT),
        ],
    );
    play(
        "given up by its client",
        begun,
        &[
            (C, RST, CLIENT + 1 + (1 << 20), 0, 0),
            (C, RST, CLIENT + 1, 0, RESET),
            (E, SYN | ACK, SERVER, CLIENT + 1, RESET | ANSWERED),
            (C, ACK, CLIENT + 1, NEXT, RESET | ANSWERED),
        ],
    );
    play(
        "ended with the segment that completes it",
        begun,
        &[
            (E, SYN | ACK, SERVER, CLIENT + 1, ANSWERED),
            (C, FIN | ACK, CLIENT + 1, NEXT, LIVE | FIN_CLIENT),
        ],
    );
}

#[test]
fn both_sides_close() {
    for (what, order) in [("client first", [C, E]), ("endpoint first", [E, C])] {
        let mut flow = established();
        let mut state = LIVE;
        for side in order {
            assert!(!is_closed(flow.state), "{what}");
            let (sequence, fin) =
                if side == C { (CLIENT + 50, FIN_CLIENT) } else { (NEXT + 9, FIN_ENDPOINT) };
            state |= fin;
            flow = play(what, flow, &[(side, FIN | ACK, sequence, 0, state)]);
        }
        assert!(is_closed(flow.state), "{what}");
        // The one who has closed first still confirms; a FIN may be lost.
        let last = [(C, ACK, CLIENT + 51, 0, state), (E, FIN | ACK, NEXT + 9, 0, state)];
        play(what, flow, &last);
    }
    let both = [
        (C, FIN | ACK, CLIENT + 1, NEXT, LIVE | FIN_CLIENT),
        (E, FIN | ACK, NEXT, CLIENT + 1, LIVE | FIN_CLIENT | FIN_ENDPOINT),
        (C, ACK, CLIENT + 2, NEXT + 1, LIVE | FIN_CLIENT | FIN_ENDPOINT),
    ];
    play("both at once (RFC 9293, 3.6)", established(), &both);
    let outside = [
        (C, FIN | ACK, CLIENT + 1 + (1 << 20), NEXT, LIVE),
        (E, FIN | ACK, NEXT.wrapping_sub(65_537), 0, LIVE),
    ];
    play("by somebody else", established(), &outside);
}

#[test]
fn a_reset_counts_where_the_flow_is() {
    let flow = established();
    for (side, known) in [(C, CLIENT + 1), (E, NEXT)] {
        for (offset, state) in [
            (-65_537i64, LIVE),
            (-65_536, LIVE | RESET),
            (0, LIVE | RESET),
            ((1 << 20) - 1, LIVE | RESET),
            (1 << 20, LIVE),
            (1 << 31, LIVE),
        ] {
            let sequence = (i64::from(known) + offset) as u32;
            play("a RST", flow, &[(side, RST, sequence, 0, state)]);
            play("with a SYN", flow, &[(side, RST | SYN, sequence, 0, state)]);
        }
    }
    let guessed = [
        (C, RST, CLIENT + 9, 0, LIVE | RESET),
        // Who sends from elsewhere does not show that the client goes on.
        (C, ACK, CLIENT + (1 << 21), NEXT, LIVE | RESET),
        (C, SYN, CLIENT + 9, 0, LIVE | RESET),
        (E, ACK, NEXT + 5, CLIENT + 1, LIVE | RESET),
        (C, ACK, CLIENT + 2, NEXT, LIVE),
    ];
    play("a guess was right, and the client goes on", flow, &guessed);
    let fin =
        [(C, RST, CLIENT + 9, 0, LIVE | RESET), (C, FIN, CLIENT + 9, 0, LIVE | RESET | FIN_CLIENT)];
    play("a FIN does not go on", flow, &fin);
}

#[test]
fn a_syn_of_an_established_flow_moves_no_window() {
    let syn = 0x5000_0000;
    let flow = play(
        "a stray SYN",
        established(),
        &[
            (C, SYN, syn, 0, LIVE),
            (C, SYN, CLIENT + 99, 0, LIVE),
            (E, SYN | ACK, NEXT + 9, 0, LIVE),
        ],
    );
    assert_eq!(flow.numbers, [CLIENT + 1, NEXT]);
    play("and a RST after it", flow, &[(C, RST, syn + 1, 0, LIVE)]);
}

#[test]
fn flows_from_their_middle() {
    let rows = [
        (C, ACK | PSH, 5010, 1, ADOPTED),
        (E, ACK, 900, 5010, ADOPTED | ANSWERED),
        // What its endpoint has sent before, nobody knows.
        (C, ACK, 5020, 901, ADOPTED | LIVE),
    ];
    let flow = play("goes on", Flow::adopted(5000), &rows);
    assert_eq!(flow.numbers, [5020, 900]);
    let unconfirmed =
        [(E, ACK, 900, 5000, ADOPTED | ANSWERED), (C, ACK, 5000, 0x8000_0000, ADOPTED | LIVE)];
    play("its client confirms what was sent before", Flow::adopted(5000), &unconfirmed);
    play("refused", Flow::adopted(5000), &[(E, RST, 900, 0, ADOPTED | RESET)]);
    let ended = [(E, FIN | ACK, 900, 5000, ADOPTED | ANSWERED | FIN_ENDPOINT)];
    play("ended by the endpoint's first word", Flow::adopted(5000), &ended);
}

#[test]
fn numbers_are_noted_by_strides_or_each() {
    let known = Known { state: LIVE | SYNCED, own: 1000, other: 0 };
    let seen = |known, flags, sequence, noting| {
        let segment = Segment { flags, sequence, acknowledged: 0 };
        transition(known, segment, C, noting).sequence
    };
    let stride = 1 << 17;
    for (sequence, by_strides, each) in [
        (1000, None, Some(1000)),
        (999, None, Some(999)),
        (1000 + stride - 1, None, Some(1000 + stride - 1)),
        (1000 + stride, Some(1000 + stride), Some(1000 + stride)),
        (1000 + (1 << 20), None, None),
    ] {
        assert_eq!(seen(known, ACK, sequence, Noting::Strides), by_strides, "{sequence}");
        assert_eq!(seen(known, ACK, sequence, Noting::Each), each, "{sequence}");
        let fin = seen(known, FIN | ACK, sequence, Noting::Strides);
        assert_eq!(fin, each, "FIN at {sequence}");
    }
    let reset = Known { state: known.state | RESET, ..known };
    let noted = seen(reset, ACK, 999, Noting::Strides);
    assert_eq!(noted, Some(999), "of a client that goes on");
    // Of a side of which nothing is known, any number is the first one.
    let unknown = Known { state: LIVE, own: 0, other: 0 };
    let change = transition(
        unknown,
        Segment { flags: ACK, sequence: 0x7777_7777, acknowledged: 0 },
        E,
        Noting::Each,
    );
    assert_eq!(change, Change { set: SYNCED, cleared: 0, sequence: Some(0x7777_7777) });
}

#[test]
fn a_flow_beside_a_live_one_is_proved_by_who_has_seen_its_answer() {
    let numbers = [CLIENT + 1, NEXT];
    let pending = ANSWERED | SYNCED;
    for (what, state, flags, sequence, acknowledged, expected) in [
        ("its SYN again", pending, SYN, CLIENT, 0, Claim::Again),
        ("another SYN", pending, SYN, CLIENT + 1, 0, Claim::None),
        ("the ACK", pending, ACK, CLIENT + 1, NEXT, Claim::Proved),
        ("with data", pending, ACK | PSH, CLIENT + 1, NEXT, Claim::Proved),
        ("some data later", pending, ACK, CLIENT + 2000, NEXT, Claim::Proved),
        ("a guess", pending, ACK, CLIENT + 1, NEXT + 1, Claim::None),
        ("from elsewhere", pending, ACK, CLIENT, NEXT, Claim::None),
        ("not answered yet", 0, ACK, CLIENT + 1, 0, Claim::None),
        ("refused", pending | RESET, ACK, CLIENT + 1, NEXT, Claim::None),
        ("a RST", pending, RST | ACK, CLIENT + 1, NEXT, Claim::None),
        ("without an ACK", pending, PSH, CLIENT + 1, NEXT, Claim::None),
    ] {
        let segment = Segment { flags, sequence, acknowledged };
        assert_eq!(claim(state, numbers, segment), expected, "{what}");
    }
}
