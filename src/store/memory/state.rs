//! The state directory: locked for one process, every file in it replaced whole or appended to, and synced.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::OpenError;
use super::fence::Mark;
use crate::clock::Micros;

/// A directory that this process alone writes to, for as long as this lives.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    /// Held, not used: closing it gives up the lock.
    _lock: File,
}

/// What is reserved for the growing numbers of one key.
pub(super) type Reservation = ([u8; 16], u64);

/// An open log of reservations.
#[derive(Debug)]
pub(super) struct Log {
    file: File,
    entries: usize,
}

impl StateDir {
    /// Makes the directory if it is missing, and locks it.
    pub(super) fn open(path: &Path) -> Result<Self, OpenError> {
        let unwritable = |source| OpenError::Unwritable { path: path.to_owned(), source };
        fs::create_dir_all(path).map_err(unwritable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path.join(LOCK))
            .map_err(unwritable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => Err(unwritable(source)),
        }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The mark that an earlier process left, or the lowest if this directory is new.
    pub(super) fn read_mark(&self) -> Result<Mark, OpenError> {
        let Some(bytes) = self.read(MARK)? else { return Ok(Mark::default()) };
        let corrupt = || OpenError::Corrupt { path: self.path.join(MARK) };
        let text = std::str::from_utf8(&bytes).map_err(|_| corrupt())?;
        parse_mark(text).ok_or_else(corrupt)
    }

    pub(super) fn write_mark(&self, mark: Mark) -> io::Result<()> {
        self.replace(MARK, mark_text(mark).as_bytes()).map(drop)
    }

    /// What earlier processes reserved. A record cut short at the end was never acknowledged, and is passed over.
    pub(super) fn read_reservations(&self) -> Result<Vec<Reservation>, OpenError> {
        let Some(bytes) = self.read(NONCES)? else { return Ok(Vec::new()) };
        let corrupt = || OpenError::Corrupt { path: self.path.join(NONCES) };
        let records = bytes.strip_prefix(NONCES_HEAD).ok_or_else(corrupt)?;
        let (records, _) = records.as_chunks::<RESERVATION>();
        let parsed: Vec<Option<Reservation>> = records.iter().map(parse_reservation).collect();
        let whole = parsed.iter().take_while(|record| record.is_some()).count();
        if parsed.iter().skip(whole).any(Option::is_some) {
            return Err(corrupt());
        }
        Ok(parsed.into_iter().flatten().collect())
    }

    /// Whether the log is still in its place: a file removed while it is open takes writes that nobody will read.
    pub(super) fn holds_log(&self) -> bool {
        self.path.join(NONCES).exists()
    }

    /// Begins the log anew with `reservations` alone.
    pub(super) fn rewrite_log(&self, reservations: &[Reservation]) -> io::Result<Log> {
        let mut bytes = NONCES_HEAD.to_vec();
        bytes.extend(reservations.iter().flat_map(reservation_bytes));
        Ok(Log { file: self.replace(NONCES, &bytes)?, entries: reservations.len() })
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, OpenError> {
        let path = self.path.join(name);
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(source) => Err(OpenError::Unreadable { path, source }),
        }
    }

    /// Puts `bytes` in the place of a file: after a crash there is the old one or the new one, never half of it.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<File> {
        let new = self.path.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.path.join(name))?;
        File::open(&self.path)?.sync_all()?;
        Ok(file)
    }
}

impl Log {
    pub(super) fn append(&mut self, reservations: &[Reservation]) -> io::Result<()> {
        let bytes: Vec<u8> = reservations.iter().flat_map(reservation_bytes).collect();
        self.file.write_all(&bytes)?;
        self.file.sync_data()?;
        self.entries += reservations.len();
        Ok(())
    }

    /// Whether so much of it is outdated that it is worth beginning anew.
    pub(super) fn is_bloated(&self, keys: usize) -> bool {
        self.entries > 65_536 + 4 * keys
    }
}

fn mark_text(mark: Mark) -> String {
    let body =
        format!("countersign-mark 1\nstamp {}\ndeadline {}\n", mark.stamp.0, mark.deadline.0);
    let sum = data_encoding::HEXLOWER.encode(&sum(body.as_bytes()));
    format!("{body}sum {sum}\n")
}

fn parse_mark(text: &str) -> Option<Mark> {
    let mut lines = text.lines();
    let _head = lines.next()?;
    let stamp = lines.next()?.strip_prefix("stamp ")?.parse().ok()?;
    let deadline = lines.next()?.strip_prefix("deadline ")?.parse().ok()?;
    let mark = Mark { stamp: Micros(stamp), deadline: Micros(deadline) };
    (mark_text(mark) == text).then_some(mark)
}

fn reservation_bytes((key, up_to): &Reservation) -> [u8; RESERVATION] {
    let mut bytes = [0; RESERVATION];
    let fields = key.iter().copied().chain(up_to.to_le_bytes());
    let body: [u8; 24] = std::array::from_fn({
        let mut fields = fields;
        move |_| fields.next().unwrap_or(0)
    });
    for (to, from) in bytes.iter_mut().zip(body.into_iter().chain(sum(&body))) {
        *to = from;
    }
    bytes
}

fn parse_reservation(bytes: &[u8; RESERVATION]) -> Option<Reservation> {
    let (key, rest) = bytes.split_first_chunk::<16>()?;
    let (up_to, _) = rest.split_first_chunk::<8>()?;
    let reservation = (*key, u64::from_le_bytes(*up_to));
    (reservation_bytes(&reservation) == *bytes).then_some(reservation)
}

/// Tells a damaged record from a whole one; it is no defence against whoever may write the directory.
pub(super) fn sum(bytes: &[u8]) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    digest.first_chunk().copied().unwrap_or_default()
}

const LOCK: &str = "lock";
const MARK: &str = "mark";
const NONCES: &str = "nonces";
const NONCES_HEAD: &[u8] = b"countersign-nonces 1\n";
const RESERVATION: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    const MARKED: Mark = Mark { stamp: Micros(7), deadline: Micros(u64::MAX) };

    #[test]
    fn a_mark_is_read_back_as_written_and_any_changed_byte_is_noticed() {
        let text = mark_text(MARKED);
        assert_eq!(parse_mark(&text), Some(MARKED));
        for at in 0..text.len() {
            let mut bytes = text.clone().into_bytes();
            bytes[at] ^= 1;
            assert_eq!(String::from_utf8(bytes).ok().and_then(|text| parse_mark(&text)), None);
            assert_eq!(text.get(..at).and_then(parse_mark), None);
        }
    }

    #[test]
    fn a_second_process_is_told_which_directory_is_taken_and_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let first = StateDir::open(dir.path()).unwrap();
        let error = StateDir::open(dir.path()).unwrap_err();
        assert!(matches!(&error, OpenError::Locked { path } if path == dir.path()));
        assert!(error.to_string().contains(&dir.path().display().to_string()));
        drop(first);
        StateDir::open(dir.path()).unwrap();
    }

    #[test]
    fn a_record_cut_short_at_the_end_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut log = state.rewrite_log(&[([1; 16], 10)]).unwrap();
        log.append(&[([2; 16], 20), ([3; 16], 30)]).unwrap();
        let whole = fs::read(dir.path().join(NONCES)).unwrap();
        for cut in 0..=RESERVATION {
            fs::write(dir.path().join(NONCES), &whole[..whole.len() - cut]).unwrap();
            let read = state.read_reservations().unwrap();
            let kept = if cut == 0 { 3 } else { 2 };
            assert_eq!(read, [([1; 16], 10), ([2; 16], 20), ([3; 16], 30)][..kept]);
        }
    }

    #[test]
    fn damage_before_the_end_of_the_log_is_an_error_that_says_the_cure() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        drop(state.rewrite_log(&[([1; 16], 10), ([2; 16], 20)]).unwrap());
        let mut bytes = fs::read(dir.path().join(NONCES)).unwrap();
        bytes[NONCES_HEAD.len() + 17] ^= 1;
        fs::write(dir.path().join(NONCES), bytes).unwrap();
        let error = state.read_reservations().unwrap_err();
        assert!(matches!(&error, OpenError::Corrupt { path } if path.ends_with(NONCES)), "{error}");
    }
}
