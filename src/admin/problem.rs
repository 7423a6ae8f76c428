//! Refusals as RFC 9457 has them, each with a cure where there is one.

use http::StatusCode;
use http::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};
use serde::{Deserialize, Serialize};

use crate::key::lifecycle::Refusal;
use crate::registrar::RegistrarError;
use crate::registry::book::RegistryError;

/// A refusal on its way out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Problem {
    /// The status of the answer.
    pub(super) status: StatusCode,
    /// What is wrong, in a sentence. It never holds what a caller sent as a secret.
    pub(super) detail: String,
    /// What to do about it.
    pub(super) cure: Option<String>,
    /// Header fields that belong to it.
    pub(super) fields: Vec<(HeaderName, HeaderValue)>,
}

/// A refusal as JSON.
#[derive(Clone, Debug, Deserialize, Serialize, utoipa::ToSchema)]
pub(super) struct ProblemBody {
    /// Always `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// The name of the status.
    pub(super) title: String,
    /// The status.
    pub(super) status: u16,
    /// What is wrong.
    pub(super) detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cure: Option<String>,
    /// The id of the request, to find it in the audit trail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) request: Option<String>,
}

impl Problem {
    /// A refusal without a cure.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into(), cure: None, fields: Vec::new() }
    }

    /// The same with a cure.
    #[must_use]
    pub(super) fn cured(mut self, cure: impl Into<String>) -> Self {
        self.cure = Some(cure.into());
        self
    }

    /// The request itself is wrong.
    pub(super) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// What the request asks for cannot be: its form is right, what it says is not.
    pub(super) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// There is no such thing.
    pub(super) fn missing(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("There is no such {what}."))
    }

    /// What stands there does not allow it.
    pub(super) fn conflict(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    /// The caller did not show who they are.
    pub(super) fn unproven() -> Self {
        Self {
            fields: vec![(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"admin\""))],
            ..Self::new(StatusCode::UNAUTHORIZED, "The credentials are missing or wrong.")
        }
        .cured("send `Authorization: Bearer TOKEN` with a token of `[[admin.token]]`, or use the unix socket")
    }

    /// A page asked for it, through somebody's browser.
    pub(super) fn of_a_page() -> Self {
        Self::new(StatusCode::FORBIDDEN, "A page in a browser asked for this; pages may not.")
            .cured("ask from a program, without Origin and Sec-Fetch-Site")
    }

    /// Too many wrong credentials came from there.
    pub(super) fn throttled(seconds: u64) -> Self {
        Self {
            fields: vec![(RETRY_AFTER, HeaderValue::from(seconds))],
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "Too many wrong credentials came from this address.",
            )
        }
        .cured("wait for as long as Retry-After says; right credentials are served all the while")
    }

    /// The path knows other methods.
    pub(super) fn method(allow: &HeaderValue) -> Self {
        Self {
            fields: vec![(ALLOW, allow.clone())],
            ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "This path does not know this method.")
        }
        .cured("use one of those in the Allow field")
    }

    /// As JSON.
    pub(super) fn body(&self, request: &str) -> ProblemBody {
        ProblemBody {
            kind: "about:blank".into(),
            title: self.status.canonical_reason().unwrap_or_default().into(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            cure: self.cure.clone(),
            request: Some(request.to_owned()),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Conflict { version, .. } => super::call::outdated(version),
            RegistryError::Unavailable(_)
            | RegistryError::Format(_)
            | RegistryError::Damaged(_) => {
                tracing::error!(%error, "the registry could not be asked");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "The registry does not answer.")
                    .cured("look whether it was done before you try again; the log says more")
            }
        }
    }
}

impl From<RegistrarError> for Problem {
    fn from(error: RegistrarError) -> Self {
        let said = sentence(&error.to_string());
        let cure = error.cure();
        let problem = match error {
            RegistrarError::Registry(error) => return error.into(),
            RegistrarError::NotFound(..) => Self::new(StatusCode::NOT_FOUND, said),
            RegistrarError::Exists(..) | RegistrarError::Busy => Self::conflict(said),
            RegistrarError::Invalid(_) => Self::unprocessable(said),
            RegistrarError::Refused(refusal) => Self::new(refused(&refusal), said),
            RegistrarError::Sealing(_) | RegistrarError::Damaged { .. } => {
                tracing::error!(cause = said, "a record could not be read or sealed");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "A record cannot be read or sealed.")
                    .cured("the log says which one, and why")
            }
        };
        Self { cure: problem.cure.clone().or(cure), ..problem }
    }
}

/// What is asked for cannot be, or what stands there does not allow it.
fn refused(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::UnboundWithdraw
        | Refusal::BeyondApplication(_)
        | Refusal::EndsInThePast
        | Refusal::LongOverlap
        | Refusal::NoPermission => StatusCode::UNPROCESSABLE_ENTITY,
        Refusal::Revoked
        | Refusal::Expired
        | Refusal::NotSuspended
        | Refusal::Suspended
        | Refusal::Rotating(_)
        | Refusal::ApplicationStopped
        | Refusal::ApplicationCompromised => StatusCode::CONFLICT,
    }
}

fn sentence(text: &str) -> String {
    let mut letters = text.chars().filter(|c| !c.is_control()).take(500);
    let first = letters.next().map(|first| first.to_ascii_uppercase());
    first.into_iter().chain(letters).chain(['.']).collect()
}
