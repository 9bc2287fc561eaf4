//! The image of weir, without any program that makes images: an OCI archive, of the `weir` that
//! was built, the libraries that it is linked with, and empty directories to mount something at.
//!
//! The same files make the same archive, bit for bit: names are sorted, times are the epoch, and
//! owners are root.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};

use crate::toolchain::output;

/// Where the program is.
const PROGRAM: &str = "usr/bin/weir";
/// Where something is mounted: what a runtime makes itself, and what the chart mounts. The root
/// file system is read-only, so they have to be there.
const DIRECTORIES: [&str; 9] = [
    "dev",
    "etc/weir/config",
    "etc/weir/resources.d",
    "proc",
    "run/weir",
    "sys",
    "tmp",
    "usr/bin",
    "var/lib/weir",
];
/// Who there is. Groups that may use the API's socket are named by numbers.
const FILES: [(&str, &str); 2] =
    [("etc/group", "root:x:0:\n"), ("etc/passwd", "root:x:0:0:root:/:/usr/bin/weir\n")];

/// An image that was written.
#[derive(Debug)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// The files in it, with their sizes, by name.
    pub files: Vec<(String, u64)>,
}

/// Writes an image of `program` as `weir:VERSION` into the directory `to`, in place of what is
/// there.
pub fn write(program: &Path, version: &str, to: &Path) -> Result<Image> {
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| to.display().to_string())?;
    }
    let root = to.join("root");
    let files = stage(program, &root)?;
    let blobs = to.join("oci/blobs/sha256");
    fs::create_dir_all(&blobs)?;

    let layer = to.join("layer.tar");
    tar(&root, &layer)?;
    let (layer, size) = (digest(&layer)?, put(&layer, &blobs)?);
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let config = format!(
        r#"{{"created":"1970-01-01T00:00:00Z","architecture":"{architecture}","os":"linux","config":{{"Env":["PATH=/usr/bin"],"Entrypoint":["/usr/bin/weir"],"Cmd":["agent","--config","/etc/weir/config/agent.yaml"],"WorkingDir":"/","Labels":{{"org.opencontainers.image.title":"weir","org.opencontainers.image.version":"{version}"}}}},"rootfs":{{"type":"layers","diff_ids":["sha256:{layer}"]}}}}"#
    );
    let (config, config_size) = put_text(&config, to, &blobs)?;
    let manifest = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"sha256:{config}","size":{config_size}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"sha256:{layer}","size":{size}}}]}}"#
    );
    let (manifest, manifest_size) = put_text(&manifest, to, &blobs)?;
    // The second name is the one that containerd imports it by.
    let index = format!(
        r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{manifest}","size":{manifest_size},"platform":{{"architecture":"{architecture}","os":"linux"}},"annotations":{{"org.opencontainers.image.ref.name":"{version}","io.containerd.image.name":"docker.io/library/weir:{version}"}}}}]}}"#
    );
    fs::write(to.join("oci/index.json"), index)?;
    fs::write(to.join("oci/oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let archive = to.join(format!("weir-{version}-{architecture}.tar"));
    tar(&to.join("oci"), &archive)?;
    fs::remove_dir_all(to.join("oci"))?;
    Ok(Image { archive, files })
}

/// Makes the root file system; the files in it.
fn stage(program: &Path, root: &Path) -> Result<Vec<(String, u64)>> {
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true).mode(0o755);
    let mut copies = vec![(PathBuf::from(PROGRAM), program.to_owned())];
    for library in libraries(program)? {
        let inside = library.strip_prefix("/").context("a library without a whole path")?;
        copies.push((inside.to_owned(), library.clone()));
    }
    for directory in DIRECTORIES {
        builder.create(root.join(directory))?;
    }
    let mut files = Vec::new();
    for (inside, from) in copies {
        let to = root.join(&inside);
        builder.create(to.parent().context("a file lies in a directory")?)?;
        // Through links, as of libraries' versions, which are other files elsewhere.
        let bytes = fs::read(&from).with_context(|| from.display().to_string())?;
        write_file(&to, &bytes, 0o755)?;
        files.push((inside.display().to_string(), bytes.len() as u64));
    }
    for (inside, text) in FILES {
        write_file(&root.join(inside), text.as_bytes(), 0o644)?;
        files.push((inside.to_owned(), text.len() as u64));
    }
    files.sort();
    Ok(files)
}

fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    Ok(file.write_all(bytes)?)
}

/// What the program is linked with, the loader included, at the paths where that looks for it.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program).env("LC_ALL", "C"))?;
    read_libraries(&text)
}

/// `libm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x...)`, or a path alone for the loader; the
/// kernel brings linux-vdso itself.
fn read_libraries(text: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with("linux-vdso") || line == "statically linked" {
            continue;
        }
        let at = line.split_once(" => ").map_or(line, |(_, at)| at);
        let path = at.split(" (").next().unwrap_or_default();
        ensure!(path.starts_with('/'), "a library was not found: {line}");
        found.push(PathBuf::from(path));
    }
    Ok(found)
}

/// An archive of a directory's content that says nothing of when, where and by whom it was made.
fn tar(directory: &Path, to: &Path) -> Result<()> {
    let mut command = Command::new("tar");
    command.args(["--create", "--format=ustar", "--sort=name", "--mtime=@0", "--numeric-owner"]);
    // Not by the umask of who makes it.
    command.args(["--owner=0", "--group=0", "--mode=u=rwX,go=rX"]);
    command.arg("--file").arg(to).arg("--directory").arg(directory).arg(".");
    output(command.stdin(Stdio::null())).map(drop)
}

/// The digest of a file, as hexadecimal digits.
fn digest(file: &Path) -> Result<String> {
    let text = output(Command::new("sha256sum").arg("--binary").arg(file))?;
    let digest = text.trim_start_matches('\\').split(' ').next().unwrap_or_default();
    if digest.len() != 64 {
        bail!("sha256sum says {text}");
    }
    Ok(digest.to_owned())
}

/// Moves a file among the blobs; its size.
fn put(file: &Path, blobs: &Path) -> Result<u64> {
    let to = blobs.join(digest(file)?);
    fs::rename(file, &to)?;
    Ok(fs::metadata(to)?.len())
}

/// Writes a text as a blob: its digest and size.
fn put_text(text: &str, aside: &Path, blobs: &Path) -> Result<(String, u64)> {
    let file = aside.join("blob");
    fs::write(&file, text)?;
    Ok((digest(&file)?, put(&file, blobs)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_and_a_missing_one_is_an_error() {
        let text = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x/libm.so.6 (0x00007f)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found = read_libraries(text).unwrap();
        assert_eq!(found, ["/lib/x/libm.so.6", "/lib64/ld-linux-x86-64.so.2"].map(PathBuf::from));
        assert_eq!(read_libraries("\tstatically linked\n").unwrap(), Vec::<PathBuf>::new());
        assert!(read_libraries("\tlibx.so => not found\n").is_err());
    }

    #[test]
    fn the_same_program_makes_the_same_archive() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/image-test");
        let program = std::env::current_exe().unwrap();
        let [one, other] = ["one", "other"].map(|name| {
            let image = write(&program, "1.2.3", &directory.join(name)).unwrap();
            let names: Vec<&str> = image.files.iter().map(|(name, _)| name.as_str()).collect();
            assert!(names.contains(&PROGRAM) && names.contains(&"etc/passwd"), "{names:?}");
            assert!(names.iter().any(|name| name.ends_with("libc.so.6")), "{names:?}");
            fs::read(&image.archive).unwrap()
        });
        fs::remove_dir_all(&directory).unwrap();
        assert!(one == other, "two archives of one program differ");
    }
}
