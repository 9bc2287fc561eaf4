//! What the cluster said last, for an agent that starts while its server is away.
//!
//! One file beside the journal, written anew beside the old one and renamed over it. Its first
//! line is of this module, then there is an object's last good text on each line, and the last
//! line says how many there are and what they add up to, so that half a file is none.

use std::fs::File;
use std::io::{self, BufWriter, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crc32fast::Hasher;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use serde::{Deserialize, Serialize};

use crate::directory::trusted;

/// Of the file. Others are not read.
const FORMAT: u32 = 1;
/// More than any cluster that the agent can follow comes to.
const LONGEST: u64 = 1 << 30;

/// Where it is.
#[derive(Debug, Clone)]
pub(super) struct Cache {
    path: PathBuf,
}

/// What it holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The cluster's identity, if it was known.
    pub cluster: Option<String>,
    /// Texts of objects.
    pub texts: Vec<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
struct First {
    format: u32,
    cluster: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Last {
    objects: usize,
    crc32: u32,
}

impl Cache {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// What it holds; `None` if there is none.
    ///
    /// # Errors
    ///
    /// In words, with the file's name. What is damaged, or of another build, is quarantined.
    pub fn read(&self) -> Result<Option<Held>, String> {
        let named = |error: &dyn std::fmt::Display| format!("{}: {error}", self.path.display());
        let (directory, name) = self.open(None).map_err(|error| named(&error))?;
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let file = match at(&directory, name, flags) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(|error| named(&error))?,
        };
        let mut text = Vec::new();
        let read = file.take(LONGEST).read_to_end(&mut text);
        read.map_err(|error| named(&error))?;
        match parse(&text) {
            Ok(held) => Ok(Some(held)),
            Err(why) => {
                let aside = format!("{name}.damaged");
                let moved = renameat(&directory, name, &directory, aside.as_str());
                Err(named(&match moved {
                    Ok(()) => format!("{why}: quarantined as {aside}"),
                    Err(error) => format!("{why}, and it cannot be quarantined: {error}"),
                }))
            }
        }
    }

    /// Holds this from now on. It blocks until that is on the disk.
    ///
    /// # Errors
    ///
    /// In words, with the file's name; what it held before is still there.
    pub fn write(&self, held: &Held) -> Result<(), String> {
        let named = |error: io::Error| format!("cannot write {}: {error}", self.path.display());
        self.replace(held).map_err(named)
    }

    fn replace(&self, held: &Held) -> io::Result<()> {
        let (directory, name) = self.open(Some(0o700))?;
        let new = format!("{name}.new");
        match unlinkat(&directory, new.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(nix::Error::ENOENT) => {}
            Err(error) => return Err(error.into()),
        }
        let file = at(&directory, &new, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        let mut to = BufWriter::with_capacity(1 << 18, file);
        let first = First { format: FORMAT, cluster: held.cluster.clone() };
        line(&mut to, serde_json::to_string(&first)?.as_bytes())?;
        let mut sum = Hasher::new();
        for text in &held.texts {
            sum.update(text.as_bytes());
            sum.update(b"\n");
            line(&mut to, text.as_bytes())?;
        }
        let last = Last { objects: held.texts.len(), crc32: sum.finalize() };
        line(&mut to, serde_json::to_string(&last)?.as_bytes())?;
        to.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
        renameat(&directory, new.as_str(), &directory, name)?;
        directory.sync_all()
    }

    /// Its directory, and its name there.
    fn open(&self, make: Option<u32>) -> io::Result<(File, &str)> {
        let name = self.path.file_name().and_then(|name| name.to_str());
        let name = name.ok_or_else(|| io::Error::other("not the name of a file"))?;
        Ok((trusted(self.path.parent().unwrap_or(Path::new(".")), make)?, name))
    }
}

fn at(directory: &File, name: &str, flags: OFlag) -> io::Result<File> {
    let always = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(openat(directory, name, flags | always, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
}

fn line(to: &mut impl io::Write, text: &[u8]) -> io::Result<()> {
    to.write_all(text)?;
    to.write_all(b"\n")
}

fn parse(text: &[u8]) -> Result<Held, String> {
    let damaged = || "it is damaged".to_owned();
    let text = str::from_utf8(text).map_err(|_| damaged())?;
    let (first, rest) = text.split_once('\n').ok_or_else(damaged)?;
    let First { format, cluster } = serde_json::from_str(first).map_err(|_| damaged())?;
    if format != FORMAT {
        return Err(format!("its format is {format}, and this build's is {FORMAT}"));
    }
    let rest = rest.strip_suffix('\n').ok_or_else(damaged)?;
    let begins = rest.rfind('\n').map_or(0, |at| at + 1);
    let (objects, last) = rest.split_at(begins);
    let Last { objects: count, crc32 } = serde_json::from_str(last).map_err(|_| damaged())?;
    let texts: Vec<Arc<str>> = objects.lines().map(Into::into).collect();
    if crc32fast::hash(objects.as_bytes()) != crc32 || texts.len() != count {
        return Err(damaged());
    }
    Ok(Held { cluster, texts })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn held() -> Held {
        let texts = ["{\"a\":1}", "{\"b\":\"\\n\u{e9}\"}"].map(Arc::from).to_vec();
        Held { cluster: Some("c1".into()), texts }
    }

    #[test]
    fn what_was_written_is_read_again_and_nothing_else_is_left_there() {
        let root = tempfile::tempdir().unwrap();
        let cache = Cache::new(root.path().join("state/cluster.json"));
        assert!(cache.read().unwrap_err().contains("state"), "there is no directory");
        for held in [held(), Held::default(), held()] {
            cache.write(&held).unwrap();
            assert_eq!(cache.read().unwrap(), Some(held));
        }
        let names: Vec<_> = fs::read_dir(root.path().join("state")).unwrap().collect();
        assert_eq!(names.len(), 1, "{names:?}");
        fs::remove_file(root.path().join("state/cluster.json")).unwrap();
        assert_eq!(cache.read().unwrap(), None);
    }

    #[test]
    fn half_a_file_or_one_with_a_flipped_bit_is_quarantined() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("cluster.json");
        let cache = Cache::new(path.clone());
        cache.write(&held()).unwrap();
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            assert!(parse(&whole[..length]).is_err(), "{length}");
        }
        for bit in 0..8 * whole.len() {
            let mut other = whole.clone();
            other[bit / 8] ^= 1 << (bit % 8);
            // The identity has no sum: another one is none of this cluster.
            assert!(parse(&other).map(|held| held.texts).ok().is_none_or(|t| t == held().texts));
        }
        fs::write(&path, &whole[..whole.len() - 3]).unwrap();
        let error = cache.read().unwrap_err();
        assert!(error.ends_with("it is damaged: quarantined as cluster.json.damaged"), "{error}");
        assert_eq!(cache.read().unwrap(), None);
        assert!(root.path().join("cluster.json.damaged").exists());
    }

    #[test]
    fn a_file_of_another_format_is_quarantined_with_both_numbers() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("cluster.json");
        fs::write(&path, "{\"format\":2,\"cluster\":null,\"more\":1}\nwhatever\n").unwrap();
        let error = Cache::new(path).read().unwrap_err();
        assert!(error.contains("its format is 2, and this build's is 1"), "{error}");
    }

    #[test]
    fn a_link_in_its_place_is_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let (path, secret) = (root.path().join("cluster.json"), root.path().join("secret"));
        fs::write(&secret, "secret").unwrap();
        std::os::unix::fs::symlink(&secret, &path).unwrap();
        let cache = Cache::new(path);
        assert!(cache.read().is_err());
        cache.write(&held()).unwrap();
        assert_eq!(cache.read().unwrap(), Some(held()));
        assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    }
}
