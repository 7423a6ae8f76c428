//! The files of a trail: one is written to, until it is large or old enough; those before it stay as they are.
//!
//! A segment is `segment-<number>.jsonl`. Its first line tells the last hash of the segment before it.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use super::chain::{self, Link, ORIGIN};
use super::checkpoint::Sealer;
use super::head;
use super::record::{begin, count, plain};
use crate::clock::Micros;

/// Why a trail cannot be written to.
#[derive(Debug)]
pub enum OpenError {
    /// The directory, or a file in it, cannot be written or read.
    Unwritable(PathBuf, io::Error),
    /// Another process writes to it.
    Locked(PathBuf),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unwritable(path, cause) => write!(
                f,
                "the audit trail in {} cannot be opened: {cause}; this user must be able to write there",
                path.display()
            ),
            Self::Locked(path) => write!(
                f,
                "the audit trail in {} is in use by another process: give each gateway its own directory",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// What was found at the end of a trail that was opened again.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Found {
    /// Bytes of a line that was not whole: they were cut off.
    pub(super) torn: u64,
    /// The first line of the last segment that does not follow the one before it.
    pub(super) broken: Option<(u64, u64)>,
    /// The number of a line that was written, and of the last one that is there.
    pub(super) cut: Option<(u64, u64)>,
}

/// The segment that is written to.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    /// Held, not used: closing it gives up the lock.
    _lock: File,
    file: File,
    pub(super) number: u64,
    pub(super) length: u64,
    /// Whether bytes beyond `length` may be in the file.
    dirty: bool,
    pub(super) link: Link,
    pub(super) sealer: Sealer,
    /// Where it is kept how far the trail has come.
    heads: Vec<PathBuf>,
}

impl Segments {
    /// Opens the trail in `dir`, or begins one; `head` is where it is kept as well how far it has come. What is not
    /// whole at its end is cut off.
    pub(super) fn open(
        dir: &Path,
        head: Option<PathBuf>,
        now: Micros,
    ) -> Result<(Self, Found), OpenError> {
        let unwritable = |error| OpenError::Unwritable(dir.to_owned(), error);
        make_dir(dir).map_err(unwritable)?;
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK));
        let lock = lock.map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked(dir.to_owned())),
            Err(TryLockError::Error(error)) => return Err(unwritable(error)),
        }
        Self::resume(dir, head, lock, now).map_err(unwritable)
    }

    fn resume(
        dir: &Path,
        head: Option<PathBuf>,
        lock: File,
        now: Micros,
    ) -> io::Result<(Self, Found)> {
        let sealer = Sealer::open(dir)?;
        let numbers = numbers(dir)?;
        let last = numbers.last().copied().unwrap_or(1);
        let before = match numbers.iter().rev().nth(1) {
            Some(before) => last_link(&fs::read(path(dir, *before))?),
            None => None,
        };
        let mut file = open_file(&path(dir, last))?;
        let (bytes, mut found) = (fs::read(path(dir, last))?, Found::default());
        let whole = chain::whole(&bytes);
        found.torn = len(bytes.len() - whole.len());
        file.set_len(len(whole.len()))?;
        file.seek(SeekFrom::End(0))?;
        let (link, flaw) = walk(whole, before.unwrap_or(ORIGIN));
        found.broken = flaw.map(|line| (last, line));
        let heads: Vec<_> = std::iter::once(dir.join(head::FILE)).chain(head).collect();
        found.cut = cut(dir, &heads, &sealer, &link)?;
        let length = len(whole.len());
        let dir = dir.to_owned();
        let mut segments = Self {
            dir,
            _lock: lock,
            file,
            number: last,
            length,
            dirty: false,
            link,
            sealer,
            heads,
        };
        if whole.is_empty() {
            segments.head(now)?;
        }
        segments.sync()?;
        sync_dir(&segments.dir)?;
        Ok((segments, found))
    }

    /// Writes lines that were linked up to `link`; where that fails, nothing of them stays.
    pub(super) fn append(&mut self, lines: &[u8], link: Link) -> io::Result<()> {
        if self.dirty {
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::Start(self.length))?;
            self.dirty = false;
        }
        self.dirty = true;
        self.file.write_all(lines)?;
        self.dirty = false;
        self.length += len(lines.len());
        self.link = link;
        Ok(())
    }

    /// Returns once what was written is on the disk, in a file that is still in its place.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        // A file that was removed while it is open takes writes that nobody will read.
        fs::metadata(path(&self.dir, self.number)).map(drop)
    }

    /// Writes a checkpoint for all that was written.
    pub(super) fn seal(&mut self, now: Micros) -> io::Result<()> {
        let mut piece = Vec::new();
        begin("checkpoint", now, &mut piece);
        piece.extend(self.sealer.seal(self.number, &self.link).bytes());
        self.line(&piece)
    }

    /// Keeps it elsewhere how far the trail has come. Call it once all of that is on the disk.
    pub(super) fn keep_head(&self) {
        if let Err(error) = head::keep(&self.heads, &self.sealer, &self.link) {
            tracing::warn!(%error, "how far the audit trail has come cannot be kept beside it");
        }
    }

    /// Ends this segment with a checkpoint and begins the next; keeps `keep` of them, or all when 0.
    pub(super) fn rotate(&mut self, now: Micros, keep: usize) -> io::Result<()> {
        self.seal(now)?;
        self.file.sync_data()?;
        self.next(now)?;
        if keep > 0 {
            let numbers = numbers(&self.dir)?;
            for old in numbers.iter().take(numbers.len().saturating_sub(keep)) {
                fs::remove_file(path(&self.dir, *old))?;
            }
        }
        sync_dir(&self.dir)
    }

    /// Begins the next segment, whatever became of this one.
    pub(super) fn next(&mut self, now: Micros) -> io::Result<()> {
        let number = self.number + 1;
        let file = open_file(&path(&self.dir, number))?;
        let before = (self.number, self.length, self.dirty);
        let old = std::mem::replace(&mut self.file, file);
        (self.number, self.length, self.dirty) = (number, 0, true);
        if let Err(error) = self.head(now).and_then(|()| self.sync()) {
            self.file = old;
            (self.number, self.length, self.dirty) = before;
            // What is empty is taken up again; what is not would be taken for a part of the trail.
            drop(fs::remove_file(path(&self.dir, number)));
            return Err(error);
        }
        sync_dir(&self.dir)
    }

    /// Whether the file that is written to is still in its place.
    pub(super) fn is_in_place(&self) -> bool {
        path(&self.dir, self.number).exists()
    }

    fn head(&mut self, now: Micros) -> io::Result<()> {
        let mut piece = Vec::new();
        begin("segment", now, &mut piece);
        count("segment", self.number, &mut piece);
        plain("previous", &chain::hex(&self.link.hash), &mut piece);
        plain("key", &self.sealer.public().name(), &mut piece);
        plain("program", concat!("countersign ", env!("CARGO_PKG_VERSION")), &mut piece);
        self.line(&piece)
    }

    fn line(&mut self, piece: &[u8]) -> io::Result<()> {
        let (mut text, mut link) = (Vec::new(), self.link);
        link.append(piece, &mut text);
        self.append(&text, link)
    }
}

/// The number of a line that was written though the trail ends with an earlier one: then what tells so is set aside.
fn cut(
    dir: &Path,
    heads: &[PathBuf],
    sealer: &Sealer,
    link: &Link,
) -> io::Result<Option<(u64, u64)>> {
    let mut found = None;
    for path in heads {
        // What nobody signed says nothing.
        let noted = head::read(path, &[sealer.public()]).unwrap_or_default();
        if let Some(number) = noted.and_then(|noted| noted.number).filter(|n| *n > link.count) {
            head::set_aside(dir, path, number)?;
            found = found.max(Some((number, link.count)));
        }
    }
    Ok(found)
}

/// Where the lines of the last segment lead, and the first of them that does not follow.
///
/// The head of the oldest segment that is left says what was before it.
fn walk(whole: &[u8], before: Link) -> (Link, Option<u64>) {
    let mut link = before;
    for (line, place) in chain::lines(whole).zip(1_u64..) {
        if place == 1 && before == ORIGIN {
            link = chain::before(line).unwrap_or(before);
        }
        if link.follow(line).is_err() {
            // What is there stays as it is, and the trail goes on behind it: a verifier names the place.
            return (last_link(whole).unwrap_or(link), Some(place));
        }
    }
    (link, None)
}

fn last_link(bytes: &[u8]) -> Option<Link> {
    chain::lines(chain::whole(bytes)).filter_map(Link::stated).last()
}

/// The file of a segment.
pub(super) fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("segment-{number:010}.jsonl"))
}

/// The numbers of all segments, in order.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| {
            let digits = name.strip_prefix("segment-")?.strip_suffix(".jsonl")?;
            digits.parse::<u64>().ok()
        });
        numbers.extend(number);
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o640);
    let file = options.open(path)?;
    Ok(file)
}

fn make_dir(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o750);
    match builder.create(dir) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn len(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

/// The file whose lock keeps other processes out.
const LOCK: &str = "lock";
