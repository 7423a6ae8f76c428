//! What a refusal says in a dialect's own words, so that the client's library raises its own exception.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::Answer;
use crate::clock::Micros;
use crate::denial::{Condition, Denial};

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRefusal {
    status: u16,
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What the words of an answer may mention.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The server's time.
    pub now: Micros,
    /// Units spent of the first limit.
    pub used: u32,
    /// Units allowed by the first limit.
    pub limit: u32,
    /// After how long to try again.
    pub retry_after: Duration,
    /// The period of the first limit.
    pub period: Duration,
}

impl Facts {
    /// The facts of a denial: what is left of the limit that was exceeded, and how long to wait.
    pub fn of(denial: &Denial, now: Micros) -> Self {
        let waiting = denial.retry_after().unwrap_or_default();
        let Some(excess) = denial.excess() else {
            return Self { now, retry_after: waiting, ..Self::default() };
        };
        Self {
            now,
            used: excess.level,
            limit: excess.quota,
            retry_after: waiting,
            period: excess.period,
        }
    }
}

/// The wording of every condition.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    by_condition: Box<[(Condition, Wording)]>,
    /// Fields on every reply, refused or not: used limits.
    on_all: Box<[(HeaderName, Text)]>,
}

#[derive(Clone, Debug)]
struct Wording {
    status: StatusCode,
    body: Text,
    json: bool,
    headers: Box<[(HeaderName, Text)]>,
}

/// A text with `<now_ms>`-like places to fill.
#[derive(Clone, Debug)]
struct Text(Box<[Piece]>);

#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    Fact(Fact),
}

#[derive(Clone, Copy, Debug)]
enum Fact {
    NowMs,
    NowS,
    RetryAfterS,
    RetryAtMs,
    RetryAtS,
    Used,
    Limit,
    Left,
    PeriodS,
}

const FACTS: [(&str, Fact); 9] = [
    ("now_ms", Fact::NowMs),
    ("now_s", Fact::NowS),
    ("retry_after_s", Fact::RetryAfterS),
    ("retry_at_ms", Fact::RetryAtMs),
    ("retry_at_s", Fact::RetryAtS),
    ("used", Fact::Used),
    ("limit", Fact::Limit),
    ("left", Fact::Left),
    ("period_s", Fact::PeriodS),
];

impl Refusals {
    pub(super) fn compile(
        raw: &BTreeMap<String, RawRefusal>,
        on_all: &BTreeMap<String, String>,
    ) -> Result<Self, String> {
        let mut by_condition = Vec::new();
        for (name, refusal) in raw {
            let condition = Condition::ALL.iter().find(|(_, known)| known == name);
            let (condition, _) =
                condition.ok_or_else(|| format!("refusals: `{name}` is no condition"))?;
            by_condition.push((*condition, Wording::compile(name, refusal)?));
        }
        if !by_condition.iter().any(|(condition, _)| *condition == Condition::BadSignature) {
            return Err(
                "refusals: `bad_signature` must be worded: it is what all unproven requests get"
                    .into(),
            );
        }
        Ok(Self { by_condition: by_condition.into(), on_all: headers("reply_headers", on_all)? })
    }

    /// The answer in the dialect's words, or `None` where the recipe has none for this condition.
    pub(super) fn answer(&self, condition: Condition, facts: &Facts) -> Option<Answer> {
        let (_, wording) = self.by_condition.iter().find(|(known, _)| *known == condition)?;
        let mut fields = Vec::with_capacity(wording.headers.len() + 2);
        let kind = if wording.json { "application/json" } else { "text/plain; charset=utf-8" };
        if !wording.body.0.is_empty() {
            fields.push((http::header::CONTENT_TYPE, HeaderValue::from_static(kind)));
        }
        for (name, text) in &wording.headers {
            fields.extend(text.value(facts).map(|value| (name.clone(), value)));
        }
        if !facts.retry_after.is_zero() {
            let seconds = Text(Box::new([Piece::Fact(Fact::RetryAfterS)]));
            fields.extend(seconds.value(facts).map(|value| (http::header::RETRY_AFTER, value)));
        }
        Some(Answer {
            status: wording.status,
            headers: fields,
            body: wording.body.fill(facts).into(),
        })
    }

    /// The fields that every reply carries.
    pub(super) fn reply_headers(
        &self,
        facts: &Facts,
    ) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
        self.on_all.iter().filter_map(|(name, text)| Some((name.clone(), text.value(facts)?)))
    }

    /// The conditions that are worded, with status and body as the recipe has them.
    pub(super) fn worded(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        let facts = Facts::default();
        self.by_condition
            .iter()
            .map(move |(c, wording)| (*c, wording.status, wording.body.fill(&facts)))
    }
}

impl Wording {
    fn compile(name: &str, raw: &RawRefusal) -> Result<Self, String> {
        let status = StatusCode::from_u16(raw.status)
            .map_err(|_| format!("refusals: {name}: {} is no status", raw.status))?;
        Ok(Self {
            status,
            json: raw.body.starts_with(['{', '[']),
            body: Text::compile(&raw.body).map_err(|error| format!("refusals: {name}: {error}"))?,
            headers: headers(name, &raw.headers)?,
        })
    }
}

fn headers(
    owner: &str,
    raw: &BTreeMap<String, String>,
) -> Result<Box<[(HeaderName, Text)]>, String> {
    let compile = |(name, text): (&String, &String)| {
        let field = HeaderName::from_bytes(name.to_ascii_lowercase().as_bytes())
            .map_err(|_| format!("{owner}: `{name}` is no header name"))?;
        Ok((field, Text::compile(text).map_err(|error| format!("{owner}: {name}: {error}"))?))
    };
    raw.iter().map(compile).collect()
}

impl Text {
    fn compile(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some((literal, after)) = rest.split_once('<') {
            let (name, after) =
                after.split_once('>').ok_or_else(|| format!("`<{after}` is not closed by `>`"))?;
            let fact = FACTS.iter().find(|(known, _)| *known == name);
            let (_, fact) = fact.ok_or_else(|| format!("`<{name}>` is no fact"))?;
            pieces.extend((!literal.is_empty()).then(|| Piece::Literal(literal.into())));
            pieces.push(Piece::Fact(*fact));
            rest = after;
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Literal(rest.into())));
        Ok(Self(pieces.into()))
    }

    fn fill(&self, facts: &Facts) -> String {
        let mut out = String::new();
        for piece in &self.0 {
            // Writing to a String cannot fail.
            let _ = match piece {
                Piece::Literal(text) => out.write_str(text),
                Piece::Fact(fact) => write!(out, "{}", fact.of(facts)),
            };
        }
        out
    }

    fn value(&self, facts: &Facts) -> Option<HeaderValue> {
        HeaderValue::from_str(&self.fill(facts)).ok()
    }
}

impl Fact {
    fn of(self, facts: &Facts) -> u64 {
        let retry_at = facts.now + facts.retry_after;
        match self {
            Self::NowMs => facts.now.as_millis(),
            Self::NowS => facts.now.as_millis() / 1_000,
            // Rounded up: a client that waits just so long must find the limit open.
            Self::RetryAfterS => {
                facts.retry_after.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
            }
            Self::RetryAtMs => retry_at.0.div_ceil(1_000),
            Self::RetryAtS => retry_at.0.div_ceil(1_000_000),
            Self::Used => facts.used.into(),
            Self::Limit => facts.limit.into(),
            Self::Left => facts.limit.saturating_sub(facts.used).into(),
            Self::PeriodS => facts.period.as_secs(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_wait_is_told_as_a_second() {
        for (micros, seconds) in [(1, 1), (999, 1), (1_000_000, 1), (1_000_001, 2)] {
            let facts = Facts { retry_after: Duration::from_micros(micros), ..Facts::default() };
            assert_eq!(Fact::RetryAfterS.of(&facts), seconds, "{micros}");
        }
    }
}
