//! `cargo xtask demo`: shifts traffic from one version of a service to another, live.
//!
//! Client, node and endpoints are network namespaces; the agent, its command line, the
//! connections and the servers are real. The steps are those of the traffic-shifting task with
//! which service meshes teach weights: all to v1, half to v3, all to v3.

mod connection;
mod interrupt;
mod screen;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use weir::model::Protocol;
use weir_tests::agent::{self, SPLITS, Setup};
use weir_tests::client::{Answer, ports, survey};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::stats::accepted_shares;
use weir_tests::topology::{CLIENT_FACING, Topology, VIP_V4, VIP_V6, client_ip};

use connection::{Connection, MESSAGE};
use interrupt::Interrupt;
use screen::{Row, Screen, Style, duration, thousands};

/// New connections in each step.
const CONNECTIONS: u16 = 20_000;
/// How many of them between two looks at the screen and at signals.
const PART: usize = 1_000;
/// The port of the connection that stays open; those of the steps follow.
const FIRST_PORT: u16 = 5_000;
/// The split, and the port of its service address.
const SPLIT: &str = "reviews";
const SERVICE_PORT: u16 = 9080;

/// The subsets and their endpoints, which also say by their names what they are.
const SUBSETS: [(&str, &[&str]); 3] =
    [("v1", &["v1-a", "v1-b"]), ("v2", &["v2-a"]), ("v3", &["v3-a"])];

/// What is said, and the weights of the subsets.
const STEPS: [(&str, [u32; 3]); 3] = [
    ("Everything to v1", [100, 0, 0]),
    ("Half of it to v3", [50, 0, 50]),
    ("Everything to v3", [0, 0, 100]),
];

#[derive(Parser)]
#[command(name = "demo", about = "Shift traffic between versions of a service, live")]
struct Arguments {
    /// Leave it running at the end, with commands to try, until Ctrl-C.
    #[arg(long)]
    keep: bool,
    /// Where the forward direction is steered.
    #[arg(long, value_enum, default_value = "tc")]
    forward: Hook,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    ipv6: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Hook {
    Tc,
    Xdp,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let interrupt = match Interrupt::install() {
        Ok(interrupt) => interrupt,
        Err(error) => return failure(&error),
    };
    let result = Demo::run(&arguments, &interrupt);
    if interrupt.signal().is_some() {
        eprintln!("\neverything is removed");
    }
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // As a shell says it of a process that a signal ended.
        Err(_) if interrupt.signal().is_some() => {
            ExitCode::from(128 + interrupt.signal().unwrap_or_default() as u8)
        }
        Err(error) => failure(&error),
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    eprintln!("error: {error:#}");
    ExitCode::FAILURE
}

/// The scene, and how it is going.
struct Demo<'a> {
    scene: Scene,
    client: IpAddr,
    service: SocketAddr,
    screen: Screen,
    interrupt: &'a Interrupt,
}

impl<'a> Demo<'a> {
    /// Builds everything, goes through the steps, and takes everything down. Whether all was well.
    fn run(arguments: &Arguments, interrupt: &'a Interrupt) -> Result<bool> {
        let begun = Instant::now();
        let screen = Screen::new();
        let vip = if arguments.ipv6 { VIP_V6.into() } else { VIP_V4.into() };
        let service = SocketAddr::new(vip, SERVICE_PORT);
        let hook = match arguments.forward {
            Hook::Tc => "tc",
            Hook::Xdp => "xdp",
        };
        let title = "weir shifts `reviews` from v1 to v3, in use";
        screen.line(&format!("\n{}\n", screen.paint(Style::Bold, title)));
        let names: Vec<&str> =
            SUBSETS.iter().flat_map(|(_, names)| names.iter().copied()).collect();
        let scene = Scene::new(&names, |topology| {
            Setup::default().forward(hook).split(&split(topology, service))
        })?;
        interrupt.check()?;
        let demo = Self { scene, client: client_ip(vip), service, screen, interrupt };
        demo.introduce()?;
        let good = demo.steps()?;
        demo.conclude(good, begun.elapsed())?;
        if arguments.keep {
            demo.keep()?;
        }
        Ok(good)
    }

    /// Who is there.
    fn introduce(&self) -> Result<()> {
        let status = self.scene.agent.status()?;
        let hooked = status.interfaces.iter().find(|interface| interface.name == CLIENT_FACING);
        let hooked = hooked.context("the agent did not take the client-facing interface")?;
        ensure!(hooked.error.is_none(), "{CLIENT_FACING}: {:?}", hooked.error);
        let mut endpoints = SUBSETS.iter().map(|(subset, names)| {
            let ips = self.scene.topology.ips(names, self.service.ip());
            let ips: Vec<String> = ips.iter().map(ToString::to_string).collect();
            format!("{subset}  {}", ips.join(", "))
        });
        let mut next = || endpoints.next().unwrap_or_default();
        let lines = [
            format!("   client ───── node ─┬─ {}", next()),
            format!("                weir  ├─ {}", next()),
            format!("                      └─ {}", next()),
        ];
        lines.iter().for_each(|line| self.screen.line(line));
        let Self { client, service, .. } = self;
        let (hook, mode) = (&hooked.hook, &hooked.mode);
        let text =
            format!("\n   client {client}, service {service}/TCP, forward at {hook} ({mode})\n");
        self.screen.line(&self.screen.paint(Style::Dim, &text));
        Ok(())
    }

    /// All steps, with one connection that is open from the first to the last.
    fn steps(&self) -> Result<bool> {
        let mut open: Option<Connection> = None;
        let mut good = true;
        let mut before = 0;
        for (number, (title, weights)) in STEPS.iter().enumerate() {
            self.interrupt.check()?;
            let title = format!("{}  {title}", number + 1);
            self.screen.line(&self.screen.paint(Style::Bold, &title));
            self.shift(*weights)?;
            let connection = match &mut open {
                Some(connection) => connection,
                none => none.insert(self.connect()?),
            };
            let shares = self.measure(number, *weights)?;
            let answered = connection.answered()?;
            let text = format!(
                "   {} new connections; on the open one {} messages, all answered by {}",
                thousands(CONNECTIONS.into()),
                thousands(answered - before),
                connection.endpoint,
            );
            self.screen.line(&format!("{}\n", self.screen.paint(Style::Dim, &text)));
            (good, before) = (good && shares, answered);
        }
        let mut connection = open.context("there are no steps")?;
        Ok(self.check_open(&mut connection)? && good)
    }

    /// Gives the subsets these weights, by the command that an operator types.
    fn shift(&self, weights: [u32; 3]) -> Result<()> {
        let named: Vec<String> =
            SUBSETS.iter().zip(weights).map(|((name, _), w)| format!("{name}={w}")).collect();
        let begun = Instant::now();
        let mut line = vec!["weights", SPLIT];
        line.extend(named.iter().map(String::as_str));
        self.scene.agent.ask(&line)?;
        let remark = format!("in force after {}", duration(begun.elapsed()));
        self.screen.command(&format!("weir {}", line.join(" ")), &remark);
        Ok(())
    }

    /// Opens the connection that stays open.
    fn connect(&self) -> Result<Connection> {
        let source = SocketAddr::new(self.client, FIRST_PORT);
        Connection::open(&self.scene.topology.client, source, self.service)
    }

    /// Makes the connections of a step. Whether their shares are what the weights say.
    fn measure(&self, step: usize, weights: [u32; 3]) -> Result<bool> {
        let first = FIRST_PORT + 1 + CONNECTIONS * step as u16;
        let sources = ports(self.client, first..first + CONNECTIONS);
        let mut counts = [0; 3];
        self.screen.heading();
        self.screen.rows(&rows(weights, counts), false, false);
        for part in sources.chunks(PART) {
            self.interrupt.check()?;
            let client = &self.scene.topology.client;
            count(&survey(client, Protocol::Tcp, self.service, part), &mut counts)?;
            self.screen.rows(&rows(weights, counts), true, false);
        }
        let rows = rows(weights, counts);
        self.screen.rows(&rows, true, true);
        Ok(rows.iter().all(Row::good))
    }

    /// Closes the open connection. Whether its endpoint, and no other, got its messages: the
    /// connections of the steps send nothing.
    fn check_open(&self, connection: &mut Connection) -> Result<bool> {
        let sent = connection.close()? * MESSAGE as u64;
        let (endpoints, servers) = (&self.scene.topology.endpoints, self.scene.tcp_servers());
        Ok(endpoints.iter().zip(servers).all(|(endpoint, server)| {
            server.bytes() == if endpoint.name == connection.endpoint { sent } else { 0 }
        }))
    }

    /// What the agent has to say, and the verdict.
    fn conclude(&self, good: bool, took: Duration) -> Result<()> {
        self.screen.command("weir get splits reviews", "the agent's own count of the last step");
        for line in self.scene.agent.ask(&["get", "splits", SPLIT])?.lines() {
            self.screen.line(format!("   {line}").trim_end());
        }
        let (style, text) = match good {
            true => (Style::Good, "✓ Every share is right, and no connection was lost"),
            false => (Style::Bad, "✗ Not as it should be"),
        };
        self.screen.line(&format!("\n{}, {}", self.screen.paint(style, text), duration(took)));
        let note = "* but for one run in a million (Chernoff's bound)";
        self.screen.line(&format!("{}\n", self.screen.paint(Style::Dim, note)));
        Ok(())
    }

    /// Leaves it running until a signal comes.
    fn keep(&self) -> Result<()> {
        let (agent, topology) = (&self.scene.agent, &self.scene.topology);
        let enter = |path: std::path::PathBuf| format!("nsenter --net={}", path.display());
        let (ip, port) = (self.service.ip(), self.service.port());
        let explained = SocketAddr::new(self.client, 41_000);
        let commands = [
            (
                "Shift, look, ask why",
                vec![
                    format!(
                        "alias weir='{} --socket {}'",
                        agent::program()?.display(),
                        agent.socket().display()
                    ),
                    "weir weights reviews v1=80 v3=20".to_owned(),
                    "weir get splits reviews -o yaml".to_owned(),
                    format!("weir explain --from {explained} --to {}", self.service),
                    "weir status".to_owned(),
                ],
            ),
            (
                "Ask as the client who answers",
                vec![format!(
                    "for n in $(seq 20); do {} bash -c 'read who < /dev/tcp/{ip}/{port}; echo $who'; \
                     done | sort | uniq -c",
                    enter(topology.client.path())
                )],
            ),
            (
                "Change the file; or break it, and see `weir status`",
                vec![format!("vi {}", agent.resources().join(SPLITS).display())],
            ),
            (
                "Watch the node's packets",
                vec![format!("{} tcpdump -nni any tcp", enter(topology.node.path()))],
            ),
        ];
        for (title, lines) in commands {
            self.screen.line(&format!("   {}", self.screen.paint(Style::Bold, title)));
            for line in lines {
                self.screen.line(&format!("     {}", self.screen.paint(Style::Command, &line)));
            }
        }
        self.screen.line("\nRunning until Ctrl-C.");
        self.interrupt.wait();
        Ok(())
    }
}

/// What the agent starts with: a third for each subset.
fn split(topology: &Topology, service: SocketAddr) -> String {
    let split = SplitYaml::tcp(SPLIT, service);
    let add = |split: SplitYaml, (name, endpoints): &(&str, &[&str])| {
        split.subset(name, 1, &topology.ips(endpoints, service.ip()), PORT)
    };
    SUBSETS.iter().fold(split, add).text()
}

/// Adds answers up by subset.
fn count(answers: &[Answer], counts: &mut [u64; 3]) -> Result<()> {
    for answer in answers {
        let name = answer.as_ref().map_err(|&kind| std::io::Error::from(kind));
        let name = name.context("a new connection failed")?;
        let at = SUBSETS.iter().position(|(_, names)| names.contains(&name.as_str()));
        counts[at.with_context(|| format!("{name} is no endpoint"))?] += 1;
    }
    Ok(())
}

/// Wanted and observed shares by subset.
fn rows(weights: [u32; 3], counts: [u64; 3]) -> [Row<'static>; 3] {
    let (total, weight) = (counts.iter().sum::<u64>(), weights.iter().sum::<u32>());
    let accepted = accepted_shares(CONNECTIONS.into(), &weights.map(u64::from));
    std::array::from_fn(|at| Row {
        name: SUBSETS[at].0,
        wanted: f64::from(weights[at]) / f64::from(weight),
        observed: (total > 0).then(|| counts[at] as f64 / total as f64),
        accepted: accepted[at],
    })
}
