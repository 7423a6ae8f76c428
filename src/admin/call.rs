//! A call as an operation sees it, read strictly, and the reply it gives.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::api::Api;
use super::caller::{Caller, Role};
use super::cursor;
use super::operation::{Operation, PAGE, PAGE_CAP};
use super::problem::Problem;
use crate::clock::Micros;
use crate::registrar::{Act, Actor};

/// A call whose caller is known and has the role it takes.
pub(super) struct Call {
    pub(super) api: Arc<Api>,
    pub(super) operation: &'static Operation,
    pub(super) caller: Caller,
    pub(super) at: Micros,
    /// The names in the path, decoded.
    pub(super) path: Vec<(String, String)>,
    /// The parameters of the query, decoded; each is known and there once.
    pub(super) query: Vec<(String, String)>,
    /// The version that the caller saw: of another one nothing is done.
    pub(super) expected: Option<u64>,
    pub(super) body: Bytes,
}

/// What a call answers.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) content: Content,
    pub(super) version: Option<u64>,
    /// The revision that took something away, which gateways are to apply before the answer, or that made a key, which this
    /// one is to.
    pub(super) binds: Option<u64>,
    pub(super) location: Option<String>,
    /// What it was done to, where the path does not say.
    pub(super) subject: Option<String>,
    /// Whether it shows a secret: such an answer is not kept.
    pub(super) secret: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Empty,
    Json(Bytes),
    Lines(Body),
}

impl Call {
    /// A name in the path.
    pub(super) fn name(&self, name: &str) -> &str {
        self.path.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A parameter of the query.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| &**value)
    }

    /// How many items to list.
    pub(super) fn limit(&self) -> Result<usize, Problem> {
        let Some(text) = self.parameter("limit") else { return Ok(PAGE) };
        let plain = text.bytes().all(|byte| byte.is_ascii_digit());
        let count = plain.then(|| text.parse().ok()).flatten();
        count.filter(|count| (1..=PAGE_CAP).contains(count)).ok_or_else(|| {
            Problem::bad(format!("`limit` is no whole number from 1 to {PAGE_CAP}."))
        })
    }

    /// Where the list called `list` with these filters goes on.
    pub(super) fn after(
        &self,
        list: &str,
        filters: &[Option<&str>],
    ) -> Result<Option<String>, Problem> {
        let Some(text) = self.parameter("after") else { return Ok(None) };
        let stands_after = cursor::read(list, filters, text);
        stands_after.map(Some).ok_or_else(|| {
            Problem::bad("`after` is no cursor of this list with these filters.")
                .cured("send the `next` of the page before, with the same filters, or leave it out")
        })
    }

    /// The body, every member of it known.
    pub(super) fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        let text: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        read(text)
    }

    /// Refuses a caller whose role does not reach.
    pub(super) fn demand(&self, least: Role, what: &str) -> Result<(), Problem> {
        if self.caller.role >= least {
            return Ok(());
        }
        Err(forbidden(self.caller.role, least, what))
    }

    /// The act of this caller, for the registrar.
    pub(super) fn act<'a>(&self, actor: &'a Actor, reason: Option<&'a str>) -> Act<'a> {
        Act::by(actor).because(reason).at(self.expected)
    }

    /// The caller, for the registrar.
    pub(super) fn actor(&self) -> Actor {
        Actor { name: self.caller.actor.as_ref().into() }
    }

    /// The body of an operation that takes nothing but a reason.
    pub(super) fn reason(&self) -> Result<Option<String>, Problem> {
        let body: Reason = self.read()?;
        sound_reason(body.reason)
    }
}

/// The body of an operation that takes nothing but a reason.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reason {
    /// Why, in the caller's words: up to 500 bytes without control characters.
    #[serde(default)]
    #[schema(max_length = 125, pattern = "^[ -~]*$")]
    reason: Option<String>,
}

/// A reason as the history keeps it.
pub(super) fn sound_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    let reason = reason.filter(|reason| !reason.is_empty());
    let sound = |text: &String| text.len() <= REASON_CAP && !text.contains(char::is_control);
    if reason.as_ref().is_none_or(sound) {
        return Ok(reason);
    }
    let detail =
        format!("`reason` is longer than {REASON_CAP} bytes, or holds control characters.");
    Err(Problem::unprocessable(detail))
}

/// The longest reason, in bytes.
const REASON_CAP: usize = 500;

/// The caller's role does not reach.
pub(super) fn forbidden(role: Role, least: Role, what: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, format!("The role {role} may not: {what} takes {least}."))
        .cured(format!("call with credentials of the role {least}"))
}

/// The record is not at the version that the caller expects.
pub(super) fn outdated(version: Option<u64>) -> Problem {
    let stands = version.map_or_else(
        || "There is no such record.".to_owned(),
        |version| format!("It is at version {version}, not at the one that If-Match names."),
    );
    Problem::new(StatusCode::PRECONDITION_FAILED, stands)
        .cured("read it again, and decide anew whether to change it")
}

/// Reads JSON in which every member is known and occurs once. What is wrong is said without the values.
pub(super) fn read<T: DeserializeOwned>(text: &[u8]) -> Result<T, Problem> {
    // An array would be read as the members in their order.
    if text.trim_ascii_start().first() != Some(&b'{') {
        return Err(Problem::bad("The body is no JSON object."));
    }
    let value = serde_json::from_slice(text).map_err(|error| wrong(&error))?;
    let escaped_nul = text.windows(6).any(|six| six == br"\u0000");
    if escaped_nul && serde_json::from_slice(text).is_ok_and(|value| has_nul(&value)) {
        return Err(Problem::bad("A text in the body holds the character U+0000.")
            .cured("leave it out: no name or text may hold it"));
    }
    Ok(value)
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(all) => all.iter().any(has_nul),
        Value::Object(all) => all.iter().any(|(name, value)| name.contains('\0') || has_nul(value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

fn wrong(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // The message of a wrong type or value begins with the value, which may be a secret.
    let said = if text.starts_with("invalid type") || text.starts_with("invalid value") {
        let expected = text.rsplit_once(", expected ").map_or("something else", |(_, rest)| rest);
        format!("a member is wrong: expected {expected}")
    } else {
        text
    };
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    if error.is_data() {
        Problem::unprocessable(format!("The body is not what this operation takes: {said}."))
            .cured("/v1/openapi.json says which members there are")
    } else {
        Problem::bad(format!("The body is no JSON: {said}."))
    }
}

impl Reply {
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Result<Self, Problem> {
        let bytes = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "an answer could not be written");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "The answer could not be written.")
        })?;
        Ok(Self { content: Content::Json(bytes.into()), ..Self::empty(status) })
    }

    pub(super) fn ok(value: &impl Serialize) -> Result<Self, Problem> {
        Self::json(StatusCode::OK, value)
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self {
            status,
            content: Content::Empty,
            version: None,
            binds: None,
            location: None,
            subject: None,
            secret: false,
        }
    }

    pub(super) fn lines(body: Body) -> Self {
        Self { content: Content::Lines(body), ..Self::empty(StatusCode::OK) }
    }

    pub(super) fn at_version(self, version: u64) -> Self {
        Self { version: Some(version), ..self }
    }

    pub(super) fn binding(self, revision: u64) -> Self {
        Self { binds: Some(revision), ..self }
    }

    pub(super) fn located(self, location: String) -> Self {
        Self { location: Some(location), ..self }
    }

    pub(super) fn of(self, subject: impl Into<String>) -> Self {
        Self { subject: Some(subject.into()), ..self }
    }

    pub(super) fn with_secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        #[expect(dead_code, reason = "only read")]
        count: u32,
        #[serde(default)]
        #[expect(dead_code, reason = "only read")]
        secret: String,
    }

    fn refused(text: &str) -> Problem {
        read::<Sample>(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_member_that_is_unknown_missing_or_twice_there_is_named() {
        for (text, named) in [
            (r#"{"count":1,"colour":2}"#, "`colour`"),
            ("{}", "`count`"),
            (r#"{"count":1,"count":1}"#, "`count`"),
        ] {
            let problem = refused(text);
            assert_eq!(problem.status, StatusCode::UNPROCESSABLE_ENTITY);
            assert!(problem.detail.contains(named), "{}", problem.detail);
        }
    }

    #[test]
    fn a_wrong_value_is_not_repeated() {
        for text in [r#"{"count":"hunter2"}"#, r#"{"count":-72}"#, r#"{"count":1,"secret":7272}"#] {
            let detail = refused(text).detail;
            assert!(!detail.contains("hunter2") && !detail.contains("72"), "{detail}");
            assert!(detail.contains("expected"), "{detail}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_bad_request() {
        for text in
            ["", "{", "[1", "{\"count\":1}}", "\u{feff}{}", "{\"count\":1,\"secret\":\"\u{1}\"}"]
        {
            assert_eq!(refused(text).status, StatusCode::BAD_REQUEST, "{text:?}");
        }
        assert!(read::<Sample>(b"\xff").is_err());
        assert_eq!(refused(r#"{"count":1,"secret":"\u0000"}"#).status, StatusCode::BAD_REQUEST);
        assert!(read::<Sample>(br#"{"count":1,"secret":"\\u0000"}"#).is_ok());
    }
}
