//! Defeats a key that trades more than it was made for: one that is bound to symbols opens a route only where the request
//! names one of them, in the one place that the route says, and nothing else besides.
//!
//! Whatever a backend could read otherwise is refused: a name that stands twice or in another spelling, a body of another
//! kind, no name at all.

use crate::admit::{Effect, Route};
use crate::denial::Denial;
use crate::dialect::json::{self, Object, Value};
use crate::dialect::{BodyKind, Claim, Inbound, pairs, percent_decoded, spells};
use crate::key::{Key, Symbols};

/// Where the requests of a route name the symbol that they are for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SymbolPlace {
    /// In a parameter of the query or of a form.
    Parameter(Box<str>),
    /// In a member of the JSON that is sent: the names that lead to it. On the way each array is gone through whole.
    Member(Box<[Box<str>]>),
    /// In the segment of the path with this place, counted from 0.
    Segment(usize),
}

/// Holds when the key is bound to no symbols, or the request is for those alone.
pub(crate) fn check(
    key: &Key,
    route: &Route,
    request: &Inbound<'_>,
    claim: &Claim<'_>,
) -> Result<(), Denial> {
    let Some(symbols) = bound(key) else { return Ok(()) };
    let is_right = match &route.symbol {
        None => route.effect == Effect::Read,
        Some(SymbolPlace::Parameter(name)) => {
            let is_other = claim.body == BodyKind::Json && !request.body.is_empty();
            !is_other && names_one(symbols, name, [request.query.unwrap_or_default(), claim.form])
        }
        Some(SymbolPlace::Member(path)) => {
            let whole = claim.object.map(Object::value);
            let nodes = &mut Vec::new();
            let whole = whole.or_else(|| json::parse(request.body, nodes).ok());
            let name = path.last().map_or("", |name| name);
            let beside = [request.query.unwrap_or_default(), claim.form];
            !beside.into_iter().any(|text| pairs(text).any(|(other, _)| spells(other, name)))
                && whole.is_some_and(|whole| {
                    stands_at(symbols, path, whole) && every_one(symbols, name, whole)
                })
        }
        Some(SymbolPlace::Segment(place)) => {
            let segment = request.path.split('/').skip(1).nth(*place);
            segment.is_some_and(|segment| symbols.hold(segment.bytes()))
        }
    };
    if is_right { Ok(()) } else { Err(Denial::SymbolRefused) }
}

/// The same where nothing but a key id is looked at.
pub(crate) fn check_unread(key: &Key, route: &Route) -> Result<(), Denial> {
    let opens = route.symbol.is_none() && route.effect == Effect::Read;
    if opens || bound(key).is_none() { Ok(()) } else { Err(Denial::SymbolRefused) }
}

fn bound(key: &Key) -> Option<&Symbols> {
    key.bindings.as_ref()?.symbols.as_ref()
}

/// Whether the parameters name one of the symbols, once.
fn names_one(symbols: &Symbols, name: &str, texts: [&str; 2]) -> bool {
    // Some take it for a `&`.
    if texts.iter().any(|text| text.contains(';')) {
        return false;
    }
    let mut found = texts.into_iter().flat_map(pairs).filter(|(other, _)| spells(other, name));
    match (found.next(), found.next()) {
        (Some((spelled, value)), None) => {
            spelled == name && symbols.hold(percent_decoded(value.as_bytes()))
        }
        (_, Some(_)) | (None, None) => false,
    }
}

/// Whether the way leads to one of the symbols, and to nothing else, through every element of every array.
fn stands_at(symbols: &Symbols, path: &[Box<str>], value: Value<'_>) -> bool {
    if value.kind() == json::Kind::Array {
        let mut count = 0;
        return value.elements().all(|element| {
            count += 1;
            stands_at(symbols, path, element)
        }) && count > 0;
    }
    match (path.split_first(), value.object()) {
        (Some((name, rest)), Some(object)) => {
            object.member(name).is_some_and(|member| stands_at(symbols, rest, member.value))
        }
        (None, None) => is_one(symbols, value),
        (None, Some(_)) | (Some(_), None) => false,
    }
}

/// Whether every member of this name, wherever it stands and however it is spelled, is one of the symbols.
fn every_one(symbols: &Symbols, name: &str, value: Value<'_>) -> bool {
    let mut elements = value.elements();
    let mut members = value.object().into_iter().flat_map(Object::members);
    elements.all(|element| every_one(symbols, name, element))
        && members.all(|member| {
            let written: String = member.name.chars().collect();
            if written == name {
                return is_one(symbols, member.value);
            }
            !spells(written.trim(), name) && every_one(symbols, name, member.value)
        })
}

/// Whether it is one of the symbols, or a list of them.
fn is_one(symbols: &Symbols, value: Value<'_>) -> bool {
    if let Some(text) = value.text() {
        let written: String = text.chars().collect();
        return symbols.hold(written.bytes());
    }
    let mut elements = value.elements().peekable();
    elements.peek().is_some() && elements.all(|element| is_one(symbols, element))
}
