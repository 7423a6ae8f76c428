//! What each path answers.

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use serde_json::json;

use super::AdminState;

type Answer = Response<Full<Bytes>>;

const INDEX: &str = "\
countersign, admin address

/metrics  metrics, Prometheus text format
/livez    200 while the process runs
/readyz   200 when it takes traffic, 503 and the reasons when not
";

/// The answer to a request.
pub(super) fn answer(state: &AdminState, method: &Method, path: &str) -> Answer {
    let known = matches!(path, "/" | "/livez" | "/readyz" | "/metrics");
    if !known {
        return problem(
            StatusCode::NOT_FOUND,
            "There is nothing at this path; / lists what there is.",
        );
    }
    if method != Method::GET && method != Method::HEAD {
        let mut refusal = problem(StatusCode::METHOD_NOT_ALLOWED, "Only GET and HEAD work here.");
        refusal.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refusal;
    }
    match path {
        "/livez" => text(StatusCode::OK, "text/plain; charset=utf-8", "ok\n"),
        "/readyz" => readyz(state),
        "/metrics" => metrics(state),
        _ => text(StatusCode::OK, "text/plain; charset=utf-8", INDEX),
    }
}

/// The answer to what a browser asks for a page, or for a name that somebody else gave this machine.
pub(super) fn rebound() -> Answer {
    problem(
        StatusCode::MISDIRECTED_REQUEST,
        "This is served to no page, and from this machine itself only by its IP address or as localhost.",
    )
}

fn readyz(state: &AdminState) -> Answer {
    // One look, so that `ready` and `reasons` agree.
    let reasons = state.readiness.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    text(status, "application/json", json!({ "ready": ready, "reasons": reasons }).to_string())
}

fn metrics(state: &AdminState) -> Answer {
    match state.exposition() {
        Ok(exposition) => {
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", exposition)
        }
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            problem(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The metrics could not be written; the log says why.",
            )
        }
    }
}

/// A refusal as RFC 9457 has it.
fn problem(status: StatusCode, detail: &str) -> Answer {
    let title = status.canonical_reason().unwrap_or_default();
    let body = json!({
        "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
    });
    text(status, "application/problem+json", body.to_string())
}

fn text(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
