//! Key ids, kept in the key itself, so that comparing one takes no step to another place in memory.

use std::fmt;
use std::ops::Deref;

use arrayvec::ArrayString;

/// The public name of a key: text of any length.
#[derive(Clone, Eq, PartialEq)]
pub struct KeyId(Text);

#[derive(Clone, Eq, PartialEq)]
enum Text {
    Short(ArrayString<SHORT>),
    Long(Box<str>),
}

/// As long as the ids that exchanges give out, of up to 64 characters.
const SHORT: usize = 64;

impl From<&str> for KeyId {
    fn from(text: &str) -> Self {
        Self(ArrayString::from(text).map_or_else(|_| Text::Long(text.into()), Text::Short))
    }
}

impl From<String> for KeyId {
    fn from(text: String) -> Self {
        Self::from(&*text)
    }
}

impl Deref for KeyId {
    type Target = str;

    fn deref(&self) -> &str {
        match &self.0 {
            Text::Short(text) => text,
            Text::Long(text) => text,
        }
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&**self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_any_length_is_kept_whole() {
        for length in [0, 1, SHORT - 1, SHORT, SHORT + 1, 500] {
            let text = "k".repeat(length);
            assert_eq!(*KeyId::from(&*text), *text);
            assert_eq!(KeyId::from(text.clone()), KeyId::from(&*text));
            assert_ne!(KeyId::from(&*text), KeyId::from(text + "k"));
        }
    }
}
