//! `weir top` and `weir watch`, with traffic: the one in a terminal, with keys pressed.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use weir::model::Protocol;
use weir_tests::agent::{SPLITS, Setup, program};
use weir_tests::client::{Answer, connect_from, ports, survey, tally, udp_from};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{BULK, PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::stats::assert_shares;
use weir_tests::tmux::Tmux;
use weir_tests::topology::{Topology, VIP_V4, client_ip};

/// Of the splits reviews, deaf (whose endpoint rejects), closed (which has none) and mute (whose
/// endpoint says nothing).
fn vips() -> [SocketAddr; 4] {
    [9080, 9099, 9098, 9053].map(|port| SocketAddr::new(VIP_V4.into(), port))
}

fn scene() -> Scene {
    let splits = |topology: &Topology| {
        let [reviews, deaf, closed, mute] = vips();
        let ips = |names: &[&str]| topology.ips(names, reviews.ip());
        let documents = [
            SplitYaml::tcp("reviews", reviews)
                .subset("v1", 80, &ips(&["v1-a", "v1-b"]), PORT)
                .subset("v3", 20, &ips(&["v3-a"]), PORT),
            SplitYaml::tcp("deaf", deaf).subset("v1", 1, &ips(&["v1-a"]), 9),
            SplitYaml::tcp("closed", closed).subset("v1", 1, &[], PORT),
            SplitYaml::udp("mute", mute).subset("v1", 1, &ips(&["v1-a"]), 9),
        ];
        documents.map(|split| split.text()).join("---\n")
    };
    Scene::new(&["v1-a", "v1-b", "v3-a"], |topology| {
        Setup::default().resource(SPLITS, &splits(topology))
    })
    .unwrap()
}

/// A connection from each of these ports.
fn send(scene: &Scene, to: SocketAddr, range: Range<u16>) -> Vec<Answer> {
    let sources = ports(client_ip(IpAddr::from(VIP_V4)), range);
    survey(&scene.topology.client, Protocol::Tcp, to, &sources)
}

/// A datagram from each of these ports to the split mute.
fn whisper(scene: &Scene, range: Range<u16>) {
    let [.., mute] = vips();
    scene.topology.client.run(|| {
        for source in ports(client_ip(mute.ip()), range) {
            udp_from(source, mute).and_then(|socket| socket.send(b"?")).expect("a datagram");
        }
    });
}

/// `weir` with these arguments, for a shell.
fn line(scene: &Scene, arguments: &str) -> String {
    let program = program().unwrap();
    format!("{} --socket {} {arguments}", program.display(), scene.agent.socket().display())
}

/// A cell of the line of a subset, below that of its split; empty if there is none.
fn cell(screen: &str, split: &str, subset: &str, at: usize) -> String {
    let below = screen.lines().skip_while(|line| !line.starts_with(&format!("{split} ")));
    let found = below.skip(1).find(|line| line.split_whitespace().next() == Some(subset));
    let cell = found.and_then(|line| line.split_whitespace().nth(at));
    cell.unwrap_or_default().to_owned()
}

/// Whether escape sequences choose a colour: 30 to 38 and 90 to 97 do, for text.
fn has_colours(screen: &str) -> bool {
    let sequences = screen.split("\u{1b}[").skip(1).filter_map(|rest| rest.split_once('m'));
    let mut numbers = sequences.flat_map(|(numbers, _)| numbers.split(';'));
    numbers.any(|number| matches!(number.parse(), Ok(30..=38 | 90..=97)))
}

fn weights(scene: &Scene) -> Vec<(String, u32)> {
    let split = scene.agent.split("reviews").unwrap();
    split.subsets.into_iter().map(|subset| (subset.name, subset.weight)).collect()
}

fn of(v1: u32, v3: u32) -> Vec<(String, u32)> {
    vec![("v1".to_owned(), v1), ("v3".to_owned(), v3)]
}

#[test]
fn shares_are_seen_and_shifted_in_a_terminal() {
    let scene = scene();
    let [reviews, deaf, closed, _] = vips();
    let before = tally(&send(&scene, reviews, 20_000..20_400)).expect("every flow is answered");
    let v3 = before.get("v3-a").copied().unwrap_or_default();
    // Hypothesis: each flow falls on a subset with the probability that the weights say.
    assert_shares(&[400 - v3, v3], &[80, 20], "reviews");

    let tmux = Tmux::start(132, 20).unwrap();
    tmux.press(&[&line(&scene, "top --interval 300ms"), "Enter"]);
    let shown = tmux.await_screen("all are counted", |screen| {
        cell(screen, "reviews", "v3", 14) == v3.to_string()
    });
    let share = format!("{:.2}%", v3 as f64 / 4.0);
    let found = [1, 2, 3].map(|at| cell(&shown, "reviews", "v3", at));
    assert_eq!(found, ["20", "20.00%", &share], "{shown}");
    assert!(shown.contains("reviews  203.0.113.10:9080 TCP  version 1"), "{shown}");
    assert!(has_colours(&tmux.coloured()), "{:?}", tmux.coloured());

    // What goes wrong is seen while it does.
    let troubles = |screen: &str| {
        let is =
            |split: &str, at| !["0", "0.00%", "-", ""].contains(&&*cell(screen, split, "v1", at));
        [is("deaf", 7), is("closed", 10), is("mute", 8), is("reviews", 5)]
    };
    let mut seen = [false; 4];
    let mut port = 30_000;
    while seen != [true; 4] {
        assert!(port < 60_000, "{seen:?}: {}", tmux.screen());
        for to in [reviews, deaf, closed] {
            drop(send(&scene, to, port..port + 10));
        }
        whisper(&scene, port..port + 10);
        port += 10;
        for (seen, now) in seen.iter_mut().zip(troubles(&tmux.screen())) {
            *seen |= now;
        }
    }
    println!("{}\n", tmux.screen());

    // Ten points more for v3, of which nothing happens before it is confirmed.
    tmux.press(&["End", "+", "+"]);
    let shown = tmux.await_screen("it asks", |screen| screen.contains("+10 points for v3?"));
    println!("{shown}\n");
    assert!(shown.contains("v1  weight 80 -> 70  (80.00% -> 70.00% of new flows)"), "{shown}");
    assert_eq!(weights(&scene), of(80, 20));
    tmux.press(&["Enter"]);
    let shown = tmux.await_screen("it is done", |screen| screen.contains("reviews: v1=70 v3=30"));
    assert!(shown.contains("(version 2)"), "{shown}");
    assert_eq!(weights(&scene), of(70, 30));
    let get = scene.agent.ask(&["get", "splits", "reviews"]).unwrap();
    println!("{get}");
    tmux.await_screen("new weights are shown", |s| cell(s, "reviews", "v3", 1) == "30");

    // Somebody else is faster than the confirmation.
    tmux.press(&["+"]);
    tmux.await_screen("it asks", |screen| screen.contains("+5 points for v3?"));
    scene.agent.weights("reviews", &[("v1", 50), ("v3", 50)]).unwrap();
    let overtaken = "Overtaken: version 2 is now 3 (weights by root).";
    println!("{}\n", tmux.await_screen("it says so", |screen| screen.contains(overtaken)));
    tmux.press(&["Enter", "Escape"]);
    tmux.await_screen("it is gone", |screen| !screen.contains("points for v3?"));
    assert_eq!(weights(&scene), of(50, 50));

    // The last change is taken back, and the history says who did it.
    tmux.press(&["u"]);
    let undo = "reviews: back to the weights before version 3?";
    tmux.await_screen("it asks", |screen| screen.contains(undo));
    tmux.press(&["Enter"]);
    tmux.await_screen("it is done", |screen| screen.contains("reviews: v1=70 v3=30 (version 4)"));
    tmux.press(&["h"]);
    tmux.await_screen("it is listed", |screen| screen.contains("v1=70 v3=30  (rollback by root)"));
    tmux.press(&["Escape"]);
    assert_eq!(weights(&scene), of(70, 30));

    // And what is not confirmed does not happen.
    tmux.press(&["-"]);
    tmux.await_screen("it asks", |screen| screen.contains("-5 points for v3?"));
    tmux.press(&["Escape"]);
    tmux.await_screen("it is gone", |screen| !screen.contains("points for v3?"));
    tmux.press(&["q"]);
    tmux.await_screen("the shell is back", |screen| !screen.contains("weir top  "));
    tmux.run("echo left with $?", "left with 0");
    assert_eq!(weights(&scene), of(70, 30));
}

/// Every fifth handshake of the endpoint's is refused, by the client's port.
fn refuse_a_fifth(scene: &Scene, name: &str, ports: Range<u16>) {
    let some: Vec<String> = ports.step_by(5).map(|port| port.to_string()).collect();
    let rule = format!(
        "table ip t {{ chain c {{ type filter hook input priority 0; \
         tcp flags syn tcp sport {{ {} }} reject with tcp reset; }}; }}",
        some.join(", ")
    );
    scene.topology.endpoint(name).ns.output("nft", &[&rule]).unwrap();
}

/// A connection to a server that says who it is; every twentieth of those that get that one is
/// reset by it then.
fn provoke(scene: &Scene, to: SocketAddr, range: Range<u16>, name: &str) {
    scene.topology.client.run(|| {
        let mut met = 0;
        for source in ports(client_ip(to.ip()), range) {
            let mut stream = connect_from(source, to).unwrap();
            stream.write_all(b"R").unwrap();
            if read_line(&mut stream).unwrap() == name {
                met += 1;
                if met % 20 == 0 {
                    stream.write_all(b"!").unwrap();
                    let end = stream.read(&mut [0]).expect_err("a reset");
                    assert_eq!(end.kind(), std::io::ErrorKind::ConnectionReset);
                }
            }
        }
        assert!(met > 100, "{met}");
    });
}

#[test]
fn versions_that_fail_are_marked_in_a_terminal_of_80_columns() {
    let scene = Scene::new(&["v1-a", "v3-a"], |topology| {
        let of = |name: &str| topology.ips(&[name], VIP_V4.into());
        let at = |port| SocketAddr::new(VIP_V4.into(), port);
        let reviews = SplitYaml::tcp("reviews", at(9080))
            .subset("v1", 90, &of("v1-a"), PORT)
            .subset("v3", 10, &of("v3-a"), PORT);
        let ratings = SplitYaml::tcp("ratings", at(9081))
            .subset("v1", 50, &of("v1-a"), BULK)
            .subset("v3", 50, &of("v3-a"), BULK);
        Setup::default().resource(SPLITS, &[reviews.text(), ratings.text()].join("---\n"))
    })
    .unwrap();
    let at = |port| SocketAddr::new(VIP_V4.into(), port);
    refuse_a_fifth(&scene, "v3-a", 20_000..21_000);
    let tmux = Tmux::start(80, 24).unwrap();
    tmux.press(&[&line(&scene, "top --interval 300ms"), "Enter"]);
    send(&scene, at(9080), 20_000..21_000);
    provoke(&scene, at(9081), 30_000..30_600, "v3-a");
    // SUBSET, WANTED, OBSERVED, 95%, NEW/S, OPEN, REFUSED, NO ANS, RESET.
    let failing = |screen: &str, split: &str, version: &str| {
        [6, 7, 8].map(|at| cell(screen, split, version, at))
    };
    let shown = tmux.await_screen("both are marked", |screen| {
        failing(screen, "reviews", "v3")[0].ends_with('!')
            && failing(screen, "ratings", "v3")[2].ends_with('!')
    });
    println!("{shown}\n");
    let percent = |cell: &str| cell.trim_end_matches(['!', '%']).parse::<f64>().expect("percent");
    assert_eq!(failing(&shown, "reviews", "v1"), ["0.00%"; 3], "{shown}");
    assert_eq!(failing(&shown, "ratings", "v1"), ["0.00%"; 3], "{shown}");
    // The ports are the same ones in each run, and so is the hash.
    let refused = percent(&failing(&shown, "reviews", "v3")[0]);
    assert!((10.0..30.0).contains(&refused), "{shown}");
    let reset = percent(&failing(&shown, "ratings", "v3")[2]);
    assert!((4.0..=5.0).contains(&reset), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    for key in ["e", "h", "?"] {
        tmux.press(&[key]);
        let sheet = tmux.await_screen(key, |screen| screen.contains("Esc back to the splits"));
        println!("{sheet}\n");
        tmux.press(&["Escape"]);
        tmux.await_screen("the splits", |screen| screen.contains("REFUSED"));
    }
    let status = scene.agent.printed(&["status", "--brief"]);
    println!("{status}");
    assert!(status.contains("split reviews: ") && status.contains(" were refused"), "{status}");
}

/// The settings of the terminal: echo, line by line.
fn is_cooked(tmux: &Tmux) {
    tmux.press(&["clear", "Enter"]);
    let shown = tmux.run("stty -a; echo the e''nd", "the end");
    assert!(shown.contains(" icanon") && shown.contains(" echo "), "{shown}");
}

#[test]
fn terminal_is_as_it_was_after_a_signal_a_panic_and_an_agent_that_went() {
    let mut scene = scene();
    let tmux = Tmux::start(132, 20).unwrap();
    let top = line(&scene, "top --interval 100ms");
    is_cooked(&tmux);
    // The shell tells the process id of what it becomes.
    tmux.press(&[&format!("sh -c 'echo pid $$ > {0}; exec {top}'", pid_file(&scene)), "Enter"]);
    tmux.await_screen("it runs", |screen| screen.contains("reviews  203.0.113.10"));
    // The agent goes: what was seen stays, and that is said.
    scene.agent.end(Signal::SIGTERM).unwrap();
    let shown = tmux.await_screen("it says so", |s| s.contains("no new numbers: no agent answers"));
    assert!(shown.contains("reviews  203.0.113.10"), "{shown}");
    scene.agent.start_again(&scene.topology.node).unwrap();
    tmux.await_screen("it goes on", |screen| !screen.contains("no new numbers"));
    let pid = std::fs::read_to_string(pid_file(&scene)).unwrap();
    let pid = pid.trim().trim_start_matches("pid ").parse().unwrap();
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    tmux.await_screen("the shell is back", |screen| !screen.contains("weir top  "));
    is_cooked(&tmux);

    let startle = env!("CARGO_BIN_EXE_startle");
    let shown = tmux.run(&format!("{startle}; echo left with $?"), "left with 101");
    assert!(shown.contains("on purpose"), "what the panic says is to be read:\n{shown}");
    is_cooked(&tmux);

    // No colours where they are not wanted.
    tmux.press(&[&format!("clear; NO_COLOR=1 {top}"), "Enter"]);
    tmux.await_screen("it runs", |screen| screen.contains("reviews  203.0.113.10"));
    let shown = tmux.coloured();
    assert!(shown.contains('\u{1b}') && !has_colours(&shown), "{shown:?}");
    tmux.press(&["q"]);
}

fn pid_file(scene: &Scene) -> String {
    scene.agent.directory().join("pid").display().to_string()
}

#[test]
fn without_a_terminal_there_are_lines() {
    let mut scene = scene();
    let [reviews, ..] = vips();
    let rejected = scene.agent.weir(&["top"]);
    assert_eq!(rejected.status.code(), Some(1));
    let error = String::from_utf8_lossy(&rejected.stderr);
    assert!(error.contains("`weir watch` prints the same as lines"), "{error}");
    assert_eq!(rejected.stdout, b"");

    let answers = tally(&send(&scene, reviews, 20_000..20_200)).expect("every flow is answered");
    let v3 = answers.get("v3-a").copied().unwrap_or_default();
    let table = scene.agent.ask(&["watch", "reviews", "--count", "1"]).unwrap();
    println!("{table}");
    assert!(!table.contains('\u{1b}'), "{table:?}");
    let watch = ["watch", "reviews", "--count", "2", "--interval", "100ms", "-o", "json"];
    let json = scene.agent.ask(&watch).unwrap();
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 4, "{json}");
    assert_eq!(lines[1]["new_flows_since_change"], v3);
    assert_eq!(lines[1]["observed_share"], v3 as f64 / 200.0);
    let interval = [&lines[1]["interval"][0], &lines[1]["interval"][1]].map(|end| end.as_f64());
    let [Some(low), Some(high)] = interval else { panic!("{json}") };
    assert!(low < v3 as f64 / 200.0 && v3 as f64 / 200.0 < high, "{json}");

    // What was counted under weights that a new agent does not know is not compared with its own.
    // Who watches meanwhile goes on.
    let mut watcher = Command::new(program().unwrap());
    watcher.arg("--socket").arg(scene.agent.socket()).args(["watch", "reviews", "-o", "json"]);
    watcher.args(["--count", "6", "--interval", "500ms"]);
    let mut watcher = watcher.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watcher.stdout.take().unwrap()).lines();
    lines.next().expect("a first sample").unwrap();
    scene.agent.end(Signal::SIGKILL).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    scene.agent.start_again(&scene.topology.node).unwrap();
    let output = watcher.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(said.matches("; waiting for it").count(), 1, "{said}");
    assert_eq!(1 + lines.count(), 2 * 6, "six samples of two subsets");
    let json = scene.agent.ask(&watch).unwrap();
    let first: serde_json::Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
    assert_eq!(
        (&first["new_flows_since_change"], &first["interval"]),
        (&0.into(), &serde_json::Value::Null)
    );
    let total: u64 =
        scene.agent.split("reviews").unwrap().subsets.iter().map(|s| s.new_flows).sum();
    assert_eq!(total, 200, "nothing is forgotten");
}
