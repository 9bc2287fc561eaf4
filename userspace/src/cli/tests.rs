//! Commands as they are typed, against an agent without a kernel.

use std::path::Path;

use clap::Parser as _;

use super::*;
use crate::api::kernelless::{Running, start};

const FILE: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata: {name: reviews}
spec:
  address: 10.0.0.1
  port: 80
  subsets:
  - {name: v1, weight: 90, endpoints: ['10.1.0.1:80', '10.1.0.2:80']}
  - {name: v3, weight: 10, endpoints: ['10.1.0.3:80']}
";

/// What a command prints, or its error. `$D` in it is the agent's directory.
async fn weir(running: &Running, line: &str) -> Result<String, String> {
    let directory = running.directory.path().display().to_string();
    let words = line.split(' ').map(|word| word.replace("$D", &directory));
    let cli = Cli::try_parse_from(["weir".to_owned()].into_iter().chain(words)).expect(line);
    match run(running, cli).await {
        (Ok(_), out) => Ok(out.replace(&directory, "$D")),
        (Err(failure), _) => Err(format!("{:#}", failure.error).replace(&directory, "$D")),
    }
}

/// The exit code, and what is printed. A command has a thread and a runtime of its own.
async fn run(running: &Running, cli: Cli) -> (Result<u8, Failure>, String) {
    let (_, command) = cli.checked().unwrap();
    let client = Client::new(&running.socket);
    let command = move || {
        let mut out = Vec::new();
        let result = command.run(&client, &mut out, &mut io::stderr());
        (result, String::from_utf8(out).unwrap())
    };
    tokio::task::spawn_blocking(command).await.unwrap()
}

fn write(running: &Running, name: &str, text: &str) {
    let path = running.directory.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
    std::fs::write(path, text).unwrap();
}

#[tokio::test]
async fn a_diff_says_what_apply_then_does() {
    let running = start("");
    write(&running, "d/a.yaml", FILE);
    write(&running, "d/b.yml", &FILE.replace("reviews", "ratings").replace("10.0.0.1", "10.0.0.2"));
    let applied = "\
TrafficSplit/reviews created
TrafficSplit/ratings created

+ ratings
+ reviews
Splits: 2 added, 0 changed, 0 removed, 0 unchanged.
";
    let would = applied.replace("created", "would be created");
    assert_eq!(weir(&running, "diff -f $D/d").await.unwrap(), would);
    assert_eq!(weir(&running, "apply --dry-run -f $D/d").await.unwrap(), would);
    assert_eq!(weir(&running, "get splits -o json").await.unwrap(), "[]\n");
    assert_eq!(weir(&running, "apply -f $D/d").await.unwrap(), applied);

    let changed = FILE
        .replace("weight: 90", "weight: 80")
        .replace("weight: 10", "weight: 20")
        .replace("['10.1.0.3:80']", "['10.1.0.4:80']");
    write(&running, "d/a.yaml", &changed);
    let expected = "\
TrafficSplit/reviews changed

~ reviews: 20.00% of new flows go elsewhere; live ones stay
    v1: weight 90 -> 80 (90.00% -> 80.00%)
    v3: weight 10 -> 20 (10.00% -> 20.00%)
    v3: + 10.1.0.4:80
    v3: - 10.1.0.3:80
    v3: 100.00% of its flows change endpoint
    v1 -> v3: 10.00%
Splits: 0 added, 1 changed, 0 removed, 1 unchanged.
";
    assert_eq!(weir(&running, "apply -f $D/d/a.yaml -f $D/d/b.yml").await.unwrap(), expected);
    let json = weir(&running, "diff -f $D/d -o json").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!((&json["dry_run"], &json["difference"]["unchanged"]), (&true.into(), &2.into()));

    let expected = "\
TrafficSplit/reviews deleted

- reviews
Splits: 0 added, 0 changed, 1 removed, 1 unchanged.
";
    assert_eq!(weir(&running, "delete split reviews").await.unwrap(), expected);
    weir(&running, "delete -f $D/d").await.expect_err("reviews is not there any more");
    weir(&running, "delete -f $D/d/b.yml").await.unwrap();
    assert_eq!(weir(&running, "get splits").await.unwrap().lines().count(), 1);
}

#[tokio::test]
async fn weights_are_shifted_shown_and_taken_back() {
    let running = start(FILE);
    let shifted = "\
NAME     SUBSET  WEIGHT  DEFINED  WANTED  OBSERVED  FLOWS  ENDPOINTS  VERSION  SOURCE
reviews  v1          50       90  50.00%         -      0          0        2  weir.yaml:3
reviews  v3          50       10  50.00%         -      0          0        2  weir.yaml:3

reviews: weights are overridden since 1970-01-01T00:00:02.000Z; `weir weights reviews --reset` \
goes back to v1=90 v3=10
";
    let moved = "
reviews: v1 90.00% -> 50.00%, v3 10.00% -> 50.00% of new connections
undo: weir rollback reviews --expect-version 2
";
    let line = "weights reviews v1=50 v3=50 --expect v1=90,v3=10";
    assert_eq!(weir(&running, line).await.unwrap(), format!("{shifted}{moved}"));
    assert_eq!(weir(&running, "get splits reviews").await.unwrap(), shifted);
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name;
    let late = format!(
        "split \"reviews\" has v1=50 v3=50 (version 2, 1970-01-01T00:00:02.000Z by {user} (weights)), \
         expected v1=90 v3=10"
    );
    assert_eq!(weir(&running, line).await.unwrap_err(), late);
    let line = "weights reviews --reset --expect v1=90,v3=10";
    assert_eq!(weir(&running, line).await.unwrap_err(), late);
    weir(&running, "weights reviews --reset --expect v1=50,v3=50 --expect-version 2")
        .await
        .unwrap();
    weir(&running, "rollback reviews --to 2 --expect v1=90 --reason not-it").await.unwrap();
    let wide = user.len().max(2);
    let history = format!(
        "\
VERSION  TIME                      CAUSE     {:wide$}  FROM         TO           REASON
      1  1970-01-01T00:00:01.000Z  file      {:wide$}  -            v1=90 v3=10
      2  1970-01-01T00:00:02.000Z  weights   {user:wide$}  v1=90 v3=10  v1=50 v3=50
      3  1970-01-01T00:00:05.000Z  reset     {user:wide$}  v1=50 v3=50  v1=90 v3=10
      4  1970-01-01T00:00:06.000Z  rollback  {user:wide$}  v1=90 v3=10  v1=50 v3=50  not-it
",
        "BY", "-"
    );
    assert_eq!(weir(&running, "history reviews").await.unwrap(), history);
    let json = weir(&running, "history reviews -o json").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json[1]["to"], serde_json::json!({"v1": 50, "v3": 50}));
    assert_eq!((json[3]["by"].as_str(), &json[3]["reason"]), (Some(&*user), &"not-it".into()));
    assert_eq!(json[0].get("by"), None, "nobody knows who wrote a file");
}

#[tokio::test]
async fn a_diff_tells_scripts_whether_there_is_one() {
    let running = start("");
    write(&running, "a.yaml", FILE);
    write(&running, "blank.yaml", "# nothing\n");
    write(&running, "bad.yaml", &FILE.replace("port: 80", "port: 0"));
    for name in ["blank.yaml", "bad.yaml", "none.yaml"] {
        let file = running.directory.path().join(name).display().to_string();
        let diff = Cli::try_parse_from(["weir", "diff", "-f", &file]).unwrap();
        let (failure, _) = run(&running, diff).await;
        assert_eq!(failure.expect_err(name).code, EXIT_NO_DIFF, "{name}");
    }
    let file = running.directory.path().join("a.yaml").display().to_string();
    for (expected, apply) in [(EXIT_DIFFERENT, true), (EXIT_DONE, false)] {
        let diff = Cli::try_parse_from(["weir", "diff", "-f", &file]).unwrap();
        let (code, _) = run(&running, diff).await;
        assert_eq!(code.unwrap(), expected);
        if apply {
            weir(&running, "apply -f $D/a.yaml").await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_diff_compares_with_the_files_of_the_node_too() {
    let running = start(FILE);
    write(&running, "same.yaml", &format!("# another comment\n{FILE}"));
    let said = weir(&running, "diff -f $D/same.yaml").await.unwrap();
    assert_eq!(said, "Splits: 0 added, 0 changed, 0 removed, 1 unchanged.\n");
    write(&running, "other.yaml", &FILE.replacen("weight: 10", "weight: 30", 1));
    let said = weir(&running, "diff -f $D/other.yaml").await.unwrap();
    assert!(said.starts_with("TrafficSplit/reviews would be changed\n\n~ reviews: "), "{said}");
    let said = weir(&running, "get reviews").await.unwrap();
    assert!(said.contains("90.00%"), "nothing has changed: {said}");
    for rejected in ["apply --dry-run -f", "apply -f"] {
        let error = weir(&running, &format!("{rejected} $D/other.yaml")).await.unwrap_err();
        assert!(error.contains("is already defined at weir.yaml"), "{error}");
    }
}

#[tokio::test]
async fn percentages_are_of_all_new_connections_and_nothing_is_done_for_a_dry_run() {
    let running = start(FILE);
    let said = weir(&running, "weights reviews v3=25% --dry-run").await.unwrap();
    let expected =
        "reviews would get: v1 90.00% -> 75.00%, v3 10.00% -> 25.00% of new connections\n";
    assert_eq!(said, expected);
    // It is rejected as the change would be.
    for expect in ["--expect v1=91", "--expect V1=90", "--expect v9=1", "--expect-version 0"] {
        let [dry, real] =
            ["--dry-run ", ""].map(|dry| format!("weights reviews v3=25 {dry}{expect}"));
        let dry = weir(&running, &dry).await.expect_err(expect);
        let real = weir(&running, &real).await.expect_err(expect);
        assert!(dry.contains("reviews") && real.contains("reviews"), "{expect}: {dry} | {real}");
    }
    let line = "weights reviews v3=25% --dry-run --expect v1=90,v3=10 --expect-version 1";
    assert!(weir(&running, line).await.is_ok());
    let said = weir(&running, "get reviews").await.unwrap();
    assert!(said.contains("reviews  v3          10 "), "{said}");
    let said = weir(&running, "weights reviews v3=25%").await.unwrap();
    assert!(said.contains("reviews  v1          75       90  75.00%"), "{said}");
    let undo = "\nundo: weir rollback reviews --expect-version 2\n";
    assert!(said.ends_with(undo), "{said}");
    // 50 of 75: not what a person expects who types 50 where 75 and 25 were.
    let said = weir(&running, "weights reviews v1=50").await.unwrap();
    let warning = "\nwarning: v1 gets 66.67%, not 50%, since the weights add up to 75; \
                   for 50%: weir weights reviews v1=50%\n";
    assert!(said.contains(warning), "{said}");
    let said = weir(&running, "weights reviews v1=50%,v3=50%").await.unwrap();
    assert!(said.contains("v1 66.67% -> 50.00%, v3 33.33% -> 50.00%"), "{said}");
    let said = weir(&running, "weights reviews v1=50").await.unwrap();
    assert!(said.contains("\nreviews: these weights are in force already\n"), "<{said}>");
    let error = weir(&running, "weights reviews v3=10% --expect-version 1").await.unwrap_err();
    assert!(error.contains("expected version 1"), "{error}");
}

#[tokio::test]
async fn an_ended_override_is_told() {
    let running = start("");
    write(&running, "a.yaml", FILE);
    weir(&running, "apply -f $D/a.yaml").await.unwrap();
    weir(&running, "weights reviews v1=50").await.unwrap();
    write(&running, "a.yaml", &FILE.replace("90", "70"));
    let said = weir(&running, "apply -f $D/a.yaml").await.unwrap();
    let event = "split reviews: the override v1=50 v3=10 is over, as the weights in its definition \
                 changed to v1=70 v3=10\n";
    assert!(said.ends_with(event), "{said}");
    let said = weir(&running, "get splits reviews").await.unwrap();
    let note =
        "\nreviews: the override v1=50 v3=10 ended when the weights in its definition changed\n";
    assert!(said.ends_with(note), "{said}");
}

#[tokio::test]
async fn what_is_wrong_with_files_is_said_with_their_place() {
    let running = start(FILE);
    write(&running, "bad.yaml", &FILE.replace("weight: 10", "weight: -1").replace("reviews", "x"));
    write(&running, "empty/notes.txt", "");
    for (line, says) in [
        (
            "apply -f $D/bad.yaml",
            "$D/bad.yaml:9: spec.subsets[1].weight: -1 is out of range, expected an integer from 0 \
             to 4294967295",
        ),
        ("apply -f $D/none.yaml", "$D/none.yaml: cannot read the file: No such file or directory"),
        ("apply -f $D/empty", "$D/empty: no *.yaml or *.yml file is in this directory"),
        ("delete split reviews", "TrafficSplit/reviews is defined at weir.yaml:3: remove it there"),
        ("delete split x", "TrafficSplit/x was not applied"),
        ("history x", "there was no split \"x\"; there is reviews"),
        ("get review", "there is no split \"review\"; did you mean \"reviews\"?"),
        (
            "weights reviews V1=5",
            "split \"reviews\": there is no subset \"V1\"; did you mean \"v1\"?",
        ),
        (
            "weights reviews v1=0 v3=0 --dry-run",
            "split \"reviews\": the weights of a split must not all be 0",
        ),
    ] {
        let error = weir(&running, line).await.expect_err(line);
        assert!(error.starts_with(says), "{line}: {error}");
    }
}

#[tokio::test]
async fn what_was_not_applied_is_said_with_what_was() {
    let running = start(SERVICES);
    write(&running, "a.yaml", &format!("{FILE}---\n{ROUTES}"));
    weir(&running, "apply -f $D/a.yaml").await.unwrap();
    for (line, says) in [
        ("delete split review", "TrafficSplit/review was not applied; did you mean \"reviews\"?"),
        ("delete split other", "TrafficSplit/other was not applied; there is reviews"),
        (
            "delete vs/shop/reviews",
            "VirtualService/shop/reviews was not applied; there is VirtualService/default/reviews",
        ),
        ("delete dr/review", "DestinationRule/default/review was not applied"),
    ] {
        assert_eq!(weir(&running, line).await.expect_err(line), says, "{line}");
    }
    for (typed, says) in [
        ("virtualservise/reviews", "did you mean \"virtualservice\"?"),
        ("reviews", "as a name it takes a kind: split/reviews"),
    ] {
        let typed = Cli::try_parse_from(["weir", "delete", typed]).unwrap();
        let said = typed.checked().unwrap_err().to_string();
        assert!(said.contains(says), "{said}");
    }
    let typed = Cli::try_parse_from(["weir", "weights", "v1=50", "v3=50"]).unwrap_err();
    assert!(typed.to_string().contains("weir weights SPLIT v1=50"), "{typed}");
    let all = weir(&running, "get").await.unwrap();
    assert_eq!(all, weir(&running, "get splits").await.unwrap());
    assert!(all.contains("reviews.default"), "{all}");
}

#[tokio::test]
async fn flows_are_listed_as_a_table_and_as_lines_of_json() {
    let running = start("");
    let expected = "\
PROTO  CLIENT          SERVICE      SPLIT    SUBSET  ENDPOINT     STATE        IDLE  AGE
TCP    192.0.2.0:1024  10.0.0.1:80  reviews  v1      10.1.0.1:80  established    0s   0s
TCP    192.0.2.0:1025  10.0.0.1:80  reviews  v1      10.1.0.1:80  established    1s   1s
";
    assert_eq!(weir(&running, "flows --limit 2").await.unwrap(), expected);
    let title = expected.lines().next().unwrap().split_whitespace().collect::<Vec<_>>();
    let empty = weir(&running, "flows --limit 0").await.unwrap();
    assert_eq!(empty.split_whitespace().collect::<Vec<_>>(), title);
    let json = weir(&running, "flows --limit 2500 -o json").await.unwrap();
    let flows: Vec<crate::api::types::FlowView> =
        json.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(flows, (0..2500).map(crate::api::kernelless::flow).collect::<Vec<_>>());
}

#[tokio::test]
async fn shares_and_rates_are_watched_as_a_table_and_as_lines_of_json() {
    let running = start(FILE);
    let line = "watch reviews --interval 100ms --count 2";
    let expected = "\
TIME                      SPLIT    SUBSET  WEIGHT  WANTED  OBSERVED  95% INTERVAL  FLOWS/S  \
OPEN  PKT/S  BIT/S  REJECT/S  REFUSED/S  NOANSWER/S  SYN P50/99  REPLY P50/99  FLOWS
1970-01-01T00:00:00.000Z  reviews  v1          90  90.00%    90.00%  85.06-93.43%       90     \
7      0      0         0          0           0           -             -    180
1970-01-01T00:00:00.000Z  reviews  v3          10  10.00%    10.00%   6.57-14.94%       10     \
7      0      0         0          0           0           -             -     20
";
    let text = weir(&running, line).await.unwrap();
    assert_eq!(text.lines().count(), 5, "{text}");
    assert!(text.starts_with(expected), "{text}");
    let json = weir(&running, "watch --interval 100ms --count 1 -o json").await.unwrap();
    let lines: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    assert_eq!(lines.len(), 2);
    let v3 = &lines[1];
    assert_eq!(
        (&v3["split"], &v3["subset"], &v3["version"]),
        (&"reviews".into(), &"v3".into(), &1.into())
    );
    assert_eq!((&v3["new_flows_per_second"], &v3["wanted_share"]), (&10.0.into(), &0.1.into()));
    let error = weir(&running, "watch x --count 1").await.unwrap_err();
    assert_eq!(error, "there is no split \"x\"; there is reviews");
}

const SERVICES: &str = "\
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec: {clusterIP: 10.96.0.1, ports: [{name: main, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}, {name: v3, labels: {version: v3}}]}
";

const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews]
  http:
  - route:
    - {destination: {host: reviews, subset: v1}, weight: 50}
    - {destination: {host: reviews, subset: v3}, weight: 50}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
";

#[tokio::test]
async fn routes_are_applied_shown_shifted_and_deleted() {
    let running = start(SERVICES);
    write(&running, "routes.yaml", ROUTES);
    let difference = "\
~ reviews.default: 100.00% of new flows go elsewhere; live ones stay
    reviews: weight 1 -> none (100.00% -> 0.00%)
    v1: weight none -> 50 (0.00% -> 50.00%)
    v3: weight none -> 50 (0.00% -> 50.00%)
    reviews -> v1: 50.00%
    reviews -> v3: 50.00%
Splits: 0 added, 1 changed, 0 removed, 0 unchanged.
";
    let notes = "
note: $D/routes.yaml:7: spec.http[0].route: the weights apply to connections, not to requests: all \
requests of a connection go the same way
note: $D/routes.yaml:8: spec.http[0].route[0].destination: subset \"v1\" of split \"reviews.default\" has no IPv4 \
endpoint: its share is rejected
note: $D/routes.yaml:9: spec.http[0].route[1].destination: subset \"v3\" of split \"reviews.default\" has no IPv4 \
endpoint: its share is rejected
note: $D/routes.yaml:12: kind: passed over: it says nothing about steering
";
    let would = format!("VirtualService/default/reviews would be created\n\n{difference}{notes}");
    assert_eq!(weir(&running, "diff -f $D/routes.yaml").await.unwrap(), would);
    let did = would.replace("would be created", "created");
    assert_eq!(weir(&running, "apply -f $D/routes.yaml").await.unwrap(), did);

    let shown = weir(&running, "get reviews.default").await.unwrap();
    let table = "\
NAME             SUBSET  WEIGHT  DEFINED  WANTED  OBSERVED  FLOWS  ENDPOINTS  VERSION  SOURCE
reviews.default  v1          50       50  50.00%         -      0          0        2  \
weir.yaml:3 (VirtualService default/reviews, DestinationRule default/reviews, Service default/reviews)
reviews.default  v3          50       50  50.00%         -      0          0        2  \
weir.yaml:3 (VirtualService default/reviews, DestinationRule default/reviews, Service default/reviews)

note: applied VirtualService/default/reviews: spec.http[0].route: ";
    assert!(shown.starts_with(table), "{shown}");
    assert_eq!(weir(&running, "get splits").await.unwrap(), shown);
    let json = weir(&running, "get reviews.default -o json").await.unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let document = serde_json::json!(
        {"kind": "VirtualService", "namespace": "default", "name": "reviews", "source": "applied"}
    );
    assert_eq!(json["documents"][0], document);
    assert_eq!(json["notes"].as_array().unwrap().len(), 3);

    let documents = "\
KIND             NAMESPACE  NAME     SOURCE
DestinationRule  default    reviews  weir.yaml:8
Service          default    reviews  weir.yaml:3
VirtualService   default    reviews  applied
";
    assert!(weir(&running, "get documents").await.unwrap().starts_with(documents));
    let applied = weir(&running, "get documents --applied").await.unwrap();
    assert!(applied.contains("VirtualService") && !applied.contains("Rule"), "{applied}");

    weir(&running, "weights reviews.default v1=90 v3=10").await.unwrap();
    let event = "split reviews.default: the override v1=90 v3=10 is over, as the weights in its \
                 definition changed to v1=60 v3=50\n";
    write(&running, "routes.yaml", &ROUTES.replacen("50}", "60}", 1));
    let said = weir(&running, "apply -f $D/routes.yaml").await.unwrap();
    assert!(said.ends_with(event), "{said}");
    write(&running, "routes.yaml", &ROUTES.replace("subset: v3", "subset: v9"));
    let rejection = "$D/routes.yaml:9: spec.http[0].route[1].destination.subset: VirtualService \
                   default/reviews needs subset \"v9\" of host reviews.default.svc.cluster.local, which \
                   DestinationRule default/reviews (weir.yaml:8) does not have; there is v1, v3";
    assert_eq!(weir(&running, "apply -f $D/routes.yaml").await.unwrap_err(), rejection);
    // What the file names is deleted, whatever else it says.
    let said = weir(&running, "delete -f $D/routes.yaml").await.unwrap();
    assert!(said.starts_with("VirtualService/default/reviews deleted\n"), "{said}");
    let said = weir(&running, "delete vs/reviews").await.unwrap_err();
    assert_eq!(said, "VirtualService/default/reviews was not applied");
    let shown = weir(&running, "get splits").await.unwrap();
    assert!(shown.contains("reviews.default  reviews       1"), "plain balancing: {shown}");
}

#[tokio::test]
async fn routes_of_the_gateway_api_are_shown_with_conditions() {
    let running = start(SERVICES);
    let route = "\
apiVersion: gateway.networking.k8s.io/v1
kind: TCPRoute
metadata: {name: NAME}
spec:
  parentRefs: [{group: \"\", kind: Service, name: PARENT}]
  rules: [{backendRefs: [{name: reviews, port: 80, weight: 3}, {name: missing, port: 80}]}]
";
    let bad = route.replace("NAME", "lost").replace("PARENT", "nothing");
    let good = route.replace("NAME", "found").replace("PARENT", "reviews");
    write(&running, "r.yaml", &format!("{good}---\n{bad}"));
    weir(&running, "apply -f $D/r.yaml").await.unwrap();
    let found = "\
ROUTE                   PARENT                   CONDITION     STATUS  REASON
TCPRoute default/found  Service default/reviews  Accepted      True    Accepted
TCPRoute default/found  Service default/reviews  ResolvedRefs  False   BackendNotFound   \
there is no Service default/missing
";
    let all = found.to_owned()
        + "\
TCPRoute default/lost   Service default/nothing  Accepted      False   NoMatchingParent  \
there is no Service default/nothing
TCPRoute default/lost   Service default/nothing  ResolvedRefs  False   BackendNotFound   \
there is no Service default/missing
";
    assert_eq!(weir(&running, "get routes").await.unwrap(), all);
    let split = weir(&running, "get reviews.default").await.unwrap();
    assert!(split.contains(&found.replace("BackendNotFound   ", "BackendNotFound  ")), "{split}");
    for format in ["json", "yaml"] {
        let text =
            weir(&running, &format!("get splits reviews.default -o {format}")).await.unwrap();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let reasons: Vec<_> = value["conditions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                (
                    c["type"].as_str().unwrap(),
                    c["status"].as_bool().unwrap(),
                    c["reason"].as_str().unwrap(),
                )
            })
            .collect();
        let expected = [("Accepted", true, "Accepted"), ("ResolvedRefs", false, "BackendNotFound")];
        assert_eq!(reasons, expected, "{format}: {text}");
    }
}
