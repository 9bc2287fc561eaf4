use super::*;

fn parse(line: &str) -> Result<(PathBuf, Command), clap::Error> {
    Cli::try_parse_from(line.split(' '))?.checked()
}

#[test]
fn commands_are_understood() {
    Cli::command().debug_assert();
    let (socket, command) = parse("weir weights --socket /tmp/s reviews v1=50 v3=0").unwrap();
    assert_eq!(socket, PathBuf::from("/tmp/s"));
    let weights = [("v1", 50), ("v3", 0)];
    let weights = weights.map(|(name, weight)| (name.to_owned(), Amount::Weight(weight))).into();
    let expected = WeightsArgs {
        name: "reviews".into(),
        weights,
        reset: false,
        this_node: false,
        cluster: ClusterArgs::default(),
        dry_run: false,
        reason: None,
        expected: Expected::default(),
        output: Output { format: Format::Table },
    };
    assert_eq!(command, Command::Weights(expected));

    let (socket, command) = parse("weir get splits reviews -o yaml").unwrap();
    assert_eq!(socket, PathBuf::from(DEFAULT_SOCKET));
    let resource = Resource::Splits {
        name: Some("reviews".into()),
        cluster: ClusterArgs::default(),
        output: Output { format: Format::Yaml },
    };
    let output = Output { format: Format::Table };
    let args =
        GetArgs { resource: Some(resource), name: None, cluster: ClusterArgs::default(), output };
    assert_eq!(command, Command::Get(args));
    let Command::Get(args) = parse("weir get a.b -o json").unwrap().1 else { panic!() };
    assert_eq!((args.resource, args.name.as_deref()), (None, Some("a.b")));
    assert_eq!(args.output.format, Format::Json);

    let line = "weir --socket /tmp/s explain --from [::1]:5 --to [fd00::1]:80 --protocol udp";
    let Command::Explain(args) = parse(line).unwrap().1 else { panic!() };
    assert_eq!((args.to.to_string().as_str(), args.protocol), ("[fd00::1]:80", Protocol::Udp));

    let (_, command) = parse("weir agent --config a.yaml --unload-on-exit").unwrap();
    let expected = AgentArgs { config: "a.yaml".into(), unload_on_exit: true, replace: false };
    assert_eq!(command, Command::Agent(expected));
    let output = Output { format: Format::Table };
    let (files, more) = (vec!["a".into(), "b".into()], Vec::new());
    let expected = ValidateArgs { files, more, output };
    assert_eq!(parse("weir validate a b").unwrap().1, Command::Validate(expected));
    let output = Output { format: Format::Json };
    let timeout = Duration::from_secs(60);
    let args = StatusArgs { brief: false, all: false, wait: false, timeout, output };
    let expected = Command::Status(args);
    assert_eq!(parse("weir status -o json").unwrap().1, expected);
    assert_eq!(
        parse("weir completions zsh").unwrap().1,
        Command::Completions { shell: Shell::Zsh }
    );
}

#[test]
fn what_can_be_seen_from_the_line_alone_is_a_mistake_of_usage() {
    for (line, says) in [
        ("weir weights a v1=10%,v2=95%", "the percentages add up to 105%"),
        ("weir weights a v1=10% v2=5", "weights and percentages in one command"),
        ("weir weights a v1=33.33333%", "at most four digits after the point"),
        (
            "weir explain --from 192.0.2.1 --to 192.0.2.2:80",
            "it has no port: expected ADDRESS:PORT",
        ),
        ("weir explain --from 2001:db8::1 --to 192.0.2.2:80", "such as [2001:db8::1]:80"),
        ("weir explain --from 192.0.2.1:65536 --to 192.0.2.2:80", "with a port of 0 to 65535"),
    ] {
        let error = parse(line).unwrap_err();
        assert_eq!(error.exit_code(), 2, "{line}");
        assert!(error.to_string().contains(says), "{line}: {error}");
    }
    assert_eq!(parse("weir status --socket=").unwrap().0, PathBuf::from(DEFAULT_SOCKET));
}

fn command(line: &str) -> Command {
    parse(line).expect(line).1
}

#[test]
fn changes_are_understood() {
    let Command::Weights(args) =
        command("weir weights a v1=5 --expect v1=90,v3=10 --expect-version 7")
    else {
        panic!()
    };
    assert_eq!(args.expected.expect, [("v1".to_owned(), 90), ("v3".to_owned(), 10)]);
    assert_eq!(args.expected.expect_version, Some(7));
    let Command::Weights(args) = command("weir weights a --reset") else { panic!() };
    assert!(args.reset && args.weights.is_empty());
    let Command::Rollback(args) = command("weir rollback a --to 3 -o json") else { panic!() };
    assert_eq!((args.to, args.output.format), (Some(3), Format::Json));
    let Command::Apply(args) = command("weir apply -f a -f - --dry-run") else { panic!() };
    assert_eq!((args.files.files, args.dry_run), (vec!["a".into(), "-".into()], true));
    let deleted = |line: &str| {
        let Command::Delete(args) = command(line) else { panic!("{line}") };
        let keys = args.keys().unwrap();
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        (keys.join(" "), args.files)
    };
    for (words, keys) in [
        ("split a b", "TrafficSplit/a TrafficSplit/b"),
        ("split/a vs/b", "TrafficSplit/a VirtualService/default/b"),
        ("-n shop vs/a dr/other/b", "VirtualService/shop/a DestinationRule/other/b"),
        ("tcproute a --namespace shop", "TCPRoute/shop/a"),
        ("Gateway.networking.istio.io/a", "Gateway.networking.istio.io/default/a"),
    ] {
        assert_eq!(deleted(&format!("weir delete {words}")), (keys.to_owned(), vec![]));
    }
    assert_eq!(deleted("weir delete -f a.yaml"), (String::new(), vec!["a.yaml".into()]));
    assert!(matches!(command("weir diff -f a"), Command::Diff(_)));
    assert!(matches!(command("weir history a"), Command::History(_)));
}

#[test]
fn mistakes_end_with_code_2() {
    for line in [
        "weir",
        "weir agent",
        "weir validate",
        "weir completions",
        "weir completions csh",
        "weir weights reviews",
        "weir weights reviews v1",
        "weir weights reviews v1=",
        "weir weights reviews v1=-1",
        "weir weights reviews v1=4294967296",
        "weir weights reviews v1=1 v1=2",
        "weir weights Reviews v1=1",
        "weir weights reviews v1=1 --reset",
        "weir weights reviews v1=1 --expect v1",
        "weir weights reviews v1=1 --expect v1=1,v1=2",
        "weir rollback",
        "weir rollback reviews --to x",
        "weir apply",
        "weir apply a.yaml",
        "weir diff",
        "weir delete",
        "weir delete split",
        "weir delete deployment a",
        "weir delete pod",
        "weir delete a",
        "weir delete split/n/a",
        "weir delete vs/n/m/a",
        "weir delete vs/N/a",
        "weir delete vs/a -n N",
        "weir delete split a vs/b",
        "weir delete split/a -f x.yaml",
        "weir get A",
        "weir get a b",
        "weir delete split a -f b",
        "weir get splits -o xml",
        "weir explain --from 1.2.3.4:5",
        "weir explain --from 1.2.3.4 --to 1.2.3.4:5",
        "weir explain --from 1.2.3.4:5 --to 1.2.3.4:5 --protocol sctp",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), 2, "{line}");
    }
}

#[test]
fn a_cluster_is_meant_only_if_that_is_said() {
    let cluster = |line: &str| {
        let words = line.split(' ').map(OsString::from);
        match Cli::of(words).map_err(|error| (error.exit_code(), error.to_string()))?.1 {
            Command::Weights(args) => Ok(args.cluster),
            Command::Rollback(args) => Ok(args.cluster),
            Command::History(args) => Ok(args.cluster),
            Command::Get(args) => Ok(args.cluster().clone()),
            Command::Explain(args) => Ok(args.cluster),
            other => panic!("{other:?}"),
        }
    };
    let explain = "explain --from 192.0.2.1:1 --to 192.0.2.2:80";
    for what in ["weights a v1=1", "rollback a", "history a", "get a", "get splits", explain] {
        let meant = |line: String| cluster(&line).unwrap().is_meant();
        assert!(!meant(format!("weir {what}")), "{what}");
        for flag in ["--cluster", "--kubeconfig /a/b", "--context c"] {
            assert!(meant(format!("weir {what} {flag}")), "{what} {flag}");
        }
        assert!(meant(format!("/x/kubectl-weir {what}")), "{what}");
    }
    let by_kubectl = "kubectl-weir weights a v1=1";
    assert!(!cluster(&format!("{by_kubectl} --this-node")).unwrap().is_meant());
    let flags = "--kubeconfig /a/b --context c";
    let command = |line: &str| cluster(line).unwrap().command("rollback a");
    assert_eq!(command(by_kubectl), "kubectl weir rollback a");
    assert_eq!(command("weir history a --cluster"), "weir rollback a --cluster");
    let same = format!("weir rollback a {flags}");
    assert_eq!(command(&format!("weir history a {flags} -n shop")), same);
    for (line, says) in [
        ("weir weights a v1=1 -n shop", "--namespace is of a cluster"),
        ("weir weights a v1=1 --this-node --cluster", "cannot be used with"),
        ("weir weights a --reset --cluster", "--reset ends the override of one node"),
        ("kubectl-weir status", "only the agent of a node can do this"),
        ("kubectl-weir drain a 192.0.2.1", "only the agent of a node can do this"),
    ] {
        let (code, error) = cluster(line).unwrap_err();
        assert!(code == 2 && error.contains(says), "{line}: {error}");
    }
}
