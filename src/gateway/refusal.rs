//! What a client is told when its request is not served.

use arrayvec::ArrayVec;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use serde::Serialize;

use super::forward::ForwardFault;
use super::observe::Skew;
use super::reply::ReplyBody;
use super::request_id::RequestId;
use super::routes::Entry;
use super::standing::{MOST_TOLD, Told};
use super::websocket::Handshake;
use crate::admit::{Ask, CHALLENGE, Effect};
use crate::clock::Micros;
use crate::denial::{Condition, Denial};
use crate::dialect::{Answer, Dialect, Facts};

/// Why a request is not served.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// A check failed.
    Denied(Denial),
    /// The signed time was off.
    Skewed(Denial, Skew),
    /// A rule of the wire was broken, with the status that HTTP has for it.
    Broken(StatusCode, &'static str),
    /// It was admitted, and no backend answered.
    Failed(ForwardFault),
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}

impl Refusal {
    /// The reason, by which it is counted; `None` where the request was admitted.
    pub(super) fn denial(&self) -> Option<Denial> {
        match self {
            Self::Denied(denial) | Self::Skewed(denial, _) => Some(*denial),
            Self::Broken(_, text) => Some(Denial::Malformed(text)),
            Self::Failed(_) => None,
        }
    }

    /// How far the client's clock is off, where that is why.
    pub(super) fn skew(&self) -> Option<Skew> {
        match self {
            Self::Skewed(_, skew) => Some(*skew),
            Self::Denied(_) | Self::Broken(..) | Self::Failed(_) => None,
        }
    }

    /// The answer: in the words of the route's dialect where it has one, else as RFC 9457 has it.
    pub(super) fn reply(
        &self,
        entry: Option<&Entry>,
        now: Micros,
        request_id: &RequestId,
        standing: &[Told],
    ) -> Response<ReplyBody> {
        let mut reply = match self {
            Self::Denied(denial) | Self::Skewed(denial, _) => {
                denied(denial, entry, now, request_id)
            }
            Self::Broken(status, text) => {
                problem(*status, Condition::Malformed.name(), text, request_id)
            }
            Self::Failed(fault) => failed(*fault, entry, now, request_id),
        };
        self.tell_limits(reply.headers_mut(), entry, now, standing);
        if let Self::Broken(StatusCode::UPGRADE_REQUIRED, _) = self {
            Handshake::required(reply.headers_mut());
        }
        if let Self::Skewed(_, skew) = self {
            let headers = reply.headers_mut();
            headers.insert(SERVER_TIME, skew.now.as_millis().into());
            headers.insert(SKEW, skew.ahead_ms().into());
        }
        reply
    }

    /// How full the limits are, that which refuses first.
    fn tell_limits(
        &self,
        headers: &mut HeaderMap,
        entry: Option<&Entry>,
        now: Micros,
        standing: &[Told],
    ) {
        let Some(dialect) = entry.and_then(dialect) else { return };
        let mut facts: ArrayVec<Facts, { MOST_TOLD + 1 }> = ArrayVec::new();
        let denial = self.denial().filter(|denial| denial.excess().is_some());
        facts.extend(denial.map(|denial| Facts::of(&denial, now)));
        facts.extend(standing.iter().take(MOST_TOLD).map(|told| told.facts(now)));
        dialect.tell_on_all(&facts, |name, said| {
            headers.insert(name, said.into());
        });
    }
}

const SERVER_TIME: HeaderName = HeaderName::from_static("x-countersign-server-time");
const SKEW: HeaderName = HeaderName::from_static("x-countersign-skew-ms");

/// The dialect that a route's clients understand.
pub(super) fn dialect(entry: &Entry) -> Option<&Dialect> {
    match &entry.demand.ask {
        Ask::Public => None,
        Ask::Key(dialect) | Ask::Signed(dialect) => Some(dialect),
    }
}

fn denied(
    denial: &Denial,
    entry: Option<&Entry>,
    now: Micros,
    request_id: &RequestId,
) -> Response<ReplyBody> {
    let write = entry.is_some_and(|entry| entry.demand.effect != Effect::Read);
    if let Some(dialect) = entry.and_then(dialect) {
        let facts = Facts::of(denial, now);
        let mut reply = worded(dialect.refuse(denial, write, &facts));
        if let Denial::Challenged(challenge) = denial {
            let text = HeaderValue::from_str(&challenge.to_string());
            reply.headers_mut().extend(text.ok().map(|text| (CHALLENGE, text)));
        }
        return reply;
    }
    let condition = denial.condition(write);
    // Rules of syntax speak of the request alone, so a stranger may know them.
    let text = if let Denial::Malformed(text) = denial { text } else { "" };
    let mut reply = problem(status(condition), condition.name(), text, request_id);
    if let Some(wait) = denial.retry_after() {
        // Rounded up: a client that waits just so long must find the limit open.
        let seconds = u64::try_from(wait.as_micros().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        reply.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    reply
}

/// Says whether the backend may have acted: 503 when nothing was sent, 502 and 504 when it may have been.
fn failed(
    fault: ForwardFault,
    entry: Option<&Entry>,
    now: Micros,
    request_id: &RequestId,
) -> Response<ReplyBody> {
    const QUERY_FIRST: &str =
        "The request reached a backend and its outcome is unknown: query before you send it again.";
    match fault {
        ForwardFault::NoBackend | ForwardFault::Unsent | ForwardFault::Expired => {
            denied(&Denial::Unavailable, entry, now, request_id)
        }
        ForwardFault::TimedOut | ForwardFault::Unknown => {
            problem(StatusCode::GATEWAY_TIMEOUT, "outcome_unknown", QUERY_FIRST, request_id)
        }
        ForwardFault::BadReply => {
            problem(StatusCode::BAD_GATEWAY, "outcome_unknown", QUERY_FIRST, request_id)
        }
    }
}

fn worded(answer: Answer) -> Response<ReplyBody> {
    let mut reply = Response::new(ReplyBody::full(answer.body));
    *reply.status_mut() = answer.status;
    reply.headers_mut().extend(answer.headers);
    reply
}

/// A problem as RFC 9457 has it.
#[derive(Serialize)]
struct Problem<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    #[serde(skip_serializing_if = "str::is_empty")]
    detail: &'a str,
    code: &'a str,
    request_id: &'a str,
}

fn problem(
    status: StatusCode,
    code: &str,
    detail: &str,
    request_id: &RequestId,
) -> Response<ReplyBody> {
    let problem = Problem {
        r#type: format!("urn:countersign:problem:{code}"),
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail,
        code,
        request_id: request_id.as_str(),
    };
    let mut reply =
        Response::new(ReplyBody::full(serde_json::to_vec(&problem).unwrap_or_default().into()));
    *reply.status_mut() = status;
    let kind = HeaderValue::from_static("application/problem+json");
    reply.headers_mut().insert(header::CONTENT_TYPE, kind);
    reply
}

/// The status of a condition where no dialect words it.
const fn status(condition: Condition) -> StatusCode {
    match condition {
        Condition::NotFound => StatusCode::NOT_FOUND,
        Condition::Malformed => StatusCode::BAD_REQUEST,
        Condition::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Condition::MissingKey
        | Condition::MissingSignature
        | Condition::MissingTimestamp
        | Condition::MalformedTimestamp
        | Condition::MissingPassphrase
        | Condition::WindowTooLarge
        | Condition::StaleTimestamp
        | Condition::FutureTimestamp
        | Condition::BadSignature
        | Condition::UnknownKey
        | Condition::RevokedKey
        | Condition::BadPassphrase
        | Condition::ExpiredKey => StatusCode::UNAUTHORIZED,
        Condition::IpNotAllowed
        | Condition::NoPermission
        | Condition::MissingCode
        | Condition::BadCode
        | Condition::IpBanned => StatusCode::FORBIDDEN,
        Condition::ReplayedRead | Condition::ReplayedWrite => StatusCode::CONFLICT,
        Condition::RateLimited | Condition::OrderLimited | Condition::IpRateLimited => {
            StatusCode::TOO_MANY_REQUESTS
        }
        Condition::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}
