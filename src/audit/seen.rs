//! What was usual for keys, kept across restarts: when each was last used, and from which networks.
//!
//! A file that cannot be read is passed over: it is a help, and proves nothing.

use std::fs;
use std::io;
use std::path::Path;

use super::unusual::Known;
use crate::clock::Micros;

/// Its name.
pub(super) const FILE: &str = "seen.bin";

/// What stands at its beginning: the version of its form.
const HEAD: &[u8] = b"countersign seen 1\n";
/// Key, last use, eight networks.
const ROW: usize = 80;

/// At most `most` keys.
pub(super) fn read(file: &Path, most: usize) -> Vec<(u64, Known)> {
    let bytes = fs::read(file).unwrap_or_default();
    let rows = bytes.strip_prefix(HEAD).unwrap_or_default();
    let (rows, _) = rows.as_chunks::<ROW>();
    rows.iter().take(most).map(row).collect()
}

fn row(row: &[u8; ROW]) -> (u64, Known) {
    let (numbers, _) = row.as_chunks::<8>();
    let mut numbers = numbers.iter().map(|bytes| u64::from_le_bytes(*bytes));
    let (key, last) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
    let networks = numbers.filter(|network| *network != NOTHING).take(8).collect();
    (key, Known { last: Micros(last), networks, ..Known::default() })
}

/// Puts what is known in the place of the file.
pub(super) fn write<'k>(
    file: &Path,
    known: impl Iterator<Item = (&'k u64, &'k Known)>,
) -> io::Result<()> {
    let mut bytes = HEAD.to_vec();
    for (key, known) in known {
        bytes.extend(key.to_le_bytes());
        bytes.extend(known.last.0.to_le_bytes());
        let networks = known.networks.iter().copied().chain(std::iter::repeat(NOTHING));
        bytes.extend(networks.take(8).flat_map(u64::to_le_bytes));
    }
    let new = file.with_extension("new");
    fs::write(&new, bytes)?;
    fs::rename(new, file)
}

/// In the place of a network that is not there.
const NOTHING: u64 = u64::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_is_read_again_and_nonsense_is_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(FILE);
        let known =
            Known { last: Micros(5), networks: [1, 2].into_iter().collect(), ..Known::default() };
        write(&file, [(&9, &known), (&8, &Known::default())].into_iter()).unwrap();
        assert_eq!(read(&file, 10), [(9, known.clone()), (8, Known::default())]);
        assert_eq!(read(&file, 1), [(9, known)]);
        fs::write(&file, b"nonsense").unwrap();
        assert_eq!(read(&file, 10), []);
        assert_eq!(read(&dir.path().join("none"), 10), []);
    }
}
