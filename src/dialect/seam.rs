//! Where a message has no separator, bytes could move from one field to the next: what rules that out.
//!
//! A recipe whose fields no rule here tells apart is refused at load. The rules rest on the signed time being
//! fresh: a stamp or deadline in whole seconds or milliseconds that gains or loses a digit is years away.

use http::Method;

use super::template::{self, Field, Part};
use super::time::{NonceKind, TimeUnit};
use super::{BodyKind, Dialect, Inbound, Message, NonceRule, PathRule, Place};
use crate::denial::Denial;
use crate::dialect::percent_decoded;
use crate::lanes;

/// A place in a message that has no separator, so that requests are held to a rule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Seam {
    /// A number is followed by the query: it must not begin with a digit.
    NumberThenQuery,
    /// A number is followed by the body: it must not begin with a digit.
    NumberThenBody,
    /// The path or query runs into the body: it holds no brace or bracket, with which a JSON body begins.
    TextThenBody,
    /// The path runs into the query: only known paths have one.
    PathThenQuery,
    /// The host runs into the path: it holds no `/`, with which a path begins.
    HostThenPath,
    /// The path or query runs into a growing number: it must not end with a digit but zero.
    TextThenNumber,
    /// The path or query runs into the content type: it must not hold the beginning of one.
    TextThenType,
    /// A query alone is signed here, and a body alone elsewhere, by the same text: it begins with no brace or bracket,
    /// with which a JSON body begins.
    QueryOrBody,
}

/// Whether another message could sign, in place of the query, a body, since neither names its method.
pub(super) fn query_or_body(parts: &[Part]) -> Option<Seam> {
    let covers = |field| template::mentions(parts, field);
    let alone = covers(Field::Query) && !covers(Field::Body) && !covers(Field::Method);
    alone.then_some(Seam::QueryOrBody)
}

/// What can be told of a field's end, looking only at what stands before it.
enum End {
    /// Its bytes or its length are known.
    Known,
    /// It is a number; whatever is no digit ends it.
    Number,
    /// It begins with a sign of its own and ends where a letter or `/` begins.
    Word,
    /// The client may write whatever it likes.
    Free,
    /// The same, and line breaks too.
    Body,
}

/// What a recipe says of the fields that matter here.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    pub(super) unit: Option<TimeUnit>,
    pub(super) nonce: Option<&'a NonceRule>,
    /// Whether a body may be a form, which begins with anything.
    pub(super) has_forms: bool,
    /// The member that must name the path.
    pub(super) path_is: Option<&'a PathRule>,
}

/// Looks at each field and the one after it, inside digests too; refuses what no rule tells apart.
pub(super) fn seams(parts: &[Part], shape: Shape<'_>) -> Result<Vec<Seam>, String> {
    let mut found = Vec::new();
    for part in parts {
        let Part::Digest(_, inner) = part else { continue };
        found.extend(seams(inner, shape)?);
    }
    let mut rest = parts;
    while let [part, after @ ..] = rest {
        rest = after;
        let Some(next) = after.first() else { break };
        match shape.end(part) {
            End::Known => {}
            End::Number => found.extend(after_number(part, next)?),
            End::Word => found.extend(after_word(part, next)?),
            End::Free if begins_line(next) => {}
            End::Free => rest = after_text(part, after, shape, &mut found)?,
            End::Body => {
                let known = |part| matches!(shape.end(part), End::Known);
                if !after.iter().all(known) {
                    return Err(unseparated(part, next));
                }
                break;
            }
        }
    }
    Ok(found)
}

fn after_number(part: &Part, next: &Part) -> Result<Option<Seam>, String> {
    match next {
        Part::Literal(text) if !text.starts_with(is_of_number) => Ok(None),
        Part::Field(Field::Method | Field::Path | Field::Key) => Ok(None),
        Part::Field(Field::Query) => Ok(Some(Seam::NumberThenQuery)),
        Part::Field(Field::Body) => Ok(Some(Seam::NumberThenBody)),
        Part::Literal(_)
        | Part::Field(_)
        | Part::Merged(_)
        | Part::Member(_)
        | Part::Params(_)
        | Part::Digest(..) => Err(unseparated(part, next)),
    }
}

/// Path and query, as one text that `after` follows without a line break: its end is told from what follows, or from
/// the message's end. Returns what is still to be looked at.
fn after_text<'p>(
    part: &Part,
    after: &'p [Part],
    shape: Shape<'_>,
    found: &mut Vec<Seam>,
) -> Result<&'p [Part], String> {
    let mut rest = after;
    match (part, rest) {
        (Part::Field(Field::Path), [Part::Field(Field::MarkedQuery), after @ ..]) => rest = after,
        (Part::Field(Field::Path), [Part::Field(Field::Query), after @ ..]) => {
            found.push(Seam::PathThenQuery);
            rest = after;
        }
        _ => {}
    }
    if rest.first().is_some_and(begins_line) {
        return Ok(rest);
    }
    if let [Part::Field(Field::ContentType), after @ ..] = rest {
        found.push(Seam::TextThenType);
        return Ok(after);
    }
    if let [Part::Field(Field::Nonce), after @ ..] = rest
        && shape.nonce.is_some_and(|rule| rule.kind == NonceKind::Growing)
    {
        found.push(Seam::TextThenNumber);
        rest = after;
    }
    let known = |part: &&Part| matches!(shape.end(part), End::Known);
    let length = rest.iter().take_while(known).count();
    rest = rest.get(length..).unwrap_or_default();
    if let [body @ Part::Field(Field::Body), after @ ..] = rest {
        // A form has no beginning that could be seen; alone with the query it is never there together with one.
        let alone = matches!(part, Part::Field(Field::Query)) && after.is_empty();
        if shape.has_forms && !alone {
            return Err(unseparated(part, body));
        }
        found.push(Seam::TextThenBody);
        rest = after;
    }
    match rest.iter().find(|part| !known(part)) {
        Some(next) => Err(unseparated(part, next)),
        None => Ok(&[]),
    }
}

impl Shape<'_> {
    fn names_path(self, member: &str) -> bool {
        let named =
            |rule: &PathRule| matches!(&rule.member, Place::Field(name) if **name == *member);
        self.path_is.is_some_and(named)
    }

    fn end(self, part: &Part) -> End {
        let Part::Field(field) = part else {
            return match part {
                Part::Merged(_) => End::Free,
                // Small letters and `/` where it names the path, digits alone everywhere else.
                Part::Member(name) if self.names_path(name) => End::Word,
                Part::Member(_) => End::Number,
                Part::Params(_) => End::Body,
                Part::Literal(_) | Part::Digest(..) | Part::Field(_) => End::Known,
            };
        };
        match field {
            Field::Timestamp if self.unit.is_some_and(TimeUnit::is_fixed) => End::Known,
            // The secret tells whose key it is; a signed content type is one of two, a payload stands alone.
            Field::Key | Field::Payload | Field::ContentType => End::Known,
            Field::Timestamp | Field::Window => End::Number,
            Field::Nonce => match self.nonce {
                Some(rule) if rule.kind == NonceKind::Growing => End::Number,
                Some(rule) if rule.length.is_some() => End::Known,
                Some(_) | None => End::Free,
            },
            Field::Method | Field::Host => End::Word,
            Field::Path | Field::Query | Field::MarkedQuery => End::Free,
            Field::Body => End::Body,
        }
    }
}

/// Methods are capital letters, hosts are not, and paths begin with `/`.
fn after_word(part: &Part, next: &Part) -> Result<Option<Seam>, String> {
    match (part, next) {
        (Part::Field(Field::Host), Part::Field(Field::Path)) => Ok(Some(Seam::HostThenPath)),
        (Part::Field(_), Part::Field(Field::Path))
        | (Part::Field(Field::Method), Part::Field(Field::Host))
        | (Part::Member(_), Part::Member(_)) => Ok(None),
        (_, next) if begins_line(next) => Ok(None),
        _ => Err(unseparated(part, next)),
    }
}

fn begins_line(part: &Part) -> bool {
    matches!(part, Part::Literal(text) if text.starts_with('\n'))
}

fn is_digit(letter: char) -> bool {
    letter.is_ascii_digit()
}

fn is_of_number(letter: char) -> bool {
    letter.is_ascii_digit() || letter == '.'
}

fn unseparated(part: &Part, next: &Part) -> String {
    format!(
        "nothing separates {part} from {next}: bytes could move from one to the other under the same signature"
    )
}

impl Dialect {
    /// Where the message has no separator, refuses what could be read as another request.
    pub(super) fn refuse_seams(
        &self,
        message: &Message,
        request: &Inbound<'_>,
        body: BodyKind,
    ) -> Result<(), Denial> {
        message.seams.iter().try_for_each(|seam| self.refuse_seam(*seam, message, request, body))
    }

    fn refuse_seam(
        &self,
        seam: Seam,
        message: &Message,
        request: &Inbound<'_>,
        body: BodyKind,
    ) -> Result<(), Denial> {
        let (path, query) = (request.path, request.query.unwrap_or_default());
        // Decoded, where some reading may sign it so.
        let decoded = || percent_decoded(if self.decodes() { query.as_bytes() } else { &[] });
        let lengthens = |byte: u8| byte.is_ascii_digit() || byte == b'.';
        let digits = "digits follow a signed number without a separator";
        // No number begins with a zero, so zeros are of the text before it and any other digit is of the number.
        let ends_in_digit = |text: &str| text.trim_end_matches('0').ends_with(is_digit);
        let holds_type = |text: &str| memchr::memmem::find(text.as_bytes(), MEDIA_TYPE).is_some();
        // A body begins with a brace or bracket, so a path and query without them cannot hold one.
        let opens = |byte: u8| matches!(byte, b'{' | b'[');
        let (holds, rule) = match seam {
            Seam::NumberThenQuery => {
                let first = [query.bytes().next(), decoded().next()];
                (!first.into_iter().flatten().any(lengthens), digits)
            }
            Seam::NumberThenBody => (!request.body.first().copied().is_some_and(lengthens), digits),
            Seam::TextThenBody => {
                let bodiless = message.signs_method && *request.method == Method::GET;
                let open = |text: &str| lanes::any(text.as_bytes(), opens);
                // Without a `%` it is its own decoding.
                let hidden = || query.contains('%') && decoded().any(opens);
                let may_hold = || open(path) || open(query) || hidden();
                (
                    bodiless || body == BodyKind::Form || !may_hold(),
                    "a brace in the path or query could begin a body",
                )
            }
            Seam::QueryOrBody => {
                let first = [query.bytes().next(), decoded().next()];
                (
                    !first.into_iter().flatten().any(opens),
                    "a brace at the beginning of the query could begin a body",
                )
            }
            Seam::PathThenQuery => {
                if !query.is_empty() {
                    self.refuse_other_splits(path, query)?;
                }
                (!path.contains(['=', '&']), "a `=` or `&` in the path could be of the query")
            }
            Seam::HostThenPath => {
                (!request.host.contains('/'), "a `/` in the host could begin a path")
            }
            Seam::TextThenNumber => (
                !ends_in_digit(path) && !ends_in_digit(query),
                "a signed number follows digits without a separator",
            ),
            Seam::TextThenType => (
                !holds_type(path) && !holds_type(query),
                "the beginning of a content type in the path or query",
            ),
        };
        if holds { Ok(()) } else { Err(Denial::Ambiguous(rule)) }
    }

    /// Only known paths may have a query, and only one of them may end where this one does or elsewhere in the text.
    fn refuse_other_splits(&self, path: &str, query: &str) -> Result<(), Denial> {
        match query.split('&').next().unwrap_or_default().split_once('=') {
            Some((name, _)) if !name.contains('/') => {}
            Some(_) | None => {
                return Err(Denial::Ambiguous("a query without a plain name could be of the path"));
            }
        }
        let fits = |known: &str| {
            let known = known.as_bytes();
            match path.as_bytes().strip_prefix(known) {
                // A query that began with the rest of this path would have a `/` in its first name.
                Some(rest) => !rest.contains(&b'/'),
                None => known
                    .strip_prefix(path.as_bytes())
                    .is_some_and(|rest| query.as_bytes().starts_with(rest)),
            }
        };
        // Those that the signed text begins with: this path must be among them, and no other may be.
        let mut fitting = self.paths.iter().filter(|known| fits(known));
        match (fitting.next(), fitting.next()) {
            (Some(only), None) if **only == *path => Ok(()),
            _ => Err(Denial::Ambiguous(
                "the message does not tell where the path ends, and it is not the one known path",
            )),
        }
    }
}

/// How every content type that the recipes know begins.
const MEDIA_TYPE: &[u8] = b"application/";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::template;

    fn found(text: &str) -> Result<Vec<Seam>, String> {
        let place = Place::parse("header x-nonce").unwrap();
        let nonce =
            NonceRule { place, kind: NonceKind::Growing, length: None, window: 0, clocked: None };
        let shape = Shape {
            unit: Some(TimeUnit::Millis),
            nonce: Some(&nonce),
            has_forms: false,
            path_is: None,
        };
        seams(&template::parse(text).unwrap(), shape)
    }

    #[test]
    fn seams_are_seen_where_no_literal_separates() {
        for (text, expected) in [
            ("{timestamp}{key}{window}{query}", vec![Seam::NumberThenQuery]),
            ("{path}{?query}{body}", vec![Seam::TextThenBody]),
            ("{path}{sha256:{window}{body}}", vec![Seam::NumberThenBody]),
            ("{path}{query}{timestamp}{body}", vec![Seam::PathThenQuery, Seam::TextThenBody]),
            ("{path}{nonce}{body}", vec![Seam::TextThenNumber, Seam::TextThenBody]),
            ("{path}{content-type}{timestamp}{body}", vec![Seam::TextThenType]),
            ("{method}\n{path}\n{query}\n{body}", vec![]),
            ("{timestamp}{method}{host}{path}", vec![Seam::HostThenPath]),
        ] {
            assert_eq!(found(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn fields_that_no_rule_tells_apart_are_refused() {
        for text in [
            "{path}{?query}{host}",
            "{body}{path}",
            "{window}{timestamp}",
            "{nonce}{timestamp}",
            "{query}|{path}",
            "{host}{method}",
            "{path}{body}{nonce}",
        ] {
            assert!(found(text).unwrap_err().contains("nothing separates"), "{text}");
        }
    }
}
