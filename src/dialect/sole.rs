//! Defeats two readings of one request: what policy reads stands there once, spelled plainly, or the request is refused.

use super::json::{self, Kind};
use super::pairs::{hidden, name_of, pairs, spells};

/// It stands there twice, or in a spelling that some backends take for it and others do not.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotSole;

/// The value of the parameter called `name`, in a query or a form.
pub(crate) fn sole_parameter<'r>(
    query: &'r str,
    form: &'r str,
    name: &str,
) -> Result<Option<&'r str>, NotSole> {
    let mut found = None;
    for (called, value) in pairs(query).chain(pairs(form)) {
        if *called == *name {
            if found.replace(value).is_some() {
                return Err(NotSole);
            }
        } else if spells(called, name) {
            return Err(NotSole);
        }
    }
    if [query, form].into_iter().flat_map(hidden).any(|pair| spells(name_of(pair), name)) {
        return Err(NotSole);
    }
    Ok(found)
}

/// The value of the member called `name` of a JSON object, a string without its quotes; an array has none.
pub(crate) fn sole_member<'r>(body: &'r [u8], name: &str) -> Result<Option<&'r str>, NotSole> {
    // The reader refuses two members of one name.
    let nodes = &mut Vec::new();
    let value = json::parse(body, nodes).map_err(|_| NotSole)?;
    let Some(object) = value.object() else { return Ok(None) };
    let mut found = None;
    for member in object.members() {
        if member.name == *name {
            let range = member.value.range();
            let is_plain = member.value.text().is_some_and(|text| text.plain().is_some());
            let range = if is_plain { range.start + 1..range.end - 1 } else { range };
            found = body.get(range).and_then(|text| std::str::from_utf8(text).ok());
        } else {
            let spells = match member.name.plain() {
                Some(called) => spells(called, name),
                None => spells(&member.name.chars().collect::<String>(), name),
            };
            if spells {
                return Err(NotSole);
            }
        }
    }
    Ok(found)
}

/// How many elements a JSON array has; `None` where it is none.
pub(crate) fn array_length(text: &[u8]) -> Option<usize> {
    let nodes = &mut Vec::new();
    let value = json::parse(text, nodes).ok().filter(|value| value.kind() == Kind::Array)?;
    Some(value.elements().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_stands_once_is_found_in_either_place() {
        assert_eq!(sole_parameter("a=1&limit=5", "b=2", "limit"), Ok(Some("5")));
        assert_eq!(sole_parameter("a=1", "limit=5&b=2", "limit"), Ok(Some("5")));
        assert_eq!(sole_parameter("a=1&limits=5", "", "limit"), Ok(None));
        assert_eq!(sole_parameter("", "", "limit"), Ok(None));
    }

    #[test]
    fn a_parameter_in_a_second_place_or_another_spelling_is_refused() {
        for (query, form) in [
            ("limit=5&limit=500", ""),
            ("limit=5", "limit=500"),
            ("limit=5&l%69mit=500", ""),
            ("%6cimit=500", ""),
            ("limit=5&LIMIT=500", ""),
            ("Limit=500", ""),
            ("%4cimit=500", ""),
            ("+limit=5", ""),
            ("limit%20=5", ""),
            ("limit%09%00=5", ""),
            ("limit=5&limit[]=500", ""),
            ("limit=5&limit%5b0%5D=500", ""),
            ("limit=5&limit%00x=500", ""),
            ("limit=5&a=1;limit=500", ""),
            ("a=1", "b;limit=500&c=1"),
            ("a=1;x;Limit=500", ""),
        ] {
            assert_eq!(sole_parameter(query, form, "limit"), Err(NotSole), "{query} {form}");
        }
    }

    #[test]
    fn a_member_is_found_once_or_refused() {
        let find = |text: &'static str| sole_member(text.as_bytes(), "limit");
        assert_eq!(find(r#"{"a":{"limit":1},"limit":5}"#), Ok(Some("5")));
        assert_eq!(find(r#"{"limit":"5"}"#), Ok(Some("5")));
        assert_eq!(find(r#"{"limit":[1,2]}"#), Ok(Some("[1,2]")));
        assert_eq!(find("[5]"), Ok(None));
        assert_eq!(find(r#"{"limit":5,"limit":6}"#), Err(NotSole));
        assert_eq!(find(r#"{"limit":5,"\u006cimit":6}"#), Err(NotSole));
        assert_eq!(find(r#"{"limit":5,"Limit":6}"#), Err(NotSole));
        assert_eq!(find(r#"{"limit":5,"\u004cimit":6}"#), Err(NotSole));
        assert_eq!(find(r#"{"limit":5,"limit\u0000":6}"#), Err(NotSole));
        assert_eq!(find("{"), Err(NotSole));
    }

    #[test]
    fn what_some_readers_fold_or_write_otherwise_is_another_spelling() {
        for (called, name) in [
            ("\u{17f}ymbol", "symbol"),
            ("%C5%BFymbol", "symbol"),
            ("SYMBOL\u{17f}", "symbols"),
            ("bu\u{212a}et", "buKet"),
            ("order.id", "order_id"),
            ("order+id", "order_id"),
        ] {
            let (query, body) = (format!("{name}=1&{called}=2"), format!(r#"{{"{called}":1}}"#));
            assert_eq!(sole_parameter(&query, "", name), Err(NotSole), "{called}");
            assert_eq!(sole_member(body.as_bytes(), name), Err(NotSole), "{called}");
        }
        for called in ["symbo\u{17f}l", "\u{17f}", "\u{212a}ymbol", "zymbol", "symbolx", "sym"] {
            assert_eq!(sole_parameter(&format!("{called}=2"), "", "symbol"), Ok(None), "{called}");
        }
        assert_eq!(sole_parameter("a=1;b&limit=5;c", "d=limit;", "limit"), Ok(Some("5;c")));
    }

    #[test]
    fn only_an_array_has_a_length() {
        assert_eq!(array_length(b"[]"), Some(0));
        assert_eq!(array_length(br#"[{"a":[1,2]},2]"#), Some(2));
        assert_eq!(array_length(b"{}"), None);
        assert_eq!(array_length(b"[1"), None);
    }
}
