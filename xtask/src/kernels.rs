//! `cargo xtask test-kernels`: real traffic through weir on the kernels of Debian's releases, in
//! virtual machines without disk or network. They are emulated, since a machine that is virtual
//! itself often cannot run another; that takes a minute or two for each.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use xtask::toolchain::{output, which};

use crate::{build_programs, root, run};

/// Debian's releases, oldest first: what their kernel is called here, and their name. The last
/// one has what is newest.
const KERNELS: &[(&str, &str)] =
    &[("5.10", "bullseye"), ("6.1", "bookworm"), ("6.12", "trixie"), ("newest", "sid")];

/// The package that depends on a release's kernel; that of clouds, which is small.
const PACKAGE: &str = "linux-image-cloud-amd64";

/// Who signs them: of the package debian-archive-keyring.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// What the machine needs to do its work besides what is built in.
const MODULES: &[&str] = &["veth", "sch_ingress", "cls_bpf"];

/// Programs that the harness and the machine's first process run.
const PROGRAMS: &[&str] = &["ip", "tc", "ethtool", "nsenter", "busybox"];

/// The machine's first process.
const INIT: &str = include_str!("guest.sh");

/// How long a machine may run, in seconds.
const TIMEOUT: &str = "900";

/// Runs the guest on these kernels, or on all.
pub fn test(wanted: &[String]) -> Result<()> {
    let known = |name: &String| KERNELS.iter().any(|kernel| kernel.0 == name);
    if let Some(name) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<&str> = KERNELS.iter().map(|kernel| kernel.0).collect();
        bail!("no kernel {name}: there are {}", names.join(", "));
    }
    build_programs()?;
    let directory = root().join("target/kernels");
    let archive = Archive::new(directory.join("apt"))?;
    let mut summary = String::new();
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|one| one == name);
    for &(name, release) in KERNELS.iter().filter(|kernel| chosen(kernel.0)) {
        let image = Image::new(&archive, release, &directory.join(release))?;
        let begun = Instant::now();
        let said = boot(&image).with_context(|| format!("Linux {}", image.version))?;
        writeln!(
            summary,
            "Linux {} ({name}): steers, {} s",
            image.version,
            begun.elapsed().as_secs()
        )?;
        for line in said {
            writeln!(summary, "    {line}")?;
        }
    }
    println!("\n{}", summary.trim_end());
    Ok(())
}

/// Lists of Debian's releases, apart from those of the machine.
struct Archive {
    options: Vec<String>,
}

impl Archive {
    fn new(directory: PathBuf) -> Result<Self> {
        let partial = ["lists/partial", "cache/archives/partial"];
        partial.iter().try_for_each(|sub| fs::create_dir_all(directory.join(sub)))?;
        // From where the machine has its own packages.
        let format = ["indextargets", "--format", "$(REPO_URI)"];
        let targets = output(Command::new("apt-get").args(format).args([
            "Created-By: Packages",
            "Origin: Debian",
            "Label: Debian",
        ]))?;
        let uri = targets.lines().next().context("apt-get knows no mirror of Debian")?;
        let line = |release| format!("deb [signed-by={KEYRING}] {uri} {release} main\n");
        let sources: String = KERNELS.iter().map(|kernel| line(kernel.1)).collect();
        fs::write(directory.join("sources.list"), sources)?;
        let at = |key, sub| format!("{key}={}", directory.join(sub).display());
        let options = [
            at("Dir::Etc::sourcelist", "sources.list"),
            "Dir::Etc::sourceparts=-".into(),
            at("Dir::State::lists", "lists"),
            at("Dir::Cache", "cache"),
            "APT::Sandbox::User=root".into(),
            "Acquire::Languages=none".into(),
        ];
        let archive =
            Self { options: options.into_iter().flat_map(|o| ["-o".into(), o]).collect() };
        run(archive.command("apt-get").args(["update", "-qq"]))?;
        Ok(archive)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// The packages of the kernel that a release has now, the image first.
    fn packages(&self, release: &str) -> Result<Vec<String>> {
        let policy =
            self.command("apt-cache").args(["madison", PACKAGE]).stderr(Stdio::null()).output()?;
        let policy = String::from_utf8(policy.stdout)?;
        let version = policy.lines().find_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            let (version, from) = (fields.nth(1)?, fields.next()?);
            from.split(' ').any(|word| word == format!("{release}/main")).then_some(version)
        });
        let version = version.with_context(|| format!("{release} has no {PACKAGE}"))?;
        let image = self.depends(&format!("{PACKAGE}={version}"), "linux-image-")?;
        let image = image.into_iter().next().with_context(|| format!("{PACKAGE} of {release}"))?;
        // Newer ones have kernel and modules in packages of their own.
        let mut all = vec![image.clone()];
        all.extend(self.depends(&image, "linux-binary-")?);
        all.extend(self.depends(&image, "linux-modules-")?);
        Ok(all)
    }

    /// What a package depends on, of these names.
    fn depends(&self, package: &str, prefix: &str) -> Result<Vec<String>> {
        let shown = output(self.command("apt-cache").args(["show", package]))?;
        let depends = shown.lines().find_map(|line| line.strip_prefix("Depends: "));
        let names = depends.unwrap_or_default().split(", ").filter_map(|one| one.split(' ').next());
        Ok(names.filter(|name| name.starts_with(prefix)).map(Into::into).collect())
    }
}

/// A kernel, and files to boot with it.
struct Image {
    version: String,
    kernel: PathBuf,
    initrd: PathBuf,
}

impl Image {
    fn new(archive: &Archive, release: &str, directory: &Path) -> Result<Self> {
        let packages = archive.packages(release)?;
        let version = packages[0].trim_start_matches("linux-image-").to_owned();
        let unpacked = directory.join(&version);
        if !unpacked.exists() {
            let debs = tempdir(&directory.join("debs"))?;
            run(archive
                .command("apt-get")
                .args(["download", "-qq"])
                .args(&packages)
                .current_dir(&debs))?;
            let partial = tempdir(&directory.join("partial"))?;
            for deb in fs::read_dir(&debs)? {
                run(Command::new("dpkg-deb").arg("-x").arg(deb?.path()).arg(&partial))?;
            }
            fs::rename(&partial, &unpacked)?;
        }
        let find = |name: &str| {
            let found = output(Command::new("find").arg(&unpacked).args(["-name", name]))?;
            let first = found.lines().next().map(PathBuf::from);
            first.with_context(|| format!("no {name} in the packages of {version}"))
        };
        let files = tempdir(&directory.join("root"))?;
        for module in MODULES {
            let path = find(&format!("{module}.ko*"))?;
            let to = files.join("lib/modules").join(path.file_name().unwrap_or_default());
            install(&path, &to)?;
            if to.extension().is_some_and(|extension| extension == "xz") {
                run(Command::new("xz").arg("-d").arg(&to))?;
            }
        }
        programs(&files)?;
        let initrd = directory.join("initrd");
        let pack = format!("find . | cpio --quiet -o -H newc > {}", initrd.display());
        run(Command::new("sh").args(["-c", &pack]).current_dir(&files))?;
        Ok(Self { kernel: find("vmlinuz*")?, initrd, version })
    }
}

/// The machine's user space: programs, and the libraries that they are linked with.
fn programs(files: &Path) -> Result<()> {
    for directory in ["dev", "etc", "proc", "run", "sys", "tmp"] {
        fs::create_dir_all(files.join(directory))?;
    }
    fs::write(files.join("init"), INIT)?;
    run(Command::new("chmod").arg("755").arg(files.join("init")))?;
    let release = root().join("target/release");
    let own = ["weir", "guest"].map(|name| release.join(name));
    let others =
        PROGRAMS.iter().map(|name| which(name).context(*name)).collect::<Result<Vec<_>>>()?;
    for path in own.into_iter().chain(others) {
        let to = files.join("bin").join(path.file_name().unwrap_or_default());
        install(&path, &to)?;
        run(Command::new("strip").arg(&to))?;
        // It fails for what is linked statically.
        let libraries = Command::new("ldd").arg(&path).output()?.stdout;
        for library in String::from_utf8(libraries)?.split_whitespace() {
            if library.starts_with('/') {
                install(Path::new(library), &files.join(library.trim_start_matches('/')))?;
            }
        }
    }
    Ok(())
}

fn install(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to.parent().unwrap_or(Path::new("/")))?;
    fs::copy(from, to).with_context(|| format!("{} to {}", from.display(), to.display()))?;
    Ok(())
}

/// An empty directory at that path.
fn tempdir(path: &Path) -> Result<PathBuf> {
    if path.exists() {
        fs::remove_dir_all(path)?;
    }
    fs::create_dir_all(path)?;
    Ok(path.to_owned())
}

/// Boots it, and returns what the guest said.
fn boot(image: &Image) -> Result<Vec<String>> {
    eprintln!("booting Linux {}", image.version);
    let mut command = Command::new("timeout");
    command.args([TIMEOUT, "qemu-system-x86_64", "-accel", "tcg,thread=single"]);
    // Not cx16: QEMU before 8.0 sets wrong flags after cmpxchg16b of a GS segment.
    command.args(["-cpu", "max,-cx16", "-smp", "2", "-m", "2G", "-no-reboot", "-nodefaults"]);
    command.args(["-nographic", "-serial", "stdio", "-append", "console=ttyS0 panic=-1 quiet"]);
    command.arg("-kernel").arg(&image.kernel).arg("-initrd").arg(&image.initrd);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("qemu")?;
    let serial = child.stdout.take().context("standard output is piped")?;
    let (mut said, mut passed) = (Vec::new(), false);
    for line in BufReader::new(serial).split(b'\n') {
        let line = String::from_utf8_lossy(&line?).trim_end().to_owned();
        eprintln!("    {line}");
        // A message of the kernel may follow on the same line.
        passed |= line.starts_with("guest: exit 0");
        // What it says of itself begins with the kernel's release.
        if let Some(of_itself) = line.strip_prefix(&format!("{}: ", image.version)) {
            said.push(of_itself.to_owned());
        }
    }
    child.wait()?;
    if !passed {
        bail!("the guest failed; it said the above");
    }
    Ok(said)
}
