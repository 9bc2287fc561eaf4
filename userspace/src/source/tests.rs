//! Documents, good and bad.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::Problem;
use crate::resource::resolve;

/// A good document; lines are counted from its first.
const GOOD: &str = "\
apiVersion: weir.dev/v1alpha1
kind: TrafficSplit
metadata:
  name: reviews
spec:
  address: 10.96.0.10
  port: 80
  protocol: TCP
  affinity: None
  subsets:
  - name: v1
    weight: 90
    endpoints: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]
  - name: v2
    weight: 10
    endpoints:
    - 10.0.1.1:8080
";

/// The problems of one text, by line and without the file's name.
fn problems(text: &str) -> Vec<String> {
    let found = resolve(&[("f", text)]).err().unwrap_or_default();
    found.iter().map(Problem::to_string).collect()
}

#[test]
fn good_documents() {
    let edits: &[(&str, &str)] = &[
        ("", ""),
        ("protocol: TCP", "protocol: UDP"),
        ("  protocol: TCP\n", ""),
        ("affinity: None", "affinity: ClientIP"),
        ("weight: 90", "weight: 4294967295"),
        ("weight: 90", "weight: 0"),
        ("weight: 90", "weight: 0x10"),
        ("port: 80\n", "port: 65535\n"),
        ("[\"10.0.0.1:8080\", \"10.0.0.2:8080\"]", "[]"),
        ("    - 10.0.1.1:8080", "    - 10.0.0.1:8080"),
        ("apiVersion", "---\n# a comment\n---\napiVersion"),
        ("apiVersion", "\u{feff}apiVersion"),
        ("apiVersion", "\u{feff}---\n# a comment\n\u{feff}apiVersion"),
        ("spec:", "status: {}\nspec:"),
        ("name: v1", "name: Blue"),
        (
            "  name: reviews",
            "  name: reviews\n  labels: {a: b}\n  annotations: null\n  creationTimestamp: null\n  generation: 1\n  managedFields: [{}]\n  resourceVersion: \"1\"\n  uid: u",
        ),
    ];
    for (from, to) in edits {
        let text = GOOD.replacen(from, to, 1);
        assert_eq!(problems(&text), Vec::<String>::new(), "{from} -> {to}");
        assert_eq!(resolve(&[("f", text)]).map(|d| d.splits().len()), Ok(1), "{from} -> {to}");
    }
    for empty in ["", "\n", "# nothing\n", "---\n", "---\n---\n", "~\n"] {
        assert_eq!(resolve(&[("f", empty)]), Ok(crate::model::SplitSet::default()), "{empty:?}");
    }
}

#[test]
fn values_are_as_written() {
    let text = GOOD
        .replace("10.96.0.10", "fd00::10")
        .replace("10.0.0.1:", "[fd00::1]:")
        .replace("10.0.0.2:", "[fd00::2]:")
        .replace("- 10.0.1.1:8080", "- \"[fd00::3]:8080\"")
        .replace("None", "ClientIP");
    let desired = resolve(&[("f", text)]).unwrap();
    let split = desired.get("reviews").unwrap();
    assert_eq!(split.address().to_string(), "[fd00::10]:80/TCP");
    assert_eq!(split.affinity(), crate::model::Affinity::ClientIp);
    let weights: Vec<_> = split.subsets().iter().map(|s| (s.name.as_str(), s.weight)).collect();
    assert_eq!(weights, [("v1", 90), ("v2", 10)]);
    let all = BTreeSet::from(["[fd00::3]:8080".parse().unwrap()]);
    assert_eq!(split.subsets()[1].endpoints, all);
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn bad_documents() {
    let edits: &[(&str, &str, &str)] = &[
        (
            "v1alpha1",
            "v2",
            "f:1: apiVersion: unknown apiVersion \"weir.dev/v2\", expected one of \"split.smi-spec.io/v1alpha2\", \"split.smi-spec.io/v1alpha3\", \"split.smi-spec.io/v1alpha4\", \"weir.dev/v1alpha1\"",
        ),
        (
            "apiVersion: weir.dev/v1alpha1\n",
            "",
            "f:1: apiVersion: missing required field, expected one of \"split.smi-spec.io/v1alpha2\", \"split.smi-spec.io/v1alpha3\", \"split.smi-spec.io/v1alpha4\", \"weir.dev/v1alpha1\"",
        ),
        (
            "kind: TrafficSplit",
            "kind: Service",
            "f:2: kind: unknown kind \"Service\", expected \"TrafficSplit\"",
        ),
        ("kind: TrafficSplit", "kind: 1", "f:2: kind: not a string, expected \"TrafficSplit\""),
        (
            "metadata:",
            "state: 1\nmetadata:",
            "f:3: state: unknown field `state`, expected one of `apiVersion`, `kind`, `metadata`, `spec`, `status`",
        ),
        (
            "  name: reviews",
            "  name: reviews\n  lables: {}",
            "f:5: metadata.lables: unknown field `lables`, expected one of `name`, `namespace`, `labels`, `annotations`, `creationTimestamp`, `deletionGracePeriodSeconds`, `deletionTimestamp`, `finalizers`, `generateName`, `generation`, `managedFields`, `ownerReferences`, `resourceVersion`, `selfLink`, `uid`",
        ),
        (
            "  name: reviews",
            "  name: reviews\n  labels: {version: 1}",
            "f:5: metadata.labels.version: invalid type: integer `1`, expected a string",
        ),
        (
            "  name: reviews",
            "  name: reviews\n  namespace: a.b",
            "f:5: metadata.namespace: \"a.b\" is not a valid namespace: expected 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit",
        ),
        (
            "reviews",
            "Reviews",
            "f:4: metadata.name: \"Reviews\" is not a valid name: expected at most 253 characters: lower-case letters, digits or '-', starting and ending with a letter or digit, in parts separated by '.'",
        ),
        ("reviews", "3", "f:4: metadata.name: invalid type: integer `3`, expected a string"),
        ("  name: reviews", "  {}", "f:3: metadata.name: missing required field"),
        ("  port: 80\n", "", "f:5: spec.port: missing required field"),
        (
            "port: 80",
            "port: 0",
            "f:7: spec.port: 0 is out of range, expected an integer from 1 to 65535",
        ),
        (
            "port: 80",
            "port: 65536",
            "f:7: spec.port: 65536 is out of range, expected an integer from 1 to 65535",
        ),
        (
            "port: 80",
            "port: http",
            "f:7: spec.port: invalid type: string \"http\", expected an integer from 1 to 65535",
        ),
        (
            "protocol: TCP",
            "protocol: SCTP",
            "f:8: spec.protocol: unknown value `SCTP`, expected `TCP` or `UDP`",
        ),
        (
            "metadata:\n  name: reviews",
            "metadata: x",
            "f:3: metadata: invalid type: string \"x\", expected a mapping",
        ),
        (
            "metadata:\n  name: reviews",
            "metadata: [reviews]",
            "f:3: metadata: invalid type: list, expected a mapping",
        ),
        (
            "affinity: None",
            "affinity: true",
            "f:9: spec.affinity: invalid type: boolean `true`, expected `None` or `ClientIP`",
        ),
        (
            "protocol: TCP",
            "protocol: 6",
            "f:8: spec.protocol: invalid type: integer `6`, expected `TCP` or `UDP`",
        ),
        (
            "port: 80",
            "port: 18446744073709551616",
            "f:7: spec.port: 18446744073709551616 is out of range, expected an integer of at most 64 bits",
        ),
        (
            "port: 80",
            "port: -9223372036854775809",
            "f:7: spec.port: -9223372036854775809 is out of range, expected an integer of at most 64 bits",
        ),
        (
            "  port: 80",
            "\tport: 80",
            "f:7: invalid YAML: a tab, expected spaces: YAML is indented by these alone",
        ),
        (
            "  subsets:",
            "\t subsets:",
            "f:10: invalid YAML: a tab, expected spaces: YAML is indented by these alone",
        ),
        (
            "affinity: None",
            "affinity: @None",
            "f:9: invalid YAML: nothing can begin with `@`, expected the value in quotes",
        ),
        (
            "affinity: None",
            "affinity: Cookie",
            "f:9: spec.affinity: unknown value `Cookie`, expected `None` or `ClientIP`",
        ),
        (
            "10.96.0.10",
            "reviews.local",
            "f:6: spec.address: \"reviews.local\" is not an IP address, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "0.0.0.0",
            "f:6: spec.address: 0.0.0.0 is unspecified, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "ff02::1",
            "f:6: spec.address: ff02::1 is multicast, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "127.0.0.1",
            "f:6: spec.address: 127.0.0.1 is a loopback address, at which a host speaks to itself alone, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "\"::1\"",
            "f:6: spec.address: ::1 is a loopback address, at which a host speaks to itself alone, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "255.255.255.255",
            "f:6: spec.address: 255.255.255.255 is the broadcast address, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "240.0.0.1",
            "f:6: spec.address: 240.0.0.1 is of the reserved range 240.0.0.0/4, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "0.1.2.3",
            "f:6: spec.address: 0.1.2.3 is of 0.0.0.0/8, which is no host's, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "fe80::1",
            "f:6: spec.address: fe80::1 is a link-local address, which is a different host's on every link, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "10.96.0.10",
            "\"::ffff:10.0.0.1\"",
            "f:6: spec.address: ::ffff:10.0.0.1 is IPv4-mapped, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "weight: 10\n",
            "weight: -1\n",
            "f:15: spec.subsets[1].weight: -1 is out of range, expected an integer from 0 to 4294967295",
        ),
        (
            "weight: 90",
            "weight: 4294967296",
            "f:12: spec.subsets[0].weight: 4294967296 is out of range, expected an integer from 0 to 4294967295",
        ),
        (
            "weight: 10\n",
            "weight: 1.5\n",
            "f:15: spec.subsets[1].weight: invalid type: floating point `1.5`, expected an integer from 0 to 4294967295",
        ),
        (
            "weight: 10\n",
            "weight:\n",
            "f:15: spec.subsets[1].weight: invalid type: null, expected an integer from 0 to 4294967295",
        ),
        ("    weight: 10\n", "", "f:14: spec.subsets[1].weight: missing required field"),
        (
            "weight: 10\n",
            "wieght: 10\n",
            "f:15: spec.subsets[1].wieght: unknown field `wieght`, expected one of `name`, `weight`, `selector`, `service`, `endpoints`",
        ),
        (
            "weight: 10\n",
            "weight: 10\n    weight: 11\n",
            "f:16: spec.subsets[1].weight: key is defined twice (first on line 15)",
        ),
        (
            "- name: v2",
            "- name: v1",
            "f:14: spec.subsets[1].name: subset \"v1\" is defined twice (first as subsets[0])",
        ),
        (
            "10.0.0.2:8080",
            "10.0.0.1:8080",
            "f:13: spec.subsets[0].endpoints[1]: endpoint 10.0.0.1:8080 is listed twice (first as endpoints[0])",
        ),
        (
            "- 10.0.1.1:8080",
            "- 10.0.1.1",
            "f:17: spec.subsets[1].endpoints[0]: \"10.0.1.1\" is not an endpoint, expected IP:PORT or [IPv6]:PORT",
        ),
        (
            "- 10.0.1.1:8080",
            "- \"[fe80::1%2]:80\"",
            "f:17: spec.subsets[1].endpoints[0]: \"[fe80::1%2]:80\" is not an endpoint, expected IP:PORT or [IPv6]:PORT",
        ),
        (
            "  subsets:",
            "  drainSeconds: 86401\n  subsets:",
            "f:10: spec.drainSeconds: 86401 is out of range, expected an integer from 0 to 86400",
        ),
        (
            "- 10.0.1.1:8080",
            "- 10.0.1.1:0",
            "f:17: spec.subsets[1].endpoints[0]: endpoint 10.0.1.1:0 has port 0, expected a port from 1 to 65535",
        ),
        (
            "- 10.0.1.1:8080",
            "- 224.0.0.1:80",
            "f:17: spec.subsets[1].endpoints[0]: the address of endpoint 224.0.0.1:80 is multicast, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "- 10.0.1.1:8080",
            "- 127.0.0.2:80",
            "f:17: spec.subsets[1].endpoints[0]: the address of endpoint 127.0.0.2:80 is a loopback address, at which a host speaks to itself alone, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "- 10.0.1.1:8080",
            "- 255.255.255.255:80",
            "f:17: spec.subsets[1].endpoints[0]: the address of endpoint 255.255.255.255:80 is the broadcast address, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "- 10.0.1.1:8080",
            "- \"[fe80::1]:80\"",
            "f:17: spec.subsets[1].endpoints[0]: the address of endpoint [fe80::1]:80 is a link-local address, which is a different host's on every link, expected a unicast IPv4 or IPv6 address",
        ),
        (
            "- 10.0.1.1:8080",
            "- \"[fd00::1]:80\"",
            "f:17: spec.subsets[1].endpoints[0]: endpoint [fd00::1]:80 is IPv6, but the service address is IPv4",
        ),
        (
            "- 10.0.1.1:8080",
            "- 10.96.0.10:80",
            "f:17: spec.subsets[1].endpoints[0]: endpoint 10.96.0.10:80 is the service address itself",
        ),
        (
            "  address: 10.96.0.10\n",
            "",
            "f:5: spec.address: missing required field, expected address, or serviceRef in its place",
        ),
        (
            "[\"10.0.0.1:8080\", \"10.0.0.2:8080\"]",
            "[]\n    selector: {matchLabels: {a: b}}",
            "f:11: spec.subsets[0]: expected one of endpoints, service and selector, found endpoints and selector",
        ),
        (
            "    endpoints: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]\n",
            "",
            "f:11: spec.subsets[0]: expected one of endpoints, service and selector, found none",
        ),
        (
            "endpoints: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]",
            "selector: {matchLabels: {a: b}}",
            "f:13: spec.subsets[0].selector: without serviceRef nobody says the port of the Pods: expected serviceRef, or service or endpoints in place of selector",
        ),
        (
            "endpoints: [\"10.0.0.1:8080\", \"10.0.0.2:8080\"]",
            "service: {name: a.b, port: 80}",
            "f:13: spec.subsets[0].service.name: \"a.b\" is not a valid name of a Service: expected 1 to 63 lower-case letters, digits or '-', and no '.'",
        ),
    ];
    for (from, to, expected) in edits {
        assert!(GOOD.contains(from), "{from}");
        let text = GOOD.replacen(from, to, 1);
        assert_eq!(problems(&text), [*expected], "{from} -> {to}");
        // The same as the second of a stream, 20 lines further down.
        let first = GOOD.replace("reviews", "a").replace("10.96.0.10", "10.96.0.99");
        let text = format!("{first}# more\n\n---\n{text}");
        let (line, rest) = expected[2..].split_once(':').unwrap();
        let line = line.parse::<usize>().unwrap() + 20;
        let rest = match rest.split_once("on line ") {
            Some((rest, _)) => format!("{rest}on line 35)"),
            None => rest.to_owned(),
        };
        assert_eq!(problems(&text), [format!("f:{line}:{rest}")], "second: {from} -> {to}");
    }
}

#[test]
fn bad_as_a_whole() {
    let cut = GOOD.find("  subsets").unwrap();
    let none = format!("{}  subsets: []\n", &GOOD[..cut]);
    assert_eq!(problems(&none), ["f:10: spec.subsets: a split needs at least one subset"]);
    let zero = GOOD.replace("weight: 90", "weight: 0").replace("weight: 10", "weight: 0");
    let expected = "f:10: spec.subsets: the weights of a split must not all be 0";
    assert_eq!(problems(&zero), [expected]);
    let mut many = format!("{}  subsets:\n", &GOOD[..cut]);
    for n in 0..18 {
        writeln!(many, "  - {{name: v{n}, weight: 1, endpoints: []}}").unwrap();
    }
    let expected = "f:27: spec.subsets[16]: a split may have at most 16 subsets, found 18";
    assert_eq!(problems(&many), [expected]);
    assert_eq!(
        problems("- 1\n"),
        ["f:1: not a mapping, expected a document with apiVersion and kind"]
    );
    let bomb = (1..12).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 10].join(", "))
    });
    assert_eq!(problems(&bomb).len(), 1, "{:?}", problems(&bomb));
    let deep = "f:1: nested too deeply, expected at most 64 levels";
    assert_eq!(problems(&format!("{}{}", "[".repeat(100), "]".repeat(100))), [deep]);
    assert!(problems(&"[".repeat(100_000))[0].starts_with("f:1: invalid YAML: "));
}

#[test]
fn what_is_no_yaml_has_its_line_and_ends_its_document() {
    let text = format!("{GOOD}---\na: 1\na: 2\nb: [\n---\n");
    let found = problems(&text);
    assert!(found.iter().any(|p| p.starts_with("f:20: a: key is defined twice")), "{found:?}");
    let text = format!("{GOOD}---\na: b\n  c: d\n");
    let expected = "f:20: invalid YAML: mapping values are not allowed in this context";
    assert_eq!(problems(&text), [expected]);
}

#[test]
fn an_alias_of_nothing_ends_its_document() {
    let alias = "f:20: invalid YAML: unknown anchor";
    let twice = "f:26: metadata.name: split \"reviews\" is defined twice (first at f:4)";
    for (end, others) in [
        (String::new(), &[][..]),
        (format!("---\n{GOOD}"), &[twice]),
        ("---\n- *y\n".to_owned(), &["f:23: invalid YAML: unknown anchor"]),
        // Documents that end in other ways are read with the one before.
        ("...\n- *y\n".to_owned(), &[]),
    ] {
        let text = format!("{GOOD}---\na:\n- b: {{c: *x}}\n- d\n{end}");
        assert_eq!(problems(&text), [&[alias], others].concat(), "{end:?}");
    }
}

#[test]
fn documents_are_told_apart_as_yaml_has_it() {
    let one = GOOD.replace("reviews", "one").replace("10.96.0.10", "10.96.0.11");
    let count = |text: String| resolve(&[("f", text)]).map(|desired| desired.splits().len());
    for (what, text) in [
        ("lines", format!("{GOOD}---\n{one}")),
        ("a comment after the mark", format!("--- # first\n{GOOD}--- # second\n{one}")),
        ("carriage returns", format!("{GOOD}---\n{one}").replace('\n', "\r\n")),
        ("an end mark", format!("{GOOD}...\n---\n{one}...\n")),
        ("directives", format!("%YAML 1.2\n---\n{GOOD}...\n%YAML 1.2\n---\n{one}")),
        ("empty ones", format!("---\n---\n# nothing\n---\n{GOOD}---\n{one}---\n")),
        (
            "one line",
            format!(
                "{GOOD}--- {{apiVersion: weir.dev/v1alpha1, kind: TrafficSplit, metadata: {{name: x}}, spec: {{address: 10.0.0.1, port: 80, subsets: [{{name: a, weight: 1, endpoints: []}}]}}}}\n"
            ),
        ),
    ] {
        assert_eq!(count(text.clone()), Ok(2), "{what}: {text}");
    }
    // Not at the beginning of a line, and not alone.
    let text = GOOD.replace("name: reviews", "name: |-\n    ---\n");
    assert!(problems(&text)[0].contains("\"---\" is not a valid name"), "{:?}", problems(&text));
    assert_eq!(problems("a: 1\n---b: 2\n").len(), 2);
}

#[test]
fn everything_wrong_is_reported() {
    let text = GOOD
        .replace("name: reviews", "name: -")
        .replace("weight: 90", "weight: -1")
        .replace("- 10.0.1.1:8080", "- x\n    - y")
        .replace("port: 80\n", "port: 0\n");
    let text = format!(
        "{text}---\n{}",
        GOOD.replace("name: v2", "name: v1").replace("- 10.0", "- 10.96.0.10:80\n    - 10.0")
    );
    let text = text.replace("name: -", "name: \"-\"");
    let fields: Vec<_> = resolve(&[("f", text)])
        .unwrap_err()
        .into_iter()
        .map(|p| format!("{}:{}", p.line.unwrap(), p.field))
        .collect();
    let expected = [
        "4:metadata.name",
        "7:spec.port",
        "12:spec.subsets[0].weight",
        "17:spec.subsets[1].endpoints[0]",
        "18:spec.subsets[1].endpoints[1]",
        "33:spec.subsets[1].name",
    ];
    assert_eq!(fields, expected);
}

#[test]
fn duplicates_name_both_places() {
    let other = GOOD.replace("reviews", "ratings");
    let found = resolve(&[("a", GOOD), ("b", GOOD), ("c", &other)]).unwrap_err();
    let found: Vec<_> = found.iter().map(Problem::to_string).collect();
    let expected = [
        "b:4: metadata.name: split \"reviews\" is defined twice (first at a:4)",
        "c:6: spec.address: service address 10.96.0.10:80/TCP is already taken by split \"reviews\" (first at a:6)",
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_namespace_is_part_of_the_name_of_the_split() {
    let shop = GOOD.replace("name: reviews", "name: reviews\n  namespace: shop");
    let none = GOOD.replace("name: reviews", "name: ratings\n  namespace: \"\"");
    let none = none.replace("10.96.0.10", "10.96.0.11");
    let desired = resolve(&[("a", &shop), ("b", &none)]).unwrap();
    let names: Vec<_> = desired.splits().map(|split| split.name().to_string()).collect();
    assert_eq!(names, ["ratings", "reviews.shop"]);
    let other = GOOD.replace("name: reviews", "name: reviews.shop").replace("0.10", "0.12");
    let found = resolve(&[("a", &shop), ("b", &other)]).unwrap_err();
    let expected = "b:4: metadata.name: split \"reviews.shop\" is defined twice (first at a:4)";
    assert_eq!(found.iter().map(Problem::to_string).collect::<Vec<_>>(), [expected]);
}

#[test]
fn a_document_of_another_encoding_is_told() {
    let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
    let text: Vec<u8> =
        format!("\u{feff}{GOOD}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(file.path(), text).unwrap();
    let problem = crate::files::read(file.path()).unwrap_err();
    assert!(problem.message.starts_with("UTF-16"), "{problem}");
}

#[test]
fn merge_keys_are_merged_and_mistakes_in_them_have_a_place() {
    let merged = GOOD.replace(
        "  - name: v2\n    weight: 10\n",
        "  - &second\n    <<: {weight: 10, name: v1}\n    name: v2\n",
    );
    let desired = resolve(&[("f", &merged)]).unwrap();
    assert_eq!(desired, resolve(&[("f", GOOD)]).unwrap());
    let bad = merged.replace("weight: 10", "weight: -1");
    let expected = "f:15: spec.subsets[1].weight: -1 is out of range, expected an integer from 0 to 4294967295";
    assert_eq!(problems(&bad), [expected]);
    let bad = merged.replace("{weight: 10, name: v1}", "3");
    let expected =
        "f:15: spec.subsets[1].<<: nothing to merge, expected a mapping or a list of mappings";
    assert_eq!(problems(&bad), [expected]);
    let bomb = (1..12).fold("a0: &a0 {x: 1}\n".to_owned(), |text, n| {
        format!("{text}a{n}: &a{n} {{<<: [{}]}}\n", vec![format!("*a{}", n - 1); 10].join(", "))
    });
    assert_eq!(problems(&bomb).len(), 1, "{:?}", problems(&bomb));
}

#[test]
fn what_a_service_says_is_not_said_beside_it() {
    let text = GOOD.replace("spec:\n", "spec:\n  serviceRef: {name: web, port: 0}\n");
    let beside = "beside serviceRef, whose Service has it: expected one of the two";
    let expected = [
        "f:6: spec.serviceRef.port: 0 is out of range, expected an integer from 1 to 65535".into(),
        format!("f:7: spec.address: {beside}"),
        format!("f:8: spec.port: {beside}"),
        format!("f:9: spec.protocol: {beside}"),
    ];
    assert_eq!(problems(&text), expected);
}
