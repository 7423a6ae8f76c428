//! Answers on their way out: every one with the id of its request, none of them to be stored.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, LOCATION};

use super::call::{Content, Reply};
use super::idempotency::{Saved, Ticket};
use super::problem::Problem;

/// The answer of a call that was done; kept for a retry, unless it shows a secret or streams.
pub(super) fn respond(
    reply: Reply,
    subject: Option<&str>,
    ticket: Option<Ticket>,
    id: &str,
) -> Response {
    let Reply { status, content, version, location, secret, .. } = reply;
    match content {
        Content::Lines(body) => {
            let mut response = head(status, id);
            put(&mut response, CONTENT_TYPE, "application/x-ndjson");
            *response.body_mut() = body;
            response
        }
        Content::Empty | Content::Json(_) => {
            let body = if let Content::Json(body) = content { body } else { Bytes::new() };
            let saved = Saved { status, body, version, location };
            match ticket {
                Some(ticket) if secret => ticket.shown(subject.unwrap_or_default().to_owned()),
                Some(ticket) => ticket.done(saved.clone()),
                None => {}
            }
            answer(saved, id)
        }
    }
}

fn answer(saved: Saved, id: &str) -> Response {
    let mut response = head(saved.status, id);
    if let Some(version) = saved.version {
        put(&mut response, ETAG, &format!("\"{version}\""));
    }
    if let Some(location) = saved.location {
        put(&mut response, LOCATION, &location);
    }
    if !saved.body.is_empty() {
        put(&mut response, CONTENT_TYPE, "application/json");
    }
    *response.body_mut() = Body::from(saved.body);
    response
}

/// The answer that was given before.
pub(super) fn again(saved: Saved, id: &str) -> Response {
    let mut response = answer(saved, id);
    put(&mut response, REPLAYED, "true");
    response
}

/// A refusal of the request called `id`.
pub(super) fn refusal(problem: &Problem, id: &str) -> Response {
    let mut response = head(problem.status, id);
    put(&mut response, CONTENT_TYPE, "application/problem+json");
    for (name, value) in &problem.fields {
        response.headers_mut().insert(name.clone(), value.clone());
    }
    let body = serde_json::to_vec(&problem.body(id)).unwrap_or_default();
    *response.body_mut() = Body::from(body);
    response
}

fn head(status: StatusCode, id: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    put(&mut response, CACHE_CONTROL, "no-store");
    put(&mut response, NOSNIFF, "nosniff");
    put(&mut response, REQUEST_ID, id);
    response
}

fn put(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const NOSNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
/// Says that an answer is the one that was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
