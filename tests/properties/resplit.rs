//! The signed bytes cut into parts elsewhere: what somebody looks for who may not sign, and would move their boundaries.

use countersign::denial::Credential;
use countersign::dialect::{Dialect, Inbound, Place};
use countersign::offline::Recorded;

use crate::court::as_received;
use crate::edits::Dice;
use crate::oracle::filled;

/// A piece of a template.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Piece<'t> {
    Literal(&'t str),
    Field(&'t str),
}

/// The pieces of a template, where none of them is a digest or a rendering.
fn pieces(template: &str) -> Option<Vec<Piece<'_>>> {
    const PLAIN: [&str; 11] = [
        "timestamp",
        "nonce",
        "method",
        "host",
        "path",
        "query",
        "?query",
        "content-type",
        "key",
        "window",
        "body",
    ];
    let mut all = Vec::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, after) = after.split_once('}')?;
        if !PLAIN.contains(&name) {
            return None;
        }
        all.extend((!before.is_empty()).then_some(Piece::Literal(before)));
        all.push(Piece::Field(name));
        rest = after;
    }
    all.extend((!rest.is_empty()).then_some(Piece::Literal(rest)));
    Some(all)
}

/// The end of a text as such a dialect signs it, from some field after the path on, which a value could hold.
pub(crate) fn ending(dialect: &Dialect, dice: &mut Dice) -> Option<String> {
    let covers = dialect.coverage();
    let cover = &covers[dice.roll(covers.len())];
    let all = pieces(&cover.text)?;
    let path = all.iter().position(|piece| *piece == Piece::Field("path")).unwrap_or(0);
    let from = path + 1 + dice.roll((all.len() - path).max(1));
    let seconds = dialect.counts_seconds() || ["bitmex", "phemex"].contains(&&**dialect.name());
    let iso = dialect.time_unit().is_some_and(|unit| unit.starts_with("ISO"));
    let text = all.get(from..)?.iter().map(|piece| match piece {
        Piece::Literal(text) => *text,
        Piece::Field("timestamp") if iso => "2023-11-14T22:13:20.500Z",
        Piece::Field("timestamp") if seconds => "1700000003",
        Piece::Field("timestamp") => "1700000000003",
        Piece::Field("nonce") => "01234567-89ab-4def-8123-456789abcdef",
        Piece::Field("content-type") => "application/x-www-form-urlencoded",
        Piece::Field("?query") => dice.pick(&["", "?b=2"]),
        Piece::Field("query") => dice.pick(&["", "b=2"]),
        Piece::Field("body") => dice.pick(&["", "{}", "[]", "b=2", "{\\\"b\\\":2}"]),
        Piece::Field("method") => "POST",
        Piece::Field("host") => "api.example",
        Piece::Field("path") => "/api/order",
        Piece::Field(_) => "",
    });
    Some(text.collect())
}

/// Another request that signs the very bytes that this one does, where one is found.
pub(crate) fn resplit(dialect: &Dialect, request: &mut Recorded, dice: &mut Dice) {
    let found = |inbound: &Inbound<'_>| {
        let all = pieces(dialect.template(inbound)?)?
            .iter()
            .map(|piece| match piece {
                Piece::Literal(text) => Ok((*text).to_owned()),
                Piece::Field(name) => Err((*name).to_owned()),
            })
            .collect::<Vec<_>>();
        let form = [None, Some(false), Some(true)][dice.roll(3)];
        Some((all, filled(dialect, inbound, form)?))
    };
    let Some((all, text)) = as_received(request, found).flatten() else { return };
    let mut cut = Cut { key: &request.key, steps: STEPS, values: Vec::new(), dice };
    if !cut.rest(&all, &text) {
        return;
    }
    let values = cut.values.clone();
    for (name, value) in &values {
        set(dialect, request, name, value);
    }
    let value =
        |wanted: &str| values.iter().find(|(name, _)| name == wanted).map(|(_, value)| &**value);
    let (old_path, old_query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let path = value("path").unwrap_or(old_path);
    let query = value("query").or(value("?query").map(|query| query.trim_start_matches('?')));
    let signature = old_query.split('&').find(|pair| pair.starts_with("signature="));
    let query = match (query, signature) {
        (Some(query), Some(signature)) => [query, signature].join("&"),
        (Some(query), None) => query.to_owned(),
        (None, _) => old_query.to_owned(),
    };
    let mark = if query.is_empty() { "" } else { "?" };
    request.target = format!("{path}{mark}{query}");
}

/// How many places are tried before it is given up.
const STEPS: usize = 600;

struct Cut<'a> {
    key: &'a str,
    steps: usize,
    values: Vec<(String, String)>,
    dice: &'a mut Dice,
}

impl Cut<'_> {
    /// Cuts `text` into the parts `all`, in some way that no rule of their own forbids.
    fn rest(&mut self, all: &[Result<String, String>], text: &str) -> bool {
        let Some((first, after)) = all.split_first() else { return text.is_empty() };
        if self.steps == 0 {
            return false;
        }
        self.steps -= 1;
        let name = match first {
            Ok(literal) => {
                return text.strip_prefix(&**literal).is_some_and(|text| self.rest(after, text));
            }
            Err(name) => name,
        };
        for end in self.ends(name, after, text) {
            let (value, rest) = text.split_at(end);
            self.values.push((name.clone(), value.to_owned()));
            if self.rest(after, rest) {
                return true;
            }
            self.values.pop();
        }
        false
    }

    /// Where a field's value may end, in no order.
    fn ends(&mut self, name: &str, after: &[Result<String, String>], text: &str) -> Vec<usize> {
        let whole = |ends: &usize| text.is_char_boundary(*ends);
        let fits = |ends: &[usize]| {
            ends.iter().copied().filter(|end| *end <= text.len()).filter(whole).collect()
        };
        let mut all: Vec<usize> = match name {
            "timestamp" => {
                let near = text.starts_with("1700000") || text.starts_with("2023-11-14T22:1");
                if near { fits(&[10, 13, 16, 24]) } else { Vec::new() }
            }
            "method" => {
                let known = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];
                known
                    .iter()
                    .filter(|known| text.starts_with(**known))
                    .map(|known| known.len())
                    .collect()
            }
            "key" => text.starts_with(self.key).then_some(self.key.len()).into_iter().collect(),
            "nonce" => fits(&[36, 13, 14, 12, 16, 35, 37]),
            "window" => fits(&[0, 4, 5]),
            "content-type" => {
                let known = ["", "application/json", "application/x-www-form-urlencoded"];
                known
                    .iter()
                    .filter(|known| text.starts_with(**known))
                    .map(|known| known.len())
                    .collect()
            }
            "path" if !text.starts_with('/') => Vec::new(),
            "?query" if !text.starts_with('?') => vec![0],
            _ if after.is_empty() => vec![text.len()],
            _ => (0..=text.len()).filter(whole).collect(),
        };
        // Such a value ends where what must follow begins.
        let begins = |end: &usize| {
            let rest = &text[*end..];
            match after.first() {
                Some(Ok(literal)) => rest.starts_with(&**literal),
                Some(Err(next)) => match &**next {
                    "timestamp" => {
                        rest.starts_with("1700000") || rest.starts_with("2023-11-14T22:1")
                    }
                    "path" => rest.starts_with('/'),
                    "?query" => rest.is_empty() || !rest.starts_with('&'),
                    _ => true,
                },
                None => rest.is_empty(),
            }
        };
        all.retain(begins);
        for place in (1..all.len()).rev() {
            all.swap(place, self.dice.roll(place + 1));
        }
        all
    }
}

/// Puts a value where the dialect has it.
fn set(dialect: &Dialect, request: &mut Recorded, name: &str, value: &str) {
    let credential = match name {
        "timestamp" => Credential::Time,
        "nonce" => Credential::Nonce,
        "window" => Credential::Window,
        "method" => return value.clone_into(&mut request.method),
        "body" => return value.clone_into(&mut request.body),
        "content-type" => {
            request.headers.retain(|name, _| !name.eq_ignore_ascii_case("content-type"));
            if !value.is_empty() {
                request.headers.insert("content-type".to_owned(), value.to_owned());
            }
            return;
        }
        "host" => {
            request.headers.retain(|name, _| !name.eq_ignore_ascii_case("host"));
            request.headers.insert("host".to_owned(), value.to_owned());
            return;
        }
        _ => return,
    };
    let Some((_, place)) = dialect.places().find(|(known, _)| *known == credential) else { return };
    let header = |field: &http::HeaderName| {
        request.headers.keys().find(|name| name.eq_ignore_ascii_case(field.as_str())).cloned()
    };
    match place {
        Place::Header(field) => {
            let name = header(field).unwrap_or_else(|| field.to_string());
            request.headers.insert(name, value.to_owned());
        }
        Place::Auth(item) => {
            let Some(name) = header(&http::header::AUTHORIZATION) else { return };
            let (scheme, items) = request.headers[&name].split_once(' ').unwrap_or_default();
            let items = items.split(',').map(|one| match one.split_once('=') {
                Some((known, _)) if known.trim() == &**item => format!("{item}={value}"),
                _ => one.to_owned(),
            });
            let line = format!("{scheme} {}", items.collect::<Vec<_>>().join(","));
            request.headers.insert(name, line);
        }
        Place::After(..)
        | Place::Param(_)
        | Place::Field(_)
        | Place::TokenHeader(_)
        | Place::TokenPayload(_) => {}
    }
}
