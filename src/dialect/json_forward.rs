//! The one JSON body for each signed text: what a backend gets when nothing unsigned may reach it.

use super::json::{Kind, Object, Value};
use super::json_rendering::{Style, is_signed_by_bingx};
use super::json_text::Text;
use super::template::Sink;

impl Style {
    /// Writes `object` as the one JSON document for its signed text, if it passed [`Style::guard`].
    ///
    /// No white space, one spelling of each string, members in the order of the text, and numbers as strings, which
    /// is how these exchanges document amounts; only in `BingX` arrays does the text keep numbers apart. A backend
    /// that wants numbers gets the body as sent instead: there a number and the string of its digits may be
    /// exchanged under one signature, and by the guard both are the same amount.
    pub(crate) fn forward(self, object: Object<'_>, sink: &mut impl Sink) {
        self.forward_members(object, sink);
    }

    fn forward_members(self, object: Object<'_>, sink: &mut impl Sink) {
        sink.put(b"{");
        let mut started = false;
        let mut member = |name: Text<'_>, value: Value<'_>| {
            sink.put(if started { b"," } else { b"" });
            started = true;
            write_text(name, sink);
            sink.put(b":");
            self.forward_value(value, sink);
        };
        if self == Self::Upbit {
            object.members().for_each(|each| member(each.name, each.value));
        } else {
            let signed = |each: &_| self != Self::BingX || is_signed_by_bingx(each);
            object.sorted().iter().filter(signed).for_each(|each| member(each.name, each.value));
        }
        sink.put(b"}");
    }

    fn forward_value(self, value: Value<'_>, sink: &mut impl Sink) {
        match value.kind() {
            Kind::Object => value.object().map_or((), |object| self.forward_members(object, sink)),
            Kind::Array => {
                sink.put(b"[");
                for (place, element) in value.elements().enumerate() {
                    sink.put(if place > 0 { b"," } else { b"" });
                    if self == Self::BingX && element.kind() == Kind::Number {
                        sink.put(element.raw().as_bytes());
                    } else {
                        self.forward_value(element, sink);
                    }
                }
                sink.put(b"]");
            }
            Kind::String => value.text().map_or((), |text| write_text(text, sink)),
            Kind::Number => {
                sink.put(b"\"");
                sink.put(value.raw().as_bytes());
                sink.put(b"\"");
            }
            Kind::True | Kind::False | Kind::Null => sink.put(value.raw().as_bytes()),
        }
    }
}

/// Writes a string with its quotes; only what must be escaped is.
fn write_text(text: Text<'_>, sink: &mut impl Sink) {
    sink.put(b"\"");
    // Without an escape there was nothing in it that must be escaped.
    if let Some(plain) = text.plain() {
        sink.put(plain.as_bytes());
        return sink.put(b"\"");
    }
    for char in text.chars() {
        match char {
            '"' => sink.put(b"\\\""),
            '\\' => sink.put(b"\\\\"),
            '\0'..' ' => {
                let code = char as u8;
                let digit = |value: u8| if value < 10 { b'0' + value } else { b'a' + value - 10 };
                sink.put(&[b'\\', b'u', b'0', b'0', digit(code >> 4), digit(code & 0xF)]);
            }
            _ => sink.put(char.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    sink.put(b"\"");
}
