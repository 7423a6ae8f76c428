//! Finds the end of a backend's reply: what comes after it must not meet the next request.

use bytes::{Buf, Bytes, BytesMut};

use super::reply_head::{Framing, Odd};

/// What is still to come of a body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rest {
    /// Nothing: its end has come.
    Nothing,
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunks(Chunks),
    /// Whatever comes until the connection closes.
    Close,
}

/// Where in a chunk we are.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Chunks {
    /// Before a line that tells a size.
    Size,
    /// In the data, with this much to come.
    Data(u64),
    /// After the data, before its line's end.
    End,
    /// After the last chunk, having passed over this many bytes of trailers.
    Trailers(usize),
}

impl From<Framing> for Rest {
    fn from(framing: Framing) -> Self {
        match framing {
            Framing::Empty => Self::Nothing,
            Framing::Length(length) => Self::Length(length),
            Framing::Chunks => Self::Chunks(Chunks::Size),
            Framing::Close => Self::Close,
        }
    }
}

impl Rest {
    /// Takes data off the front of `held`; `None` when more must come first, or nothing does.
    pub(super) fn take(&mut self, held: &mut BytesMut) -> Result<Option<Bytes>, Odd> {
        loop {
            match self {
                Self::Nothing => return Ok(None),
                Self::Close => {
                    return Ok((!held.is_empty()).then(|| held.split().freeze()));
                }
                Self::Length(left) => {
                    let data = upto(left, held);
                    if *left == 0 {
                        *self = Self::Nothing;
                    }
                    return Ok(data);
                }
                Self::Chunks(Chunks::Data(left)) => {
                    let data = upto(left, held);
                    if *left == 0 {
                        *self = Self::Chunks(Chunks::End);
                    }
                    return Ok(data);
                }
                Self::Chunks(chunks) => match chunks.skip(held)? {
                    Some(next) => *self = next,
                    None => return Ok(None),
                },
            }
        }
    }
}

impl Chunks {
    /// Takes what is no data off the front of `held`; `None` when more must come first.
    fn skip(self, held: &mut BytesMut) -> Result<Option<Rest>, Odd> {
        let next = match self {
            Self::Data(_) => return Ok(Some(Rest::Chunks(self))),
            Self::Size => match size(held)? {
                None => return Ok(None),
                Some(0) => Self::Trailers(0),
                Some(size) => Self::Data(size),
            },
            Self::End => {
                match held.get(..2) {
                    Some(b"\r\n") => held.advance(2),
                    Some(_) => return Err(Odd),
                    None => return Ok(None),
                }
                Self::Size
            }
            Self::Trailers(before) => {
                let Some(end) = memchr::memchr(b'\n', held) else {
                    let is_long = before + held.len() > LONGEST_TRAILERS;
                    return if is_long { Err(Odd) } else { Ok(None) };
                };
                let line = held.split_to(end + 1);
                if &*line == b"\r\n" {
                    return Ok(Some(Rest::Nothing));
                }
                if !line.ends_with(b"\r\n") || before + line.len() > LONGEST_TRAILERS {
                    return Err(Odd);
                }
                Self::Trailers(before + line.len())
            }
        };
        Ok(Some(Rest::Chunks(next)))
    }
}

/// The size that a line tells, which is taken off.
fn size(held: &mut BytesMut) -> Result<Option<u64>, Odd> {
    if held.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) {
        return Err(Odd);
    }
    match httparse::parse_chunk_size(held) {
        Ok(httparse::Status::Complete((length, size))) => {
            // The parser lets a lone LF pass in extensions, which others take for the end of the line.
            let line = held.split_to(length);
            if memchr::memchr(b'\n', &line) != Some(length - 1) {
                return Err(Odd);
            }
            Ok(Some(size))
        }
        Ok(httparse::Status::Partial) if held.len() <= LONGEST_LINE => Ok(None),
        Ok(httparse::Status::Partial) | Err(_) => Err(Odd),
    }
}

/// Takes at most `left` bytes off the front of `held`, and notes how many are left then.
fn upto(left: &mut u64, held: &mut BytesMut) -> Option<Bytes> {
    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(held.len());
    *left = left.saturating_sub(u64::try_from(count).unwrap_or(u64::MAX));
    (count > 0).then(|| held.split_to(count).freeze())
}

/// The longest line that tells a size, with its extensions.
const LONGEST_LINE: usize = 4_096;
const LONGEST_TRAILERS: usize = 16_384;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// All data, what is to come, and what is left over, when `text` comes in pieces of this size.
    fn read(framing: Framing, text: &[u8], piece: usize) -> Result<(Vec<u8>, Rest, Vec<u8>), Odd> {
        let (mut rest, mut held, mut data) = (Rest::from(framing), BytesMut::new(), Vec::new());
        for piece in text.chunks(piece) {
            held.extend_from_slice(piece);
            while let Some(taken) = rest.take(&mut held)? {
                data.extend_from_slice(&taken);
            }
        }
        Ok((data, rest, held.to_vec()))
    }

    #[test]
    fn a_length_ends_at_its_last_byte() {
        let read = |text: &str| read(Framing::Length(3), text.as_bytes(), 2).unwrap();
        assert_eq!(read("ab"), (b"ab".to_vec(), Rest::Length(1), vec![]));
        assert_eq!(read("abc"), (b"abc".to_vec(), Rest::Nothing, vec![]));
        assert_eq!(read("abcd"), (b"abc".to_vec(), Rest::Nothing, b"d".to_vec()));
    }

    #[test]
    fn what_ends_with_its_connection_never_ends_before() {
        assert_eq!(read(Framing::Close, b"abc", 1).unwrap().1, Rest::Close);
    }

    #[test]
    fn chunks_end_after_their_trailers_wherever_they_are_cut() {
        let text = b"3;x=y\r\nabc\r\n0A\r\n0123456789\r\n0\r\nx-sum: 1\r\n\r\nnext";
        for piece in 1..=text.len() {
            let (data, rest, left) = read(Framing::Chunks, text, piece).unwrap();
            assert_eq!(data, b"abc0123456789");
            assert_eq!((rest, &*left), (Rest::Nothing, &b"next"[..]), "{piece}");
        }
        for end in 0..text.len() - 4 {
            assert_ne!(read(Framing::Chunks, &text[..end], 3).unwrap().1, Rest::Nothing, "{end}");
        }
    }

    #[test]
    fn chunks_that_keep_no_rule_end_the_reply() {
        let long = |start: &str, count: usize| format!("{start}{}", "a".repeat(count));
        for text in [
            "\r\n",
            "-1\r\n",
            "x\r\n",
            " 1\r\na\r\n",
            "1\na\r\n",
            "1\r\nab\r\n",
            "1\r\na\nx",
            "1 1\r\na\r\n",
            "ffffffffffffffff1\r\n",
            "0\r\n\n",
            "3;a\nb\r\nabc\r\n",
            "0\r\nx: y\n\r\n",
            &*long("1;", LONGEST_LINE),
            &*long("0\r\n", LONGEST_TRAILERS + 1),
            &*format!("0\r\n{}", "x: 1\r\n".repeat(LONGEST_TRAILERS / 6 + 1)),
        ] {
            assert_eq!(read(Framing::Chunks, text.as_bytes(), 64).err(), Some(Odd), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_run_on(text in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            let _ = read(Framing::Chunks, &text, piece);
        }
    }
}
