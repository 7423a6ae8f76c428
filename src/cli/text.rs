//! What others wrote, made fit for a terminal.

use serde_json::Value;

/// One line without control characters: none of it can steer a terminal or feign another line.
pub(super) fn clean(text: &str) -> String {
    let hostile = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let plain = |c: char| match c {
        '\n' | '\r' | '\t' => ' ',
        c if hostile(c) => '\u{fffd}',
        c => c,
    };
    text.trim_end().chars().map(plain).collect()
}

/// A value as a cell shows it; `-` where there is none.
pub(super) fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) if text.is_empty() => "-".to_owned(),
        Some(Value::String(text)) => clean(text),
        Some(Value::Array(items)) if items.is_empty() => "-".to_owned(),
        Some(Value::Array(items)) => {
            items.iter().map(|item| cell(Some(item))).collect::<Vec<_>>().join(",")
        }
        Some(Value::Bool(yes)) => if *yes { "yes" } else { "no" }.to_owned(),
        Some(other @ (Value::Number(_) | Value::Object(_))) => clean(&other.to_string()),
    }
}

/// The text at `name`, or nothing.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// A count with its noun.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_that_others_wrote_steers_a_terminal() {
        let bad = "\u{1b}]0;x\u{7}a\nb\u{202e}c\u{9b}31m";
        assert!(clean(bad).chars().all(|c| !c.is_control() && c != '\u{202e}'), "{bad:?}");
        assert_eq!(clean("Käufer 7 — 東京"), "Käufer 7 — 東京");
    }

    #[test]
    fn every_value_has_a_cell() {
        for (value, shown) in [
            (json!(null), "-"),
            (json!(""), "-"),
            (json!([]), "-"),
            (json!(["read", "trade"]), "read,trade"),
            (json!(true), "yes"),
            (json!(7), "7"),
        ] {
            assert_eq!(cell(Some(&value)), shown);
        }
        assert_eq!(cell(None), "-");
    }
}
