//! The log of unique nonces: appended to and synced in batches; what a crash tore off its end was never acknowledged.
//!
//! Every record says how many before it were synced when it was written. So damage among records that were synced,
//! which a crash cannot cause, is told apart from a torn end, in whatever order the disk took the pages. What nobody can
//! tell is an older copy put in the log's place.
//!
//! A nonce takes 32 bytes; a million of them are read in under half a second of one core.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};

use super::OpenError;
use super::state::{StateDir, sum};

/// A nonce and whose it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Entry {
    pub(super) nonce: [u8; 16],
    /// The key whose share it takes, shortened.
    pub(super) key: u64,
}

/// The open log.
#[derive(Debug)]
pub(super) struct UniqueLog {
    path: PathBuf,
    file: File,
    /// Records that are on the disk.
    synced: u32,
    last: Option<Entry>,
    /// Whether the last record only says once more what the one before it says, and so that it was synced.
    sealed: bool,
    /// Whether the file holds what was synced, and nothing behind it.
    sound: bool,
    #[cfg(test)]
    pub(super) fault: Option<Fault>,
}

impl UniqueLog {
    /// Reads what earlier processes accepted, and cuts off what a crash left of more; `None` if there is no log.
    pub(super) fn open(dir: &StateDir, take: impl FnMut(Entry)) -> Result<Option<Self>, OpenError> {
        let path = dir.path().join(UNIQUE);
        let mut opened = OpenOptions::new();
        let file = match opened.read(true).append(true).open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(OpenError::Unreadable { path, source }),
        };
        let (synced, last, sealed) = match read(&file, take) {
            Ok(Some(read)) => read,
            Ok(None) => return Err(OpenError::Corrupt { path }),
            Err(source) => return Err(OpenError::Unreadable { path, source }),
        };
        let log = Self { sealed, ..Self::over(path, file, synced, last) };
        let cut = log.cut().and_then(|()| log.file.sync_all());
        match cut {
            Ok(()) => Ok(Some(log)),
            Err(source) => Err(OpenError::Unwritable { path: dir.path().to_owned(), source }),
        }
    }

    /// Begins the log anew with `entries`, in the place of whatever there was.
    pub(super) fn begin(dir: &StateDir, entries: impl Iterator<Item = Entry>) -> io::Result<Self> {
        let (path, new) = (dir.path().join(UNIQUE), dir.path().join(UNIQUE_NEW));
        let written = write(&new, entries).and_then(|(file, synced, last)| {
            fs::rename(&new, &path)?;
            File::open(dir.path())?.sync_all()?;
            Ok(Self { sealed: true, ..Self::over(path, file, synced, last) })
        });
        if written.is_err() {
            // It may have filled the disk. If it cannot be removed either, it is in nobody's way.
            let _removed = fs::remove_file(&new);
        }
        written
    }

    /// Writes `entries` and waits until the disk has them.
    pub(super) fn append(&mut self, entries: &[Entry]) -> io::Result<()> {
        let count = u32::try_from(entries.len()).ok().and_then(|new| self.synced.checked_add(new));
        let count = count.ok_or_else(|| io::Error::from(ErrorKind::FileTooLarge))?;
        let bytes: Vec<u8> = entries.iter().flat_map(|entry| record(*entry, self.synced)).collect();
        if let Err(error) = self.write(&bytes) {
            // Half a batch may stand there. With it cut off, the next batch can be tried.
            self.sound = self.cut().is_ok();
            return Err(error);
        }
        if let Err(error) = self.sync() {
            // What the system still holds of the file and what the disk has may now differ for ever.
            self.sound = false;
            return Err(error);
        }
        self.synced = count;
        self.last = entries.last().copied().or(self.last);
        self.sealed = false;
        Ok(())
    }

    /// Notes that all is synced, so that any later damage is noticed.
    pub(super) fn seal(&mut self) -> io::Result<()> {
        if let Some(last) = self.last
            && !self.sealed
            && self.is_usable()
        {
            self.append(&[last])?;
            self.sealed = true;
        }
        Ok(())
    }

    /// Whether it can be appended to: a file that was removed while it is open takes writes that nobody will read.
    pub(super) fn is_usable(&self) -> bool {
        self.sound && self.path.exists()
    }

    fn over(path: PathBuf, file: File, synced: u32, last: Option<Entry>) -> Self {
        Self {
            path,
            file,
            synced,
            last,
            sealed: false,
            sound: true,
            #[cfg(test)]
            fault: None,
        }
    }

    fn cut(&self) -> io::Result<()> {
        self.file.set_len(HEAD.len() as u64 + u64::from(self.synced) * RECORD as u64)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        if self.fault == Some(Fault::DiskFull) {
            let (half, _) = bytes.split_at(bytes.len() / 2);
            self.file.write_all(half)?;
            return Err(ErrorKind::StorageFull.into());
        }
        self.file.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        #[cfg(test)]
        if self.fault == Some(Fault::SyncFails) {
            return Err(io::Error::other("no sync"));
        }
        self.file.sync_data()
    }
}

/// How many records stand at the start of the file, the last of them, and whether that one seals it; `None` if the
/// file is damaged.
fn read(
    file: &File,
    mut take: impl FnMut(Entry),
) -> io::Result<Option<(u32, Option<Entry>, bool)>> {
    let bytes = file.metadata()?.len();
    let Some(bytes) = bytes.checked_sub(HEAD.len() as u64) else { return Ok(None) };
    let Ok(records) = u32::try_from(bytes / RECORD as u64) else { return Ok(None) };
    let mut file = BufReader::with_capacity(READ_AT_ONCE, file);
    let mut head = [0; HEAD.len()];
    file.read_exact(&mut head)?;
    if head != HEAD {
        return Ok(None);
    }
    let (mut whole, mut torn) = (0, false);
    let (mut synced, mut last, mut sealed) = (0, None, false);
    for _ in 0..records {
        let mut bytes = [0; RECORD];
        file.read_exact(&mut bytes)?;
        let Some((entry, before)) = parse(&bytes) else {
            torn = true;
            continue;
        };
        synced = synced.max(before);
        if !torn {
            take(entry);
            sealed = last == Some(entry);
            last = Some(entry);
            whole += 1;
        }
    }
    Ok((synced <= whole).then_some((whole, last, sealed)))
}

/// Writes a log of `entries` whose every damage will be noticed.
fn write(
    path: &Path,
    entries: impl Iterator<Item = Entry>,
) -> io::Result<(File, u32, Option<Entry>)> {
    let mut opened = OpenOptions::new();
    // The rest of a file that an earlier process was about to put in place.
    if let Err(error) = fs::remove_file(path)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error);
    }
    let file = opened.create_new(true).append(true).open(path)?;
    let mut to = BufWriter::with_capacity(WRITTEN_AT_ONCE, &file);
    to.write_all(HEAD)?;
    let (mut count, mut last) = (0u32, None);
    for entry in entries {
        to.write_all(&record(entry, count))?;
        count = count.checked_add(1).ok_or_else(|| io::Error::from(ErrorKind::FileTooLarge))?;
        last = Some(entry);
    }
    if let Some(last) = last {
        to.write_all(&record(last, count))?;
        count = count.saturating_add(1);
    }
    to.flush()?;
    drop(to);
    file.sync_all()?;
    Ok((file, count, last))
}

/// A record of `entry`, written when `synced` records were on the disk.
pub(super) fn record(entry: Entry, synced: u32) -> [u8; RECORD] {
    let fields = entry.nonce.into_iter().chain(entry.key.to_le_bytes()).chain(synced.to_le_bytes());
    let mut body = [0; BODY];
    for (to, from) in body.iter_mut().zip(fields) {
        *to = from;
    }
    let mut bytes = [0; RECORD];
    for (to, from) in bytes.iter_mut().zip(body.into_iter().chain(sum(&body))) {
        *to = from;
    }
    bytes
}

fn parse(bytes: &[u8; RECORD]) -> Option<(Entry, u32)> {
    let (nonce, rest) = bytes.split_first_chunk()?;
    let (key, rest) = rest.split_first_chunk()?;
    let (synced, _) = rest.split_first_chunk()?;
    let entry = Entry { nonce: *nonce, key: u64::from_le_bytes(*key) };
    let synced = u32::from_le_bytes(*synced);
    (record(entry, synced) == *bytes).then_some((entry, synced))
}

/// What a test lets go wrong.
#[cfg(test)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fault {
    DiskFull,
    SyncFails,
}

pub(super) const UNIQUE: &str = "unique";
const UNIQUE_NEW: &str = "unique.new";
pub(super) const HEAD: &[u8] = b"countersign-unique 1\n";
/// What a record takes, and what of it is summed up in its last four bytes.
pub(super) const RECORD: usize = 32;
const BODY: usize = 28;
const READ_AT_ONCE: usize = 1 << 18;
const WRITTEN_AT_ONCE: usize = 1 << 18;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn entry(n: u8) -> Entry {
        Entry { nonce: [n; 16], key: u64::from(n) << 32 }
    }

    fn entries(range: std::ops::Range<u8>) -> Vec<Entry> {
        range.map(entry).collect()
    }

    /// What is read from a directory that holds `bytes`; `None` if they are refused.
    fn opened(bytes: &[u8]) -> Option<Vec<Entry>> {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(UNIQUE), bytes).unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut read = Vec::new();
        match UniqueLog::open(&state, |entry| read.push(entry)) {
            Ok(log) => {
                let mut log = log.unwrap();
                log.append(&[entry(255)]).unwrap();
                let whole = fs::read(dir.path().join(UNIQUE)).unwrap();
                assert_eq!(whole.len(), HEAD.len() + (read.len() + 1) * RECORD, "the end was cut");
                Some(read)
            }
            Err(OpenError::Corrupt { path }) => {
                assert_eq!(path, dir.path().join(UNIQUE));
                assert_eq!(fs::read(path).unwrap(), bytes, "left as it is");
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Three nonces and a seal, then a batch of two, then one of four.
    fn written() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut log = UniqueLog::begin(&state, entries(1..4).into_iter()).unwrap();
        log.append(&entries(4..6)).unwrap();
        log.append(&entries(6..10)).unwrap();
        fs::read(dir.path().join(UNIQUE)).unwrap()
    }

    const SEAL: usize = 3;
    const LAST_BATCH: usize = 6;

    fn at(record: usize) -> usize {
        HEAD.len() + record * RECORD
    }

    fn all() -> Vec<Entry> {
        [entries(1..4), vec![entry(3)], entries(4..10)].concat()
    }

    #[test]
    fn what_was_written_is_read_back() {
        assert_eq!(opened(&written()), Some(all()));
    }

    #[test]
    fn no_log_is_an_empty_one() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        assert!(UniqueLog::open(&state, |_| panic!("there is none")).unwrap().is_none());
        drop(UniqueLog::begin(&state, std::iter::empty()).unwrap());
        assert!(UniqueLog::open(&state, |_| panic!("there is none")).unwrap().is_some());
    }

    #[test]
    fn an_end_that_was_torn_anywhere_is_cut_off() {
        let bytes = written();
        for cut in at(LAST_BATCH)..=bytes.len() {
            let whole = (cut - HEAD.len()) / RECORD;
            assert_eq!(opened(&bytes[..cut]).unwrap(), all()[..whole]);
        }
    }

    #[test]
    fn a_batch_of_which_the_disk_took_the_end_first_is_cut_off_from_where_it_is_torn() {
        for torn in LAST_BATCH..10 {
            let mut bytes = written();
            bytes[at(torn)..at(torn + 1)].fill(0);
            assert_eq!(opened(&bytes).unwrap(), all()[..torn]);
        }
    }

    #[test]
    fn any_changed_byte_before_the_last_batch_is_refused() {
        let bytes = written();
        for place in 0..at(LAST_BATCH) {
            let mut bytes = bytes.clone();
            bytes[place] ^= 1;
            assert_eq!(opened(&bytes), None, "byte {place}");
        }
        assert_eq!(opened(&bytes[..HEAD.len() - 1]), None);
        assert_eq!(opened(&[]), None);
    }

    #[test]
    fn any_changed_byte_of_a_sealed_log_is_refused_or_loses_no_nonce() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(UNIQUE);
        fs::write(&path, written()).unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut log = UniqueLog::open(&state, |_| {}).unwrap().unwrap();
        log.seal().unwrap();
        log.seal().unwrap();
        let sealed = fs::read(&path).unwrap();
        assert_eq!(sealed.len(), at(11), "once is enough");
        for bytes in [sealed, written()[..at(SEAL + 1)].to_vec()] {
            let seal = bytes.len() - RECORD;
            for place in 0..bytes.len() {
                let mut bytes = bytes.clone();
                bytes[place] ^= 1;
                let read = opened(&bytes);
                assert_eq!(read.is_some(), place >= seal, "byte {place}");
                let nonces = (seal - HEAD.len()) / RECORD;
                assert!(read.is_none_or(|read| read == all()[..nonces]));
            }
        }
    }

    #[test]
    fn a_record_moved_to_an_earlier_place_is_refused() {
        let mut bytes = written();
        let last = bytes.split_off(at(9));
        assert_eq!(opened(&[HEAD, &last].concat()), None);
    }

    #[test]
    fn half_a_batch_on_a_full_disk_is_cut_off_and_the_next_one_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut log = UniqueLog::begin(&state, entries(1..2).into_iter()).unwrap();
        log.fault = Some(Fault::DiskFull);
        assert_eq!(log.append(&entries(2..4)).unwrap_err().kind(), ErrorKind::StorageFull);
        assert!(log.is_usable());
        log.fault = None;
        log.append(&entries(4..6)).unwrap();
        let mut read = Vec::new();
        drop(UniqueLog::open(&state, |entry| read.push(entry)).unwrap());
        assert_eq!(read, [entry(1), entry(1), entry(4), entry(5)]);
    }

    #[test]
    fn what_a_crash_left_of_a_log_begun_anew_is_not_read_and_in_nobodys_way() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join(UNIQUE_NEW), written()).unwrap();
        assert!(UniqueLog::open(&state, |_| panic!("it was never in place")).unwrap().is_none());
        drop(UniqueLog::begin(&state, entries(1..2).into_iter()).unwrap());
        assert_eq!(
            fs::read(dir.path().join(UNIQUE)).unwrap(),
            written()[..at(1)].iter().copied().chain(record(entry(1), 1)).collect::<Vec<u8>>()
        );
        assert!(!dir.path().join(UNIQUE_NEW).exists());
    }

    proptest! {
        #[test]
        fn whatever_the_bytes_are_only_nonces_that_were_written_are_read(
            damage in prop::collection::vec((0usize..400, any::<u8>()), 0..6),
            cut in 0usize..400,
            tail in prop::collection::vec(any::<u8>(), 0..100),
        ) {
            let mut bytes = written();
            for (place, byte) in damage {
                if let Some(old) = bytes.get_mut(place) {
                    *old = byte;
                }
            }
            bytes.truncate(cut);
            bytes.extend(tail);
            if let Some(read) = opened(&bytes) {
                prop_assert_eq!(&read[..], &all()[..read.len()]);
            }
        }
    }

    #[test]
    fn after_a_failed_sync_the_file_is_not_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        let mut log = UniqueLog::begin(&state, entries(1..2).into_iter()).unwrap();
        log.fault = Some(Fault::SyncFails);
        log.append(&entries(2..4)).unwrap_err();
        assert!(!log.is_usable());
    }

    #[test]
    fn a_log_that_cannot_be_put_in_place_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(dir.path()).unwrap();
        fs::create_dir(dir.path().join(UNIQUE)).unwrap();
        UniqueLog::begin(&state, entries(1..2).into_iter()).unwrap_err();
        assert!(!dir.path().join(UNIQUE_NEW).exists());
    }
}
