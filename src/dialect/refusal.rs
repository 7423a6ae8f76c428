//! What a refusal says in a dialect's own words, so that the client's library raises its own exception.

use std::collections::BTreeMap;
use std::fmt;
use std::fmt::Write as _;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::Answer;
use super::reply_field::ReplyField;
use crate::clock::Micros;
use crate::denial::{Condition, Denial};
use crate::store::{Counts, Window};

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRefusal {
    status: u16,
    body: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// What a header field says.
#[derive(Clone, Debug)]
pub enum Said {
    /// A number, still to be written.
    Number(u64),
    /// Whatever else.
    Text(HeaderValue),
}

impl From<Said> for HeaderValue {
    fn from(said: Said) -> Self {
        match said {
            Said::Number(number) => Self::from(number),
            Said::Text(text) => text,
        }
    }
}

/// What the words of an answer may mention.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The server's time.
    pub now: Micros,
    /// Units spent of the limit.
    pub used: u32,
    /// Units allowed by it.
    pub limit: u32,
    /// After how long to try again.
    pub retry_after: Duration,
    /// Its period.
    pub period: Duration,
    /// What its units are.
    pub counts: Counts,
    /// How it is counted.
    pub window: Window,
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
            counts: if matches!(denial, Denial::OrdersLimited(_)) {
                Counts::Orders
            } else {
                Counts::Weight
            },
            // It is told when to come back, whatever the window.
            window: Window::Bucket,
        }
    }

    /// After how long a refused client fits again, or an admitted one has its whole allowance back.
    fn reset_after(&self) -> Duration {
        if self.limit == 0 || !self.retry_after.is_zero() {
            return self.retry_after;
        }
        match self.window {
            Window::Bucket => self.period.saturating_mul(self.used) / self.limit,
            Window::Sliding if self.used == 0 => Duration::ZERO,
            // The present fifteenth counts until its end is a period old.
            Window::Sliding => self.period + self.period / 15,
            Window::Fixed => {
                let period = u64::try_from(self.period.as_micros()).unwrap_or(u64::MAX).max(1);
                Duration::from_micros(period - self.now.0 % period)
            }
        }
    }
}

/// The wording of every condition.
#[derive(Clone, Debug)]
pub(super) struct Refusals {
    by_condition: Box<[(Condition, Wording)]>,
    /// Fields on every reply, refused or not: used limits.
    on_all: Box<[ReplyField]>,
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
pub(super) struct Text(Box<[Piece]>);

#[derive(Clone, Debug)]
enum Piece {
    Literal(Box<str>),
    Fact(Fact),
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fact {
    NowMs,
    NowS,
    RetryAfterS,
    RetryAtMs,
    RetryAtS,
    Used,
    Orders,
    Limit,
    Left,
    PeriodS,
    PeriodMs,
    ResetAfterMs,
    ResetAtMs,
    ResetAtS,
}

const FACTS: [(&str, Fact); 14] = [
    ("now_ms", Fact::NowMs),
    ("now_s", Fact::NowS),
    ("retry_after_s", Fact::RetryAfterS),
    ("retry_at_ms", Fact::RetryAtMs),
    ("retry_at_s", Fact::RetryAtS),
    ("used", Fact::Used),
    ("orders", Fact::Orders),
    ("limit", Fact::Limit),
    ("left", Fact::Left),
    ("period_s", Fact::PeriodS),
    ("period_ms", Fact::PeriodMs),
    ("reset_after_ms", Fact::ResetAfterMs),
    ("reset_at_ms", Fact::ResetAtMs),
    ("reset_at_s", Fact::ResetAtS),
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
        let on_all = on_all.iter().map(|(name, text)| ReplyField::compile(name, text));
        Ok(Self { by_condition: by_condition.into(), on_all: on_all.collect::<Result<_, _>>()? })
    }

    /// The answer in the dialect's words, or `None` where the recipe has none for this condition.
    pub(super) fn answer(&self, condition: Condition, facts: &Facts) -> Option<Answer> {
        let (_, wording) = self.by_condition.iter().find(|(known, _)| *known == condition)?;
        let mut fields = Vec::with_capacity(wording.headers.len() + 2);
        let kind = if wording.json { "application/json" } else { "text/plain; charset=utf-8" };
        let named = wording.headers.iter().any(|(name, _)| *name == http::header::CONTENT_TYPE);
        if !named && !wording.body.0.is_empty() {
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

    /// Tells the fields that every reply carries: those of one limit speak of the first that counts weight, or of the
    /// first of all where the recipe has none for each.
    pub(super) fn tell_on_all(&self, facts: &[Facts], mut tell: impl FnMut(HeaderName, Said)) {
        let has_each = self.on_all.iter().any(ReplyField::is_for_each);
        let first = facts.iter().find(|facts| !has_each || facts.counts == Counts::Weight);
        self.on_all.iter().for_each(|field| field.tell(facts, first, &mut tell));
    }

    /// The names of the fields that every reply carries.
    pub(super) fn reply_header_names(&self) -> impl Iterator<Item = &str> {
        self.on_all.iter().map(ReplyField::name)
    }

    /// The conditions that are worded, with the places of facts as the recipe has them.
    pub(super) fn wording(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        self.by_condition.iter().map(|(c, wording)| (*c, wording.status, wording.body.to_string()))
    }

    /// The fields that every reply carries, in the same way.
    pub(super) fn reply_wording(&self) -> impl Iterator<Item = (&str, String)> {
        self.on_all.iter().map(|field| (field.name(), field.text().to_string()))
    }

    /// The conditions that are worded, with status and body as the recipe has them.
    pub(super) fn worded(&self) -> impl Iterator<Item = (Condition, StatusCode, String)> {
        let facts = Facts::default();
        self.by_condition
            .iter()
            .map(move |(c, wording)| (*c, wording.status, wording.body.fill(&facts)))
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Literal(text) => f.write_str(text),
            Piece::Fact(fact) => {
                let known = FACTS.iter().find(|(_, known)| known == fact);
                write!(f, "<{}>", known.map_or("", |(name, _)| name))
            }
        })
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
    /// Whether it tells of orders.
    pub(super) fn tells_orders(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Fact(Fact::Orders)))
    }

    pub(super) fn compile(text: &str) -> Result<Self, String> {
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

    pub(super) fn value(&self, facts: &Facts) -> Option<HeaderValue> {
        self.said(facts).map(HeaderValue::from)
    }

    /// A text that is one fact alone, as most are, is left a number: no memory is taken for it.
    pub(super) fn said(&self, facts: &Facts) -> Option<Said> {
        if let [Piece::Fact(fact)] = &*self.0 {
            return Some(Said::Number(fact.of(facts)));
        }
        HeaderValue::from_str(&self.fill(facts)).ok().map(Said::Text)
    }
}

impl Fact {
    fn of(self, facts: &Facts) -> u64 {
        let retry_at = || facts.now + facts.retry_after;
        match self {
            Self::NowMs => facts.now.as_millis(),
            Self::NowS => facts.now.as_millis() / 1_000,
            // Rounded up: a client that waits just so long must find the limit open.
            Self::RetryAfterS => {
                facts.retry_after.as_micros().div_ceil(1_000_000).try_into().unwrap_or(u64::MAX)
            }
            Self::RetryAtMs => retry_at().0.div_ceil(1_000),
            Self::RetryAtS => retry_at().0.div_ceil(1_000_000),
            Self::Used | Self::Orders => facts.used.into(),
            Self::Limit => facts.limit.into(),
            Self::Left => facts.limit.saturating_sub(facts.used).into(),
            Self::PeriodS => facts.period.as_secs(),
            Self::PeriodMs => facts.period.as_millis().try_into().unwrap_or(u64::MAX),
            Self::ResetAfterMs => {
                facts.reset_after().as_micros().div_ceil(1_000).try_into().unwrap_or(u64::MAX)
            }
            Self::ResetAtMs => (facts.now + facts.reset_after()).0.div_ceil(1_000),
            Self::ResetAtS => (facts.now + facts.reset_after()).0.div_ceil(1_000_000),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::denial::Credential;
    use crate::dialect::{BUILTIN, Dialect};

    #[test]
    fn a_limit_resets_when_it_is_whole_again_or_when_the_refused_request_fits() {
        let spent = Facts {
            now: Micros(5_000_000),
            used: 3,
            limit: 12,
            period: Duration::from_mins(1),
            ..Facts::default()
        };
        let fixed = Facts { window: Window::Fixed, now: Micros(61_000_000), ..spent };
        assert_eq!(Fact::ResetAfterMs.of(&fixed), 59_000);
        assert_eq!(Fact::ResetAfterMs.of(&Facts { now: Micros(59_999_999), ..fixed }), 1);
        let sliding = Facts { window: Window::Sliding, ..spent };
        assert_eq!(Fact::ResetAfterMs.of(&sliding), 64_000);
        assert_eq!(Fact::ResetAfterMs.of(&Facts { used: 0, ..sliding }), 0);
        assert_eq!(Fact::ResetAfterMs.of(&spent), 15_000);
        assert_eq!(Fact::ResetAtS.of(&spent), 20);
        let refused = Facts { retry_after: Duration::from_millis(700), used: 12, ..spent };
        assert_eq!(Fact::ResetAfterMs.of(&refused), 700);
        assert_eq!(Fact::ResetAtMs.of(&refused), 5_700);
        assert_eq!(Fact::ResetAtS.of(&refused), 6);
        assert_eq!(Fact::ResetAfterMs.of(&Facts { used: 3, ..Facts::default() }), 0);
    }

    #[test]
    fn the_least_wait_is_told_as_a_second() {
        for (micros, seconds) in [(1, 1), (999, 1), (1_000_000, 1), (1_000_001, 2)] {
            let facts = Facts { retry_after: Duration::from_micros(micros), ..Facts::default() };
            assert_eq!(Fact::RetryAfterS.of(&facts), seconds, "{micros}");
        }
    }

    fn builtins() -> impl Iterator<Item = Dialect> {
        BUILTIN.iter().map(|(_, recipe)| Dialect::compile(recipe).unwrap())
    }

    fn told(dialect: &Dialect, denial: &Denial, write: bool) -> (StatusCode, String, String) {
        let facts = Facts::of(denial, Micros(1_700_000_000_000_000));
        let answer = dialect.refuse(denial, write, &facts);
        let body = String::from_utf8(answer.body.to_vec()).unwrap();
        (answer.status, format!("{:?}", answer.headers), body)
    }

    #[test]
    fn unproven_requests_are_answered_alike_in_every_dialect() {
        let unproven =
            [Denial::UnknownKey, Denial::WrongDialect, Denial::WrongVenue, Denial::KeyInactive];
        for dialect in builtins() {
            for write in [false, true] {
                let wrong = told(&dialect, &Denial::BadSignature, write);
                for denial in unproven {
                    assert_eq!(told(&dialect, &denial, write), wrong, "{dialect:?} {denial:?}");
                }
            }
        }
    }

    #[test]
    fn a_dialect_that_imitates_says_what_its_recipe_says_of_unknown_keys() {
        for dialect in builtins() {
            let worded = |wanted: Condition| {
                dialect.worded().find(|(condition, ..)| *condition == wanted).map(|(_, s, _)| s)
            };
            let Some(status) = worded(Condition::UnknownKey) else { continue };
            let revoked = worded(Condition::RevokedKey).unwrap_or(status);
            let wrong = told(&dialect, &Denial::BadSignature, false);
            let imitating = dialect.clone().with_imitation();
            assert_eq!(told(&imitating, &Denial::BadSignature, false), wrong, "{dialect:?}");
            assert_eq!(told(&imitating, &Denial::UnknownKey, false).0, status, "{dialect:?}");
            assert_eq!(told(&imitating, &Denial::KeyInactive, false).0, revoked, "{dialect:?}");
        }
    }

    #[test]
    fn no_client_is_told_to_sign_a_replayed_write_again() {
        for dialect in builtins() {
            let duplicate = told(&dialect, &Denial::Replayed, true);
            for denial in [
                Denial::Stale(Duration::ZERO),
                Denial::Ahead(Duration::ZERO),
                Denial::Missing(Credential::Time),
                Denial::BadSignature,
                Denial::Unavailable,
            ] {
                assert_ne!(told(&dialect, &denial, true).2, duplicate.2, "{dialect:?} {denial:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_judged_now_is_a_503_that_says_when_to_come_back() {
        for dialect in builtins() {
            let (status, headers, _) = told(&dialect, &Denial::Unavailable, true);
            assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{dialect:?}");
            assert!(headers.contains("retry-after"), "{dialect:?} {headers}");
        }
    }
}
