//! Reads a trail from its first line to its last, and names the first that cannot be as it was written.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use super::chain::{self, Link, ORIGIN};
use super::checkpoint::{self, PublicKey};
use super::head::{self, Noted};

/// What a whole trail holds.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Verified {
    /// Segments.
    pub segments: u64,
    /// Lines.
    pub records: u64,
    /// The number of the first line: not 1 where older segments were removed.
    pub first: u64,
    /// The number of the last line.
    pub last: u64,
    /// The hash of the last line: whoever has it can tell later that nothing before it was altered.
    pub head: String,
    /// Checkpoints whose signature holds.
    pub checkpoints: u64,
    /// Checkpoints by a key that was not given.
    pub unknown_checkpoints: u64,
    /// Lines behind the last checkpoint: nobody vouches for these yet.
    pub unsealed: u64,
    /// Files, and heads noted down, that tell how far the trail had come: all of that is there.
    pub heads: u64,
    /// Bytes behind the last whole line: a gateway is writing, or was stopped while it wrote.
    pub torn: u64,
}

/// The first place where a trail is not as it was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// The file.
    pub file: PathBuf,
    /// The line in it, from 1; 0 where the file as a whole is missing or unexpected.
    pub line: u64,
    /// What is wrong there.
    pub flaw: Flaw,
}

/// What is wrong with a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flaw {
    /// It is no line of a trail.
    Form,
    /// Its text, or the line before it, is not what was written: something was altered, removed, put in or moved.
    Hash,
    /// Its number is not the next one.
    Number,
    /// It does not begin its segment as a segment begins.
    Head,
    /// The segment's number is not the next one: a file is missing.
    Gap,
    /// The segment ends without a checkpoint, and another one follows.
    Unsealed,
    /// The checkpoint's signature does not hold.
    Signature,
    /// A segment that another one follows ends in the middle of a line.
    Torn,
    /// The trail ends with the line of the second number, though that of the first was written.
    Cut(u64, u64),
    /// The line of this number is not the one that was noted.
    Anew(u64),
    /// The line that was noted is nowhere.
    Lost,
    /// It tells how far the trail had come, and the trail's key did not sign it.
    Unsigned,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Form => "it is no line of an audit trail",
            Self::Hash => {
                "its hash is not that of its text and the line before: something here was altered, removed, put in or \
                 moved"
            }
            Self::Number => "its number is not the next one",
            Self::Head => "it does not begin the segment as it was begun",
            Self::Gap => "the segment before it is missing",
            Self::Unsealed => "the segment was ended without a signed checkpoint",
            Self::Signature => {
                "the checkpoint's signature does not hold: the chain before it was made anew, or the key is not the \
                 trail's"
            }
            Self::Torn => "the segment ends in the middle of a line, and another one follows",
            Self::Cut(written, left) => {
                return write!(
                    f,
                    "the trail ends with record {left}, though record {written} was written: its end was cut off"
                );
            }
            Self::Anew(number) => {
                return write!(
                    f,
                    "record {number} is not the one that was noted: from somewhere before it the chain was made anew"
                );
            }
            Self::Lost => {
                "the head that was noted is in no line: the trail's end was cut off, the chain was made anew, or its \
                 segment was removed"
            }
            Self::Unsigned => "it tells how far the trail had come, and the trail's key did not sign it",
        })
    }
}

/// Why a trail does not verify.
#[derive(Debug)]
pub enum VerifyError {
    /// It was altered.
    Broken(Broken),
    /// It cannot be read.
    Unreadable(PathBuf, io::Error),
    /// There is no trail in the directory.
    Empty(PathBuf),
}

impl fmt::Display for VerifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(Broken { file, line, flaw }) => {
                write!(f, "{}:{line}: {flaw}", file.display())
            }
            Self::Unreadable(path, cause) => write!(f, "{}: {cause}", path.display()),
            Self::Empty(path) => write!(f, "there is no audit trail in {}", path.display()),
        }
    }
}

impl std::error::Error for VerifyError {}

/// The public key that lies beside a trail. Whoever could alter the trail could have replaced it: keep a copy elsewhere.
pub fn public_key(dir: &Path) -> Option<PublicKey> {
    PublicKey::from_pem(&fs::read_to_string(dir.join(checkpoint::PUBLIC)).ok()?)
}

/// Verifies the trail in `dir`: every link, every checkpoint by one of `keys`, and that it has come as far as the files
/// beside it say that it had.
pub fn verify(dir: &Path, keys: &[PublicKey]) -> Result<Verified, VerifyError> {
    verify_up_to(dir, keys, &[], &[])
}

/// The same with further `files` that say so, and with heads that somebody noted down.
pub fn verify_up_to(
    dir: &Path,
    keys: &[PublicKey],
    files: &[PathBuf],
    noted: &[Noted],
) -> Result<Verified, VerifyError> {
    let unreadable = |path: &Path, error| VerifyError::Unreadable(path.to_owned(), error);
    // Before the segments, which only grow.
    let mut heads: Vec<_> = noted.iter().map(|noted| (*noted, false)).collect();
    for path in head::files(dir).iter().chain(files) {
        match head::read(path, keys) {
            Ok(found) => heads.extend(found.map(|found| (found, false))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                let (file, line, flaw) = (path.clone(), 1, Flaw::Unsigned);
                return Err(VerifyError::Broken(Broken { file, line, flaw }));
            }
            Err(error) => return Err(unreadable(path, error)),
        }
    }
    let segments = super::segments(dir).map_err(|error| unreadable(dir, error))?;
    let Some((oldest, _)) = segments.first().cloned() else {
        return Err(VerifyError::Empty(dir.to_owned()));
    };
    let mut walk =
        Walk { keys, heads, link: ORIGIN, sealed: ORIGIN, place: 0, verified: Verified::default() };
    let count = segments.len();
    let end = segments.last().map(|(_, file)| file.clone()).unwrap_or_default();
    for (place, (number, file)) in segments.into_iter().enumerate() {
        let bytes = fs::read(&file).map_err(|error| unreadable(&file, error))?;
        let is_last = place + 1 == count;
        let expected = oldest + u64::try_from(place).unwrap_or_default();
        let walked = if number == expected {
            walk.segment(number, place == 0, is_last, &bytes)
        } else {
            Err((0, Flaw::Gap))
        };
        walked.map_err(|(line, flaw)| VerifyError::Broken(Broken { file, line, flaw }))?;
    }
    walk.reached().map_err(|(line, flaw)| VerifyError::Broken(Broken { file: end, line, flaw }))?;
    let Walk { link, sealed, mut verified, .. } = walk;
    verified.last = link.count;
    verified.head = chain::hex(&link.hash);
    verified.unsealed = link.count - sealed.count;
    Ok(verified)
}

struct Walk<'k> {
    keys: &'k [PublicKey],
    /// What was noted, and whether it was found.
    heads: Vec<(Noted, bool)>,
    link: Link,
    /// The line in the segment.
    place: u64,
    /// Where the last checkpoint that counts stands.
    sealed: Link,
    verified: Verified,
}

impl Walk<'_> {
    fn segment(
        &mut self,
        number: u64,
        is_first: bool,
        is_last: bool,
        bytes: &[u8],
    ) -> Result<(), (u64, Flaw)> {
        let whole = chain::whole(bytes);
        let torn = u64::try_from(bytes.len() - whole.len()).unwrap_or(u64::MAX);
        let mut place = 0;
        for line in chain::lines(whole) {
            place += 1;
            if place == 1 && is_first {
                self.link = chain::before(line).ok_or((1, Flaw::Head))?;
                self.sealed = self.link;
                self.verified.first = self.link.count + 1;
            }
            self.line(number, place, line).map_err(|flaw| (place, flaw))?;
        }
        self.place = place;
        self.verified.segments += 1;
        self.verified.torn = torn;
        match (is_last, torn, place) {
            (false, 1.., _) => Err((place + 1, Flaw::Torn)),
            (false, 0, 0) => Err((0, Flaw::Head)),
            (false, 0, _) if self.sealed != self.link => Err((place, Flaw::Unsealed)),
            // The last may have been begun by a gateway that was stopped before its first line.
            (true, ..) | (false, 0, _) => Ok(()),
        }
    }

    fn line(&mut self, number: u64, place: u64, line: &[u8]) -> Result<(), Flaw> {
        let before = self.link;
        self.link.follow(line).map_err(|flaw| match flaw {
            chain::Flaw::Form => Flaw::Form,
            chain::Flaw::Hash => Flaw::Hash,
            chain::Flaw::Number => Flaw::Number,
        })?;
        self.verified.records += 1;
        let kind = |kind: &str| line.starts_with(format!(r#"{{"v":1,"kind":"{kind}","#).as_bytes());
        if place == 1 {
            let head: Value = serde_json::from_slice(line).map_err(|_| Flaw::Form)?;
            let is_head = kind("segment")
                && head.get("segment").and_then(Value::as_u64) == Some(number)
                && chain::before(line) == Some(before);
            if !is_head {
                return Err(Flaw::Head);
            }
        } else if kind("checkpoint") {
            self.checkpoint(number, before, line)?;
        }
        self.noted()
    }

    /// Whether this line is the one that was noted, where one of its number was.
    fn noted(&mut self) -> Result<(), Flaw> {
        for (noted, found) in &mut self.heads {
            let is_it = noted.hash == self.link.hash;
            *found |= is_it;
            if noted.number == Some(self.link.count) && !is_it {
                return Err(Flaw::Anew(self.link.count));
            }
        }
        Ok(())
    }

    /// Whether the trail has come as far as it had.
    fn reached(&mut self) -> Result<(), (u64, Flaw)> {
        let (first, last) = (self.verified.first, self.link.count);
        for (noted, found) in &self.heads {
            match noted.number {
                Some(number) if number > last => {
                    return Err((self.place + 1, Flaw::Cut(number, last)));
                }
                // Its segment was removed, as old ones are.
                Some(number) if number < first => {}
                Some(_) => self.verified.heads += 1,
                None if *found => self.verified.heads += 1,
                None => return Err((self.place + 1, Flaw::Lost)),
            }
        }
        Ok(())
    }

    fn checkpoint(&mut self, number: u64, before: Link, line: &[u8]) -> Result<(), Flaw> {
        let checkpoint: Value = serde_json::from_slice(line).map_err(|_| Flaw::Form)?;
        let text = |name| checkpoint.get(name).and_then(Value::as_str).unwrap_or_default();
        let Some(key) = self.keys.iter().find(|key| key.name() == text("key")) else {
            // Where keys were given, whoever has none of them signs nothing here.
            self.verified.unknown_checkpoints += 1;
            if !self.keys.is_empty() {
                return Err(Flaw::Signature);
            }
            self.sealed = self.link;
            return Ok(());
        };
        let of = text("of") == chain::hex(&before.hash);
        if !of || !key.vouches(number, &before, text("signature")) {
            return Err(Flaw::Signature);
        }
        self.verified.checkpoints += 1;
        self.sealed = self.link;
        Ok(())
    }
}
