//! A JSON object as Python prints it: what ccxt signs for one that stands as a parameter of Crypto.com.

use super::json::{Kind, Value};
use super::json_guard::scalar;
use super::json_text::Text;
use super::template::Sink;

/// Writes a value as `str` of it does in Python, where it passes [`guard`].
pub(super) fn write(value: Value<'_>, sink: &mut impl Sink) {
    match value.kind() {
        Kind::Object => {
            sink.put(b"{");
            let members = value.object().into_iter().flat_map(super::json::Object::members);
            for (place, member) in members.enumerate() {
                sink.put(if place > 0 { b", " } else { b"" });
                quoted(member.name, sink);
                sink.put(b": ");
                write(member.value, sink);
            }
            sink.put(b"}");
        }
        Kind::Array => {
            sink.put(b"[");
            for (place, element) in value.elements().enumerate() {
                sink.put(if place > 0 { b", " } else { b"" });
                write(element, sink);
            }
            sink.put(b"]");
        }
        Kind::String => value.text().map_or((), |text| quoted(text, sink)),
        Kind::Number => sink.put(value.raw().as_bytes()),
        Kind::True => sink.put(b"True"),
        Kind::False => sink.put(b"False"),
        Kind::Null => sink.put(b"None"),
    }
}

fn quoted(text: Text<'_>, sink: &mut impl Sink) {
    sink.put(b"'");
    text.write(sink);
    sink.put(b"'");
}

/// Refuses what Python would print otherwise, or could print for another value too.
pub(super) fn guard(value: Value<'_>) -> Result<(), &'static str> {
    match value.kind() {
        Kind::Object => {
            let mut members = value.object().into_iter().flat_map(super::json::Object::members);
            members.try_for_each(|member| {
                plain(member.name)?;
                guard(member.value)
            })
        }
        Kind::Array => value.elements().try_for_each(guard),
        Kind::String => value.text().map_or(Ok(()), plain),
        Kind::Number => scalar(value),
        Kind::True | Kind::False | Kind::Null => Ok(()),
    }
}

fn plain(text: Text<'_>) -> Result<(), &'static str> {
    let is_plain = |char: char| matches!(char, ' '..='~') && !matches!(char, '\'' | '"' | '\\');
    if text.chars().all(is_plain) {
        return Ok(());
    }
    Err("a string of a printed JSON object holds what Python escapes or quotes")
}
