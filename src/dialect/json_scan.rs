//! Reads a document of JSON from its first byte to its last.

use super::json::{Flaw, Kind, MAX_DEPTH, MAX_MEMBERS, Node};
use super::json_text::{self, Text};

/// Walks over a document and lists its values.
pub(super) struct Scanner<'a, 'n> {
    text: &'a str,
    at: usize,
    nodes: &'n mut Vec<Node>,
}

/// The name before a value.
#[derive(Clone, Copy, Default)]
struct Name {
    place: (u32, u32),
    escaped: bool,
}

impl<'a, 'n> Scanner<'a, 'n> {
    /// Lists the values of the document that `text` is, each before those inside it.
    pub(super) fn document(text: &'a str, nodes: &'n mut Vec<Node>) -> Result<(), Flaw> {
        // Places have 32 bits.
        u32::try_from(text.len()).map_err(|_| Flaw::TooLong)?;
        let mut scanner = Self { text, at: 0, nodes };
        scanner.space();
        scanner.value(Name::default(), 0)?;
        scanner.space();
        match scanner.peek() {
            None => Ok(()),
            Some(_) => Err(Flaw::Trailing),
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Flaw> {
        match self.peek() {
            Some(found) if found == byte => {
                self.at += 1;
                Ok(())
            }
            Some(_) => Err(Flaw::Unexpected),
            None => Err(Flaw::Unfinished),
        }
    }

    fn value(&mut self, name: Name, depth: usize) -> Result<(), Flaw> {
        let (here, start) = (self.nodes.len(), self.at);
        let byte = self.peek().ok_or(Flaw::Unfinished)?;
        let kind = kind_of(byte).ok_or(Flaw::Unexpected)?;
        self.nodes.push(Node {
            name: name.place,
            value: (place(start), 0),
            next: 0,
            kind,
            escaped_name: name.escaped,
            escaped: false,
        });
        let escaped = match kind {
            Kind::Object => self.object(here, depth + 1).map(|()| false)?,
            Kind::Array => self.array(depth + 1).map(|()| false)?,
            Kind::String => self.string()?.is_escaped(),
            Kind::Number => self.number().map(|()| false)?,
            Kind::True => self.word("true").map(|()| false)?,
            Kind::False => self.word("false").map(|()| false)?,
            Kind::Null => self.word("null").map(|()| false)?,
        };
        let (end, next) = (place(self.at), place(self.nodes.len()));
        if let Some(node) = self.nodes.get_mut(here) {
            node.value.1 = end;
            node.next = next;
            node.escaped = escaped;
        }
        Ok(())
    }

    fn object(&mut self, here: usize, depth: usize) -> Result<(), Flaw> {
        if depth > MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        self.at += 1;
        self.space();
        if self.expect(b'}').is_ok() {
            return Ok(());
        }
        let (mut seen, mut members) = (0_u64, 0);
        loop {
            let start = self.at + 1;
            let name = self.string()?;
            let mark = mark(name);
            // Most names differ in their marks, and are then not compared.
            if seen & mark != 0 && self.is_named_before(here, name) {
                return Err(Flaw::NamedTwice);
            }
            seen |= mark;
            members += 1;
            if members > MAX_MEMBERS {
                return Err(Flaw::TooManyMembers);
            }
            self.space();
            self.expect(b':')?;
            self.space();
            let name_at = (place(start), place(start + name.raw().len()));
            self.value(Name { place: name_at, escaped: name.is_escaped() }, depth)?;
            if self.ends(b'}')? {
                return Ok(());
            }
        }
    }

    /// Whether a member of the object at `here`, so far, has that name.
    fn is_named_before(&self, here: usize, name: Text<'_>) -> bool {
        let mut at = here + 1;
        while let Some(node) = self.nodes.get(at) {
            let (from, to) = node.name;
            let raw = self.text.get(from as usize..to as usize).unwrap_or_default();
            if Text::new(raw, node.escaped_name) == name {
                return true;
            }
            at = node.next as usize;
        }
        false
    }

    fn array(&mut self, depth: usize) -> Result<(), Flaw> {
        if depth > MAX_DEPTH {
            return Err(Flaw::TooDeep);
        }
        self.at += 1;
        self.space();
        if self.expect(b']').is_ok() {
            return Ok(());
        }
        loop {
            self.value(Name::default(), depth)?;
            if self.ends(b']')? {
                return Ok(());
            }
        }
    }

    /// Passes the closing bracket, or a comma and the space after it.
    fn ends(&mut self, close: u8) -> Result<bool, Flaw> {
        self.space();
        if self.expect(close).is_ok() {
            return Ok(true);
        }
        self.expect(b',')?;
        self.space();
        Ok(false)
    }

    fn string(&mut self) -> Result<Text<'a>, Flaw> {
        self.expect(b'"')?;
        let text = json_text::scan(self.rest())?;
        self.at += text.raw().len() + 1;
        Ok(text)
    }

    fn number(&mut self) -> Result<(), Flaw> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let text = self.text.as_bytes().get(start..self.at).unwrap_or_default();
        if is_number(text) { Ok(()) } else { Err(Flaw::Number) }
    }

    fn word(&mut self, word: &str) -> Result<(), Flaw> {
        word.bytes().try_for_each(|byte| self.expect(byte))
    }
}

const fn kind_of(byte: u8) -> Option<Kind> {
    Some(match byte {
        b'{' => Kind::Object,
        b'[' => Kind::Array,
        b'"' => Kind::String,
        b'-' | b'0'..=b'9' => Kind::Number,
        b't' => Kind::True,
        b'f' => Kind::False,
        b'n' => Kind::Null,
        _ => return None,
    })
}

/// One bit, the same for equal names; all of them for a name with escapes, which can equal one of another length.
fn mark(name: Text<'_>) -> u64 {
    if name.is_escaped() {
        return u64::MAX;
    }
    let bytes = name.raw().as_bytes();
    let ends = |byte: Option<&u8>| usize::from(byte.copied().unwrap_or(0));
    1 << ((bytes.len() + 5 * ends(bytes.first()) + 11 * ends(bytes.last())) % 64)
}

/// Whether `text` is a JSON number: `-`? integer without leading zero, then a fraction, then an exponent.
pub(super) fn is_number(text: &[u8]) -> bool {
    let text = text.strip_prefix(b"-").unwrap_or(text);
    let Some(rest) = text.strip_prefix(b"0").or_else(|| digits(text)) else { return false };
    let Some(rest) = rest.strip_prefix(b".").map_or(Some(rest), digits) else { return false };
    let rest = match rest {
        [b'e' | b'E', b'-' | b'+', rest @ ..] | [b'e' | b'E', rest @ ..] => digits(rest),
        _ => Some(rest),
    };
    rest.is_some_and(<[u8]>::is_empty)
}

/// What follows at least one digit.
fn digits(text: &[u8]) -> Option<&[u8]> {
    let length = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    text.get(length..).filter(|_| length > 0)
}

/// Documents are shorter than 4 GiB.
fn place(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
