//! What tests with a real Kubernetes API server run: the programs and resource definitions that
//! the Go modules below `tests/cluster` bring.
//!
//! Each is made once for each content of its module, since a first build of Kubernetes takes ten
//! minutes of two CPUs, and lies in a directory whose name says which content that is.

use std::fmt;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::toolchain::output;

/// The oldest Go that builds the modules.
const GO: (u32, u32) = (1, 26);
/// How often a build says that it goes on.
const REPORT: Duration = Duration::from_secs(30);
/// How many of the last lines are shown of a build that fails.
const SHOWN: usize = 40;
/// The names under which the one program of Kubernetes is called.
const COMMANDS: [&str; 4] = ["kube-apiserver", "kube-controller-manager", "kube-proxy", "kubectl"];

/// A Go module of `tests/cluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Module {
    /// `kube-apiserver`, `kube-controller-manager`, `kube-proxy`, `kubectl`.
    Kubernetes,
    /// `etcd`.
    Etcd,
    /// `helm`.
    Helm,
    /// `seccomp`, which writes containerd's default profile.
    Seccomp,
    /// Custom resource definitions: directories `gateway-api/standard`,
    /// `gateway-api/experimental` and `istio`.
    Definitions,
}

impl Module {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Definitions, Self::Seccomp, Self::Etcd, Self::Helm, Self::Kubernetes];

    /// Its directory below `tests/cluster`.
    fn name(self) -> &'static str {
        match self {
            Self::Kubernetes => "kubernetes",
            Self::Etcd => "etcd",
            Self::Helm => "helm",
            Self::Seccomp => "seccomp",
            Self::Definitions => "crds",
        }
    }

    fn sources(self, root: &Path) -> PathBuf {
        root.join("tests/cluster").join(self.name())
    }

    /// Where what it brings lies, in the workspace `root`, once it was built.
    pub fn directory(self, root: &Path) -> Result<PathBuf> {
        let hash = hash(&self.sources(root))?;
        Ok(root.join(format!("target/cluster/{}-{hash:016x}", self.name())))
    }

    /// Makes what it brings, in `directory`.
    fn make(self, root: &Path, directory: &Path) -> Result<()> {
        match self {
            Self::Kubernetes => {
                let program = directory.join("kubernetes");
                go_build(root, self, ".", &program, &version_flags(&self.sources(root))?)?;
                for command in COMMANDS {
                    symlink("kubernetes", directory.join(command))?;
                }
                Ok(())
            }
            Self::Etcd => {
                let package = "go.etcd.io/etcd/server/v3";
                go_build(root, self, package, &directory.join("etcd"), "-s -w")
            }
            Self::Helm => {
                let package = "helm.sh/helm/v4/cmd/helm";
                go_build(root, self, package, &directory.join("helm"), "-s -w")
            }
            Self::Seccomp => go_build(root, self, ".", &directory.join("seccomp"), "-s -w"),
            Self::Definitions => definitions(&self.sources(root), directory),
        }
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Makes what is missing of these modules.
pub fn build(root: &Path, modules: &[Module]) -> Result<()> {
    for &module in modules {
        let directory = module.directory(root)?;
        if directory.is_dir() {
            say(module, format_args!("found {}", directory.display()));
            continue;
        }
        check_go()?;
        // Elsewhere at first: whoever sees the directory sees all of it.
        let aside = directory.with_extension(format!("{}.new", std::process::id()));
        fs::create_dir_all(&aside).with_context(|| aside.display().to_string())?;
        let since = Instant::now();
        let made = module.make(root, &aside).and_then(|()| put(&aside, &directory));
        if aside.is_dir() {
            fs::remove_dir_all(&aside).with_context(|| aside.display().to_string())?;
        }
        made.with_context(|| format!("cannot build tests/cluster/{module}"))?;
        say(module, format_args!("built in {}", Elapsed(since.elapsed())));
    }
    Ok(())
}

/// Renames a directory, unless somebody else has put one there in the meantime.
fn put(from: &Path, to: &Path) -> Result<()> {
    match fs::rename(from, to) {
        Err(_) if to.is_dir() => Ok(()),
        result => result.with_context(|| to.display().to_string()),
    }
}

/// Whether there is a Go that is new enough.
fn check_go() -> Result<()> {
    let advice = format!(
        "tests with a Kubernetes API server build it from source, with Go {}.{} or newer \
         (Debian 12's own is older): see https://go.dev/doc/install",
        GO.0, GO.1
    );
    let mut command = Command::new("go");
    // The Go that is here: not one that it would download in its place.
    command.args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local");
    let version = output(&mut command).with_context(|| advice.clone())?;
    match go_version(&version) {
        Some(found) if found >= GO => Ok(()),
        _ => bail!("found {version}, but {advice}"),
    }
}

/// Major and minor version in what `go env GOVERSION` prints, such as `go1.26.8`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text.strip_prefix("go")?.split(['.', 'r', 'b', ' ', '-']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// `go`, in a module's directory, whatever else the user has set for it.
fn go(sources: &Path) -> Command {
    let mut command = Command::new("go");
    command.current_dir(sources).env("GOTOOLCHAIN", "local").env("GOWORK", "off");
    command.env_remove("GOFLAGS").env("CGO_ENABLED", "0").stdin(Stdio::null());
    command
}

/// Without its version, a server of Kubernetes says that it is `v0.0.0-master+$Format:%H$`, which
/// clients take for a very old one.
fn version_flags(sources: &Path) -> Result<String> {
    let file = fs::read_to_string(sources.join("go.mod"))?;
    let version = file.lines().find_map(|line| line.split_once("k8s.io/kubernetes v"));
    let version = version.context("go.mod requires no k8s.io/kubernetes")?.1.trim();
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let mut flags = String::from("-s -w");
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (name, value) in [
            ("gitVersion", format!("v{version}").as_str()),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    Ok(flags)
}

fn go_build(root: &Path, module: Module, package: &str, to: &Path, flags: &str) -> Result<()> {
    let mut command = go(&module.sources(root));
    command.args(["build", "-mod=readonly", "-trimpath", "-v", "-ldflags", flags, "-o"]);
    command.arg(to).arg(package).stdout(Stdio::null()).stderr(Stdio::piped());
    let note = match module {
        Module::Kubernetes => "; the first time takes about ten minutes of two CPUs",
        Module::Helm => "; the first time takes about four minutes of two CPUs",
        _ => "",
    };
    say(module, format_args!("building{note}"));
    watch(module, command.spawn().context("cannot run go")?)
}

/// Waits for a build to end, and tells in the meantime how far it is.
fn watch(module: Module, mut child: Child) -> Result<()> {
    let stderr = child.stderr.take().context("standard error is piped")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let (since, mut reported) = (Instant::now(), Instant::now());
    let mut seen: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(Duration::from_secs(1)) {
            Ok(line) => seen.push(line),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if reported.elapsed() >= REPORT {
            reported = Instant::now();
            // With -v, a line for each package whose compilation begins; while it links, none.
            let last = seen.last().map_or("", String::as_str);
            let elapsed = Elapsed(since.elapsed());
            say(module, format_args!("building for {elapsed}, {} steps: {last}", seen.len()));
        }
    }
    let status = child.wait()?;
    if !status.success() {
        bail!("go build: {status}\n{}", seen[seen.len().saturating_sub(SHOWN)..].join("\n"));
    }
    Ok(())
}

/// Copies the custom resource definitions out of Go's cache of modules.
fn definitions(sources: &Path, to: &Path) -> Result<()> {
    say(Module::Definitions, format_args!("downloading"));
    let modules = ["sigs.k8s.io/gateway-api", "istio.io/api"];
    output(go(sources).args(["mod", "download"]).args(modules))?;
    let [gateway, istio] = modules.map(|module| {
        let text = output(go(sources).args(["list", "-m", "-f", "{{.Dir}}", module]))?;
        ensure!(!text.is_empty(), "{module} was downloaded, but go does not say where it lies");
        Ok(PathBuf::from(text))
    });
    let gateway = gateway?.join("config/crd");
    for channel in ["standard", "experimental"] {
        copy_definitions(&gateway.join(channel), &to.join("gateway-api").join(channel))?;
    }
    copy_definitions(&istio?.join("kubernetes"), &to.join("istio"))
}

fn copy_definitions(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let name = entry.file_name();
        // No resource of a cluster.
        if name == "kustomization.yaml" || entry.path().extension().is_none_or(|e| e != "yaml") {
            continue;
        }
        // Not with Go's permissions, which forbid writing.
        fs::write(to.join(name), fs::read(entry.path())?)?;
    }
    Ok(())
}

/// FNV-1a of names and contents of a module's files: it need only tell versions apart.
fn hash(sources: &Path) -> Result<u64> {
    let mut files = Vec::new();
    for entry in fs::read_dir(sources).with_context(|| sources.display().to_string())? {
        files.push(entry?.path());
    }
    files.sort();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in files {
        let content = fs::read(&file).with_context(|| file.display().to_string())?;
        let name = file.file_name().unwrap_or_default().as_encoded_bytes();
        for byte in name.iter().chain(&[0]).chain(&content).chain(&[0]) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(hash)
}

struct Elapsed(Duration);

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        write!(f, "{}:{:02} min", seconds / 60, seconds % 60)
    }
}

fn say(module: Module, what: fmt::Arguments<'_>) {
    eprintln!("cluster: {module}: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_go_are_read() {
        assert_eq!(go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(go_version("go1.26.8 X:nocoverageredesign"), Some((1, 26)));
        assert_eq!(go_version("devel"), None);
        assert!(go_version("go1.19.8") < Some(GO));
    }

    #[test]
    fn each_module_has_a_directory_of_its_content() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let directories = Module::ALL.map(|module| module.directory(root).unwrap());
        assert_eq!(directories, Module::ALL.map(|module| module.directory(root).unwrap()));
        assert_ne!(directories[0], directories[1]);
    }

    #[test]
    fn flags_carry_the_version_of_the_module() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let flags = version_flags(&Module::Kubernetes.sources(root)).unwrap();
        assert!(flags.contains("k8s.io/component-base/version.gitVersion=v1."), "{flags}");
        assert!(flags.contains("k8s.io/client-go/pkg/version.gitMajor=1 "), "{flags}");
    }
}
