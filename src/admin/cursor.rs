//! Cursors: where a list goes on, in a form that says nothing to a client and fits no other list.

use data_encoding::BASE64URL_NOPAD;
use sha2::{Digest, Sha256};

/// The cursor after `end` in a list called `list` with these filters.
pub(super) fn after(list: &str, filters: &[Option<&str>], end: &str) -> String {
    let mut bytes = mark(list, filters).to_vec();
    bytes.extend_from_slice(end.as_bytes());
    BASE64URL_NOPAD.encode(&bytes)
}

/// What a cursor of this list with these filters stands after; `None` where it is another's, or none at all.
pub(super) fn read(list: &str, filters: &[Option<&str>], cursor: &str) -> Option<String> {
    let bytes = BASE64URL_NOPAD.decode(cursor.as_bytes()).ok()?;
    let (found, end) = bytes.split_at_checked(MARK)?;
    (found == mark(list, filters)).then(|| String::from_utf8(end.to_vec()).ok())?
}

const MARK: usize = 8;

/// Binds a cursor to its list. No secret: a forged cursor shows nothing that its caller may not list anyway.
fn mark(list: &str, filters: &[Option<&str>]) -> [u8; MARK] {
    let mut digest = Sha256::new();
    digest.update(b"countersign cursor 1\n");
    for part in std::iter::once(Some(list)).chain(filters.iter().copied()) {
        let length = part.map_or(u64::MAX, |part| part.len() as u64);
        digest.update(length.to_be_bytes());
        digest.update(part.unwrap_or_default().as_bytes());
    }
    let digest = digest.finalize();
    let mut mark = [0; MARK];
    mark.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_fits_its_own_list_alone() {
        let cursor = after("keys", &[Some("a"), None], "csk_1");
        assert_eq!(read("keys", &[Some("a"), None], &cursor).as_deref(), Some("csk_1"));
        assert_eq!(read("keys", &[None, Some("a")], &cursor), None);
        assert_eq!(read("keys", &[Some("a")], &cursor), None);
        assert_eq!(read("apps", &[Some("a"), None], &cursor), None);
        for wrong in ["", "A", "====", "AAAAAAAAAAA", cursor.get(1..).unwrap(), "\u{e9}"] {
            assert_eq!(read("keys", &[Some("a"), None], wrong), None, "{wrong}");
        }
    }
}
