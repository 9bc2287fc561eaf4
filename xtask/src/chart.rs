//! The manifests in `deploy/kubernetes`, which the chart in `deploy/chart` renders: for those who
//! have no Helm, and for agents outside of the cluster, which need rights alone.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::cluster::Module;
use crate::toolchain::output;

/// Where the chart lies in the workspace.
pub const CHART: &str = "deploy/chart/weir";
/// As in the file that packages install: longer than the name of an interface can be.
const INTERFACES: &str = "interfaces[0].match=no-interface-is-chosen";
/// The namespace of the manifests, which Helm makes itself where it is asked to.
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: weir-system\n";

/// A file that is rendered.
struct Rendered {
    path: &'static str,
    about: &'static str,
    /// What comes before, by no template.
    first: &'static str,
    templates: &'static [&'static str],
}

const RENDERED: [Rendered; 3] = [
    Rendered {
        path: "deploy/kubernetes/agent-rbac.yaml",
        about: "The rights of agents. One outside of the cluster has them by a kubeconfig with a\n\
                # token of the ServiceAccount.",
        first: NAMESPACE,
        templates: &["serviceaccount", "rbac", "reports"],
    },
    Rendered {
        path: "deploy/kubernetes/agent.yaml",
        about: "An agent on each node, for those who have no Helm; agent-rbac.yaml and crds come\n\
                # first. As it is, it touches no interface: put a pattern of the names of the nodes'\n\
                # interfaces towards Pods in the place of no-interface-is-chosen.",
        first: "",
        templates: &["configmap", "daemonset"],
    },
    Rendered {
        path: "deploy/kubernetes/controller.yaml",
        about: "The controller, which says in the status of TrafficSplits on which nodes they are\n\
                # in force, for those who have no Helm; agent.yaml, whose configuration it reads,\n\
                # comes first.",
        first: "",
        templates: &["controller"],
    },
];

/// Where `helm` is, once it was built.
pub fn helm(root: &Path) -> Result<PathBuf> {
    Ok(Module::Helm.directory(root)?.join("helm"))
}

/// The variables by which `helm` keeps nothing of its own anywhere but below `home`.
pub fn variables(home: &Path) -> [(&'static str, PathBuf); 3] {
    ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"].map(|name| (name, home.join(name)))
}

/// The files of `deploy/kubernetes` and their texts.
pub fn manifests(root: &Path) -> Result<Vec<(PathBuf, String)>> {
    let home = root.join("target/helm");
    RENDERED
        .iter()
        .map(|file| {
            let mut command = Command::new(helm(root)?);
            command.envs(variables(&home));
            command.args(["template", "weir"]).arg(root.join(CHART));
            command.args(["--namespace", "weir-system", "--set", INTERFACES]);
            for template in file.templates {
                command.arg("--show-only").arg(format!("templates/{template}.yaml"));
            }
            let rendered = output(&mut command).with_context(|| file.path.to_owned())?;
            Ok((root.join(file.path), text(file, &rendered)))
        })
        .collect()
}

/// Writes them.
pub fn write(root: &Path) -> Result<()> {
    for (path, text) in manifests(root)? {
        fs::write(&path, text).with_context(|| path.display().to_string())?;
        eprintln!("wrote {}", path.display());
    }
    Ok(())
}

/// A file's text, of what Helm rendered.
fn text(file: &Rendered, rendered: &str) -> String {
    let Rendered { about, first, .. } = file;
    let head =
        format!("# {about}\n# Written by `cargo xtask manifests`, from deploy/chart/weir.\n");
    // What only Helm's own installations have, and lines between the documents.
    let of_helm =
        |line: &&str| line.starts_with("# Source: ") || line.ends_with("managed-by: Helm");
    let lines: Vec<&str> = rendered.lines().filter(|line| !of_helm(line)).collect();
    let documents = lines.join("\n");
    let documents = documents.split("---\n").map(str::trim).filter(|text| !text.is_empty());
    let mut text = head + first;
    for (index, document) in documents.enumerate() {
        if index > 0 || !first.is_empty() {
            text.push_str("---\n");
        }
        text.push_str(document);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_of_helm_alone_is_not_in_manifests() {
        let file = Rendered { path: "", about: "All.", first: NAMESPACE, templates: &[] };
        let rendered = "---\n# Source: weir/a.yaml\na: 1\n  x/managed-by: Helm\n\n---\n# Source: \
                        weir/b.yaml\n# B.\nb: 2\n";
        let expected = format!(
            "# All.\n# Written by `cargo xtask manifests`, from deploy/chart/weir.\n{NAMESPACE}\
             ---\na: 1\n---\n# B.\nb: 2\n"
        );
        assert_eq!(text(&file, rendered), expected);
    }

    #[test]
    fn the_chart_is_of_this_version() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let chart = fs::read_to_string(root.join(CHART).join("Chart.yaml")).unwrap();
        for of in ["version", "appVersion"] {
            let line = format!("\n{of}: {}\n", env!("CARGO_PKG_VERSION"));
            assert!(chart.contains(&line), "{of} of {CHART} is not {}", env!("CARGO_PKG_VERSION"));
        }
    }
}
