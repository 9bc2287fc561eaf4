//! What `cargo xtask test-kernels` runs on each kernel, as the only program of a virtual machine:
//! the object loads and attaches at each hook, and the real agent steers real traffic of both
//! families and protocols. Each flow must reach the very endpoint that user space computes, also
//! after a change of weights and while the agent is dead, and a connection must outlive that.
//!
//! An emulated machine is slow, so flows are few; what they must reach is exact, not statistical.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::tc::{NlOptions, TcAttachOptions};
use aya::programs::{SchedClassifier, TcAttachType};
use aya::util::KernelVersion;
use nix::sys::signal::Signal;
use weir::api::types::StatusView;
use weir::datapath::{CLSACT_PRIORITY, Object, Settings, has_tcx};
use weir::explain::explain;
use weir::model::{Name, Protocol, Split};
use weir_tests::agent::Setup;
use weir_tests::client::{connect_from, ports, survey};
use weir_tests::resource::SplitYaml;
use weir_tests::scene::{PORT, Scene};
use weir_tests::server::read_line;
use weir_tests::topology::{CLIENT_FACING, Topology, VIP_V4, VIP_V6, client_ip};

/// That of [`Setup::default`].
const SEED: u64 = 0x5eed;
/// New flows of a family and protocol after each event.
const FLOWS: u16 = 100;

fn main() -> Result<()> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let release = release.trim();
    for log_rare in [false, true] {
        let settings = Settings { log_rare, ..Settings::default() };
        let mut object = Object::load(&settings)?;
        for name in Object::programs() {
            let program = object.ebpf().program(name).context("a program of the object")?;
            // Told since Linux 5.16.
            let verified = program.info()?.verified_instruction_count();
            let verified = verified.map_or_else(|| "?".to_owned(), |count| count.to_string());
            let telling = if log_rare { ", telling rare events" } else { "" };
            println!("{release}: {name}: {verified} instructions verified{telling}");
        }
    }
    for hook in ["tc", "xdp"] {
        steer(release, hook).with_context(|| format!("{release}, {hook}"))?;
    }
    Ok(())
}

/// A split for each family and protocol.
fn splits(topology: &Topology) -> Vec<String> {
    let mut all = Vec::new();
    for (family, vip) in [("v4", IpAddr::from(VIP_V4)), ("v6", VIP_V6.into())] {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let name = format!("{family}-{protocol}").to_lowercase();
            let ips = |name: &str| topology.ips(&[name], vip);
            let split = SplitYaml::new(&name, SocketAddr::new(vip, 9080), protocol)
                .subset("v1", 3, &ips("v1-a"), PORT)
                .subset("v3", 1, &ips("v3-a"), PORT);
            all.push(split.text());
        }
    }
    all
}

fn models(topology: &Topology) -> Result<Vec<Split>> {
    let text = splits(topology).join("---\n");
    let desired = weir::resource::resolve(&[("splits.yaml", text.as_str())]);
    let desired = desired.ok().context("the splits are not valid")?;
    Ok(desired.splits().cloned().collect())
}

fn steer(release: &str, hook: &'static str) -> Result<()> {
    let mut scene = Scene::new(&["v1-a", "v3-a"], |topology| {
        splits(topology).iter().fold(Setup::default().forward(hook), |s, split| s.split(split))
    })?;
    let status = scene.agent.status()?;
    // What the kernel has, and what is done where it has not.
    for feature in status.features {
        let found = if feature.found { "yes" } else { "no" };
        println!("{release}: {hook}: {}: {found}: {}", feature.name, feature.note);
    }
    let path = if status.fast_path.used { "fast path" } else { "through the stack" };
    println!("{release}: {hook}: {path}: {}", status.fast_path.reason);
    for interface in status.interfaces {
        let error = interface.error.map(|error| format!(": {error}")).unwrap_or_default();
        println!("{release}: {} at {hook} as {}{error}", interface.name, interface.mode);
        ensure!(error.is_empty(), "not attached");
    }
    if hook == "tc" {
        shortcut(release, &scene)?;
        ingress_qdisc(release, &scene)?;
    }
    let mut models = models(&scene.topology)?;
    let mut open: Vec<Open> = Vec::new();
    for vip in [IpAddr::from(VIP_V4), VIP_V6.into()] {
        let (source, vip) = (SocketAddr::new(client_ip(vip), 9000), SocketAddr::new(vip, 9080));
        open.push(scene.topology.client.run(|| Open::new(source, vip))?);
    }
    check(&scene, &models, 10_000).context("weights 3:1")?;

    for split in &mut models {
        scene.agent.weights(&split.name().to_string(), &[("v1", 1), ("v3", 3)])?;
        let weights = BTreeMap::from([(Name::new("v1")?, 1), (Name::new("v3")?, 3)]);
        *split = split.with_weights(&weights)?;
    }
    check(&scene, &models, 20_000).context("weights 1:3")?;
    open.iter_mut().try_for_each(Open::exchange).context("after a change of weights")?;

    scene.agent.end(Signal::SIGKILL)?;
    check(&scene, &models, 30_000).context("without the agent")?;
    scene.agent.start_again(&scene.topology.node)?;
    check(&scene, &models, 40_000).context("after a restart")?;
    open.iter_mut().try_for_each(Open::exchange).context("after a restart")?;
    println!("{release}: {hook}: {} new flows and {} open connections", 16 * FLOWS, open.len());
    Ok(())
}

/// The way past the stack is closed where no MTU would be checked there, and where a filter is
/// behind weir's own.
fn shortcut(release: &str, scene: &Scene) -> Result<()> {
    let kernel = KernelVersion::current()?;
    let checks_mtu = kernel >= KernelVersion::new(5, 12, 0);
    let status = scene.agent.await_status("a choice", |status| !status.fast_path.reason.is_empty());
    println!("{release}: past the stack: {}", status.fast_path.reason);
    ensure!(status.fast_path.used == checks_mtu, "used: {}", status.fast_path.used);
    ensure!(checks_mtu || status.fast_path.reason.contains("no MTU"), "another reason");
    if !checks_mtu || has_tcx() {
        return Ok(());
    }
    let settings = Settings { flows: 1024, ..Settings::default() };
    let mut object = Object::load(&settings)?;
    let program = object.ebpf().program_mut("weir_tc_reply").context("a program")?;
    let program: &mut SchedClassifier = program.try_into()?;
    let options = NlOptions { priority: CLSACT_PRIORITY + 1, ..NlOptions::default() };
    let options = TcAttachOptions::Netlink(options);
    let attach = || program.attach_with_options(CLIENT_FACING, TcAttachType::Ingress, options);
    let link = scene.topology.node.run(attach)?;
    let status = scene.agent.await_status("it is closed", |status| !status.fast_path.used);
    println!("{release}: past the stack: {}", status.fast_path.reason);
    let expected = format!("of priority {} is behind weir", CLSACT_PRIORITY + 1);
    ensure!(status.fast_path.reason.contains(&expected), "another reason");
    scene.topology.node.run(|| program.detach(link))?;
    scene.agent.await_status("it is open again", |status| status.fast_path.used);
    Ok(())
}

/// Where weir needs clsact, it is not attached to an interface with the qdisc ingress, and is
/// attached when that has gone.
fn ingress_qdisc(release: &str, scene: &Scene) -> Result<()> {
    if has_tcx() {
        return Ok(());
    }
    let (node, ifname) = (&scene.topology.node, "veth-odd");
    node.ip(&["link add odd type veth peer name even"])?;
    node.output("tc", &["qdisc", "add", "dev", "odd", "ingress"])?;
    node.ip(&[format!("link set odd name {ifname}")])?;
    let found = |status: &StatusView| {
        let mut views = status.interfaces.iter().filter(|view| view.name == ifname);
        views.next().map(|view| view.error.clone())
    };
    let status = scene.agent.await_status("it is rejected", |s| found(s).flatten().is_some());
    println!("{release}: {ifname}: {}", found(&status).flatten().unwrap_or_default());
    let filters = node.output("tc", &["filter", "show", "dev", ifname, "ingress"])?;
    ensure!(!filters.contains("bpf"), "something is attached: {filters}");
    node.output("tc", &["qdisc", "del", "dev", ifname, "ingress"])?;
    scene.agent.await_status("it is attached", |status| found(status) == Some(None));
    node.ip(&[format!("link del {ifname}")])?;
    scene.agent.await_status("it is gone", |status| found(status).is_none());
    Ok(())
}

/// New flows of each split, from ports that were never used, reach what user space computes.
fn check(scene: &Scene, splits: &[Split], first: u16) -> Result<()> {
    for split in splits {
        let address = split.address();
        let vip = address.socket();
        let sources = ports(client_ip(vip.ip()), first..first + FLOWS);
        let answers = survey(&scene.topology.client, address.protocol, vip, &sources);
        for (source, answer) in sources.iter().zip(answers) {
            let wanted = explain(SEED, split, *source).and_then(|found| found.endpoint);
            let wanted = wanted.context("a subset has no endpoint")?.ip();
            match answer {
                Ok(name) if scene.topology.endpoint(&name).ip(vip.ip()) == wanted => {}
                other => bail!("{} from {source}: {other:?}, wanted {wanted}", split.name()),
            }
        }
    }
    Ok(())
}

/// A connection, and who answered it.
struct Open {
    stream: TcpStream,
    endpoint: String,
}

impl Open {
    fn new(source: SocketAddr, vip: SocketAddr) -> Result<Self> {
        let mut stream = connect_from(source, vip)?;
        let endpoint = read_line(&mut stream)?;
        Ok(Self { stream, endpoint })
    }

    fn exchange(&mut self) -> Result<()> {
        let mut answer = [0; 5];
        self.stream.write_all(b"still")?;
        self.stream.read_exact(&mut answer)?;
        ensure!(&answer == b"still", "{} answers something else", self.endpoint);
        Ok(())
    }
}
