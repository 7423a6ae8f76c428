//! Why a call came to nothing, with what to do about it.

use std::fmt;
use std::io;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::super::text::clean;
use super::token;
use crate::config::in_words;

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// Nobody is there.
    Unreachable(String, io::Error),
    /// It answered something else than the API does.
    Foreign(String, String),
    /// No whole answer came.
    Broken {
        /// Who was asked.
        target: String,
        /// What happened.
        problem: String,
        /// With what the call can be repeated safely, if it may have been carried out.
        repeat: Option<String>,
    },
    /// No answer came in time.
    Silent {
        /// Who was asked.
        target: String,
        /// How long was waited.
        after: Duration,
        /// With what the call can be repeated safely, if it may have been carried out.
        repeat: Option<String>,
    },
    /// The API says no.
    Refused(Box<Problem>),
}

/// What the API says of a refusal (RFC 9457).
#[derive(Debug)]
pub(crate) struct Problem {
    /// The status.
    pub(crate) status: StatusCode,
    title: String,
    detail: String,
    cure: Option<String>,
    /// Whether a token was shown.
    with_token: bool,
}

impl Problem {
    /// Reads it from an answer's body, whatever that is.
    pub(crate) fn read(status: StatusCode, body: &[u8], with_token: bool) -> Self {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(Value::as_str).map(clean);
        let usual = || status.canonical_reason().unwrap_or("refused").to_owned();
        Self {
            status,
            title: text("title").unwrap_or_else(usual),
            detail: text("detail").unwrap_or_default(),
            cure: text("cure"),
            with_token,
        }
    }

    /// What to do, where the API leaves it open.
    fn usual_cure(&self) -> Option<String> {
        let cure = match self.status.as_u16() {
            401 if self.with_token => format!("the token is not known: look at {}", token::VARIABLE),
            401 => format!("say who you are: set {} or give --token-file FILE", token::VARIABLE),
            403 => "ask with a token whose role may: viewer reads, operator changes, security ends and recovers"
                .to_owned(),
            404 => "look at what there is with `list`".to_owned(),
            409 | 412 => "it was changed meanwhile: look at it with `show`, then try again".to_owned(),
            429 => "wait a little".to_owned(),
            _ => return None,
        };
        Some(cure)
    }
}

impl ApiError {
    /// Whether the same question may be asked again at once.
    pub(crate) fn may_pass(&self) -> bool {
        match self {
            Self::Broken { .. } => true,
            Self::Refused(problem) => matches!(problem.status.as_u16(), 502..=504),
            Self::Unreachable(..) | Self::Foreign(..) | Self::Silent { .. } => false,
        }
    }

    fn cure(&self) -> Option<String> {
        let repeat = |key: &Option<String>| {
            key.as_ref().map(|key| {
                format!(
                    "it may have been done: run the same again with --idempotency-key {key}, which does it once"
                )
            })
        };
        match self {
            Self::Unreachable(_, error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Some("run as the gateway's user, or ask over TCP with a token".to_owned())
            }
            Self::Unreachable(..) => Some(
                "start one with `countersign demo` or `countersign serve`, or say where it is: \
                 --admin URL or COUNTERSIGN_ADMIN"
                    .to_owned(),
            ),
            Self::Foreign(..) => Some("does --admin name the admin listener?".to_owned()),
            Self::Broken { repeat: key, .. } => repeat(key),
            Self::Silent { repeat: key, .. } => {
                repeat(key).or_else(|| Some("wait longer with --timeout".to_owned()))
            }
            // What the API says of headers helps whoever writes a client, not whoever uses this one.
            Self::Refused(problem) if problem.status == StatusCode::UNAUTHORIZED => {
                problem.usual_cure()
            }
            Self::Refused(problem) => problem.cure.clone().or_else(|| problem.usual_cure()),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(target, error) => {
                write!(f, "no gateway answers at {target}: {}", plain(error))
            }
            Self::Foreign(target, what) => write!(f, "{target} is no admin API: {what}"),
            Self::Broken { target, problem, .. } => write!(f, "{target}: {problem}"),
            Self::Silent { target, after, .. } => {
                write!(f, "{target} gave no answer within {}", in_words(*after))
            }
            Self::Refused(problem) if problem.detail.is_empty() => {
                write!(f, "{} ({})", problem.title, problem.status.as_u16())
            }
            Self::Refused(problem) => {
                write!(f, "{}: {} ({})", problem.title, problem.detail, problem.status.as_u16())
            }
        }?;
        self.cure().map_or(Ok(()), |cure| write!(f, "\n  {cure}"))
    }
}

/// Without the number that the system has for it.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    let plain = text.split(" (os error").next().unwrap_or(&text);
    plain.to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_comes_with_its_cure() {
        for (status, body, with_token, said) in [
            (401, "", false, "Unauthorized (401)\n  say who you are"),
            (401, "", true, "the token is not known"),
            (
                403,
                r#"{"title":"Forbidden","detail":"revoking needs the role security"}"#,
                true,
                "revoking needs the role security (403)\n  ask with",
            ),
            (404, r#"{"title":"No such key","detail":"csk_x"}"#, true, "No such key: csk_x (404)"),
            (412, "", true, "changed meanwhile"),
            (
                400,
                r#"{"title":"Bad","detail":"no dialect","cure":"see dialects list"}"#,
                true,
                "Bad: no dialect (400)\n  see dialects list",
            ),
            (500, "<html>", true, "Internal Server Error (500)"),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let problem = Problem::read(status, body.as_bytes(), with_token);
            let text = ApiError::Refused(Box::new(problem)).to_string();
            assert!(text.contains(said), "{text}");
        }
    }

    #[test]
    fn what_a_server_says_cannot_steer_the_terminal() {
        let body = br#"{"title":"\u001b[2Jgone","detail":"a\r\nb"}"#;
        let text = Problem::read(StatusCode::BAD_REQUEST, body, false);
        let text = ApiError::Refused(Box::new(text)).to_string();
        assert!(!text.contains(['\u{1b}', '\r', '\n']), "{text:?}");
    }
}
