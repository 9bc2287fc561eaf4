//! README's example: `deploy/examples/one-machine.sh`, which types the commands of README.md.

use std::path::{Path, PathBuf};
use std::process::Command;

use weir_tests::agent::program;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The names in a directory that the script makes some of.
fn names(directory: &str) -> Vec<String> {
    let all = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        all.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("weir-"));
    names.sort();
    names
}

/// What a command of README.md printed.
fn printed<'a>(said: &'a str, command: &str) -> &'a str {
    let after = said.split(&format!("$ {command}")).nth(1);
    let after = after.unwrap_or_else(|| panic!("{command} was not typed:\n{said}"));
    let (_, after) = after.split_once('\n').unwrap_or_default();
    after.split("\n$ ").next().unwrap_or_default()
}

#[test]
fn what_readme_says_works_when_it_is_typed_as_it_stands() {
    let places = ["/run/netns", "/sys/fs/bpf", "/tmp"];
    let before = places.map(names);
    let weir = program().unwrap();
    let programs = weir.parent().expect("a directory").display().to_string();
    let path = format!("{programs}:{}", std::env::var("PATH").unwrap_or_default());
    let mut script = Command::new(root().join("deploy/examples/one-machine.sh"));
    let output = script.env("PATH", path).env_remove("SUDO_USER").output().expect("the script");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{errors}");
    println!("{said}");
    assert!(said.ends_with("all of it works\n"), "{said}\n{errors}");
    assert_eq!(places.map(names), before, "nothing of it is left");

    // Every command of README.md's "Day 2" that comes to an end and needs no file is typed.
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let (_, day) = readme.split_once("## Day 2").expect("Day 2");
    let commands = day.lines().filter_map(|line| line.strip_prefix("    weir "));
    let apart = |line: &&str| {
        let ends = !["top", "watch"].iter().any(|word| line.starts_with(word));
        ends && !line.contains("-f ")
            && !line.starts_with("get documents")
            && !line.starts_with("get routes")
    };
    let commands: Vec<&str> = commands.filter(apart).collect();
    assert!(commands.len() > 10, "{commands:?}");
    for line in &commands {
        let typed = line.split("  ").next().unwrap_or_default();
        assert!(said.contains(&format!("$ weir {typed}")), "{typed} was not typed:\n{said}");
    }

    // And does what README.md says.
    let half = printed(&said, "weir weights reviews v1=50 v3=50 --expect v1=90,v3=10");
    assert!(half.contains("v1 90.00% -> 50.00%, v3 10.00% -> 50.00%"), "{half}");
    let tenth = printed(&said, "weir weights reviews v3=10%");
    assert!(tenth.contains("v1 50.00% -> 90.00%, v3 50.00% -> 10.00%"), "{tenth}");
    let explain = printed(&said, "weir explain --from 192.0.2.200:41000 --to 203.0.113.10:9080");
    assert!(explain.contains("endpoint:  198.51.100."), "{explain}");
    let history = printed(&said, "weir history reviews");
    assert!(history.contains("weights") && history.contains("root"), "{history}");
    let back = printed(&said, "weir rollback reviews --reason \"v3: p99 doubled\"");
    assert!(back.contains("v1 90.00% -> 50.00%, v3 10.00% -> 50.00%"), "{back}");
    assert_eq!(printed(&said, "weir status --brief").trim(), "OK");
    let drained = printed(&said, "weir drain reviews 198.51.100.11:9080 --wait --timeout 2m");
    assert!(drained.contains("198.51.100.11:9080: no live flow is left"), "{drained}");
    let back = printed(&said, "weir undrain reviews 198.51.100.11:9080");
    assert!(!back.contains("is out since"), "{back}");
    assert!(printed(&said, "weir doctor").contains("no problem was found"), "{said}");
}
