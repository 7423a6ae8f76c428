//! The header fields of a request, wherever they are kept.

use std::fmt;

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::lanes;

/// The header fields of a request, in the order in which they came where that is kept.
#[derive(Clone, Copy)]
pub struct Fields<'r>(Kept<'r>);

#[derive(Clone, Copy)]
enum Kept<'r> {
    Map(&'r HeaderMap),
    /// As places in the text of a head.
    Listed(&'r [Field], &'r [u8]),
}

/// A field, and where in the text of its head the value stands.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) name: HeaderName,
    pub(crate) value: (usize, usize),
}

/// The value of a field: bytes as HTTP permits them.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct FieldValue<'r>(&'r [u8]);

impl<'r> Fields<'r> {
    /// Fields whose values stand in `text`, which a parser of HTTP has read.
    #[cfg(feature = "server")]
    pub(crate) fn listed(fields: &'r [Field], text: &'r [u8]) -> Self {
        Self(Kept::Listed(fields, text))
    }

    /// Each field; one that stands in several lines comes several times.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = (&'r HeaderName, FieldValue<'r>)> {
        match self.0 {
            Kept::Map(map) => Iter::Map(map.iter()),
            Kept::Listed(fields, text) => Iter::Listed(fields.iter(), text),
        }
    }

    /// The values of the fields called `name`, in the order in which they came.
    #[inline]
    pub fn get_all(self, name: &HeaderName) -> impl Iterator<Item = FieldValue<'r>> {
        self.iter().filter(move |(own, _)| *own == name).map(|(_, value)| value)
    }

    /// The first value of the field called `name`.
    pub fn get(self, name: &HeaderName) -> Option<FieldValue<'r>> {
        self.get_all(name).next()
    }

    /// Whether there is a field called `name`.
    pub fn contains(self, name: &HeaderName) -> bool {
        self.get(name).is_some()
    }

    /// How many lines there are.
    pub fn len(self) -> usize {
        match self.0 {
            Kept::Map(map) => map.len(),
            Kept::Listed(fields, _) => fields.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

enum Iter<'r> {
    Map(http::header::Iter<'r, HeaderValue>),
    Listed(std::slice::Iter<'r, Field>, &'r [u8]),
}

impl<'r> Iterator for Iter<'r> {
    type Item = (&'r HeaderName, FieldValue<'r>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Map(fields) => {
                fields.next().map(|(name, value)| (name, FieldValue(value.as_bytes())))
            }
            Self::Listed(fields, text) => {
                let Field { name, value: (from, to) } = fields.next()?;
                Some((name, FieldValue(text.get(*from..*to).unwrap_or_default())))
            }
        }
    }
}

impl<'r> FieldValue<'r> {
    /// As it came.
    pub const fn as_bytes(self) -> &'r [u8] {
        self.0
    }

    /// As text; `None` where it holds anything but visible ASCII, spaces and tabs.
    pub fn to_str(self) -> Option<&'r str> {
        let is_odd = |byte: u8| {
            let (outside, other) = (byte.wrapping_sub(b' ') > b'~' - b' ', byte != b'\t');
            outside & other
        };
        let text = std::str::from_utf8(self.0).ok()?;
        if lanes::any(self.0, is_odd) { None } else { Some(text) }
    }
}

/// None.
impl Default for Fields<'_> {
    fn default() -> Self {
        Self(Kept::Listed(&[], &[]))
    }
}

impl<'r> From<&'r HeaderMap> for Fields<'r> {
    fn from(map: &'r HeaderMap) -> Self {
        Self(Kept::Map(map))
    }
}

impl<'r> From<&'r HeaderValue> for FieldValue<'r> {
    fn from(value: &'r HeaderValue) -> Self {
        Self(value.as_bytes())
    }
}

/// Names alone: values may be secret.
impl fmt::Debug for Fields<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

/// Its length alone, for the same reason.
impl fmt::Debug for FieldValue<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FieldValue({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_text_where_http_says_so() {
        for byte in 0..=u8::MAX {
            for text in [vec![byte], [&b"a value of more than sixteen bytes"[..], &[byte]].concat()]
            {
                let Ok(value) = HeaderValue::from_bytes(&text) else { continue };
                assert_eq!(FieldValue::from(&value).to_str(), value.to_str().ok(), "{byte}");
            }
        }
    }

    #[test]
    #[cfg(feature = "server")]
    fn a_list_and_a_map_of_the_same_fields_say_the_same() {
        let text = b"one two three four";
        let lines = [("a", (0, 3)), ("b", (4, 7)), ("a", (8, 13)), ("c", (14, 18))];
        let (mut map, mut list) = (HeaderMap::new(), Vec::new());
        for (name, value) in lines {
            let name = HeaderName::from_static(name);
            map.append(&name, HeaderValue::from_bytes(&text[value.0..value.1]).unwrap());
            list.push(Field { name, value });
        }
        let (map, list) = (Fields::from(&map), Fields::listed(&list, text));
        for name in ["a", "b", "c", "d"].map(HeaderName::from_static) {
            let of = |fields: Fields<'_>| {
                let all = fields.get_all(&name);
                all.map(|value| value.as_bytes().to_vec()).collect::<Vec<_>>()
            };
            assert_eq!(of(map), of(list));
            assert_eq!(map.get(&name), list.get(&name));
            assert_eq!(map.contains(&name), name != "d");
            assert_eq!(list.contains(&name), name != "d");
        }
        assert_eq!((map.len(), list.len(), list.is_empty()), (4, 4, false));
        let order: Vec<_> = list.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(order, ["a", "b", "a", "c"]);
    }
}
