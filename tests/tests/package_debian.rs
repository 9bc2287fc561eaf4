//! The Debian package, installed and run by a systemd of its own (see [`weir_tests::machine`]).

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use weir::model::Protocol;
use weir::privilege::hooks_are_listed;
use weir_tests::agent::program;
use weir_tests::client::{connect_from, ports, survey, tally};
use weir_tests::machine::Machine;
use weir_tests::resource::SplitYaml;
use weir_tests::scene::PORT;
use weir_tests::server::{Server, connect, read_line};
use weir_tests::topology::{CLIENT_FACING, EndpointSpec, Topology, VIP_V4, client_ip};

/// Connections that are open all the time.
const OPEN: u16 = 100;

fn vip() -> SocketAddr {
    SocketAddr::new(VIP_V4.into(), 9080)
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// What `cargo xtask package` has built.
fn package() -> PathBuf {
    let architecture = output(Command::new("dpkg").arg("--print-architecture"));
    let name = format!("weir_{}-1_{architecture}.deb", env!("CARGO_PKG_VERSION"));
    let weir = program().expect("weir");
    let target = weir.parent().and_then(Path::parent).expect("target/release/weir");
    let path = target.join("debian").join(name);
    assert!(path.is_file(), "no {}; build it (cargo xtask package)", path.display());
    path
}

/// The package once more, with another version and another default configuration.
fn versioned(package: &Path, version: &str, directory: &Path) -> PathBuf {
    let (tree, path) = (directory.join(version), directory.join(format!("{version}.deb")));
    output(Command::new("dpkg-deb").arg("-R").arg(package).arg(&tree));
    let edit = |file: &str, edit: &dyn Fn(String) -> String| {
        let path = tree.join(file);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{file}: {e}"));
        std::fs::write(&path, edit(text)).unwrap_or_else(|e| panic!("{file}: {e}"));
    };
    let own = env!("CARGO_PKG_VERSION");
    edit("DEBIAN/control", &|text| {
        text.replace(&format!("Version: {own}-1"), &format!("Version: {version}"))
    });
    edit("etc/weir/agent.yaml", &|text| text + "# Another default.\n");
    let build = ["--root-owner-group", "-Znone", "-b"];
    output(Command::new("dpkg-deb").args(build).arg(&tree).arg(&path));
    path
}

/// A client, endpoints, and a node on which the package is installed.
struct Installed {
    machine: Machine,
    _servers: Vec<Server>,
    topology: Topology,
    _directory: tempfile::TempDir,
}

impl Installed {
    fn new() -> Self {
        let specs = ["v1-a", "v2-a"].map(EndpointSpec::new);
        let topology = Topology::new(&specs).expect("topology");
        let at = |ip| SocketAddr::new(ip, PORT);
        let server = |e: &weir_tests::topology::Endpoint| {
            Server::tcp(&e.ns, at(e.v4.into()), &e.name).expect("server")
        };
        let servers = topology.endpoints.iter().map(server).collect();
        let machine = Machine::boot(&topology.node).expect("machine");
        let known = machine.sh("dpkg-query --show weir").expect("dpkg-query");
        assert!(!known.status.success(), "weir is installed on this machine; remove it first");

        let directory = tempfile::tempdir().expect("directory");
        let package = package();
        let copy = |from: &Path, to: &str| {
            std::fs::copy(from, machine.path(to)).unwrap_or_else(|e| panic!("{to}: {e}"));
        };
        copy(&package, "/var/tmp/weir.deb");
        let newer = concat!(env!("CARGO_PKG_VERSION"), "-2");
        copy(&versioned(&package, newer, directory.path()), "/var/tmp/newer.deb");
        // The last version whose maps have layout 7: what it would find is what counts here.
        copy(&versioned(&package, "0.1.0-1", directory.path()), "/var/tmp/older.deb");
        let said = machine.run("dpkg --install /var/tmp/weir.deb");
        assert!(said.contains("edit /etc/weir/agent.yaml"), "{said}");
        Self { machine, _servers: servers, topology, _directory: directory }
    }

    /// Does what the package says that an operator has to do, and has the agent started.
    fn configure(&self) {
        let edit = format!("s/no-interface-is-chosen/{CLIENT_FACING}/");
        self.machine.run(&format!("sed -i {edit} /etc/weir/agent.yaml"));
        let ips = |name| self.topology.ips(&[name], vip().ip());
        let split = SplitYaml::tcp("reviews", vip())
            .subset("v1", 1, &ips("v1-a"), PORT)
            .subset("v2", 1, &ips("v2-a"), PORT)
            .text();
        let path = self.machine.path("/etc/weir/resources.d/reviews.yaml");
        std::fs::write(path, split).expect("write the split");
        self.machine.run("systemctl restart weir");
    }

    fn main_pid(&self) -> String {
        self.machine.run("systemctl show --property MainPID --value weir")
    }

    fn pins(&self) -> usize {
        let links = self.machine.path("/sys/fs/bpf/weir/links");
        std::fs::read_dir(links).map_or(0, Iterator::count)
    }

    /// New connections, from ports that were never used, reach both endpoints.
    fn check_new(&self, first: u16) {
        let sources = ports(client_ip(vip().ip()), first..first + 40);
        let answers = survey(&self.topology.client, Protocol::Tcp, vip(), &sources);
        let counts = tally(&answers).expect("every connection is answered");
        // A fair coin shows one side 40 times once in 5e11.
        assert_eq!(counts.len(), 2, "{counts:?}");
    }
}

/// A connection, and the endpoint that it reached.
fn open(source: SocketAddr) -> (TcpStream, String) {
    let mut stream = connect_from(source, vip()).unwrap_or_else(|e| panic!("{source}: {e}"));
    let endpoint = read_line(&mut stream).unwrap_or_else(|e| panic!("{source}: {e}"));
    (stream, endpoint)
}

/// A server keeps no state between connections: an echo shows that it is still the same one.
fn echo((stream, endpoint): &mut (TcpStream, String), round: u32) {
    let mut answer = [0; 4];
    let result =
        stream.write_all(&round.to_be_bytes()).and_then(|()| stream.read_exact(&mut answer));
    result.unwrap_or_else(|error| panic!("connection to {endpoint}, round {round}: {error}"));
    assert_eq!(answer, round.to_be_bytes(), "connection to {endpoint}");
}

#[test]
fn connections_survive_upgrade_downgrade_crash_and_stop_and_removal_leaves_nothing_in_the_kernel() {
    let node = Installed::new();
    let machine = &node.machine;
    assert_eq!(machine.run("systemctl is-enabled weir"), "enabled");
    assert_eq!(machine.run("systemctl is-active weir || true"), "inactive", "not configured yet");
    machine.run("weir validate /usr/share/doc/weir/examples/*.yaml");

    machine.run("systemctl start weir");
    assert_eq!(machine.run("weir status | grep -c veth || true"), "0", "nothing is chosen yet");
    assert_eq!(node.pins(), 0, "nothing is attached yet");

    node.configure();
    node.check_new(10_000);
    let sources = ports(client_ip(vip().ip()), 20_000..20_000 + OPEN);
    let mut streams: Vec<_> =
        node.topology.client.run(|| sources.iter().map(|&source| open(source)).collect());
    let (stop, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let chat = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let round = rounds.fetch_add(1, Ordering::Relaxed);
                streams.iter_mut().for_each(|stream| echo(stream, round));
            }
        });
        let stop_after = StopOnDrop(&stop);
        let await_rounds = |what: &str| {
            let begun = rounds.load(Ordering::Relaxed);
            while rounds.load(Ordering::Relaxed) < begun + 2 {
                assert!(!chat.is_finished(), "a connection broke: {what}");
                std::thread::sleep(Duration::from_millis(1));
            }
        };

        let before = node.main_pid();
        machine.run("dpkg --install --force-confold /var/tmp/newer.deb");
        let after = node.main_pid();
        assert_ne!(before, after, "the upgraded agent runs");
        let running = machine.run(&format!("readlink /proc/{after}/exe"));
        assert_eq!(running, "/usr/bin/weir", "and is the new file");
        machine.run(&format!("grep {CLIENT_FACING} /etc/weir/agent.yaml"));
        await_rounds("upgrade");
        node.check_new(30_000);

        machine.run(&format!("kill -9 {after}"));
        let back = format!(
            "until [ $(systemctl show -P MainPID weir) != {after} ] && \
             systemctl is-active --quiet weir; do sleep 0.05; done"
        );
        machine.run(&format!("timeout 20 sh -c '{back}'"));
        await_rounds("crash");
        node.check_new(31_000);

        // Live flows move to maps of another size, within the sandbox.
        let sizes = "printf 'flows: {max: 65536}\\n' >> /etc/weir/agent.yaml";
        machine.run(&format!("{sizes} && systemctl restart weir"));
        let moved = "journalctl --boot -o cat -u weir | grep 'live flows are in the new maps'";
        machine.run(moved);
        await_rounds("other sizes");

        machine.run("dpkg --install --force-confold /var/tmp/older.deb");
        machine.run("systemctl is-active weir");
        let given_back = "journalctl --boot -o cat -u weir | grep 'they have layout 7'";
        machine.run(given_back);
        await_rounds("an earlier version");

        machine.run("systemctl stop weir");
        await_rounds("stop");
        node.check_new(32_000);
        drop(stop_after);
        chat.join().expect("no connection broke");
    });
    let least = rounds.load(Ordering::Relaxed);
    println!("{OPEN} connections exchanged {least} times through upgrade, crash and stop");

    machine.run("systemctl start weir");
    assert_ne!(node.pins(), 0);
    machine.run("dpkg --remove weir");
    assert!(!machine.path("/sys/fs/bpf/weir").exists(), "nothing is pinned");
    assert!(!machine.path("/usr/bin/weir").exists());
    assert_eq!(machine.run("systemctl is-active weir || true"), "inactive");
    let refused = node.topology.client.run(|| connect(vip(), Duration::from_millis(500)));
    assert!(refused.is_err(), "nobody steers");
    machine.run("test -e /etc/weir/agent.yaml -a -d /var/lib/weir");

    machine.run("dpkg --purge weir");
    machine.run("test ! -e /etc/weir/agent.yaml -a ! -e /var/lib/weir");
    machine.run("test -e /etc/weir/resources.d/reviews.yaml");
}

/// Ends the chat when the test ends, however that is.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_package_that_cannot_be_taken_out_of_the_kernel_is_not_removed() {
    let node = Installed::new();
    let machine = &node.machine;
    node.configure();
    machine.run("cp /etc/weir/agent.yaml /var/tmp && echo nonsense: 1 >> /etc/weir/agent.yaml");
    let said = machine.rejects("dpkg --remove weir");
    assert!(said.contains("unknown field `nonsense`"), "{said}");
    assert!(said.contains("still in the kernel"), "{said}");
    node.check_new(10_000);

    machine.run("cp /var/tmp/agent.yaml /etc/weir/agent.yaml && dpkg --remove weir");
    assert!(!machine.path("/sys/fs/bpf/weir").exists(), "nothing is pinned");
}

#[test]
fn the_agent_runs_with_two_capabilities_in_a_sandbox() {
    let node = Installed::new();
    let machine = &node.machine;
    node.configure();
    let main_pid = node.main_pid();
    let status = |field: &str| {
        machine.run(&format!("sed -n 's/^{field}:[[:space:]]*//p' /proc/{main_pid}/status"))
    };
    // CAP_NET_ADMIN, CAP_BPF; and CAP_PERFMON, with which it started: capability.h.
    let two = 1_u64 << 12 | 1 << 39;
    for (set, expected) in [("CapPrm", two), ("CapEff", two), ("CapBnd", two | 1 << 38)] {
        assert_eq!(status(set), format!("{expected:016x}"), "{set}");
    }
    assert_eq!((status("NoNewPrivs").as_str(), status("Seccomp").as_str()), ("1", "2"));
    let mounts = machine.run(&format!("cat /proc/{main_pid}/mountinfo"));
    let read_only = |at: &str| {
        let mut of = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let of = of.rfind(|fields| fields.get(4) == Some(&at));
        of.map(|fields| fields[5].split(',').any(|option| option == "ro"))
    };
    assert_eq!(read_only("/"), Some(true), "{mounts}");
    assert_eq!(read_only("/var/lib/weir"), Some(false), "{mounts}");
    assert_eq!(read_only("/sys/fs/bpf"), Some(true), "{mounts}");
    assert_eq!(read_only("/sys/fs/bpf/weir"), Some(false), "{mounts}");

    machine.run("systemd-analyze verify weir.service");
    // In tenths; what is left is root itself, its capabilities, and the host's network.
    let report = machine.run(
        "systemd-analyze security --no-pager --offline=true --threshold=20 \
         /usr/lib/systemd/system/weir.service",
    );
    println!("{}", report.lines().last().unwrap_or_default());
    // What the agent does in the sandbox after its start: it writes its state, follows
    // interfaces and files, and starts with empty maps when it is told to.
    machine.run("weir weights reviews v1=0");
    if !node.topology.node.run(hooks_are_listed) {
        // With no more than the unit gives, it cannot tell, and says so.
        let status = machine.run("weir status || true");
        assert!(status.contains("seen only with CAP_SYS_ADMIN"), "{status}");
        machine.run(
            "mkdir -p /etc/systemd/system/weir.service.d && \
             printf '[Service]\\nCapabilityBoundingSet=CAP_SYS_ADMIN\\n' > \
             /etc/systemd/system/weir.service.d/links.conf && \
             systemctl daemon-reload && systemctl restart weir",
        );
    }
    // In the sandbox, it sees what would bar the fast path.
    let fast_path = |says: &str| {
        let until =
            format!("until weir status | grep -F 'fast path:  {says}'; do sleep 0.05; done");
        machine.run(&format!("timeout 20 sh -c \"{until}\""));
    };
    fast_path("used (auto)");
    let nft = |line: &str| drop(node.topology.node.output("nft", &[line]).expect("nft"));
    nft("add table ip t; add chain ip t c { type filter hook forward priority 0; }; \
         add rule ip t c meta mark set 7");
    fast_path("not used (auto)");
    nft("delete table ip t");
    fast_path("used (auto)");
    machine.run("rm -f /etc/systemd/system/weir.service.d/links.conf && systemctl daemon-reload");
    machine.run("sed -i 's/match: veth-client/match: \"veth-*\"/' /etc/weir/agent.yaml");
    machine.run("systemctl restart weir");
    let explain = "weir explain --from 192.0.2.200:1 --to 203.0.113.10:9080 | grep v2-a";
    let explain = explain.replace("v2-a", &node.topology.endpoint("v2-a").v4.to_string());
    machine.run(&explain);
    let later = "link add veth-later type veth peer name later";
    node.topology.node.ip(&[later]).expect("veth");
    machine.run("timeout 20 sh -c 'until weir status | grep veth-later; do sleep 0.05; done'");
    machine.run("sed -i 's/name: v2/name: v3/' /etc/weir/resources.d/reviews.yaml");
    machine.run("timeout 20 sh -c 'until weir get splits | grep v3; do sleep 0.05; done'");
    let replace = "[Service]\\nExecStart=\\nExecStart=/usr/bin/weir agent --replace --config \
                   /etc/weir/agent.yaml\\n";
    machine.run(&format!(
        "mkdir -p /etc/systemd/system/weir.service.d && \
         printf '{replace}' > /etc/systemd/system/weir.service.d/replace.conf && \
         systemctl daemon-reload && systemctl restart weir"
    ));
    // Groups may use it, as they are told.
    let group = "addgroup --quiet --system weir-viewers && \
                 printf 'access: {viewers: weir-viewers}\\n' >> /etc/weir/agent.yaml && \
                 systemctl restart weir";
    machine.run(group);
    let viewer = "setpriv --reuid=nobody --regid=weir-viewers --clear-groups --";
    machine.run(&format!("{viewer} weir status | grep '^agent: '"));
    let said = machine.rejects(&format!("{viewer} weir weights reviews v1=1"));
    assert!(said.contains("may look, but not change anything: only root may"), "{said}");
    let nobody = "setpriv --reuid=nobody --regid=nogroup --clear-groups --";
    let said = machine.rejects(&format!("{nobody} weir status"));
    assert!(said.contains("this user may not use /run/weir/weir.sock"), "{said}");
    let errors =
        machine.run("journalctl --boot -o cat -u weir | grep -i -e error -e denied || true");
    assert_eq!(errors, "", "{}", machine.journal());
}

#[test]
fn man_pages_and_completions_work_where_they_are_installed() {
    let node = Installed::new();
    let machine = &node.machine;
    let pages = machine.run("dpkg --listfiles weir | grep -E '/man[58]/.'");
    assert!(pages.lines().count() > 8, "{pages}");
    for page in pages.lines() {
        let warnings = machine.run(&format!("man --warnings -l -Tutf8 {page} 2>&1 >/dev/null"));
        assert_eq!(warnings, "", "{page}");
    }
    let page = machine.run("MANPAGER=cat man weir-weights");
    assert!(page.contains("EXIT STATUS") && page.contains("EXAMPLES"), "{page}");
    let page = machine.run("MANPAGER=cat man 5 agent.yaml");
    assert!(page.contains("flows.tcpIdle (default 2h)") && page.contains("SETTINGS"), "{page}");
    let complete = "source /usr/share/bash-completion/completions/weir; COMP_WORDS=(weir we); \
                    COMP_CWORD=1; _clap_complete_weir weir we weir; echo ${COMPREPLY[@]}";
    assert_eq!(machine.run(&format!("bash -c '{complete}'")), "weights");
    machine.run("test -s /usr/share/zsh/vendor-completions/_weir");
    machine.run("test -s /usr/share/fish/vendor_completions.d/weir.fish");
}
