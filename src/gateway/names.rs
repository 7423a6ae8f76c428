//! The names of header fields: those that every request carries are read once, and then only compared.

use arrayvec::ArrayVec;
use http::HeaderName;

/// Names that were read last.
#[derive(Debug, Default)]
pub(super) struct Names([Option<Known>; PLACES]);

/// A name, and how it was written: whoever writes it otherwise than in lower case does so every time.
#[derive(Debug)]
struct Known {
    text: ArrayVec<u8, LONGEST>,
    name: HeaderName,
}

impl Names {
    /// The name that `text` is, in either case; `None` where it is none.
    pub(super) fn read(&mut self, text: &[u8]) -> Option<HeaderName> {
        let last = usize::from(text.last().copied().unwrap_or_default() & 0x1f);
        let place = self.0.get_mut((text.len() + 3 * last) % PLACES)?;
        if let Some(known) = place
            && *known.text == *text
        {
            return Some(known.name.clone());
        }
        let name = HeaderName::from_bytes(text).ok()?;
        // Long ones are nobody's usual ones, and whoever sends them is not to fill the memory.
        if let Ok(text) = ArrayVec::try_from(text) {
            *place = Some(Known { text, name: name.clone() });
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
