//! Defeats a trail whose end was cut off: where it had come to is kept beside it and elsewhere, signed, and was on the
//! disk before that was said.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Deserialize;

use super::chain::{Hash, Link, hex};
use super::checkpoint::{PublicKey, Sealer};

/// Where a trail had come to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Noted {
    /// The number of the line, where it is known.
    pub(super) number: Option<u64>,
    /// Its hash.
    pub(super) hash: Hash,
}

impl Noted {
    /// Reads what `audit verify` prints as the head: the hash, with the number and a colon before it or without.
    pub fn read(text: &str) -> Option<Self> {
        let (number, digits) = match text.trim().split_once(':') {
            Some((number, digits)) => (Some(number.parse().ok()?), digits),
            None => (None, text.trim()),
        };
        let mut hash = [0; 32];
        (digits.len() == 64).then_some(())?;
        HEXLOWER.decode_mut(digits.as_bytes(), &mut hash).ok()?;
        Some(Self { number, hash })
    }
}

/// Writes to each of `files` that the trail has come to `link`.
pub(super) fn keep(files: &[PathBuf], sealer: &Sealer, link: &Link) -> io::Result<()> {
    let text = format!(
        "{{\"v\":1,\"kind\":\"head\",\"n\":{},\"hash\":\"{}\",\"key\":\"{}\",\"signature\":\"{}\"}}\n",
        link.count,
        hex(&link.hash),
        sealer.public().name(),
        sealer.sign_head(link),
    );
    files.iter().try_for_each(|path| {
        // There is the one before or this one, whenever it is stopped.
        let new = path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(new, path)
    })
}

/// What a file says; `None` where there is none, an error where it is no head or nobody of `keys` signed it.
pub(super) fn read(path: &Path, keys: &[PublicKey]) -> io::Result<Option<Noted>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let wrong = || io::Error::from(io::ErrorKind::InvalidData);
    let told: Told = serde_json::from_str(&text).map_err(|_| wrong())?;
    let noted = Noted::read(&told.hash).ok_or_else(wrong)?;
    let link = Link { count: told.n, hash: noted.hash };
    let signed = keys.iter().any(|key| key.vouches_head(&link, &told.signature));
    if signed || keys.is_empty() {
        Ok(Some(Noted { number: Some(told.n), ..noted }))
    } else {
        Err(wrong())
    }
}

/// The files that tell where the trail in `dir` had come to: beside it, and in the directory around it where that is
/// the gateway's own.
pub(super) fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = vec![dir.join(FILE)];
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let is_older = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix(OLDER).and_then(|rest| rest.strip_suffix(".json"));
        number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    found.extend(entries.map(|entry| entry.path()).filter(is_older));
    if dir.file_name().is_some_and(|name| name == "audit") {
        found.extend(dir.parent().map(|parent| parent.join(ELSEWHERE)));
    }
    found
}

/// Keeps what `path` says under a name of its own, since more was written once than there is.
pub(super) fn set_aside(dir: &Path, path: &Path, number: u64) -> io::Result<()> {
    fs::copy(path, dir.join(format!("{OLDER}{number}.json"))).map(drop)
}

#[derive(Deserialize)]
struct Told {
    n: u64,
    hash: String,
    signature: String,
}

/// Beside the segments.
pub(super) const FILE: &str = "head.json";
/// In the state directory.
pub(crate) const ELSEWHERE: &str = "audit-head.json";
const OLDER: &str = "head-";

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: Link = Link { count: 7, hash: [9; 32] };

    #[test]
    fn a_head_is_read_as_it_was_kept_and_no_bit_of_it_can_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Sealer::open(dir.path()).unwrap();
        let (keys, path) = ([sealer.public()], dir.path().join(FILE));
        assert_eq!(read(&path, &keys).unwrap(), None);
        keep(std::slice::from_ref(&path), &sealer, &LINK).unwrap();
        let kept = Noted { number: Some(7), hash: LINK.hash };
        assert_eq!(read(&path, &keys).unwrap(), Some(kept));
        let whole = fs::read(&path).unwrap();
        for place in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[place / 8] ^= 1 << (place % 8);
            fs::write(&path, flipped).unwrap();
            // What names members or spaces otherwise may be refused or say the same, but never something else.
            assert!(!matches!(read(&path, &keys), Ok(Some(other)) if other != kept), "{place}");
        }
        let other = Sealer::open(tempfile::tempdir().unwrap().path()).unwrap();
        keep(std::slice::from_ref(&path), &other, &LINK).unwrap();
        read(&path, &keys).unwrap_err();
    }

    #[test]
    fn a_head_is_noted_with_its_number_or_without() {
        let hash = "09".repeat(32);
        let noted = |number| Some(Noted { number, hash: LINK.hash });
        assert_eq!(Noted::read(&hash), noted(None));
        assert_eq!(Noted::read(&format!(" 7:{hash}\n")), noted(Some(7)));
        for wrong in [
            "",
            "7",
            ":",
            "x:09",
            hash.get(2..).unwrap(),
            &format!("7:{hash}0"),
            &format!("x:{hash}"),
        ] {
            assert_eq!(Noted::read(wrong), None, "{wrong}");
        }
    }
}
