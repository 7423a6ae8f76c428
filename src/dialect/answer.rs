//! What a dialect answers to whom it refuses, and says beside every reply.

use http::{HeaderName, HeaderValue, StatusCode};

use super::{Dialect, Facts, Said};
use crate::denial::{Condition, Denial};

/// An answer to a client.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// Header fields, `content-type` among them.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// The body.
    pub body: bytes::Bytes,
}

impl Answer {
    /// What a dialect says that has not even a word for a bad signature; none such compiles.
    fn unworded() -> Self {
        Self {
            status: StatusCode::SERVICE_UNAVAILABLE,
            headers: Vec::new(),
            body: bytes::Bytes::new(),
        }
    }
}

impl Dialect {
    /// The refusal of a request in this dialect's words; a plain one where the recipe has none. A ban is a 403 at least.
    pub fn refuse(&self, denial: &Denial, write: bool, facts: &Facts) -> Answer {
        let mut condition =
            if self.imitates { denial.imitated(write) } else { denial.condition(write) };
        loop {
            if let Some(mut answer) = self.refusals.answer(condition, facts) {
                if matches!(denial, Denial::Banned(_)) && condition != Condition::IpBanned {
                    answer.status = StatusCode::FORBIDDEN;
                }
                return answer;
            }
            let Some(nearest) = fallback(condition) else { return Answer::unworded() };
            condition = nearest;
        }
    }

    /// Tells the header fields that every reply carries, as used limits.
    pub fn tell_on_all(&self, facts: &[Facts], tell: impl FnMut(HeaderName, Said)) {
        self.refusals.tell_on_all(facts, tell);
    }
}

/// What a dialect that has no word for a condition says instead: the nearest that its clients know.
const fn fallback(condition: Condition) -> Option<Condition> {
    Some(match condition {
        Condition::MissingTimestamp
        | Condition::MalformedTimestamp
        | Condition::FutureTimestamp => Condition::StaleTimestamp,
        Condition::ReplayedRead => Condition::ReplayedWrite,
        Condition::IpBanned => Condition::IpRateLimited,
        Condition::IpRateLimited | Condition::OrderLimited => Condition::RateLimited,
        Condition::WindowTooLarge | Condition::TooLarge | Condition::NotFound => {
            Condition::Malformed
        }
        Condition::ExpiredKey
        | Condition::IpNotAllowed
        | Condition::MissingCode
        | Condition::BadCode => Condition::NoPermission,
        Condition::RevokedKey => Condition::UnknownKey,
        Condition::MissingPassphrase
        | Condition::BadPassphrase
        | Condition::Malformed
        | Condition::MissingKey
        | Condition::MissingSignature
        | Condition::StaleTimestamp
        | Condition::UnknownKey
        | Condition::NoPermission
        | Condition::ReplayedWrite
        | Condition::RateLimited
        | Condition::Unavailable => Condition::BadSignature,
        Condition::BadSignature => return None,
    })
}
