//! The agent's status as plain text.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::args::StatusArgs;
use super::columns::Align::{Left, Right};
use super::render::{share, table, weights};
use super::{EXIT_DONE, EXIT_FAILED};
use crate::api::Client;
use crate::api::types::{
    DetourView, DrainedEndpointView, DrainedView, FastPathView, FlowTableView, HealthView,
    KubernetesView, OverrideView, StatusView, TakeoverView, ThisNodeView, TroubleView, Verdict,
};
use crate::model::counted;

/// How often an agent is asked that is waited for.
const PAUSE: Duration = Duration::from_millis(250);
/// How many endpoints of a link are named.
const NAMED: usize = 3;
/// What is so of endpoints of which the agent never sees the answers.
const DETOURS: &str = "Endpoints on a link of clients, which reject their answers if these do not \
                       come by this node:";

/// What is so of splits of the cluster that somebody changed with `--this-node`.
const THIS_NODE: &str = "Of the cluster, and on this node alone otherwise (`--this-node`):";

/// Asks an agent how it is: the answer, and the exit code.
pub(super) async fn ask(client: &Client, args: &StatusArgs) -> Result<(String, u8)> {
    let view = if args.wait { wait(client, args.timeout).await? } else { client.status().await? };
    let text = match args.brief {
        true => verdict(&view.health),
        false => super::show(args.output, &view, |view| status(view, args.all))?,
    };
    let is_ok = view.health.verdict == Verdict::Ok;
    Ok((text, if is_ok { EXIT_DONE } else { EXIT_FAILED }))
}

/// The first answer that is OK, or else the last one in time.
async fn wait(client: &Client, timeout: Duration) -> Result<StatusView> {
    let end = Instant::now() + timeout;
    loop {
        let answer = client.status().await;
        let is_ok = answer.as_ref().is_ok_and(|view| view.health.verdict == Verdict::Ok);
        if is_ok || Instant::now() >= end {
            return Ok(answer?);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

fn verdict(HealthView { verdict, reasons }: &HealthView) -> String {
    match reasons.is_empty() {
        true => format!("{verdict}\n"),
        false => format!("{verdict}: {}\n", reasons.join("; ")),
    }
}

/// The verdict, and all that there is to say, what is wrong at the end; counters that
/// are zero only if `all` are wanted.
fn status(view: &StatusView, all: bool) -> String {
    let StatusView { version, map_layout, kernel, started, .. } = view;
    let reloaded = match &view.reloaded {
        Some(at) => format!("in force since {at}"),
        None => "not put into force since the agent started".to_owned(),
    };
    let mut text = format!(
        "{}\n\
         agent:      weir {version}, map layout {map_layout}, since {started}\n\
         kernel:     Linux {kernel}\n\
         resources:  {reloaded}\n\
         {}fast path:  {}\n",
        verdict(&view.health),
        view.kubernetes.as_ref().map(cluster).unwrap_or_default(),
        fast_path(&view.fast_path)
    );
    text.push_str(&takeover(&view.takeover));
    let reasons = reasons(view, all);
    for section in [interfaces(view), features(view), maps(view), flows(view), reasons] {
        if !section.is_empty() {
            let _ = write!(text, "\n{section}");
        }
    }
    complaint(&mut text, "The last configuration was rejected:", &view.last_error);
    complaint(&mut text, "Applied before, and not in force:", &view.rejected);
    if let Some(cluster) = &view.kubernetes {
        complaint(&mut text, "Of the cluster, and not in force:", &cluster.rejected);
        complaint(&mut text, "Would be steered, but is only observed:", &cluster.observed);
        complaint(&mut text, "Following the cluster fails:", &cluster.errors);
    }
    let line = |TroubleView { what, error, since }: &TroubleView| {
        format!("{what}, since {since}: {error}")
    };
    let troubles: Vec<String> = view.troubles.iter().map(line).collect();
    complaint(&mut text, "Failing for now, and tried again:", &troubles);
    let detours: Vec<String> = view.detours.iter().map(detour).collect();
    complaint(&mut text, DETOURS, &detours);
    let drained: Vec<String> = view.drained.iter().map(drained).collect();
    complaint(&mut text, "Taken out by `weir drain`, and out until `weir undrain`:", &drained);
    let of_this_node: Vec<String> = view.this_node.iter().map(of_this_node).collect();
    complaint(&mut text, THIS_NODE, &of_this_node);
    text
}

/// How a split of the cluster is otherwise here.
fn of_this_node(
    ThisNodeView { split, weights: own, overridden, drained }: &ThisNodeView,
) -> String {
    let overridden = overridden.as_ref().map(|OverrideView { since, defined }| {
        format!("{} instead of {}, since {since}", weights(own), weights(defined))
    });
    let out = drained
        .iter()
        .map(|DrainedView { address, since, .. }| format!("without {address}, since {since}"));
    let said: Vec<String> = overridden.into_iter().chain(out).collect();
    format!("{split}: {}", said.join("; "))
}

fn drained(DrainedEndpointView { split, endpoint }: &DrainedEndpointView) -> String {
    let DrainedView { address, since, by, reason, .. } = endpoint;
    let by = by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{split} {address}, since {since}{by}{reason}")
}

fn cluster(view: &KubernetesView) -> String {
    let server = view.server.as_deref().unwrap_or("not known yet");
    let objects: u64 = view.kinds.values().map(|kind| kind.objects).sum();
    let objects = counted(usize::try_from(objects).unwrap_or(usize::MAX), "object");
    let how = match &view.stale_since {
        Some(since) => format!("stale since {since}"),
        None => "followed".to_owned(),
    };
    let mode = if view.mode == "observe" { ", only observed" } else { "" };
    format!("cluster:    {server}, {how}, {objects}{mode}\n")
}

/// Some of the endpoints of a link.
fn detour(DetourView { interface, count, endpoints }: &DetourView) -> String {
    let named = &endpoints[..endpoints.len().min(NAMED)];
    let more = match count.saturating_sub(named.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more (`weir doctor` names all)"),
    };
    format!("{interface}: {}{more}", named.join(", "))
}

fn fast_path(view: &FastPathView) -> String {
    let FastPathView { used, setting, reason } = view;
    let used = if *used { "used" } else { "not used" };
    format!("{used} ({setting}): {reason}")
}

/// Nothing where nothing was taken over.
fn takeover(view: &TakeoverView) -> String {
    let TakeoverView { connections, reading, error } = view;
    match error {
        Some(error) => format!("connections of before: not known: {error}\n"),
        None if *reading => format!("connections of before: {connections}, and being read\n"),
        None if *connections > 0 => format!("connections of before: {connections}\n"),
        None => String::new(),
    }
}

fn complaint(text: &mut String, title: &str, lines: &[String]) {
    if !lines.is_empty() {
        let _ = writeln!(text, "\n{title}");
        lines.iter().for_each(|line| _ = writeln!(text, "  {line}"));
    }
}

fn interfaces(view: &StatusView) -> String {
    let row = |interface: &crate::api::types::InterfaceView| {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
        [
            interface.name.clone(),
            interface.index.to_string(),
            interface.hook.clone(),
            or_dash(&interface.mode),
            or_dash(&match (&interface.error, &interface.passed_over, &interface.last_detached) {
                (Some(error), _, _) => error.clone(),
                (None, Some(why), _) => format!("none: passed over, {why}"),
                (None, None, Some(at)) => {
                    format!(
                        "none: attached again, detached {} last {at}",
                        times(interface.detached)
                    )
                }
                (None, None, None) => String::new(),
            }),
        ]
    };
    let columns =
        [("INTERFACE", Left), ("INDEX", Right), ("HOOK", Left), ("MODE", Left), ("ERROR", Left)];
    table(columns, &view.interfaces.iter().map(row).collect::<Vec<_>>())
}

fn times(count: u64) -> String {
    if count == 1 { "once,".to_owned() } else { format!("{count} times,") }
}

fn features(view: &StatusView) -> String {
    let rows = view.features.iter().map(|feature| {
        let found = if feature.found { "yes" } else { "no" };
        [feature.name.clone(), found.to_owned(), feature.note.clone()]
    });
    let rows: Vec<[String; 3]> = rows.collect();
    let columns = [("FEATURE", Left), ("FOUND", Left), ("", Left)];
    if rows.is_empty() { String::new() } else { table(columns, &rows) }
}

fn maps(view: &StatusView) -> String {
    let rows = view.maps.iter().map(|map| {
        let used = share(Some(map.used as f64 / map.limit as f64));
        [map.kind.clone(), map.used.to_string(), map.limit.to_string(), used]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    let columns = [("MAP", Left), ("USED", Right), ("LIMIT", Right), ("USE", Right)];
    if rows.is_empty() { String::new() } else { table(columns, &rows) }
}

fn flows(view: &StatusView) -> String {
    let row = |of: &FlowTableView| {
        let number = |count: Option<u64>| count.map_or_else(|| "-".to_owned(), |n| n.to_string());
        let used = of.open_flows.map(|open| open as f64 / of.limit as f64);
        let table = format!("{} {}", of.family, of.table);
        [table, number(of.open_flows), number(of.expired), of.limit.to_string(), share(used)]
    };
    let columns = [
        ("FLOW TABLE", Left),
        ("OPEN", Right),
        ("EXPIRED", Right),
        ("LIMIT", Right),
        ("USE", Right),
    ];
    if view.flow_tables.is_empty() {
        return String::new();
    }
    let mut text = table(columns, &view.flow_tables.iter().map(row).collect::<Vec<_>>());
    let _ = match &view.flows_counted {
        Some(at) => writeln!(text, "(counted at {at})"),
        None => writeln!(text, "(not counted yet)"),
    };
    for full in &view.flow_tables {
        if let Some(since) = &full.full_since {
            let _ = writeln!(
                text,
                "{} {} is full since {since}: new flows evict those that were silent for \
                 longest, though they may live; raise flows.max",
                full.family, full.table
            );
        }
    }
    text
}

fn reasons(view: &StatusView, all: bool) -> String {
    let shown = view.reasons.iter().filter(|(_, count)| all || **count > 0);
    let rows = shown.map(|(reason, count)| [reason.clone(), count.to_string()]);
    let rows: Vec<[String; 2]> = rows.collect();
    if rows.is_empty() {
        return String::new();
    }
    table([("REASON", Left), ("PACKETS", Right)], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{FeatureView, InterfaceView, MapView};

    fn taken_out() -> DrainedEndpointView {
        DrainedEndpointView {
            split: "reviews".into(),
            endpoint: DrainedView {
                address: "192.0.2.7:80".parse().unwrap(),
                subsets: vec!["v1".into()],
                since: "1970-01-01T00:00:02.000Z".into(),
                by: Some("root".into()),
                reason: Some("disk".into()),
            },
        }
    }

    fn detours(interface: &str, count: u64) -> DetourView {
        DetourView {
            interface: interface.into(),
            count,
            endpoints: (1..=count.min(4)).map(|n| format!("192.0.2.{n}:80 (a, v1)")).collect(),
        }
    }

    fn otherwise_here() -> ThisNodeView {
        ThisNodeView {
            split: "web.shop".into(),
            weights: [("v1".to_owned(), 1)].into(),
            overridden: Some(OverrideView {
                since: "1970-01-01T00:00:02.000Z".into(),
                defined: [("v1".to_owned(), 2)].into(),
            }),
            drained: vec![taken_out().endpoint],
        }
    }

    #[test]
    fn a_status_shows_what_is_used_and_what_is_wrong() {
        let interface = |name: &str, mode: &str, error: Option<&str>| InterfaceView {
            name: name.into(),
            index: 2,
            hook: "tc".into(),
            mode: mode.into(),
            error: error.map(str::to_owned),
            passed_over: (name == "lo").then(|| "not an Ethernet interface".into()),
            detached: if name == "eth1" { 2 } else { 0 },
            last_detached: (name == "eth1").then(|| "1970-01-01T00:00:03.000Z".into()),
        };
        let flow_table = |table: &str, active| FlowTableView {
            family: "ipv4".into(),
            table: table.into(),
            open_flows: active,
            expired: active,
            limit: 2000,
            full_since: active.map(|_| "1970-01-01T00:00:01.500Z".into()),
        };
        let (name, found) = ("tcx".to_owned(), false);
        let mut view = StatusView {
            health: HealthView::default(),
            version: "0.1.0".into(),
            map_layout: 3,
            kernel: "6.1.0".into(),
            config: "/etc/weir/agent.yaml".to_owned(),
            network_namespace: 1,
            started: "1970-01-01T00:00:01.000Z".into(),
            reloaded: None,
            interfaces: vec![
                interface("eth0", "clsact", None),
                interface("eth1", "tcx", None),
                interface("tun0", "", Some("not an Ethernet interface")),
                interface("lo", "", None),
            ],
            fast_path: FastPathView {
                used: false,
                setting: "auto".into(),
                reason: "something is in the way".into(),
            },
            features: vec![FeatureView { name, found, note: "filters".into() }],
            maps: vec![MapView { kind: "splits".into(), used: 3, limit: 1024 }],
            flow_tables: vec![flow_table("live", Some(500)), flow_table("pending", None)],
            flows_counted: Some("1970-01-01T00:00:02.000Z".into()),
            reasons: [("no_endpoint".to_owned(), 12), ("flow_reused".to_owned(), 0)].into(),
            last_error: vec!["weir.yaml:3: no".into()],
            rejected: vec!["TrafficSplit/x: no".into()],
            troubles: vec![TroubleView {
                what: "serving metrics".into(),
                error: "busy".into(),
                since: "1970-01-01T00:00:02.000Z".into(),
            }],
            detours: vec![detours("eth0", 1), detours("br0", 9)],
            drained: vec![taken_out()],
            this_node: vec![otherwise_here()],
            ..StatusView::default()
        };
        view.health = HealthView::of(&view, Vec::new());
        let expected = "\
DEGRADED: tun0: not an Ethernet interface; 1 thing in the resources is wrong: weir.yaml:3: no; \
1 thing applied before is not in force: TrafficSplit/x: no; serving metrics: busy; \
the ipv4 flow table is full

agent:      weir 0.1.0, map layout 3, since 1970-01-01T00:00:01.000Z
kernel:     Linux 6.1.0
resources:  not put into force since the agent started
fast path:  not used (auto): something is in the way

INTERFACE  INDEX  HOOK  MODE    ERROR
eth0           2  tc    clsact  -
eth1           2  tc    tcx     none: attached again, detached 2 times, last 1970-01-01T00:00:03.000Z
tun0           2  tc    -       not an Ethernet interface
lo             2  tc    -       none: passed over, not an Ethernet interface

FEATURE  FOUND
tcx      no     filters

MAP     USED  LIMIT    USE
splits     3   1024  0.29%

FLOW TABLE    OPEN  EXPIRED  LIMIT     USE
ipv4 live      500      500   2000  25.00%
ipv4 pending     -        -   2000       -
(counted at 1970-01-01T00:00:02.000Z)
ipv4 live is full since 1970-01-01T00:00:01.500Z: new flows evict those that were silent for longest, though they may live; raise flows.max

REASON       PACKETS
no_endpoint       12

The last configuration was rejected:
  weir.yaml:3: no

Applied before, and not in force:
  TrafficSplit/x: no

Failing for now, and tried again:
  serving metrics, since 1970-01-01T00:00:02.000Z: busy

Endpoints on a link of clients, which reject their answers if these do not come by this node:
  eth0: 192.0.2.1:80 (a, v1)
  br0: 192.0.2.1:80 (a, v1), 192.0.2.2:80 (a, v1), 192.0.2.3:80 (a, v1) and 6 more (`weir doctor` names all)

Taken out by `weir drain`, and out until `weir undrain`:
  reviews 192.0.2.7:80, since 1970-01-01T00:00:02.000Z by root (disk)

Of the cluster, and on this node alone otherwise (`--this-node`):
  web.shop: v1=1 instead of v1=2, since 1970-01-01T00:00:02.000Z; without 192.0.2.7:80, since 1970-01-01T00:00:02.000Z
";
        assert_eq!(status(&view, false), expected);
        let zero = status(&view, true).contains("flow_reused        0\n");
        assert!(zero, "{}", status(&view, true));
    }

    #[test]
    fn connections_of_before_are_shown_while_there_are_any() {
        let shown = |connections, reading, error: Option<&str>| {
            takeover(&TakeoverView { connections, reading, error: error.map(str::to_owned) })
        };
        assert_eq!(shown(0, false, None), "");
        let cases = [
            (shown(200, false, None), "200"),
            (shown(0, true, None), "0, and being read"),
            (shown(0, false, Some("rejected")), "not known: rejected"),
        ];
        for (text, expected) in cases {
            assert_eq!(text, format!("connections of before: {expected}\n"));
        }
    }
}
