//! Whether an answer is the one that its request must get.

use http::StatusCode;

use super::mix::Kind;
use crate::denial::Condition;
use crate::dialect::Dialect;

/// What an answer says.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Verdict {
    /// The request was let through.
    Accepted,
    /// It was turned away.
    Refused,
    /// The server failed (5xx): right for no kind of request.
    Failed,
}

impl Verdict {
    /// Whether a request of this kind must get it.
    pub(super) fn is_right(self, kind: Kind) -> bool {
        match kind {
            Kind::Valid => self == Self::Accepted,
            Kind::BadSignature | Kind::Stale | Kind::Replay => self == Self::Refused,
        }
    }
}

/// Tells acceptance from refusal by the words of a dialect.
///
/// A status of 2xx is acceptance and one of 5xx a failure, unless the body begins as a refusal begins that the recipe
/// words with that status, up to its first comma: `{"retCode":10004` where Bybit refuses with 200, `["error"` where
/// Bitfinex refuses with 500.
#[derive(Debug)]
pub(super) struct Judge {
    refusals: Box<[(StatusCode, Box<[u8]>)]>,
}

impl Judge {
    pub(super) fn of(dialect: &Dialect) -> Self {
        let told_by_body = dialect.worded().filter(|(condition, status, _)| {
            let failed = status.is_server_error() && *condition != Condition::Unavailable;
            status.is_success() || failed
        });
        let beginning = |body: String| -> Box<[u8]> {
            body.split_inclusive(',').next().unwrap_or_default().as_bytes().into()
        };
        let mut refusals: Vec<_> = told_by_body
            .map(|(_, status, body)| (status, beginning(body)))
            .filter(|(_, beginning)| !beginning.is_empty())
            .collect();
        refusals.sort();
        refusals.dedup();
        Self { refusals: refusals.into() }
    }

    /// What this status and beginning of a body mean.
    pub(super) fn verdict(&self, status: StatusCode, body: &[u8]) -> Verdict {
        let worded = |(known, beginning): &(StatusCode, Box<[u8]>)| {
            *known == status && body.starts_with(beginning)
        };
        if self.refusals.iter().any(worded) {
            Verdict::Refused
        } else if status.is_server_error() {
            Verdict::Failed
        } else if !status.is_success() {
            Verdict::Refused
        } else {
            Verdict::Accepted
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::builtin;

    #[test]
    fn a_refusal_with_status_200_is_told_by_its_body() {
        let bybit = Judge::of(&builtin("bybit").unwrap().unwrap());
        let verdict = |body: &str| bybit.verdict(StatusCode::OK, body.as_bytes());
        assert_eq!(verdict(r#"{"retCode":10004,"retMsg":"error sign!"}"#), Verdict::Refused);
        assert_eq!(verdict(r#"{"retCode":0,"retMsg":"OK"}"#), Verdict::Accepted);
        assert_eq!(verdict(r#"{"retCode":100041,"retMsg":""}"#), Verdict::Accepted);
        assert_eq!(verdict(""), Verdict::Accepted);
    }

    #[test]
    fn a_refusal_with_status_500_is_no_failure() {
        let bitfinex = Judge::of(&builtin("bitfinex").unwrap().unwrap());
        let verdict = |status, body: &str| bitfinex.verdict(status, body.as_bytes());
        let digest = r#"["error",10100,"apikey: digest invalid"]"#;
        assert_eq!(verdict(StatusCode::INTERNAL_SERVER_ERROR, digest), Verdict::Refused);
        assert_eq!(verdict(StatusCode::INTERNAL_SERVER_ERROR, "oops"), Verdict::Failed);
        let unavailable = r#"{"error":"temporarily_unavailable"}"#;
        assert_eq!(verdict(StatusCode::SERVICE_UNAVAILABLE, unavailable), Verdict::Failed);
    }

    #[test]
    fn elsewhere_the_status_decides() {
        let binance = Judge::of(&builtin("binance").unwrap().unwrap());
        let verdict = |status| binance.verdict(status, br#"{"code":-1022,"msg":""}"#);
        assert_eq!(verdict(StatusCode::OK), Verdict::Accepted);
        assert_eq!(verdict(StatusCode::BAD_REQUEST), Verdict::Refused);
        assert_eq!(verdict(StatusCode::SERVICE_UNAVAILABLE), Verdict::Failed);
    }

    #[test]
    fn a_failing_server_is_right_for_no_kind() {
        for (kind, _) in Kind::ALL {
            assert!(!Verdict::Failed.is_right(kind));
            assert_eq!(Verdict::Accepted.is_right(kind), kind == Kind::Valid);
            assert_eq!(Verdict::Refused.is_right(kind), kind != Kind::Valid);
        }
    }
}
