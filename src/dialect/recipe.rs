//! The recipe as written (TOML), and its compilation to a [`Dialect`]. What cannot be safe is refused here.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};
use serde::Deserialize;

use super::place::Place;
use super::reading::Reading;
use super::refusal::{RawRefusal, Refusals};
use super::template::{self, Field, Seams};
use super::{BodyKind, Dialect, Encoding, Message, TimeKind, TimeRule, TimeUnit, WindowRule};
use crate::key::Algorithm;

/// Why a recipe is refused.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RecipeError {
    /// What is wrong, and the cure.
    pub message: String,
    /// Where in the text, in bytes, when it is known.
    pub span: Option<Range<usize>>,
}

impl fmt::Display for RecipeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for RecipeError {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    name: String,
    title: String,
    sources: Vec<String>,
    #[serde(default)]
    notes: Vec<String>,
    key: RawPlace,
    time: RawTime,
    window: RawWindow,
    signature: RawSignature,
    passphrase: Option<RawPlace>,
    message: Vec<RawMessage>,
    readings: Vec<String>,
    body: RawBody,
    #[serde(default)]
    forward_headers: Vec<String>,
    #[serde(default)]
    reply_headers: BTreeMap<String, String>,
    refusals: BTreeMap<String, RawRefusal>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlace {
    r#in: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTime {
    r#in: String,
    kind: RawKind,
    unit: RawUnit,
    #[serde(default = "one_second")]
    future_ms: u64,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    Stamp,
    Deadline,
}

#[derive(Clone, Copy, Deserialize)]
enum RawUnit {
    #[serde(rename = "s")]
    Seconds,
    #[serde(rename = "ms")]
    Millis,
    #[serde(rename = "ms or us")]
    MillisOrMicros,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWindow {
    r#in: Option<String>,
    default_ms: u64,
    max_ms: Option<u64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSignature {
    r#in: String,
    algorithms: BTreeMap<String, RawEncoding>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawEncoding {
    Hex,
    Base64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMessage {
    methods: Option<Vec<String>>,
    text: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum RawBody {
    Form,
    Json,
}

const fn one_second() -> u64 {
    1_000
}

/// The longest window or lead that any recipe may allow: what was seen must be remembered that long.
const LONGEST: Duration = Duration::from_hours(1);

/// Compiles the text of a recipe.
pub(super) fn compile(text: &str) -> Result<Dialect, RecipeError> {
    let raw: Raw = toml::from_str(text)
        .map_err(|error| RecipeError { message: error.message().to_owned(), span: error.span() })?;
    build(raw).map_err(|message| RecipeError { message, span: None })
}

fn build(raw: Raw) -> Result<Dialect, String> {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
    };
    if raw.name.is_empty() || !raw.name.bytes().all(is_plain) {
        return Err(format!("name `{}`: use lower-case letters, digits, - and _", raw.name));
    }
    let dialect = Dialect {
        name: Arc::from(raw.name),
        title: raw.title,
        sources: raw.sources,
        notes: raw.notes,
        key: Place::parse(&raw.key.r#in)?,
        time: time(&raw.time)?,
        window: window(&raw.window)?,
        encodings: encodings(&raw.signature)?,
        signature: Place::parse(&raw.signature.r#in)?,
        passphrase: raw.passphrase.map(|place| Place::parse(&place.r#in)).transpose()?,
        messages: raw.message.iter().map(message).collect::<Result<_, _>>()?,
        readings: readings(&raw.readings)?,
        body: match raw.body {
            RawBody::Form => BodyKind::Form,
            RawBody::Json => BodyKind::Json,
        },
        split_parameters: false,
        forward_headers: header_names(&raw.forward_headers)?,
        refusals: Refusals::compile(&raw.refusals, &raw.reply_headers)?,
    };
    refuse_unsafe(&dialect)?;
    Ok(dialect)
}

fn time(raw: &RawTime) -> Result<TimeRule, String> {
    let future = Duration::from_millis(raw.future_ms);
    if future > Duration::from_secs(10) {
        return Err("time: future_ms is over 10000: clocks are not that wrong".into());
    }
    Ok(TimeRule {
        place: Place::parse(&raw.r#in)?,
        kind: match raw.kind {
            RawKind::Stamp => TimeKind::Stamp,
            RawKind::Deadline => TimeKind::Deadline,
        },
        unit: match raw.unit {
            RawUnit::Seconds => TimeUnit::Seconds,
            RawUnit::Millis => TimeUnit::Millis,
            RawUnit::MillisOrMicros => TimeUnit::MillisOrMicros,
        },
        future,
    })
}

fn window(raw: &RawWindow) -> Result<WindowRule, String> {
    let default = Duration::from_millis(raw.default_ms);
    let max = raw.max_ms.map_or(default, Duration::from_millis);
    if default.is_zero() || default > max || max > LONGEST {
        return Err("window: 0 < default_ms <= max_ms <= 3600000 must hold".into());
    }
    Ok(WindowRule { place: raw.r#in.as_deref().map(Place::parse).transpose()?, default, max })
}

fn encodings(raw: &RawSignature) -> Result<Box<[(Algorithm, Encoding)]>, String> {
    let known = |(name, encoding): (&String, &RawEncoding)| {
        let algorithm = Algorithm::named(name)
            .ok_or_else(|| format!("signature: `{name}` is no algorithm that countersign knows"))?;
        let encoding = match encoding {
            RawEncoding::Hex => Encoding::Hex,
            RawEncoding::Base64 => Encoding::Base64,
        };
        Ok((algorithm, encoding))
    };
    let found: Box<[_]> = raw.algorithms.iter().map(known).collect::<Result<_, String>>()?;
    if found.is_empty() {
        return Err("signature: name at least one algorithm, as in `algorithms = { hmac-sha256 = \"hex\" }`".into());
    }
    Ok(found)
}

fn message(raw: &RawMessage) -> Result<Message, String> {
    let parts = template::parse(&raw.text).map_err(|error| format!("message: {error}"))?;
    let method = |name: &String| {
        Method::from_bytes(name.as_bytes()).map_err(|_| format!("message: `{name}` is no method"))
    };
    let methods = raw.methods.as_ref().map(|all| all.iter().map(method).collect()).transpose()?;
    let covers = |field| template::mentions(&parts, field);
    Ok(Message {
        methods,
        text: raw.text.clone().into(),
        signs_query: covers(Field::Query) || covers(Field::MarkedQuery),
        signs_body: covers(Field::Body),
        seams: Seams::of(&parts),
        parts,
    })
}

fn readings(raw: &[String]) -> Result<Box<[Reading]>, String> {
    let known = |name: &String| {
        let found = Reading::ALL.iter().find(|(_, known)| *known == *name);
        found
            .map(|(reading, _)| *reading)
            .ok_or_else(|| format!("readings: `{name}` is no reading"))
    };
    let found: Box<[_]> = raw.iter().map(known).collect::<Result<_, String>>()?;
    if found.first() != Some(&Reading::Raw) {
        return Err("readings: the first must be \"raw\"".into());
    }
    Ok(found)
}

fn header_names(raw: &[String]) -> Result<Box<[HeaderName]>, String> {
    let known = |name: &String| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))
    };
    raw.iter().map(known).collect()
}

/// Refuses a recipe under which a request could be altered or sent again for ever.
fn refuse_unsafe(dialect: &Dialect) -> Result<(), String> {
    if dialect.messages.last().is_none_or(|message| message.methods.is_some()) {
        return Err(
            "message: the last one must hold for every method, so leave out its `methods`".into()
        );
    }
    for message in &*dialect.messages {
        let text = &message.text;
        let covers = |field| template::mentions(&message.parts, field);
        let signed = |place: &Place, field| match place {
            Place::Header(_) => covers(field),
            Place::Param(_) => message.signs_query && message.signs_body,
        };
        if !signed(&dialect.time.place, Field::Timestamp) {
            return Err(format!(
                "message `{text}` does not sign the time: a captured request would be good for ever"
            ));
        }
        if dialect.window.place.as_ref().is_some_and(|place| !signed(place, Field::Window)) {
            return Err(format!(
                "message `{text}` does not sign the window: a captured request could be given a longer one"
            ));
        }
        if !message.signs_query && !message.signs_body {
            return Err(format!("message `{text}` signs no parameters: they could be changed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::dialect::Dialect;

    const GOOD: &str = r#"
        name = "plain"
        title = "Plain"
        sources = []
        readings = ["raw"]
        body = "json"
        key = { in = "header x-key" }
        time = { in = "header x-time", kind = "stamp", unit = "ms" }
        window = { default_ms = 5000 }
        signature = { in = "header x-sign", algorithms = { hmac-sha256 = "hex" } }
        [[message]]
        text = "{timestamp}{method}{path}{?query}{body}"
        [refusals]
        bad_signature = { status = 401, body = "no" }
    "#;

    fn refusal(from: &str, to: &str) -> String {
        assert!(GOOD.contains(from), "{from}");
        Dialect::compile(&GOOD.replace(from, to)).unwrap_err().message
    }

    #[test]
    fn a_recipe_that_signs_everything_compiles() {
        assert_eq!(&**Dialect::compile(GOOD).unwrap().name(), "plain");
    }

    #[test]
    fn a_recipe_that_signs_no_time_or_no_parameters_is_refused_with_the_reason() {
        assert!(refusal("{timestamp}{method}", "{method}").contains("does not sign the time"));
        assert!(refusal("{?query}{body}", "").contains("signs no parameters"));
        let windowed = refusal("window = {", "window = { in = \"header x-window\",");
        assert!(windowed.contains("does not sign the window"), "{windowed}");
    }

    #[test]
    fn unknown_words_are_refused_where_they_stand() {
        assert!(refusal("body = \"json\"", "bodi = \"json\"").contains("bodi"));
        assert!(refusal("[\"raw\"]", "[\"rot13\"]").contains("rot13"));
        assert!(refusal("[\"raw\"]", "[\"decoded\"]").contains("first must be"));
        assert!(refusal("hmac-sha256", "hmac-md5").contains("hmac-md5"));
        assert!(refusal("{path}", "{paths}").contains("paths"));
        assert!(refusal("bad_signature", "bad_signatur").contains("bad_signatur"));
    }
}
