//! The journal and what it says.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::directory::Directory;
use super::record::{self, Bad, FORMAT, Line, Record};
use crate::desired::{PersistedState, Transaction};

const JOURNAL: &str = "journal";
/// The next journal, while it is being written.
const NEXT: &str = "journal.new";
/// A journal below this size is not worth rewriting.
const WORTH_COMPACTING: u64 = 1 << 20;

/// What damage adds to the version, since those of lost transactions must not be given again.
const LOST_VERSIONS: u64 = 1000;

/// Why nothing can be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is another agent's.
    #[error("another agent uses the state directory {}", .0.display())]
    Locked(PathBuf),
    /// A file is whole, but from another version of weir.
    #[error("{}:{line}: not understood, perhaps written by a newer weir: {message}", .file.display())]
    Unknown {
        /// The file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is not understood.
        message: String,
    },
    /// The operating system rejects.
    #[error("cannot {what} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// With which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// What was found when the directory was opened that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The last record was incomplete, as a crash leaves it: what it would
    /// have changed was never acknowledged.
    Torn {
        /// The file.
        file: PathBuf,
        /// What was cut off.
        bytes: usize,
    },
    /// Lines were not what had been written.
    Damaged {
        /// The file.
        file: PathBuf,
        /// Which lines, from 1.
        lines: Vec<usize>,
        /// Why the end could not be read, if it could not.
        unreadable: Option<String>,
        /// Where the file is now.
        aside: PathBuf,
    },
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Torn { file, bytes } => write!(
                f,
                "{}: cut off {bytes} bytes of a change that was never acknowledged",
                file.display()
            ),
            Self::Damaged { file, lines, unreadable, aside } => {
                write!(f, "{} is damaged", file.display())?;
                if !lines.is_empty() {
                    let shown: Vec<String> = lines.iter().take(8).map(usize::to_string).collect();
                    let more = if lines.len() > shown.len() { ", ..." } else { "" };
                    write!(f, " at line {}{more}", shown.join(", "))?;
                }
                if let Some(error) = unreadable {
                    write!(f, ", its end is unreadable ({error})")?;
                }
                write!(f, "; it was moved to {}, the rest was loaded", aside.display())
            }
        }
    }
}

/// The open state directory. One at a time may have it.
#[derive(Debug)]
pub struct Store {
    directory: Arc<Directory>,
    journal: File,
    /// Bytes of the journal that are known to be good.
    size: u64,
    /// The size at which it is written anew.
    limit: u64,
    worth: u64,
    /// Whether the journal may hold something else than `kept`.
    suspect: bool,
    /// How often it was replaced.
    generation: u64,
    persisted: PersistedState,
}

impl Store {
    /// Opens a directory or makes it, and reads what it holds. What has to be
    /// said about its files is in the notices.
    pub fn open(path: &Path) -> Result<(Self, Vec<Notice>), StoreError> {
        Self::open_with(path, WORTH_COMPACTING)
    }

    /// [`Store::open`], where a journal is worth rewriting from `worth` bytes on.
    pub fn open_with(path: &Path, worth: u64) -> Result<(Self, Vec<Notice>), StoreError> {
        let directory = Directory::open(path).map_err(|source| match source.kind() {
            io::ErrorKind::WouldBlock => StoreError::Locked(path.to_owned()),
            _ => StoreError::Io { what: "open", path: path.to_owned(), source },
        })?;
        let file = directory.path_of(JOURNAL);
        let error = |what| {
            let path = file.clone();
            move |source| StoreError::Io { what, path, source }
        };
        let (content, found) = match directory.read(JOURNAL).map_err(error("open"))? {
            None => (Content::default(), None),
            Some(mut journal) => {
                let (bytes, unreadable) = read(&mut journal);
                let content = Content::of(&bytes, unreadable, &file)?;
                (content, (!bytes.is_empty()).then_some((journal, bytes.len() as u64)))
            }
        };
        let mut notices = Vec::new();
        if content.torn > 0 {
            notices.push(Notice::Torn { file: file.clone(), bytes: content.torn });
        }
        if content.is_damaged() {
            let aside = quarantine(&directory).map_err(error("quarantine"))?;
            let (lines, unreadable) = (content.damaged.clone(), content.unreadable.clone());
            notices.push(Notice::Damaged { file: file.clone(), lines, unreadable, aside });
        }
        let (journal, size) = match found {
            Some((journal, size)) if notices.is_empty() && size < worth => (journal, size),
            // Written anew rather than mended: what is there may be all there is.
            found => match (rewrite(&directory, &content.persisted), found) {
                (Ok(written), _) => written,
                // It has only grown: there is room for that, perhaps, and later for the rest.
                (Err(_), Some(whole)) if notices.is_empty() => whole,
                (Err(source), _) => return Err(error("write")(source)),
            },
        };
        let (limit, persisted) = (grown(size, worth), content.persisted);
        let directory = Arc::new(directory);
        let (suspect, generation) = (false, 0);
        let store = Self { directory, journal, size, limit, worth, suspect, generation, persisted };
        Ok((store, notices))
    }

    /// What is kept.
    pub fn persisted(&self) -> &PersistedState {
        &self.persisted
    }

    /// Bytes of the journal.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Makes a transaction happen. When this returns `Ok`, it is on the disk;
    /// after an error it is not kept, and if the machine crashes then it is
    /// found on the disk as a whole or not at all.
    pub fn commit(&mut self, transaction: Transaction) -> Result<(), StoreError> {
        if transaction.ops.is_empty() {
            return Ok(());
        }
        let path = self.directory.path_of(JOURNAL);
        let error = |source| StoreError::Io { what: "write", path, source };
        self.append(&transaction).map_err(error)?;
        self.persisted.accept(transaction);
        Ok(())
    }

    /// What to do once the journal has grown, without the store: writing
    /// megabytes takes a while, and nobody has to wait for it.
    pub fn compaction(&self) -> Option<Compaction> {
        (self.size >= self.limit && !self.suspect).then(|| Compaction {
            directory: Arc::clone(&self.directory),
            persisted: self.persisted.clone(),
            size: self.size,
            generation: self.generation,
        })
    }

    /// Puts a journal that was written anew in the place of the old one, with
    /// what was committed meanwhile. After an error the old one is still good.
    pub fn replace(&mut self, compacted: Compacted) -> Result<(), StoreError> {
        let path = self.directory.path_of(NEXT);
        let Compacted { file, size, from, generation } = compacted;
        if self.suspect || self.generation != generation {
            return Ok(());
        }
        self.catch_up(file, size, from).map_err(|source| StoreError::Io {
            what: "replace the journal by",
            path,
            source,
        })
    }

    fn catch_up(&mut self, mut file: File, size: u64, from: u64) -> io::Result<()> {
        let length = usize::try_from(self.size - from).map_err(io::Error::other)?;
        let mut tail = vec![0; length];
        self.journal.read_exact_at(&mut tail, from)?;
        file.write_all(&tail)?;
        file.sync_all()?;
        put_in_place(&self.directory)?;
        self.adopt(file, size + length as u64);
        Ok(())
    }

    fn adopt(&mut self, journal: File, size: u64) {
        (self.journal, self.size) = (journal, size);
        self.limit = grown(size, self.worth);
        self.suspect = false;
        self.generation += 1;
    }

    /// [`Store::compaction`] and what follows, at once.
    pub fn compact_if_grown(&mut self) -> Result<(), StoreError> {
        match self.compaction() {
            Some(compaction) => self.replace(compaction.write()?),
            None => Ok(()),
        }
    }

    fn append(&mut self, transaction: &Transaction) -> io::Result<()> {
        if self.suspect {
            self.compact()?;
        }
        let mut line = Vec::new();
        record::write(Line::Transaction(transaction), &mut line)?;
        self.suspect = true;
        let written = self.journal.write_all(&line).and_then(|()| self.journal.sync_data());
        if written.is_err() {
            // Best effort: the next append begins with a new journal anyway,
            // since after a failed sync nobody knows what the disk holds.
            let _ = self.journal.set_len(self.size).and_then(|()| self.journal.sync_data());
        }
        written?;
        self.suspect = false;
        self.size += line.len() as u64;
        Ok(())
    }

    /// From now on each write fails.
    #[cfg(test)]
    pub(super) fn break_journal(&mut self) {
        self.journal = File::open("/dev/null").expect("read only");
    }

    fn compact(&mut self) -> io::Result<()> {
        let (journal, size) = rewrite(&self.directory, &self.persisted)?;
        self.adopt(journal, size);
        Ok(())
    }
}

/// A journal to be written anew; see [`Store::compaction`].
#[derive(Debug)]
pub struct Compaction {
    directory: Arc<Directory>,
    persisted: PersistedState,
    /// Of the journal, when it said this.
    size: u64,
    generation: u64,
}

/// A journal that was written anew; see [`Store::replace`].
#[derive(Debug)]
pub struct Compacted {
    file: File,
    size: u64,
    /// From where on the old one says more.
    from: u64,
    generation: u64,
}

impl Compaction {
    /// Writes it, beside the one in use.
    pub fn write(self) -> Result<Compacted, StoreError> {
        let Self { directory, persisted, size: from, generation } = self;
        let path = directory.path_of(NEXT);
        let written = write_next(&directory, &persisted);
        let (file, size) =
            written.map_err(|source| StoreError::Io { what: "write", path, source })?;
        Ok(Compacted { file, size, from, generation })
    }
}

/// The size at which a journal that was just written with `size` bytes is worth it again.
fn grown(size: u64, worth: u64) -> u64 {
    (2 * size).max(worth)
}

/// All that can be read of a file, and why it is not all.
fn read(file: &mut File) -> (Vec<u8>, Option<String>) {
    let mut bytes = Vec::new();
    let error = file.read_to_end(&mut bytes).err().map(|error| error.to_string());
    (bytes, error)
}

/// Writes a journal that says `kept`, and puts it in the place of the old one.
fn rewrite(directory: &Directory, persisted: &PersistedState) -> io::Result<(File, u64)> {
    let written = write_next(directory, persisted)?;
    put_in_place(directory)?;
    Ok(written)
}

fn put_in_place(directory: &Directory) -> io::Result<()> {
    directory.rename(NEXT, JOURNAL)?;
    directory.sync()
}

/// Writes a journal that says `kept`, beside the one in use, and to the disk.
fn write_next(directory: &Directory, persisted: &PersistedState) -> io::Result<(File, u64)> {
    let mut file = directory.create(NEXT)?;
    let mut buffer = Vec::new();
    record::write(Line::Format(FORMAT), &mut buffer)?;
    let mut size = 0;
    for transaction in persisted.transactions() {
        record::write(Line::Transaction(&transaction), &mut buffer)?;
        if buffer.len() >= 1 << 20 {
            file.write_all(&buffer)?;
            size += buffer.len() as u64;
            buffer.clear();
        }
    }
    file.write_all(&buffer)?;
    size += buffer.len() as u64;
    file.sync_all()?;
    Ok((file, size))
}

/// Gives the journal a second name, under which it stays when it is replaced.
fn quarantine(directory: &Directory) -> io::Result<PathBuf> {
    for n in 1u32.. {
        let name = format!("{JOURNAL}.damaged-{n}");
        match directory.link(JOURNAL, &name) {
            Ok(()) => {
                directory.sync()?;
                return Ok(directory.path_of(&name));
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// What a journal says.
#[derive(Debug, Default)]
struct Content {
    persisted: PersistedState,
    damaged: Vec<usize>,
    /// Bytes at the end that are the beginning of a record.
    torn: usize,
    unreadable: Option<String>,
}

impl Content {
    fn of(bytes: &[u8], unreadable: Option<String>, file: &Path) -> Result<Self, StoreError> {
        let mut content = Self { unreadable, ..Self::default() };
        let mut lines = bytes.split(|&byte| byte == b'\n');
        // What follows the last end of line: nothing, unless a write was cut short.
        let tail = lines.next_back().unwrap_or_default();
        let mut count = 0;
        for line in lines {
            count += 1;
            content.line(count, line, file)?;
        }
        match tail {
            // What was not read may be all that is missing.
            _ if content.unreadable.is_some() => {}
            // A whole record: its end of line has become another byte.
            [line @ .., _] if record::read(line).is_ok() => {
                content.line(count + 1, line, file)?;
                content.damaged.push(count + 1);
            }
            _ => content.torn = tail.len(),
        }
        if content.is_damaged() {
            let version = content.persisted.version() + LOST_VERSIONS;
            content.persisted.accept(Transaction { version, ops: Vec::new() });
        }
        Ok(content)
    }

    fn line(&mut self, number: usize, line: &[u8], file: &Path) -> Result<(), StoreError> {
        match record::read(line) {
            Ok(Record::Transaction(transaction)) => self.persisted.accept(transaction),
            Ok(Record::Format(_)) => {}
            Err(Bad::Damaged) => self.damaged.push(number),
            Err(Bad::Unknown(message)) => {
                let file = file.to_owned();
                return Err(StoreError::Unknown { file, line: number, message });
            }
        }
        Ok(())
    }

    fn is_damaged(&self) -> bool {
        !self.damaged.is_empty() || self.unreadable.is_some()
    }
}
