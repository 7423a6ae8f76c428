//! From a recipe as written to a [`Dialect`].

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use super::json_names::{Names, Sets};
use super::jwt_rule::RawToken;
use super::place::{Place, Places};
use super::raw::{
    Raw, RawBody, RawClocked, RawEncoding, RawExample, RawKind, RawMessage, RawNonce, RawNonceKind,
    RawPart, RawPassphrase, RawPath, RawPlace, RawSecret, RawSignature, RawTime, RawUnit,
    RawWindow,
};
use super::reading::Reading;
use super::refusal::Refusals;
use super::signatures::{self, RawSignatures};
use super::unguarded::Rules;
use super::{
    BodyKind, ClockedRule, Dialect, Encoding, Example, KeyedRule, Message, NonceKind, NonceRule,
    PassphraseRule, PathRule, Proof, Scheme, SecretForm, Sends, TimeKind, TimeRule, TimeUnit,
    WindowRule, jwt_rule, lenient, message, response, sound, spelling, stated,
};
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

/// The longest window or lead that any recipe may allow: what was seen must be remembered that long.
const LONGEST: Duration = Duration::from_hours(1);

/// Compiles the text of a recipe, by these rules.
pub(super) fn compile(text: &str, rules: Rules) -> Result<Dialect, RecipeError> {
    let raw: Raw = toml::from_str(text)
        .map_err(|error| RecipeError { message: error.message().to_owned(), span: error.span() })?;
    build(raw, rules).map_err(|message| RecipeError { message, span: None })
}

fn build(raw: Raw, rules: Rules) -> Result<Dialect, String> {
    refuse_odd_name(&raw.name)?;
    let (body, other_body) = kinds(raw.body);
    let mut dialect = Dialect {
        spellings: spelling::spellings(&raw),
        name: Arc::from(raw.name),
        title: raw.title,
        sources: raw.sources,
        notes: raw.notes,
        scheme: Scheme::Text(Box::default()),
        key: Place::parse(&raw.key.r#in)?,
        time: raw.time.as_ref().map(time).transpose()?,
        nonce: raw.nonce.as_ref().map(nonce).transpose()?,
        window: window(raw.window.as_ref())?,
        encodings: encodings(&raw.signature)?,
        signature: Place::parse(&raw.signature.r#in)?,
        secret: match raw.signature.secret {
            RawSecret::Text => SecretForm::Text,
            RawSecret::Base64 => SecretForm::Base64,
        },
        passphrase: raw.passphrase.as_ref().map(passphrase).transpose()?,
        algorithm: None,
        places: Places::default(),
        authorization: raw.authorization.map(Into::into),
        readings: readings(&raw.readings)?,
        lenient: lenient_readings(&raw.lenient)?,
        sorts: false,
        body,
        other_body,
        payload: raw.payload.as_ref().map(payload).transpose()?,
        path_is: raw.path_is.map(path_rule),
        sends: sends(&raw.sends)?,
        names: names(&raw.names)?,
        sets: sets(&raw.sets)?,
        no_names: Names::new(&[""; 0])?,
        proof: if raw.signature.or_suffixed { Proof::MacOrSuffix } else { Proof::Mac },
        replies: None,
        paths: raw.paths.into_iter().map(Into::into).collect(),
        split_parameters: false,
        imitates: false,
        example: raw.example.map(example).transpose()?.unwrap_or_default(),
        forward_headers: header_names(&raw.forward_headers)?,
        refusals: Refusals::compile(&raw.refusals, &raw.reply_headers)?,
        rules,
    };
    dialect.replies =
        raw.response.as_ref().map(|raw| response::compile(raw, &dialect)).transpose()?;
    dialect.algorithm =
        raw.algorithm.as_ref().map(|raw| stated::compile(raw, &dialect)).transpose()?;
    dialect.scheme = match &raw.signatures {
        Some(table) => signed(table, raw.message.is_empty() && raw.token.is_none(), &dialect)?,
        None => scheme(&raw.message, raw.token.as_ref(), &raw.unsigned, &dialect)?,
    };
    let merges = |message: &Message| message.merged.is_some();
    dialect.sorts = dialect.readings.iter().any(|reading| reading.sorts())
        || dialect.messages().iter().any(merges);
    dialect.places = Places::new(dialect.places(), dialect.authorization.as_deref());
    lenient::refuse_unfit(&dialect)?;
    sound::refuse_unsafe(&dialect)?;
    Ok(dialect)
}

/// What bodies there are.
const fn kinds(raw: RawBody) -> (BodyKind, Option<BodyKind>) {
    match raw {
        RawBody::Form => (BodyKind::Form, None),
        RawBody::Json => (BodyKind::Json, None),
        RawBody::FormOrJson => (BodyKind::Form, Some(BodyKind::Json)),
    }
}

fn refuse_odd_name(name: &str) -> Result<(), String> {
    let is_plain = |byte: u8| {
        byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-'
    };
    if name.is_empty() || !name.bytes().all(is_plain) {
        return Err(format!("name `{name}`: use lower-case letters, digits, - and _"));
    }
    Ok(())
}

fn signed(table: &RawSignatures, alone: bool, dialect: &Dialect) -> Result<Scheme, String> {
    if !alone {
        return Err(
            "`[signatures]` says what is signed, so leave `[[message]]` and `[token]` out".into()
        );
    }
    Ok(Scheme::Signatures(Box::new(signatures::compile(table, dialect)?)))
}

fn scheme(
    messages: &[RawMessage],
    token: Option<&RawToken>,
    unsigned: &[RawPart],
    dialect: &Dialect,
) -> Result<Scheme, String> {
    match token {
        Some(_) if !messages.is_empty() => {
            Err("`[token]` says what is signed, so leave `[[message]]` out".into())
        }
        Some(token) => jwt_rule::compile(token, unsigned, dialect)
            .map(|tokens| Scheme::Token(Box::new(tokens))),
        None => {
            let compiled = messages.iter().map(|raw| message::compile(raw, unsigned, dialect));
            compiled.collect::<Result<_, _>>().map(Scheme::Text)
        }
    }
}

fn time(raw: &RawTime) -> Result<TimeRule, String> {
    let future = Duration::from_millis(raw.future_ms);
    if future > Duration::from_secs(10) {
        return Err("time: future_ms is over 10000: clocks are not that wrong".into());
    }
    let lead = raw.lead_ms.map(Duration::from_millis);
    if lead.is_some_and(|lead| lead.is_zero() || lead > LONGEST) {
        return Err("time: 0 < lead_ms <= 3600000 must hold".into());
    }
    Ok(TimeRule {
        place: Place::parse(&raw.r#in)?,
        kind: match raw.kind {
            RawKind::Stamp => TimeKind::Stamp,
            RawKind::Deadline => TimeKind::Deadline,
        },
        unit: match raw.unit {
            RawUnit::Seconds => TimeUnit::Seconds,
            RawUnit::DecimalSeconds => TimeUnit::DecimalSeconds,
            RawUnit::Millis => TimeUnit::Millis,
            RawUnit::MillisOrMicros => TimeUnit::MillisOrMicros,
            RawUnit::Iso => TimeUnit::Iso,
            RawUnit::IsoSeconds => TimeUnit::IsoSeconds,
        },
        future,
        lead,
    })
}

fn path_rule(raw: RawPath) -> PathRule {
    PathRule { member: Place::Field(raw.field.into()), after: raw.after.unwrap_or_default().into() }
}

fn example(raw: RawExample) -> Result<Example, String> {
    let method = Method::from_bytes(raw.method.as_bytes());
    let method = method.map_err(|_| format!("example: `{}` is no method", raw.method))?;
    if !raw.target.starts_with('/') {
        return Err(format!("example: `{}` is no target: it begins with /", raw.target));
    }
    Ok(Example { method, target: raw.target, body: raw.body })
}

fn nonce(raw: &RawNonce) -> Result<NonceRule, String> {
    Ok(NonceRule {
        place: Place::parse(&raw.r#in)?,
        kind: match raw.kind {
            RawNonceKind::None => NonceKind::None,
            RawNonceKind::Unique => NonceKind::Unique,
            RawNonceKind::Growing => NonceKind::Growing,
        },
        length: raw.length,
        window: raw.window,
        clocked: raw.clocked.as_ref().map(|rule| clocked(raw, rule)).transpose()?,
    })
}

fn clocked(nonce: &RawNonce, rule: &RawClocked) -> Result<ClockedRule, String> {
    let grows = matches!(nonce.kind, RawNonceKind::Growing);
    match (grows, Place::parse(&nonce.r#in)?, Place::parse(&rule.by)?) {
        (true, Place::Field(_), Place::Field(member)) => {
            Ok(ClockedRule { member, within: Duration::from_millis(rule.within_ms) })
        }
        _ => {
            Err("nonce: `clocked` is for growing numbers, where both are fields of the JSON".into())
        }
    }
}

fn passphrase(raw: &RawPassphrase) -> Result<PassphraseRule, String> {
    let texts = |all: &Vec<String>| all.iter().map(|text| text.as_str().into()).collect();
    let keyed = raw.keyed.as_ref().map(|raw| {
        Ok::<_, String>(KeyedRule {
            version: Place::parse(&raw.by)?,
            keyed: texts(&raw.keyed),
            clear: texts(&raw.clear),
        })
    });
    Ok(PassphraseRule { place: Place::parse(&raw.r#in)?, keyed: keyed.transpose()? })
}

fn payload(raw: &RawPlace) -> Result<HeaderName, String> {
    let place = Place::parse(&raw.r#in)?;
    let name = place.header().filter(|_| matches!(place, Place::Header(_)));
    name.cloned().ok_or_else(|| format!("payload: it travels in a header, not in {place}"))
}

fn sends(raw: &BTreeMap<String, String>) -> Result<Sends, String> {
    raw.iter().map(|(place, text)| Ok((Place::parse(place)?, text.as_str().into()))).collect()
}

fn names(raw: &BTreeMap<String, Vec<String>>) -> Result<super::Names, String> {
    let known = |(method, names): (&String, &Vec<String>)| {
        Ok((method.as_str().into(), Names::new(names).map_err(|error| format!("names: {error}"))?))
    };
    raw.iter().map(known).collect()
}

fn sets(raw: &BTreeMap<String, Vec<String>>) -> Result<Sets, String> {
    let known = |(first, names): (&String, &Vec<String>)| {
        let others = raw.keys().filter(|other| *other != first);
        if let Some(other) = others.into_iter().find(|other| first.starts_with(&***other)) {
            return Err(format!("sets: `{first}` begins with `{other}`, which is another's name"));
        }
        let set = Names::new(names).map_err(|error| format!("sets: {error}"))?;
        if !set.hold(first.as_bytes()) {
            return Err(format!("sets: `{first}` is none of its own names"));
        }
        Ok((first.as_str().into(), set))
    };
    raw.iter().map(known).collect()
}

fn window(raw: Option<&RawWindow>) -> Result<WindowRule, String> {
    // What has no stamp has no window; the value is never asked for.
    let Some(raw) = raw else {
        let unused = Duration::from_secs(1);
        return Ok(WindowRule { place: None, default: unused, max: unused });
    };
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
            RawEncoding::Base64url => Encoding::Base64Url,
        };
        Ok((algorithm, encoding))
    };
    let found: Box<[_]> = raw.algorithms.iter().map(known).collect::<Result<_, String>>()?;
    if found.is_empty() {
        return Err("signature: name at least one algorithm, as in `algorithms = { hmac-sha256 = \"hex\" }`".into());
    }
    Ok(found)
}

fn readings(raw: &[String]) -> Result<Box<[Reading]>, String> {
    let found: Box<[_]> = raw.iter().map(|name| reading(name)).collect::<Result<_, String>>()?;
    if let Some(lenient) = found.iter().find(|reading| reading.is_lenient()) {
        let name = lenient.name();
        return Err(format!("readings: `{name}` is only for operators who want it: `lenient`"));
    }
    if found.first() != Some(&Reading::Raw) {
        return Err("readings: the first must be \"raw\"".into());
    }
    let needs = [
        (Reading::DecodedSorted, Reading::Decoded),
        (Reading::FormDecodedSorted, Reading::FormDecoded),
    ];
    if needs.iter().any(|(sorted, plain)| found.contains(sorted) && !found.contains(plain)) {
        return Err("readings: a sorted reading needs the same one unsorted before it".into());
    }
    Ok(found)
}

fn reading(name: &str) -> Result<Reading, String> {
    let found = Reading::ALL.iter().find(|(_, known)| *known == name);
    found.map(|(reading, _)| *reading).ok_or_else(|| format!("readings: `{name}` is no reading"))
}

fn lenient_readings(raw: &[String]) -> Result<Box<[Reading]>, String> {
    let found: Box<[_]> = raw.iter().map(|name| reading(name)).collect::<Result<_, String>>()?;
    match found.iter().find(|reading| !reading.is_lenient()) {
        Some(other) => Err(format!("lenient: `{}` belongs under `readings`", other.name())),
        None => Ok(found),
    }
}

fn header_names(raw: &[String]) -> Result<Box<[HeaderName]>, String> {
    let known = |name: &String| {
        HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("`{name}` is no header name"))
    };
    raw.iter().map(known).collect()
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
        let lenient = ("readings = [\"raw\"]", "lenient = [\"unencoded\"]");
        assert!(refusal(lenient.0, lenient.1).contains("only for a dialect that signs"));
        assert!(refusal("[\"raw\"]", "[\"raw\", \"unencoded\"]").contains("only for operators"));
        assert!(refusal(lenient.0, "lenient = [\"decoded\"]").contains("belongs under"));
        assert!(refusal("hmac-sha256", "hmac-md5").contains("hmac-md5"));
        assert!(refusal("{path}", "{paths}").contains("paths"));
        assert!(refusal("bad_signature", "bad_signatur").contains("bad_signatur"));
    }
}
