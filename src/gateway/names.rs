//! The names of header fields: those that every request carries are read once, and then only compared.

use http::HeaderName;

/// Names that were read last.
#[derive(Debug, Default)]
pub(super) struct Names([Option<HeaderName>; PLACES]);

impl Names {
    /// The name that `text` is, in either case; `None` where it is none.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<HeaderName> {
        let last = usize::from(text.last().copied().unwrap_or_default() & 0x1f);
        let place = self.0.get_mut((text.len() + 3 * last) % PLACES)?;
        if let Some(known) = place
            && known.as_str().as_bytes().eq_ignore_ascii_case(text)
        {
            return Some(known.clone());
        }
        let name = HeaderName::from_bytes(text).ok()?;
        // Long ones are nobody's usual ones, and whoever sends them is not to fill the memory.
        if text.len() <= LONGEST {
            *place = Some(name.clone());
        }
        Some(name)
    }
}

const PLACES: usize = 16;
const LONGEST: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_http_reads_it_whatever_was_read_before() {
        let mut names = Names::default();
        let long = "x".repeat(LONGEST + 1);
        let texts = [
            "Host",
            "host",
            "HOST",
            "hos\u{e9}",
            "X-MBX-APIKEY",
            "x-mbx-apikey",
            "X-MBX-APIKEZ",
            "x mbx-apikey",
            "Content-Length",
            "content-length",
            "",
            "-",
            "_",
            "@",
            "`",
            "[",
            "{",
            "K",
            "\u{212a}",
            &long,
        ];
        for _ in 0..3 {
            for text in texts {
                let read = HeaderName::from_bytes(text.as_bytes()).ok();
                assert_eq!(names.read(text.as_bytes()), read, "{text}");
            }
            for byte in 0..=u8::MAX {
                for text in [vec![b'a', byte], vec![byte, b'a']] {
                    assert_eq!(names.read(&text), HeaderName::from_bytes(&text).ok(), "{text:?}");
                }
            }
        }
    }
}
